"""What a door answers for each frame: accepted with its id, rejected with the reason and the next step, or busy.

Accepted and rejected are final. Busy promises nothing, because the door or the broker has too much to do: the device
keeps the frame and sends the same one again; should the first have been kept after all, it is a duplicate.
"""

from __future__ import annotations

import msgspec

from ingest.validate import Rejected


class Accepted(msgspec.Struct, tag_field="verdict", tag="accepted", frozen=True, kw_only=True, omit_defaults=True):
    """Kafka holds the frame; ``href`` tells its fate. Blocks of the metrics ``withheld`` were refused, for good: the
    patient's consent does not cover them."""

    frame_id: str
    href: str
    session: str
    seq: int
    withheld: list[str] = []


class Refused(msgspec.Struct, tag_field="verdict", tag="rejected", frozen=True, kw_only=True):
    """Nothing of the frame was taken; ``field`` held ``value``, where ``allowed`` may stand."""

    field: str
    value: str | int | float | bool | None
    allowed: str
    hint: str
    session: str | None = None
    seq: int | None = None


class Busy(msgspec.Struct, tag_field="verdict", tag="busy", frozen=True, kw_only=True):
    """The door has no room for the frame now; send the same frame again after ``retry_after_s``."""

    reason: str
    retry_after_s: float
    session: str
    seq: int


Verdict = Accepted | Refused | Busy


class Verdicts(msgspec.Struct, frozen=True):
    """The answer to one request or message, a verdict a frame, in the order they were sent."""

    frames: list[Verdict]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Verdicts)


def encode_verdicts(verdicts: list[Verdict]) -> bytes:
    """Return ``{"frames": [...]}`` as JSON."""
    return _encoder.encode(Verdicts(verdicts))


def decode_verdicts(data: bytes) -> list[Verdict]:
    """Return the verdicts of an answer; other members, as of a problem document, are passed over.

    Raises:
        msgspec.DecodeError: not an answer of a door.
    """
    return _decoder.decode(data).frames


def refused(error: Rejected, session: str | None, seq: int | None) -> Refused:
    """Return the verdict of a rejected frame."""
    return Refused(
        field=error.field,
        value=error.value,
        allowed=error.allowed,
        hint=error.hint,
        session=session,
        seq=seq,
    )
