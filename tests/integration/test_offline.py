"""A device that was offline for days sends everything at once: all of it is in, in its place, and nobody is paged."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from evaluation.checker import check
from ingest.client import DeviceClient
from ingest.clock import SystemClock
from ingest.doors import HttpDoors
from ingest.frame import FRAME_VERSION, Block, Frame
from ingest.ledger import Ledger
from services.settings import Settings
from services.settings_sections import ProcessorSettings
from tests.cast import DAY, HOUR, MINUTE, cast
from tests.databases import drop_database
from tests.fix_doors import migrated_settings
from tests.fix_faults import System, eventually, frames_of
from tests.fix_stack import LiveStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

DAYS, GAP = 8, (4, 7)  # the story, and the days of it that came late
OFFLINE: Final = ("spo2", "tachycardia", "fever", "infection")
LIVE, ROUNDS = 200, 5
LIVE_PACE_S = 1.0

# What must not depend on when the readings came. A told alert that was revised stands beside what it became.
SAME: Final = {
    "alerts": """SELECT p.key, a.rule, a.id::text, a.priority, a.state, a.started_at, a.found_at, a.resolved_at
                 FROM alert a JOIN patient p ON p.id = a.patient_id
                 WHERE p.key = ANY(%s) AND a.state <> 'withdrawn' AND a.revised_by IS NULL AND a.kind = 'clinical'
                 ORDER BY 1, 2, 6""",
    "days": """SELECT p.key, d.metric_id, d.context, d.day, d.value, d.minutes, d.center, d.spread, d.days, d.z, d.used
               FROM daily_value d JOIN patient p ON p.id = d.patient_id WHERE p.key = ANY(%s) ORDER BY 1, 2, 3, 4""",
    "bands": """SELECT p.key, b.metric_id, b.context, b.t0, b.center, b.spread, b.days
                FROM baseline_band b JOIN patient p ON p.id = b.patient_id WHERE p.key = ANY(%s) ORDER BY 1, 2, 3, 4""",
    "rollups": """SELECT p.key, r.metric_id, r.bucket_s, r.t0, r.n, r.low, r.high, round(r.mean::numeric, 6), r.q10, r.q90
                  FROM rollup r JOIN patient p ON p.id = r.patient_id WHERE p.key = ANY(%s) ORDER BY 1, 2, 3, 4""",
    "baselines": """SELECT p.key, md5(b.state) FROM patient_baseline b JOIN patient p ON p.id = b.patient_id
                    WHERE p.key = ANY(%s) ORDER BY 1""",
}


@pytest.fixture
def in_time(stack: LiveStack, tmp_path: Path) -> Iterator[System]:
    """A system that hears everything in order."""
    yield from _system(stack, tmp_path, "in-time", lambda settings: settings)  # nothing is history here


@pytest.fixture
def offline(stack: LiveStack, tmp_path: Path) -> Iterator[System]:
    """A system that some devices could not reach for days."""
    yield from _system(stack, tmp_path, "offline", _history_counts)


def _system(stack: LiveStack, folder: Path, name: str, through: Callable[[Settings], Settings]) -> Iterator[System]:
    system = System(stack, migrated_settings(stack), folder, name, through=through)
    yield system
    drop_database(system.settings)


def _history_counts(settings: Settings) -> Settings:
    told = {"history_after_s": ProcessorSettings().history_after_s, "silence_s": 30 * 24 * 3600}
    return settings.model_copy(update={"processor": settings.processor.model_copy(update=told)})


async def test_three_days_offline_beside_two_hundred_live(
    in_time: System, offline: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ms = SystemClock().now_ms()
    start_ms = (now_ms // DAY - DAYS - 2) * DAY  # the story ended more than a day ago: all of it is history
    people = [person for person in cast(DAYS) if person.key in OFFLINE]
    told = {person.key: frames_of(person, DAYS, t0=start_ms) for person in people}
    story = {key: [*frames, _newest(len(frames), now_ms)] for key, frames in told.items()}
    in_order: dict[str, list[Sequence[Frame]]] = {key: [frames] for key, frames in story.items()}
    expected = await _run(in_time, tmp_path / "calm.db", in_order, live=0)
    late = {key: _with_a_gap(frames, start_ms) for key, frames in story.items()}
    began = time.monotonic()
    found = await _run(offline, tmp_path / "faulty.db", late, live=LIVE)
    seconds = time.monotonic() - began

    paged = offline.query(
        """SELECT e.change, a.rule FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN patient p ON p.id = a.patient_id
           WHERE e.change = 'raised' AND NOT e.late AND a.kind = 'clinical' AND p.key = ANY(%s)""",
        list(OFFLINE),
    )
    listed = offline.query("SELECT count(*) FROM alert WHERE late AND kind = 'clinical' AND revised_by IS NULL")[0][0]
    with capsys.disabled():
        print(f"\n  {listed} late findings, {len(paged)} paged, {seconds:.1f} s with {LIVE} live")  # noqa: T201
    assert paged == []
    assert listed >= 5
    assert len(expected["alerts"]) >= 5
    for name, rows in expected.items():
        assert found[name] == rows, name


async def _run(system: System, book: Path, parts: dict[str, list[Sequence[Frame]]], live: int) -> dict[str, Any]:
    """Send each offline person's parts one after the other, the last beside ``live`` others, and return SAME."""
    others = [f"other{i}" for i in range(live)]
    with system, Ledger(book) as ledger:
        await system.ready()
        known = system.doors.enrol(*((key, f"{key}-watch") for key in [*parts, *others]), since_days=60)
        credentials = dict(zip([*parts, *others], known, strict=True))
        async with HttpDoors(system.url, system.settings.tls.ca_file) as doors:

            def client(key: str) -> DeviceClient:
                return DeviceClient(f"{key}-watch", doors.door(credentials[key]), ledger, "story", give_up_after_s=120)

            for key, told in parts.items():
                for part in told[:-1]:
                    await client(key).send(part)
            await system.drained(120)
            async with asyncio.TaskGroup() as group:
                for key, told in parts.items():
                    group.create_task(client(key).send(told[-1]))
                for key in others:
                    group.create_task(_live(client(key)))
        await system.drained(180)
        await eventually(
            lambda: system.query("SELECT count(*) FROM patient_state WHERE dirty_since IS NOT NULL") == [(0,)],
            "the rebuild", 120,
        )  # fmt: skip
        verdict = check([book], system.settings.postgres.conninfo("admin"))
        assert verdict.problems == []
        assert verdict.accepted_hash == verdict.kept_hash
        assert system.query("SELECT count(*) FROM frame_log WHERE deliveries > 1 AND stored > 0 AND duplicate = 0") == [
            (0,)
        ]
        return {name: system.query(query, list(OFFLINE)) for name, query in SAME.items()}


def _with_a_gap(frames: Sequence[Frame], start_ms: int) -> list[Sequence[Frame]]:
    """What came before the gap; then the present, and the days that are missing in any order."""
    first, last = (start_ms + day * DAY for day in GAP)
    missing = [frame for frame in frames if first < frame.sent_ms <= last]
    before = [frame for frame in frames if frame.sent_ms <= first]
    after = [frame for frame in frames if frame.sent_ms > last]
    random.Random(4).shuffle(missing)
    return [before, [*after, *missing]]


def _newest(seq: int, now_ms: int) -> Frame:
    """An hour ago until just now, calm."""
    t0 = (now_ms - HOUR) // MINUTE * MINUTE
    blocks = [
        Block("heart_rate", "/min", t0, 60_000_000, "f4", np.full(55, 64, "<f4").tobytes()),
        Block("spo2", "%", t0, 300_000_000, "f4", np.full(11, 97, "<f4").tobytes()),
        Block("body_temperature", "Cel", t0, 1_200_000_000, "f4", np.full(3, 36.7, "<f4").tobytes()),
    ]
    return Frame(FRAME_VERSION, "story", seq, now_ms, 60, blocks)


async def _live(client: DeviceClient) -> None:
    """A few readings of now, every second or so."""
    clock = SystemClock()
    for _ in range(ROUNDS):
        values = np.full(5, 66, "<f4").tobytes()
        now_ms = clock.now_ms()
        await client.send([client.frame([Block("heart_rate", "/min", now_ms - 5000, 1_000_000, "f4", values)], now_ms)])
        await asyncio.sleep(LIVE_PACE_S)
