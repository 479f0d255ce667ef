"""Rules files on real servers: tried on what is stored, applied as the API does, and nothing written before."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from ingest.clock import to_datetime
from services.cli.main import create_app
from services.rules import dry_run
from services.rules.compare import Comparison
from services.settings import Settings
from services.store.reader import Reader
from tests.api_data import ApiData
from tests.cast import cast
from tests.fix_doors import environment
from tests.fix_faults import stamped_story
from tests.fix_processor import BOUNDS, DAY, HOUR, T0, Bench, block, stamped

pytestmark = pytest.mark.stack

ALERTS = """SELECT rule, priority, started_at FROM alert WHERE patient_id = %s AND kind = 'clinical'
            AND state <> 'withdrawn' AND found_at >= %s AND found_at < %s ORDER BY 1, 2, 3"""
HEAD = "for: {aim}\nversion: {version}\nrules:\n"
MINE = ("--organisation", "o")
COUNTS = "SELECT (SELECT count(*) FROM alert), (SELECT count(*) FROM patient_change), (SELECT count(*) FROM outbox)"


def keepwell(settings: Settings, *words: str, answer: str = "", group: str = "rules") -> Result:
    """Run a command in this process: the settings as its only environment, what it says apart from what it asks."""
    others = {key: None for key in os.environ if key.startswith("KEEPWELL_")}
    env = others | environment(settings) | {"COLUMNS": "200"}
    return CliRunner().invoke(create_app(group), [group, *words], input=answer, env=env, catch_exceptions=False)


async def run(bench: Bench, *words: str) -> Result:
    """Run a command about the bench's organisation, in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(keepwell, bench.settings, *words, *MINE)


def written(folder: Path, aim: str, version: int, *rules: str) -> str:
    file = folder / "rules.yaml"
    body = "".join(f"  {rule}\n" for rule in rules) if rules else "  {}\n"
    file.write_text(HEAD.format(aim=aim, version=version) + body, "utf-8")
    return str(file)


async def stored(bench: Bench, patient: int, *hours: float) -> None:
    """An hour of oxygen saturation of each value, a reading every five minutes, from T0 on; a day at once."""
    blocks = [block("spo2", T0 + i * HOUR, [value] * 12, 300) for i, value in enumerate(hours)]
    frames = [stamped(patient, i, [one]) for i, one in enumerate(blocks)]
    for begin in range(0, len(frames), 24):
        await bench.frames(frames[begin : begin + 24])


async def test_a_stricter_limit_gains_the_known_episode_a_looser_one_loses_it_and_nothing_is_written(
    bench: Bench, tmp_path: Path
) -> None:
    """Patient 1 was once at 91 % and once at 88 %, patient 2 never below 95 %, patient 3 sent nothing."""
    await stored(bench, 1, 97, 91, 97, 97, 88, 97, 97, 97)
    await stored(bench, 2, 97, 96, 95, 97, 96, 97, 97, 97)
    before = await bench.rows(COUNTS)
    span = ("--from", to_datetime(T0).isoformat(), "--to", to_datetime(T0 + 24 * HOUR).isoformat())

    async def tried(*rules: str, show: int = 20) -> dict[str, Any]:
        file = written(tmp_path, "organisation", 1, *rules)
        done = await run(bench, "dry-run", file, *span, "--json", "--show", str(show))
        assert done.exit_code == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    stricter = await tried("spo2_low: {levels: [92, 85]}")
    assert (stricter["patients"], stricter["patient_weeks"]) == (20, round(2 / 7, 2))
    assert [stricter[side]["alerts"] for side in ("before", "after")] == [1, 2]
    assert stricter["before"]["incidents_per_patient_week"] == 3.5
    assert stricter["after"]["incidents_per_week_of_patient_at_95_percent"] == 14.0
    assert stricter["lost"] == {"alerts": 0, "patients": 0, "by_rule": {}, "shown": []}
    at = [str(to_datetime(T0 + hour * HOUR)) for hour in (1, 2)]
    (gained,) = stricter["gained"]["shown"]
    assert (gained["patient"], gained["rule"], gained["priority"], gained["from"]) == (
        "p1",
        "spo2_low",
        "medium",
        at[0],
    )
    assert gained["to"].startswith(at[1][:13])
    looser = await tried("spo2_low: {levels: [88, 85]}")
    assert looser["gained"]["alerts"] == 0
    assert (looser["lost"]["by_rule"], looser["lost"]["patients"]) == ({"spo2_low": 1}, 1)
    assert looser["lost"]["shown"][0]["from"] == str(to_datetime(T0 + 4 * HOUR))
    assert looser["after"]["alerts"] == 0
    same = await tried("fever: {levels: [38.5, 39.5]}")
    assert same["before"] == same["after"]
    assert (await tried("spo2_low: {levels: [92, 85]}", show=0))["gained"] == stricter["gained"] | {"shown": []}
    assert await bench.rows(COUNTS) == before
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as admin:
        rows = admin.execute("SELECT action, actor, detail->>'layer' FROM access_audit").fetchall()
    assert rows == [("rules.dry_run", "command", "organisation")] * 4


async def test_a_dry_run_begins_at_a_checkpoint_and_with_the_layers_there_are(bench: Bench, tmp_path: Path) -> None:
    """Three days: what a patient's own limit makes of the last one, tried over an organisation's that was set since."""
    await stored(bench, 1, *([97] * 50), 91, 97, 97, *([97] * 20))
    file = written(tmp_path, "organisation", 1, "spo2_low: {levels: [92, 85]}")
    applied = await run(bench, "apply", file, "--reason", "board", "--yes")
    assert applied.exit_code == 0, applied.stderr
    assert "spo2_low: as elsewhere → 92, 85, for 20 of 20 people" in applied.stderr
    assert await bench.rows("SELECT count(*) > 0 FROM baseline_checkpoint WHERE day < '2025-10-12'") == [(True,)]
    own = written(tmp_path, "patient p1", 1, "spo2_low: {levels: [90, 85]}")
    span = ("--from", to_datetime(T0 + 49 * HOUR).isoformat(), "--to", to_datetime(T0 + 60 * HOUR).isoformat())
    done = await run(bench, "dry-run", own, *span)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        "lost: 1 alerts of 1 patients (spo2_low 1)",
        f"  p1: spo2_low medium, {to_datetime(T0 + 50 * HOUR):%Y-%m-%d %H:%M} to {to_datetime(T0 + 51 * HOUR + 600_000):%Y-%m-%d %H:%M}",
    ]
    assert "gained: 0 alerts of 0 patients" in done.stdout
    late = ("--from", to_datetime(T0 + 52 * HOUR).isoformat(), *span[2:])
    assert "lost: 0 alerts" in (await run(bench, "dry-run", own, *late)).stdout


@pytest.mark.slow
async def test_the_rules_there_are_find_what_was_found(bench: Bench) -> None:
    """People of eight days with safety and adaptive alerts: replayed from the beginning and from a checkpoint."""
    people = [person for person in cast(8) if person.key in ("spo2", "infection", "fever")]
    for patient, person in enumerate(people, 1):
        frames = stamped_story(patient, person, 8)
        for begin in range(0, len(frames), 24):
            await bench.frames(frames[begin : begin + 24])
    reader, end_ms = Reader(bench.connection), T0 + 8 * DAY - HOUR
    found = 0
    for patient in range(1, len(people) + 1):
        for from_ms in (T0, T0 + 3 * DAY + HOUR):
            plan = dry_run.Plan("patient", {}, from_ms, end_ms, end_ms, BOUNDS.silence_ms, "0.1")
            tried = await dry_run.tried(reader, plan, patient, [])
            told = await bench.rows(ALERTS, patient, to_datetime(from_ms), to_datetime(end_ms))
            alerts = [(one.rule, one.priority, to_datetime(one.start_ms)) for one in tried.before]
            assert sorted(alerts) == told, (people[patient - 1].key, from_ms)
            assert tried.after == tried.before
            found += len(told)
    assert found > 3


async def test_a_dry_run_can_only_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def writing(reader: Reader, *_: object) -> None:
        await reader._connection.execute("DELETE FROM outbox")

    monkeypatch.setattr(dry_run, "tried", writing)
    plan, conninfo = (
        dry_run.Plan("patient", {}, T0, T0 + HOUR, T0, HOUR, "0.1"),
        bench.settings.postgres.conninfo("admin"),
    )
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await dry_run.dry_run(conninfo, plan, {1: "p1"}, Comparison(0), lambda _: None)


def test_a_file_is_applied_once_asked_for_and_refused_when_it_is_stale(
    migrated: Settings, ours: ApiData, tmp_path: Path
) -> None:
    patient = ours.patient("p1")
    mine = ("--organisation", ours.key)
    file = written(tmp_path, "patient p1", 1, "fever: {levels: [38, 39]}")
    assert keepwell(migrated, "apply", file, "--reason", " ", *mine).exit_code == 2
    unasked = keepwell(migrated, "apply", file, "--reason", "neutropenia", *mine, answer="n\n")
    assert (unasked.exit_code, "Set version 1 of the limits of patient p1?" in unasked.stderr) == (1, True)
    done = keepwell(migrated, "apply", file, "--reason", "neutropenia", "--json", *mine, answer="y\n")
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "for": "patient p1",
        "version": 1,
        "changed": True,
        "patients_told": 1,
    }
    assert "fever: as elsewhere → 38, 39, for 1 of 1 people" in done.stderr
    again = keepwell(migrated, "apply", file, "--reason", "neutropenia", "--yes", *mine)
    assert (again.exit_code, "changed=False" in again.stdout) == (0, True)
    other = written(tmp_path, "patient p1", 1, "fever: {levels: [38.5, 39]}")
    stale = keepwell(migrated, "apply", other, "--reason", "x", "--yes", *mine)
    assert stale.exit_code == 2
    assert "version = 1 does not follow: the limits of patient p1 are at version 1" in stale.stderr
    exported = keepwell(migrated, "export", "patient", "p1", *mine).stdout
    assert exported == "for: patient p1\nversion: 2\nrules:\n  fever:\n    levels: [38, 39]\n"
    shown = json.loads(keepwell(migrated, "show", "patient", "p1", "--json", *mine).stdout)
    fever = next(row for row in shown if row["rule"] == "fever")
    assert (fever["levels"], fever["clear"], fever["from"]) == (
        "at or above 38 medium, at or above 39 high",
        37.5,
        "patient",
    )
    assert {row["from"] for row in shown} == {"patient", "everybody"}
    (version,) = json.loads(keepwell(migrated, "history", "patient", "p1", "--json", *mine).stdout)
    assert (version["version"], version["reason"], version["rules"]) == (
        1,
        "neutropenia",
        {"fever": {"levels": [38, 39]}},
    )
    rows = ours.connection.execute(
        "SELECT action, reason FROM access_audit WHERE patient_id = %s ORDER BY id", [patient]
    ).fetchall()
    read = ("profile.read", "")
    assert rows == [("patient.limits", ""), read, read, read], "the reason stays with the change"
    relayed = ours.connection.execute("SELECT count(*) FROM outbox WHERE organisation_id = %s", [ours.organisation])
    assert relayed.fetchone() == (1,)
    assert keepwell(migrated, "profile", "p1", '{"pacemaker": true}', *mine, group="patient").exit_code == 0
    shown = json.loads(keepwell(migrated, "show", "patient", "p1", "--json", *mine).stdout)
    off = {row["rule"]: row["state"] for row in shown if row["state"] != "on"}
    assert off["heart_rate_drift"] == "off: a pacemaker sets the heart rate at rest", (
        "and nothing of pregnancy or nights"
    )


def test_a_programmes_layer_is_its_limits_and_leaves_the_rest_of_it_alone(
    migrated: Settings, ours: ApiData, tmp_path: Path
) -> None:
    mine = ("--organisation", ours.key)
    file = written(tmp_path, "programme copd", 2, "spo2_low: {levels: [88, 84]}")
    missing = keepwell(migrated, "apply", file, "--reason", "x", "--yes", *mine)
    assert (missing.exit_code, "`keepwell programme set` first" in missing.stderr) == (2, True)
    assert keepwell(migrated, "set", "copd", '{"name": "COPD"}', *mine, group="programme").exit_code == 0
    assert "not taken for a programme" in keepwell(
        migrated, "apply", file, "--reason", "x", "--from", "2026-01-01T00:00Z", "--yes", *mine
    ).stderr  # fmt: skip
    done = keepwell(migrated, "apply", file, "--reason", "board", "--yes", "--json", *mine)
    assert json.loads(done.stdout)["version"] == 2, done.stderr
    row = ours.connection.execute(
        "SELECT document FROM programme WHERE organisation_id = %s", [ours.organisation]
    ).fetchone()
    assert row == ({"name": "COPD", "limits": {"spo2_low": {"levels": [88, 84]}}},)
    shown = json.loads(keepwell(migrated, "show", "programme", "copd", "--json", *mine).stdout)
    assert shown[0]["from"] == "programme"
    assert [row["version"] for row in json.loads(keepwell(migrated, "history", "programme", "copd", "--json", *mine).stdout)] == [2, 1]  # fmt: skip


def test_limits_for_adults_are_not_set_for_a_child_and_whom_nobody_knows_is_told(
    migrated: Settings, ours: ApiData, tmp_path: Path
) -> None:
    ours.patient("p1")
    mine = ("--organisation", ours.key)
    child = '{"age_band": "under_16", "adult_limits": "off"}'
    assert keepwell(migrated, "profile", "p1", child, *mine, group="patient").exit_code == 0
    file = written(tmp_path, "patient p1", 1, "bradycardia: {levels: [40, 30]}")
    refused = keepwell(migrated, "apply", file, "--reason", "x", "--yes", *mine)
    assert (refused.exit_code, "only limits that hold under 16" in refused.stderr) == (2, True)
    for words, said in (
        (("show", "patient", "nobody"), "there is no patient nobody"),
        (("show", "ward", "3"), "'ward 3' names nobody's limits"),
        (("export", "programme", "none"), "there is no programme 'none'"),
        (("dry-run", file, "--from", "2026-11-01T00:00Z", "--to", "2026-11-01T00:30Z"), "not an hour before --to"),
    ):
        refused = keepwell(migrated, *words, *mine)
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr
