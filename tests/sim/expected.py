"""What an undisturbed run makes of the same frames: the system itself, once, in order, without any fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from unittest.mock import patch

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest import parse
from ingest.assign import Device
from ingest.client import array_of
from ingest.clock import FrozenClock
from ingest.frame import encode
from ingest.intake import Intake
from ingest.partition import record_key
from services import control, topics
from services.control import ControlMessage
from services.processor import rebuild
from services.processor.batch import Bounds
from services.processor.core import Core
from services.processor.rebuild import Rebuilder
from services.processor.records import Record
from services.processor.worker import Worker
from tests.sim.loop import Actor, Gates
from tests.sim.plan import BOUND_MS, ORGANISATION, Change
from tests.sim.store import Server, SimSession
from tests.sim.stories import START, Sent
from tests.sim.tables import Tables
from tests.sim.wiring import Notes

BOUNDS: Final = Bounds(BOUND_MS, 300_000, 7_200_000, 21_600_000)
COMPARED: Final = (
    "rule", "rule_version", "kind", "priority", "state", "provisional", "started_ms", "found_ms",
    "resolved_ms", "sentence", "patient_sentence", "evidence",
)  # fmt: skip
BY_THE_CLOCK: Final = ("device_silent", "clock_fault")  # judged by when something came, which two runs don't share
Outcome = dict[str, Any]
Told = tuple[tuple[Device, tuple[Sent, ...]], ...]  # what each device sent
_kept: dict[tuple[int, Told, tuple[Change, ...]], Outcome] = {}


class _Open(Gates):
    """Gates that nobody waits at."""

    async def at(self, actor: Actor, name: str, **_: object) -> None:
        """Go on."""


class _Nowhere:
    """A publisher that is not asked: the frames are handed over by the caller."""

    ready = True

    async def publish(self, frames: Sequence[object]) -> None:
        """Take nothing."""


async def undisturbed(patient: int, told: Told, changes: tuple[Change, ...]) -> Outcome:
    """Return the outcome of one patient's frames, each in its turn; worked out once for each story."""
    key = (patient, told, changes)
    if key not in _kept:
        _kept[key] = await _run(patient, told, changes)
    return _kept[key]


def forget() -> None:
    """Forget every outcome: the system is another one now."""
    _kept.clear()


async def _run(patient: int, told: Told, changes: tuple[Change, ...]) -> Outcome:
    clock = FrozenClock(START)
    server = Server(_Open())
    patients = {one.patient_id for device, _ in told for one in device.assignments}
    server.tables.patients = dict.fromkeys(patients, ORGANISATION)
    server.tables.devices = {device.id: device.key for device, _ in told}
    core = Core(Pipeline(), Limits(), 1)
    worker = Worker(SimSession(server, Actor("calm")), clock, core, BOUNDS, "calm")
    intake = Intake(_Nowhere(), clock)
    records = [_changed(number, change) for number, change in enumerate(changes)]
    frames = sorted(((frame, device) for device, frames in told for frame in frames), key=lambda one: one[0].sent_ms)
    for frame, device in frames:
        clock.set(frame.sent_ms)
        _, stamped = intake.judge(parse.split(array_of([frame.body]), "msgpack"), "msgpack", device)
        for one in stamped:
            records.append(Record(topics.READINGS, 0, len(records), record_key(one.patient_id), encode(one)))
    await worker.take_over([(topics.READINGS, 0), (topics.CONTROL, 0)])
    await worker.prepare()
    await worker.process(records)
    rebuilder = Rebuilder(core, worker, BOUNDS.silence_ms, BOUNDS.history_ms)
    with patch.object(rebuild, "log", Notes(lambda line: None)):
        for other in sorted(patients & core.slot_of.keys()):
            await rebuilder.rebuild(
                other, clock.now_ms()
            )  # two devices that measure the same overtake each other anyway
    return outcome(server.tables, patient)


def _changed(number: int, change: Change) -> Record:
    message = ControlMessage(
        number + 1, ORGANISATION, change.patient, *change.about, number + 1, change.effective_ms, change.payload, 7
    )
    return Record(topics.CONTROL, 0, number, record_key(change.patient), control.encode(message))


def outcome(tables: Tables, patient: int) -> Outcome:
    """Return what was found and kept about a patient, as far as two runs of the same frames must agree.

    Whether an alert was told late they need not agree on.
    """
    alerts = sorted(
        (tuple(row[name] for name in COMPARED) for row in tables.alerts.values()
         if row["patient_id"] == patient and row["state"] != "withdrawn" and row["revised_by"] is None
         and row["rule"] not in BY_THE_CLOCK),
        key=lambda row: (row[0], row[6]),
    )  # fmt: skip
    return {
        "alerts": alerts,
        "days": {key: row for key, row in tables.days.items() if key[0] == patient},
        "bands": {key: row for key, row in tables.bands.items() if key[0] == patient},
        "rollups": {key: row for key, row in tables.rollups.items() if key[0] == patient},
    }


def difference(expected: Outcome, found: Outcome) -> str:
    """Return where two outcomes differ, "" where they don't."""
    for name in expected:
        if expected[name] == found[name]:
            continue
        if isinstance(expected[name], list):
            missing = [row for row in expected[name] if row not in found[name]]
            extra = [row for row in found[name] if row not in expected[name]]
        else:
            missing = [row for row in expected[name].items() if found[name].get(row[0]) != row[1]]
            extra = [row for row in found[name].items() if expected[name].get(row[0]) != row[1]]
        return f"{name}: undisturbed {missing[:2]}, here {extra[:2]}"
    return ""
