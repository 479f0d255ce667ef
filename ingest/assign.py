"""Whose reading is it? The device never says; the assignment valid at the reading's time does.

A device handed from one patient to another in the middle of a frame makes one stamped frame a patient. The
first keeps the frame's id, the others get ``~2``, ``~3`` … appended, so that every part has its own fate.
What a patient's consent withholds is taken out before; a frame with nothing else in it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

import msgspec
import numpy as np

from ingest import frame as wire
from ingest.catalogue import catalogue
from ingest.clock import to_datetime
from ingest.frame import Frame, StampedBlock, StampedFrame
from ingest.normalise import normalise
from ingest.validate import CheckedBlock, check_frame, refuse

MAX_STAMPED_BYTES = 1_000_000  # a Kafka record's limit is 1 MiB with its envelope


class Assignment(NamedTuple):
    """A device belongs to a patient from ``from_ms`` up to, not including, ``to_ms``."""

    patient_id: int
    from_ms: int
    to_ms: int
    withheld: frozenset[int] = frozenset()  # metrics that must not be taken now
    closed: bool = False  # nothing at all may be taken now


class Device(NamedTuple):
    """An authenticated device; assignments are ordered in time and never overlap."""

    id: int
    key: str
    organisation_id: int
    assignments: tuple[Assignment, ...]


_FREE: Final = Assignment(0, 0, 0)


def stamp(frame: Frame, device: Device, received_ms: int) -> list[StampedFrame]:
    """Check a frame, normalise its blocks and stamp patient, organisation and time of receipt on it.

    Raises:
        Rejected: the frame is not well formed, was measured while the device was nobody's, or holds only what the
            patient's consent does not cover.
    """
    checked = check_frame(frame, received_ms)
    blocks = [normalise(block, f"blocks[{i}]") for i, block in enumerate(checked)]
    by_patient = _by_patient(frame, device, blocks, checked)
    by_patient = _consented(frame, device, by_patient)
    status_of = _wearer(device, frame.sent_ms, by_patient)
    public_id = wire.frame_id(device.key, frame.session, frame.seq)
    stamped = [
        StampedFrame(
            wire.STAMPED_VERSION,
            public_id if part == 0 else f"{public_id}~{part + 1}",
            device.organisation_id,
            patient_id,
            device.id,
            frame.session,
            frame.seq,
            frame.sent_ms,
            received_ms,
            frame.utc_offset_min,
            theirs,
            frame.status if patient_id == status_of else None,
            frame.revision,
        )
        for part, (patient_id, theirs) in enumerate(by_patient.items())
    ]
    for part_frame in stamped:
        _check_size(part_frame)
    return stamped


def _by_patient(
    frame: Frame, device: Device, blocks: list[StampedBlock], checked: Sequence[CheckedBlock]
) -> dict[int, list[StampedBlock]]:
    first = min((block.t0_ms for block in blocks), default=frame.sent_ms)
    last = max((block.last_ms for block in checked), default=frame.sent_ms)
    for assignment in device.assignments:
        if assignment.from_ms <= first and last < assignment.to_ms:
            return {assignment.patient_id: blocks}
    if not blocks:
        _refuse_nobodys("sent_ms", frame.sent_ms, device)
    by_patient: dict[int, list[StampedBlock]] = {}
    for i, block in enumerate(blocks):
        for patient_id, part in _split(block, device, f"blocks[{i}]"):
            by_patient.setdefault(patient_id, []).append(part)
    return by_patient


def withheld_of(frame: Frame, stamped: Sequence[StampedFrame]) -> list[str]:
    """Return the metrics of a frame that its stamped parts leave out: the patient's consent does not cover them."""
    if len(stamped) == 1 and len(stamped[0].blocks) == len(frame.blocks):
        return []
    taken = {block.metric_id for part in stamped for block in part.blocks}
    return [key for key in dict.fromkeys(block.metric for block in frame.blocks) if catalogue()[key].id not in taken]


def _consented(
    frame: Frame, device: Device, by_patient: dict[int, list[StampedBlock]]
) -> dict[int, list[StampedBlock]]:
    """Take out what must not be taken now; refuse a frame with nothing left, or of two patients, if they differ."""
    whose = {a.patient_id: a for a in device.assignments if a.withheld or a.closed}
    if whose.keys().isdisjoint(by_patient):
        return by_patient
    kept = {}
    for patient_id, blocks in by_patient.items():
        gone = whose.get(patient_id, _FREE)
        kept[patient_id] = [] if gone.closed else [b for b in blocks if b.metric_id not in gone.withheld]
    every = all(whose.get(patient_id, _FREE).closed for patient_id in by_patient)
    left = any(kept.values()) or (frame.status is not None and not every)
    if not left or (len(by_patient) > 1 and kept != by_patient):
        _refuse_withheld(frame, kept, every)
    return kept


def _refuse_withheld(frame: Frame, kept: dict[int, list[StampedBlock]], every: bool) -> NoReturn:
    taken = {block.metric_id for blocks in kept.values() for block in blocks}
    at = next((i for i, block in enumerate(frame.blocks) if catalogue()[block.metric].id not in taken), None)
    nowhere = "blocks" if frame.blocks else "status"
    field, value = (nowhere, None) if at is None else (f"blocks[{at}].metric", frame.blocks[at].metric)
    allowed = "nothing at present" if every else "metrics the patient agreed to"
    hint = "the patient's consent to care does not cover this; it is taken again once they agree"
    refuse(field, value, f"{allowed}, by the patient's consent", hint)


def _wearer(device: Device, at_ms: int, among: dict[int, list[StampedBlock]]) -> int:
    """Return whose a status sent at ``at_ms`` is: the wearer's then, else the last one's in the frame."""
    for patient_id, from_ms, to_ms, *_ in device.assignments:
        if from_ms <= at_ms < to_ms and patient_id in among:
            return patient_id
    return list(among)[-1]


def _split(block: StampedBlock, device: Device, at: str) -> list[tuple[int, StampedBlock]]:
    times = wire.block_times_ms(block, len(block.values) // wire.DTYPES[block.dtype].itemsize)
    parts: list[tuple[int, StampedBlock]] = []
    done = 0
    for patient_id, from_ms, to_ms, *_ in device.assignments:
        start, stop = (int(i) for i in np.searchsorted(times, (from_ms, to_ms)))
        if start < stop and start == done:
            parts.append((patient_id, _cut(block, times[start], start, stop)))
            done = stop
    if done < len(times):
        _refuse_nobodys(f"{at}.times[{done}]", int(times[done]), device)
    return parts


def _cut(block: StampedBlock, t0_ms: np.int64, start: int, stop: int) -> StampedBlock:
    size = wire.DTYPES[block.dtype].itemsize
    offsets = block.offsets_ms
    if offsets is not None:
        kept = np.frombuffer(offsets, "<i4")[start:stop]
        offsets = (kept - kept[0]).astype("<i4").tobytes() if len(kept) > 1 else None
    quality = block.quality[start:stop] if block.quality is not None else None
    return msgspec.structs.replace(
        block,
        t0_ms=int(t0_ms),
        step_us=block.step_us if stop - start > 1 else 0,
        values=block.values[start * size : stop * size],
        offsets_ms=offsets,
        quality=quality if quality is not None and any(quality) else None,
    )


def _refuse_nobodys(field: str, at_ms: int, device: Device) -> NoReturn:
    spans = [f"{_shown(a.from_ms)} to {_shown(a.to_ms)}" for a in device.assignments[-3:]]
    allowed = "while assigned: " + ", ".join(spans) if spans else "nothing: the device is assigned to nobody"
    refuse(field, to_datetime(at_ms).isoformat(), allowed, f"assign {device.key} to a patient for that time")


def _shown(ms: int) -> str:
    return to_datetime(ms).isoformat(timespec="seconds") if 0 <= ms < 2**47 else "open"


def _check_size(frame: StampedFrame) -> None:
    size = sum(
        len(block.values) + len(block.offsets_ms or b"") + len(block.quality or b"") + 64 for block in frame.blocks
    )
    if size > MAX_STAMPED_BYTES:
        refuse(
            "blocks",
            f"{size} bytes once normalised",
            f"{MAX_STAMPED_BYTES} bytes",
            "send fewer blocks a frame",
        )
