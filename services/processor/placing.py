"""Whose records a batch holds: a slot for every patient, and the names of the devices that measured."""

from __future__ import annotations

from ingest.frame import StampedFrame
from services.processor import erasing, intake
from services.processor.core import Core
from services.processor.hot import Hot, devices_of
from services.processor.records import ControlRecord, DeadRecord, Effects, Record
from services.reasons import DeadReason
from services.store.reader import Reader


async def place_patients(
    core: Core, reader: Reader, taken: intake.Intake, effects: Effects, records: list[Record]
) -> None:
    """Give every patient a slot; a frame of an unknown patient is dead."""
    unseen = sorted({frame.patient_id for frame in taken.frames} - core.slot_of.keys() - core.erased)
    if unseen:
        organisations = await reader.organisations(unseen)
        for patient_id, organisation_id in organisations.items():
            core.place(patient_id, Hot(organisation_id=organisation_id))
        for patient_id, changes in (await reader.changes(list(organisations))).items():
            core.changes.add(patient_id, changes)
        missing = set(unseen) - organisations.keys()
        if missing:
            core.erased |= await reader.erased(sorted(missing))
            _bury(taken, effects, records, missing - core.erased)
    effects.fates += erasing.fates_of(core, taken)
    taken.readings.slot[:] = [core.slot_of[patient_id] for patient_id in taken.readings.slot.tolist()]


async def know_devices(
    core: Core, reader: Reader, frames: list[StampedFrame], control: list[ControlRecord], slots: set[int]
) -> None:
    """Learn the keys of the devices that measured, and of those that ever did whose findings may come up now."""
    told = {core.slot_of.get(record.message.patient_id) for record in control} - {None}
    new = {slot for slot in slots | told if slot is not None} - core.named
    devices = {frame.device_id for frame in frames}
    devices |= {device for slot in new for device in devices_of(core.hot[slot])}
    unknown = sorted(devices - core.device_keys.keys())
    if unknown:
        core.device_keys.update(await reader.device_keys(unknown))
    core.named |= new


def _bury(taken: intake.Intake, effects: Effects, records: list[Record], missing: set[int]) -> None:
    by_key = {b"%d" % patient_id for patient_id in missing}
    effects.dead += [
        DeadRecord(record, DeadReason.UNKNOWN_PATIENT, f"patient {record.key!r} is not enrolled")
        for record in records
        if record.key in by_key
    ]
    intake.leave_out(taken, missing)
