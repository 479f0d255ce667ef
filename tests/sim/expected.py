"""What an undisturbed run makes of the same frames: the system itself, once, in order, without any fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest import parse
from ingest.assign import Device
from ingest.client import array_of
from ingest.clock import FrozenClock
from ingest.frame import encode
from ingest.intake import Intake
from ingest.partition import record_key
from services import topics
from services.processor.batch import Bounds
from services.processor.core import Core
from services.processor.records import Record
from services.processor.worker import Worker
from tests.sim.loop import Actor, Gates
from tests.sim.plan import BOUND_MS, ORGANISATION
from tests.sim.store import Server, SimSession
from tests.sim.stories import START, Sent
from tests.sim.tables import Tables

BOUNDS: Final = Bounds(BOUND_MS, 300_000, 7_200_000, 21_600_000)
COMPARED: Final = (
    "rule", "rule_version", "kind", "priority", "state", "provisional", "late", "started_ms", "found_ms",
    "resolved_ms", "sentence", "patient_sentence", "evidence",
)  # fmt: skip
BY_THE_CLOCK: Final = ("device_silent", "clock_fault")  # judged by when something came, which two runs don't share
Outcome = dict[str, Any]
_kept: dict[tuple[int, tuple[Sent, ...]], Outcome] = {}


class _Open(Gates):
    """Gates that nobody waits at."""

    async def at(self, actor: Actor, name: str, **_: object) -> None:
        """Go on."""


class _Nowhere:
    """A publisher that is not asked: the frames are handed over by the caller."""

    ready = True

    async def publish(self, frames: Sequence[object]) -> None:
        """Take nothing."""


async def undisturbed(patient: int, device: Device, frames: tuple[Sent, ...]) -> Outcome:
    """Return the outcome of one patient's frames, each in its turn; worked out once for each story."""
    if (patient, frames) not in _kept:
        _kept[patient, frames] = await _run(patient, device, frames)
    return _kept[patient, frames]


def forget() -> None:
    """Forget every outcome: the system is another one now."""
    _kept.clear()


async def _run(patient: int, device: Device, frames: tuple[Sent, ...]) -> Outcome:
    clock = FrozenClock(START)
    server = Server(_Open())
    server.tables.patients, server.tables.devices = {patient: ORGANISATION}, {device.id: device.key}
    worker = Worker(SimSession(server, Actor("calm")), clock, Core(Pipeline(), Limits(), 1), BOUNDS, "calm")
    intake = Intake(_Nowhere(), clock)
    records: list[Record] = []
    for frame in frames:
        clock.set(frame.sent_ms)
        _, stamped = intake.judge(parse.split(array_of([frame.body]), "msgpack"), "msgpack", device)
        for one in stamped:
            records.append(Record(topics.READINGS, 0, len(records), record_key(one.patient_id), encode(one)))
    await worker.take_over([(topics.READINGS, 0)])
    await worker.prepare()
    await worker.process(records)
    return outcome(server.tables, patient)


def outcome(tables: Tables, patient: int) -> Outcome:
    """Return what was found and kept about a patient, as far as two runs of the same frames must agree."""
    alerts = sorted(
        (tuple(row[name] for name in COMPARED) for row in tables.alerts.values()
         if row["patient_id"] == patient and row["state"] != "withdrawn" and row["revised_by"] is None
         and row["rule"] not in BY_THE_CLOCK),
        key=lambda row: (row[0], row[7]),
    )  # fmt: skip
    return {
        "alerts": alerts,
        "days": {key: row for key, row in tables.days.items() if key[0] == patient},
        "bands": {key: row for key, row in tables.bands.items() if key[0] == patient},
        "rollups": {key: row for key, row in tables.rollups.items() if key[0] == patient},
    }


def whenever(outcome: Outcome) -> Outcome:
    """Return an outcome without what tells when the data came: whether an alert is late."""
    late = COMPARED.index("late")
    return {**outcome, "alerts": [row[:late] + row[late + 1 :] for row in outcome["alerts"]]}


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
