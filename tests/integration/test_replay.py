"""``keepwell replay`` the whole way: every reading accounted for, and nothing twice the second time."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from services.cli.replay_run import ReplayRun, erase
from simulators.recording import write_zip
from simulators.series import Series
from tests.fix_stack import LiveStack

pytestmark = pytest.mark.stack

T0 = 1_583_020_800_000  # 2020-03-01T00:00:00Z
HOUR = 3_600_000
RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "wearable_hr"


@pytest.fixture
def run(stack: LiveStack, tmp_path: Path) -> Iterator[ReplayRun]:
    """Where this test's replays are kept, away from anybody else's."""
    one = ReplayRun.open(stack.home.absolute(), f"t{os.getpid()}{tmp_path.name[-2:].strip('-_')}".lower())
    yield one
    asyncio.run(erase(one))


def replay(
    run: ReplayRun, path: Path, out: Path, *words: str, timeout_s: float = 120
) -> tuple[int, str, dict[str, Any]]:
    """The command's exit code, what it printed, and its JSON."""
    told = {key: value for key, value in os.environ.items() if not key.startswith("KEEPWELL_")}
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "replay", str(path), "--name", run.name, "--json", str(out), *words],
        env=told | {"KEEPWELL_STACK__HOME": str(run.home), "KEEPWELL_CONFIG": os.devnull},
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    document = json.loads(out.read_text()) if out.exists() else {}
    return done.returncode, done.stdout + done.stderr, document


def stream(t_ms: list[int], value: list[float]) -> Series:
    return Series(np.array(t_ms, np.int64), np.array(value, np.float32), np.zeros(len(t_ms), np.uint8))


def write_person(folder: Path, person: str, hours: int, rate: float, odd: list[tuple[int, float]]) -> int:
    """Some hours of one person, with ``odd`` rows (instant, value) at the end of the file; how many readings."""
    t = list(range(T0, T0 + hours * HOUR, 5000))
    heart = stream([*t, *(at for at, _ in odd)], [rate + i % 7 for i in range(len(t))] + [value for _, value in odd])
    minutes = list(range(T0, T0 + hours * HOUR, 60_000))
    steps = stream(minutes, [float(i % 3) for i in range(len(minutes))])
    for name, metric, one in (("hr", "heart_rate", heart), ("steps", "steps", steps)):
        write_zip(folder / f"{person}_{name}.csv.zip", person, metric, one, np.arange(len(one.t_ms)))
    return len(heart.t_ms) + len(steps.t_ms)


def rows(run: ReplayRun, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(run.settings.postgres.conninfo("admin")) as connection:
        return connection.execute(query.encode()).fetchall()


def test_every_reading_is_accounted_for_and_nothing_is_stored_twice(run: ReplayRun, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    # the same again; other values at the same instant, also in another hour's block; a clock that went back; a
    # rate no heart has
    end = T0 + 5 * HOUR
    odd = [
        (end, 60.0), (end, 60.0), (end, 75.0), (T0 + 5000, 99.0), (T0 + 2 * HOUR, 98.0), (end - 1000, 61.0), (end + 5000, 900.0),
    ]  # fmt: skip
    sent = write_person(folder, "ANNA", 5, 60.0, odd) + write_person(folder, "BEN", 4, 70.0, [])

    code, told, first = replay(run, folder, tmp_path / "first.json")

    assert code == 0, told
    assert first["broken"] == []
    assert first["time_zone"].startswith("UTC")
    assert (first["sent"], first["rejected"], first["accepted"]) == (sent, 0, sent)
    assert (first["duplicate"], first["conflict"], first["quarantined"], first["dead"]) == (1, 3, 1, 0)
    assert first["stored"] == sent - 5
    assert first["late"] == 0
    assert first["already_there"] == 1  # the row that came twice
    assert len(rows(run, "SELECT 1 FROM reading_conflict")) == 3
    conflicts = rows(run, "SELECT extract(epoch FROM t)::bigint * 1000, value FROM reading_conflict ORDER BY t")
    assert conflicts == [(T0 + 5000, 99.0), (T0 + 2 * HOUR, 98.0), (end, 75.0)]
    assert rows(run, "SELECT sum(cardinality(value)) FROM reading_block")[0][0] == first["stored"]
    alerts = rows(run, "SELECT id FROM alert ORDER BY id")

    code, told, second = replay(run, folder, tmp_path / "second.json")

    assert code == 0, told
    assert second["broken"] == []
    assert second["accepted"] == second["already_there"] == sent
    assert second["stored"] == second["new_alerts"] == 0
    assert set(second["new"].values()) == {0}
    assert second["hash"] == first["hash"]
    assert rows(run, "SELECT sum(cardinality(value)) FROM reading_block")[0][0] == first["stored"]
    assert len(rows(run, "SELECT 1 FROM reading_conflict")) == 3
    assert rows(run, "SELECT id FROM alert ORDER BY id") == alerts


@pytest.mark.slow
def test_other_boundaries_another_session_and_shuffled_rows_store_nothing_twice(run: ReplayRun, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    odd = [(T0 + 5000, 99.0), (T0 + 2 * HOUR, 98.0), (T0 + HOUR, 900.0)]
    sent = write_person(folder, "ANNA", 30, 60.0, odd) + write_person(folder, "BEN", 4, 70.0, [])
    code, told, first = replay(run, folder, tmp_path / "first.json")
    assert code == 0, told
    tables = "SELECT count(*), sum(cardinality(value)) FROM reading_block"
    before = rows(run, tables)
    for seed in ("5", "6"):
        code, told, again = replay(run, folder, tmp_path / f"{seed}.json", "--reframe", seed)
        assert code == 0, told
        assert again["broken"] == []
        assert again["frames"]["accepted"] not in (0, first["frames"]["accepted"])
        assert (again["accepted"], again["already_there"], again["stored"], again["new_alerts"]) == (sent, sent, 0, 0)
        assert set(again["new"].values()) == {0}
        assert (again["duplicate"], again["conflict"], again["quarantined"]) == (sent - 3, 2, 1)
        assert rows(run, tables) == before


@pytest.mark.slow
def test_lost_readings_are_found_out(run: ReplayRun, tmp_path: Path) -> None:
    folder, other = tmp_path / "people", tmp_path / "others"
    folder.mkdir()
    other.mkdir()
    write_person(folder, "ANNA", 2, 60.0, [])
    assert replay(run, folder, tmp_path / "first.json")[0] == 0
    with psycopg.connect(run.settings.postgres.conninfo("admin")) as connection:
        connection.execute("ALTER TABLE reading_block NO FORCE ROW LEVEL SECURITY")
        connection.execute("DELETE FROM reading_block WHERE ctid IN (SELECT ctid FROM reading_block LIMIT 1)")
        connection.execute("ALTER TABLE reading_block FORCE ROW LEVEL SECURITY")
    sent = write_person(other, "BEN", 1, 60.0, [])

    code, told, document = replay(run, other, tmp_path / "second.json")

    assert code == 1, told
    assert any("accepted but nowhere kept" in one for one in document["broken"]), document["broken"]
    assert document["new"]["stored"] == sent


def test_what_cannot_be_read_is_said_before_anything_starts(run: ReplayRun, tmp_path: Path) -> None:
    code, told, document = replay(run, tmp_path / "nowhere", tmp_path / "out.json")
    assert (code, document) == (1, {})
    assert "nowhere does not exist" in told.replace("\n", "")
    assert "Traceback" not in told


def test_a_csv_is_replayed(run: ReplayRun, tmp_path: Path) -> None:
    path = tmp_path / "my watch.csv"
    lines = [f"2026-03-01T08:{minute:02}:00+01:00,heart_rate,{60 + minute % 5}," for minute in range(60)]
    lines += ["2026-03-01T08:30:00+01:00,body_temperature,98.6,[degF]", "2026-03-01T08:30:00+01:00,spo2,300,%"]
    path.write_text("time,metric,value,unit\n" + "\n".join(lines) + "\n")
    code, told, document = replay(run, path, tmp_path / "out.json", "--speed", "36000")
    assert code == 0, told
    assert (document["accepted"], document["stored"], document["quarantined"]) == (62, 61, 1)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_recording(run: ReplayRun, tmp_path: Path) -> None:
    if not RECORDINGS.is_dir():
        pytest.skip(f"the recordings of wearable_hr are not beside the checkout ({RECORDINGS.name})")
    code, told, first = replay(run, RECORDINGS, tmp_path / "first.json", timeout_s=420)
    assert code == 0, told
    assert (first["people"], first["accepted"], first["conflict"]) == (8, 2_979_995, 121)
    assert first["stored"] + first["conflict"] == 2_979_995
    assert first["distinct"]["accepted"] == 2_979_995
    code, told, second = replay(run, RECORDINGS, tmp_path / "second.json", timeout_s=420)
    assert code == 0, told
    assert (second["stored"], second["new_alerts"], second["already_there"]) == (0, 0, 2_979_995)
    code, told, other = replay(run, RECORDINGS, tmp_path / "other.json", "--reframe", "1", timeout_s=420)
    assert code == 0, told
    assert (other["stored"], other["new_alerts"], other["already_there"]) == (0, 0, 2_979_995)
    assert (other["duplicate"], other["conflict"]) == (2_979_874, 121)
