"""Erasure in the processor: let go of the patient in memory, and give what still comes the fate ``erased``."""

from __future__ import annotations

from services.processor import intake
from services.processor.core import Core
from services.processor.records import Effects, FrameFate
from services.store.reader import Reader


async def take_out(core: Core, reader: Reader, taken: intake.Intake, effects: Effects) -> None:
    """Hand the control records and the dead ones on to the effects, but for those of erased patients.

    Their rows go in the transaction of this batch (`services.store.erasure`), before anything else is written; a
    control record that comes afterwards erases again whatever was written with it.
    """
    asked = {record.message.patient_id for record in taken.control if record.message.kind == "erase"}
    changed = {record.message.patient_id for record in taken.control}
    buried = {int(dead.record.key) for dead in taken.dead if dead.record.key and dead.record.key.isdigit()}
    known = await reader.erased(sorted(changed | buried)) if changed or buried else set()
    for patient_id in asked | known:
        core.forget(patient_id)
    effects.erased = sorted(asked | (known & changed))
    effects.control = [record for record in taken.control if record.message.patient_id not in core.erased]
    effects.dead = [d for d in taken.dead if not (d.record.key or b"").isdigit() or int(d.record.key or 0) not in known]


def fates_of(core: Core, taken: intake.Intake) -> list[FrameFate]:
    """Take the frames of erased patients out of a batch and return their fates: counted, never stored."""
    places = [i for i, frame in enumerate(taken.frames) if frame.patient_id in core.erased]
    if not places:
        return []
    counts = dict.fromkeys(places, 0)
    for index in taken.readings.frame.tolist():
        if index in counts:
            counts[index] += 1
    for index, waveform in taken.waveforms:
        if index in counts:
            counts[index] += len(waveform.sample)
    fates = [
        FrameFate(
            f.frame_id, f.organisation_id, f.patient_id, f.device_id, f.received_ms, 0, 0, 0, 0, 0, None, None,
            erased=counts[i],
        )
        for i, f in ((i, taken.frames[i]) for i in places)
    ]  # fmt: skip
    intake.leave_out(taken, core.erased)
    return fates
