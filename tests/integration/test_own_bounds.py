"""Bounds of drifts and alert budgets of layers, applied in event time: told at the person's own, tried on the past."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ingest.clock import to_datetime
from ingest.frame import StampedFrame
from services.settings import Settings
from tests.api_data import ApiData
from tests.fix_api import ServedApi
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped
from tests.integration.test_api import got, problem
from tests.integration.test_control import changed, interleaved
from tests.integration.test_profile import SETTLED, own_limits, true_sentences
from tests.integration.test_rules import keepwell, run, written

pytestmark = pytest.mark.stack

DAYS, FROM, TO = 30, 16, 22  # of the story: how long it is, and between which days heart and oxygen are otherwise
FALL, RISE = 1.6, 3.0  # % and /min: less than everybody's bound, and not much for the slow rule
DRIFTS = """SELECT patient_id, (evidence->>'bound')::float8, evidence->>'limit_set_by' FROM alert
            WHERE rule = 'spo2_drift' ORDER BY 1"""
RISES = """SELECT patient_id, (evidence->>'cusum_limit')::float8, evidence->>'limit_set_by', found_at FROM alert
           WHERE rule = 'resting_heart_rate_rise' AND state <> 'withdrawn' ORDER BY 1"""


def lived(patient: int, each: int = 12) -> list[StampedFrame]:
    """The same for everybody: oxygen every five minutes, and so many heart rates an hour."""
    chance, frames = np.random.default_rng(11), []
    level = np.repeat(chance.normal(0, 1, DAYS + 1), 24)
    for hour in range(DAYS * 24):
        otherwise = FROM * 24 + 12 <= hour < TO * 24 + 12
        oxygen = 96 + chance.normal(0, 0.3, 12) - FALL * (hour >= FROM * 24 + 12)
        heart = np.repeat(62 + level[hour + 12] + chance.normal(0, 2, 12) + RISE * otherwise, each // 12)
        heart[1::2] += 0.5  # no flat line
        when = T0 + hour * HOUR
        both = [block("spo2", when, oxygen, 300), block("heart_rate", when, heart, 3600 / each)]
        frames.append(stamped(patient, hour, both))
    return frames


async def live(bench: Bench, *patients: int, each: int = 12) -> None:
    for patient in patients:
        frames = lived(patient, each)
        for begin in range(0, len(frames), 48):
            await bench.frames(frames[begin : begin + 48])


async def test_each_is_told_at_the_own_bound_and_by_the_own_budget(bench: Bench) -> None:
    layers = [
        own_limits(1, T0, "organisation", spo2_drift={"bound": 3}),
        own_limits(1, T0, "patient", spo2_drift={"bound": 1.2}),
        own_limits(2, T0, "programme/copd", spo2_drift={"bound": 1.3}, adaptive_rules={"alert_budget": "0.1"}),
        own_limits(2, T0, "programme/heart", spo2_drift={"bound": 3.5}, adaptive_rules={"alert_budget": "0.3"}),
        own_limits(3, T0, "organisation", spo2_drift={"bound": 1.2}),
        own_limits(3, T0, "patient", spo2_drift={"bound": 4}),
    ]
    await bench.feed(changed(bench, *layers))
    await live(bench, 1, 2, 3, 4, each=60)
    assert await bench.rows(DRIFTS) == [(1, 1.2, "patient"), (2, 1.3, "programme")]
    told = await bench.rows(RISES)
    assert (2, 1.5, "programme") in [row[:3] for row in told]
    assert {row[:3] for row in told if row[0] != 2} <= {(patient, 4.5, None) for patient in (1, 3, 4)}
    assert await true_sentences(bench) > 2


def asked(patient: int) -> list[Any]:
    """Said between hours and at the very end of a day (10:00 local time, an hour before UTC)."""
    return [
        own_limits(patient, T0 + 5 * DAY + 7 * MINUTE, "organisation", spo2_drift={"bound": 1.4}),
        own_limits(patient, T0 + 17 * DAY + 9 * HOUR, "programme/heart", adaptive_rules={"alert_budget": "0.3"}),
        own_limits(patient, T0 + 18 * DAY + 9 * HOUR + 1, "patient", spo2_drift={"bound": 1.1}),
        own_limits(patient, T0 + 27 * DAY + 5 * HOUR, "patient", spo2_drift={"bound": 4}),
        own_limits(patient, T0 + 28 * DAY, "programme/heart"),
    ]


async def test_in_time_in_any_cut_or_late_the_same_comes_of_it(bench: Bench) -> None:
    await bench.feed(changed(bench, *asked(1)))
    await live(bench, 1)
    control = changed(bench, *asked(2))
    Random(2).shuffle(control)
    await interleaved(bench, lived(2), control, 2)
    await bench.feed(control)  # those for which there was no batch
    await live(bench, 3)
    assert await bench.rows("SELECT 1 FROM patient_state WHERE dirty_since IS NOT NULL") == []
    await bench.feed(changed(bench, *asked(3)))
    assert await bench.rows("SELECT patient_id FROM patient_state WHERE dirty_since IS NOT NULL") == [(3,)]
    assert await bench.rebuild() == 1
    first, second, third = [await bench.rows(SETTLED, patient) for patient in (1, 2, 3)]
    assert {row[0] for row in first} >= {"spo2_drift", "resting_heart_rate_rise"}
    assert second == first
    assert third == first
    kept = await bench.rows("SELECT state, layout FROM patient_baseline WHERE patient_id <= 3")
    assert len(kept) == 3
    assert len(set(kept)) == 1, "to the last bit"


async def test_what_was_told_by_a_budget_or_bound_that_is_taken_back_for_the_past_is_withdrawn(bench: Bench) -> None:
    said = {"spo2_drift": {"bound": 1.2}, "adaptive_rules": {"alert_budget": "0.3"}}
    await bench.feed(changed(bench, own_limits(1, T0, "programme/heart", **said)))
    await live(bench, 1, 2)
    assert {row[0] for row in await bench.rows(DRIFTS)} == {1}
    assert [row[0] for row in await bench.rows(RISES)] != [row[0] for row in await bench.rows(RISES) if row[0] == 2]
    await bench.feed(changed(bench, own_limits(1, T0 + HOUR, "programme/heart")))
    assert await bench.rebuild() == 1
    assert await bench.rows(SETTLED, 1) == await bench.rows(SETTLED, 2)
    gone = await bench.rows("SELECT rule FROM alert WHERE patient_id = 1 AND state = 'withdrawn' ORDER BY 1")
    assert ("spo2_drift",) in gone
    assert ("resting_heart_rate_rise",) in gone


async def test_a_dry_run_shows_what_a_bound_and_a_budget_gain_and_lose(bench: Bench, tmp_path: Path) -> None:
    await live(bench, 1)
    span = ("--from", to_datetime(T0 + 12 * DAY).isoformat(), "--to", to_datetime(T0 + DAYS * DAY).isoformat())

    async def tried(*rules: str) -> dict[str, Any]:
        done = await run(bench, "dry-run", written(tmp_path, "organisation", 1, *rules), *span, "--json")
        assert done.exit_code == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    nothing = await tried("spo2_drift: {bound: 2}", "adaptive_rules: {alert_budget: 0.1}")
    assert nothing["before"] == nothing["after"], "as it is for everybody"
    tighter = await tried("spo2_drift: {bound: 1.2}")
    asked = tighter["gained"]["by_rule"], tighter["lost"]["by_rule"]
    assert asked == ({"spo2_drift": 1}, {"spo2_shift": 1}), "one question a metric: the drift's, in the shift's place"
    larger = await tried("adaptive_rules: {alert_budget: 0.3}")
    assert larger["gained"]["by_rule"] == {"resting_heart_rate_rise": 1}
    assert larger["after"]["alerts"] == larger["before"]["alerts"] + 1
    told = await bench.rows("SELECT rule FROM alert WHERE patient_id = 1 AND kind = 'clinical'")
    assert told == [("spo2_shift",)], "of one time with which the rise is one incident"
    assert larger["after"]["incidents"] == larger["before"]["incidents"]
    file = written(tmp_path, "organisation", 1, "spo2_drift: {bound: 1.2}", "adaptive_rules: {alert_budget: 0.3}")
    applied = await run(bench, "apply", file, "--reason", "board", "--yes")
    assert applied.exit_code == 0, applied.stderr
    assert "spo2_drift: as elsewhere → bound 1.2, for 20 of 20 people" in applied.stderr
    assert "adaptive_rules: as elsewhere → alert budget 0.3, for 20 of 20 people" in applied.stderr
    own = written(tmp_path, "patient p1", 1, "spo2_drift: {bound: 4}", "adaptive_rules: {alert_budget: 0.1}")
    looser = json.loads((await run(bench, "dry-run", own, *span, "--json")).stdout)
    assert looser["gained"]["by_rule"] == {"spo2_shift": 1}
    assert looser["lost"]["by_rule"] == {"resting_heart_rate_rise": 1, "spo2_drift": 1}


def test_the_command_line_shows_what_holds_and_which_layer_says_so(
    migrated: Settings, ours: ApiData, tmp_path: Path
) -> None:
    ours.patient("p1")
    mine = ("--organisation", ours.key)
    usual = migrated.processor.alert_budget
    for aim, rules in (
        ("organisation", ("spo2_drift: {bound: 1.5}", 'adaptive_rules: {alert_budget: "0.2"}')),
        ("patient p1", ("spo2_drift: {bound: 3}",)),
    ):
        done = keepwell(migrated, "apply", written(tmp_path, aim, 1, *rules), "--reason", "board", "--yes", *mine)
        assert done.exit_code == 0, done.stderr
    shown = {
        row["rule"]: row for row in json.loads(keepwell(migrated, "show", "patient", "p1", "--json", *mine).stdout)
    }
    said = ("levels", "clear", "from", "state")
    assert [shown["spo2_drift"][key] for key in said] == ["drifted by 3 low, 6 medium", 1.5, "patient", "on"]
    assert [shown["heart_rate_drift"][key] for key in said] == ["drifted by 8 low, 16 medium", 4, "everybody", "on"]
    budget = shown["adaptive_rules"]
    assert (budget["levels"], budget["from"]) == ("alert budget 0.2 incidents a patient-week", "organisation")
    assert "drifted by 1.5 low, 3 medium" in keepwell(migrated, "show", *mine).stdout
    exported = keepwell(migrated, "export", *mine).stdout
    assert exported.endswith("rules:\n  adaptive_rules: {alert_budget: 0.2}\n  spo2_drift: {bound: 1.5}\n")
    history = json.loads(keepwell(migrated, "history", "patient", "p1", "--json", *mine).stdout)
    assert [row["rules"] for row in history] == [{"spo2_drift": {"bound": 3.0}}]
    bounds = json.loads(keepwell(migrated, "bounds", "--json", group="patient").stdout)
    assert [row["from_to"] for row in bounds[-5:]] == ["5 to 15", "1 to 4", "2 to 6", "8 to 30", "0.1, 0.2, 0.3"]
    assert bounds[-1]["levels"] == f"alert_budget {usual}"


async def test_the_api_sets_refuses_and_shows_them(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    limits = "/v1/patients/p1/limits"
    refused: list[tuple[str, dict[str, Any]]] = [
        ("spo2_drift.bound", {"spo2_drift": {"bound": 0.5}}),
        ("spo2_drift.levels", {"spo2_drift": {"levels": [2, 4]}}),
        ("adaptive_rules.alert_budget", {"adaptive_rules": {"alert_budget": 0.5}}),
        ("rules", {"alert_budget": {"alert_budget": 0.2}}),
    ]
    async with api.client(ours.token(ours.person("ada", "clinician"))) as client:
        for field, rules in refused:
            assert problem(await client.put(limits, json={"rules": rules}), 422, "invalid")["field"] == field
        before = {rule["rule"]: rule for rule in (await got(client, limits))["rules"]}
        assert (before["spo2_drift"]["bound"], before["spo2_drift"]["origin"]) == (2, "everybody")
        assert (before["adaptive_rules"]["alert_budget"], before["adaptive_rules"]["set"]) == ("0.1", [])
        everywhere = await client.put("/v1/limits", json={"rules": {"adaptive_rules": {"alert_budget": 0.3}}})
        assert everywhere.status_code == 200, everywhere.text
        mine = await client.put(limits, json={"rules": {"spo2_drift": {"bound": 1.5}}, "reason": "fibrosis"})
        assert mine.status_code == 200, mine.text
        shown = {rule["rule"]: rule for rule in (await got(client, limits))["rules"]}
        document = await got(client, "/v1/patients/p1")
        page = (await client.get("/patients/p1", headers={"Accept": "text/html"})).text
    drift, budget = shown["spo2_drift"], shown["adaptive_rules"]
    assert (drift["bound"], drift["unit"], drift["origin"], drift["bounds"]) == (1.5, "%", "patient", {"bound": [1, 4]})
    assert (drift["set"][0]["by"]["id"], budget["origin"], budget["alert_budget"]) == ("ada", "organisation", "0.3")
    assert budget["bounds"] == {"alert_budget": ["0.1", "0.2", "0.3"]}
    assert [rule["rule"] for rule in document["own_limits"]] == ["spo2_drift", "adaptive_rules"]
    assert document["limits_individualised"] is False, "no safety limit is"
    told = (
        "Against the own normal: drift of oxygen saturation at night told from 1.5 % (this patient's own), alert budget "
        "0.3 incidents a patient-week (the organisation's)."
    )
    assert document["limits_note"].endswith(told)
    assert told.replace("'", "&#39;") in page
    assert (
        "Oxygen saturation at night: far from the first weeks, told from 1.5 % and again from 3 (this patient&#39;s own)"
        in page
    )
    assert (
        "Alert budget of all rules against the own normal together: 0.3 incidents a patient-week (the organisation&#39;s)"
        in page
    )
    assert ours.connection.execute(
        "SELECT count(*) FROM outbox WHERE organisation_id = %s", [ours.organisation]
    ).fetchone() == (2,)  # fmt: skip
    assert patient
