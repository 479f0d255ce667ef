"""Which partition a patient lives in: the same murmur2 every Kafka client uses for a key.

Source: Kafka's `Utils.murmur2`. Written out here, so that whoever needs a partition needs no Kafka client; a test
compares it with the client's.
"""

from __future__ import annotations

from typing import Final

_SEED: Final = 0x9747B28C
_MIX: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF


def record_key(patient_id: int) -> bytes:
    """Return the Kafka key of a patient's records."""
    return b"%d" % patient_id


def partition_of(patient_id: int, partitions: int) -> int:
    """Return the partition of a patient's records, 0 <= p < ``partitions``.

    >>> partition_of(7, 1), partition_of(7, 12), partition_of(12_345, 12)
    (0, 3, 8)
    """
    return (murmur2(record_key(patient_id)) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Return Kafka's hash of a key, an unsigned 32-bit number."""
    whole = len(data) & ~3
    h = _SEED ^ len(data)
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _MIX & _WORD
        h = (h * _MIX & _WORD) ^ ((k ^ k >> 24) * _MIX & _WORD)
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MIX & _WORD
    h = (h ^ h >> 13) * _MIX & _WORD
    return h ^ h >> 15
