"""A record of ``control.v1``: what people changed about a patient. Ticks of a time-lapse share the topic."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import msgspec

Kind = Literal["monitoring", "new_normal", "assignment", "erase", "profile", "limits", "life_event"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

CHANNEL: Final = "keepwell_outbox"  # notified, without payload, when a change waits to be relayed


class ControlMessage(msgspec.Struct, tag="change", frozen=True):
    """One change of one patient; ``change_id`` is its identity however often it is relayed."""

    change_id: int
    organisation_id: int
    patient_id: int
    kind: str
    subject: str  # the metric of a new normal, an assignment's device, the layer of limits, a life event's key
    version: int  # 1, 2, … for each (patient, kind, subject)
    effective_ms: int  # Unix ms UTC, event time
    payload: dict[str, Any]
    person_id: int | None = None  # None: done at the command line


_encoder = msgspec.msgpack.Encoder()


def encode(message: ControlMessage) -> bytes:
    """Return the bytes of a control record."""
    return _encoder.encode(message)
