"""Which partition a patient lives in: the same murmur2 every Kafka client uses for a key."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def record_key(patient_id: int) -> bytes:
    """Return the Kafka key of a patient's records."""
    return b"%d" % patient_id


def partition_of(patient_id: int, partitions: int) -> int:
    """Return the partition of a patient's records, 0 <= p < ``partitions``.

    >>> partition_of(7, 1)
    0
    """
    return int(murmur2(record_key(patient_id)) & 0x7FFFFFFF) % partitions
