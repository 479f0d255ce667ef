"""Profiles and own limits through the API: impossible ones refused, who set what shown, relayed and audited."""

from __future__ import annotations

from typing import Any

import pytest

from services import teams
from tests.api_data import ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem
from tests.integration.test_api_changes import outbox

pytestmark = pytest.mark.stack

PROFILE, LIMITS = "/v1/patients/p1/profile", "/v1/patients/p1/limits"
OXYGEN = {"target": [88, 92], "home": True}


async def test_a_target_is_set_by_a_named_clinician_shown_everywhere_and_relayed(api: ServedApi, ours: ApiData) -> None:
    patient, doctor = ours.patient("p1"), ours.person("ada", "clinician")
    nurse = ours.person("ned", "nurse")
    async with api.client(ours.token(doctor)) as client:
        before = await client.get(PROFILE)
        assert (before.json()["profile"], before.json()["limits_individualised"]) == ({}, False)
        body = {"profile": {"oxygen": OXYGEN, "pacemaker": True}, "reason": "COPD"}
        put = await client.put(PROFILE, json=body, headers={"If-Match": before.headers["etag"], "Idempotency-Key": "k"})
        assert put.status_code == 200, put.text
        assert put.json()["profile"] == {"oxygen": {**OXYGEN, "set_by": "ada"}, "pacemaker": True}
        assert put.headers["etag"] == '"1"'
        stale = await client.put(PROFILE, json=body, headers={"If-Match": '"0"'})
        assert problem(stale, 409, "stale_version")["version"] == 1
        page = (await client.get("/patients/p1", headers={"Accept": "text/html"})).text
        document = await got(client, "/v1/patients/p1")
        limits = {rule["rule"]: rule for rule in (await got(client, LIMITS))["rules"]}
    assert document["limits_individualised"] is True
    assert "oxygen saturation wanted 88 to 92 %, oxygen at home (set by ada)" in document["limits_note"]
    assert document["limits_note"] in page
    assert "Off: Resting heart rate rising since" in page
    assert "a pacemaker sets the heart rate at rest" in page
    low = limits["spo2_low"]
    assert [level["threshold"] for level in low["levels"]] == [86, 84]
    assert (low["clear"], low["origin"], low["state"], low["unit"]) == (88, "profile", "on", "%")
    assert low["set"][0]["by"]["id"] == "ada"
    assert limits["spo2_high_on_oxygen"]["state"] == "on"
    assert limits["fever"]["origin"] == "everybody"
    off = limits["resting_heart_rate_rise"]
    assert (off["state"], off["off_reason"]) == ("off", "a pacemaker sets the heart rate at rest")
    assert off["off_since"] == put.json()["effective_at"]

    async with api.client(ours.token(nurse)) as client:
        patched = await client.patch(PROFILE, json={"profile": {"pacemaker": None, "night_work": True}})
        assert patched.json()["profile"] == {"oxygen": {**OXYGEN, "set_by": "ada"}, "night_work": True}
        unnamed = await client.patch(PROFILE, json={"profile": {"oxygen": {"target": [85, 90]}}})
        assert problem(unnamed, 422, "invalid")["field"] == "oxygen.set_by"
        named = await client.patch(PROFILE, json={"profile": {"oxygen": {"target": [85, 90], "set_by": "ned"}}})
        assert "a clinician of your organisation" in problem(named, 422, "invalid")["allowed"]
        history = (await got(client, PROFILE))["history"]
    assert [(entry["version"], entry["by"]["id"]) for entry in history] == [(2, "ned"), (1, "ada")]
    messages = outbox(ours, patient)
    assert [(message.kind, message.version) for message in messages] == [("profile", 1), ("profile", 2)]
    assert ours.audit("patient.profile")[0][:2] == (doctor, patient)


IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("pregnancy", {"sex": "male", "pregnancy": {"from": "2026-09-01", "to": "2027-05-01"}}),
    (
        "pregnancy",
        {"birth_date": "2020-01-01", "adult_limits": "off", "pregnancy": {"from": "2026-09-01", "to": "2027-05-01"}},
    ),
    ("pregnancy.to", {"pregnancy": {"from": "2026-09-01", "to": "2028-05-01"}}),
    ("oxygen.target", {"oxygen": {"target": [95, 80], "set_by": "ada"}}),
    ("oxygen.target", {"oxygen": {"target": [70, 80], "set_by": "ada"}}),
    ("oxygen", {"oxygen": {"home": True, "set_by": "ada"}}),
    ("oxygen.set_by", {"oxygen": {"target": [88, 92], "set_by": "nobody"}}),
    ("adult_limits", {"birth_date": "2015-01-01"}),
    ("adult_limits", {"age_band": "under_16"}),
    ("adult_limits", {"birth_date": "1950-01-01", "adult_limits": "off"}),
    ("adult_limits", {"adult_limits": "off"}),
    ("age_band", {"birth_date": "1950-01-01", "age_band": "under_16"}),
    ("birth_date", {"birth_date": "1850-01-01"}),
    ("birth_date", {"birth_date": "yesterday"}),
    ("profile", {"pace_maker": True}),
]


@pytest.mark.parametrize(("field", "profile"), IMPOSSIBLE)
async def test_an_impossible_profile_is_refused_with_the_reason(
    api: ServedApi, ours: ApiData, field: str, profile: dict[str, Any]
) -> None:
    ours.patient("p1")
    async with api.client(ours.token(ours.person("ada", "clinician"))) as client:
        refused = problem(await client.put(PROFILE, json={"profile": profile}), 422, "invalid")
        assert refused["field"] == field, refused
        assert (await got(client, PROFILE))["version"] == 0
    assert ours.connection.execute("SELECT count(*) FROM outbox WHERE organisation_id = %s", [ours.organisation]).fetchone() == (0,)  # fmt: skip


async def test_own_limits_move_within_bounds_and_nobody_switches_one_off(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    refused: list[tuple[str, dict[str, Any]]] = [
        ("spo2_low.levels[1]", {"spo2_low": {"levels": [85, 50]}}),
        ("spo2_low.levels", {"spo2_low": {"levels": [85]}}),
        ("spo2_low.levels", {"spo2_low": {"levels": []}}),
        ("spo2_low.levels", {"spo2_low": {"levels": [80, 85]}}),
        ("spo2_low.persist_s", {"spo2_low": {"persist_s": 86400}}),
        ("spo2_low.off", {"spo2_low": {"off": True}}),
        ("rules", {"resting_heart_rate_rise": {"levels": [1]}}),
    ]
    async with api.client(ours.token(ours.person("ada", "clinician"))) as client:
        for field, rules in refused:
            found = problem(await client.put(LIMITS, json={"rules": rules}), 422, "invalid")
            assert found["field"] in (field, "spo2_low"), found
        answer = await client.put(LIMITS, json={"rules": {"fever": {"levels": [38, 39]}}, "reason": "neutropenia"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["layer"] == "patient"
        shown = await got(client, LIMITS)
        fever = next(rule for rule in shown["rules"] if rule["rule"] == "fever")
        assert [level["threshold"] for level in fever["levels"]] == [38, 39]
        assert (fever["clear"], fever["origin"], fever["set"][0]["by"]["id"]) == (37.5, "patient", "ada")
        assert fever["bounds"]["levels"] == [[37.5, 39], [38, 40]]
        assert "own limit for high body temperature" in (await got(client, "/v1/patients/p1"))["limits_note"]
        child = {"profile": {"birth_date": "2015-01-01", "adult_limits": "off"}}
        assert (await client.put(PROFILE, json=child)).status_code == 200
        adult = await client.put(LIMITS, json={"rules": {"bradycardia": {"levels": [45, 40]}}})
        assert "under 16" in problem(adult, 422, "invalid")["allowed"]
        off = {
            rule["rule"]: rule["off_reason"] for rule in (await got(client, LIMITS))["rules"] if rule["state"] == "off"
        }
        assert off["bradycardia"] == "its numbers are for people of 16 and over"
        assert "spo2_low" not in off
    async with api.client(ours.token(ours.person("ned", "nurse"))) as client:
        problem(await client.put(LIMITS, json={"rules": {}}), 403, "role_not_allowed")
    async with api.client(ours.token(ours.person("eve", "administrator"))) as client:
        problem(await client.put(PROFILE, json={"profile": {}}), 403, "role_not_allowed")


async def test_a_profile_is_nobody_elses_to_see_or_set(api: ServedApi, ours: ApiData, theirs: ApiData) -> None:
    theirs.patient("p1")
    async with api.client(ours.token(ours.person("ada", "clinician"))) as client:
        for answer in (
            await client.get(PROFILE), await client.put(PROFILE, json={"profile": {}}), await client.get(LIMITS),
            await client.put(LIMITS, json={"rules": {}}),
        ):  # fmt: skip
            problem(answer, 404, "not_found")


async def test_a_patient_sees_the_profile_without_empty_remains_of_what_others_wrote(
    api: ServedApi, ours: ApiData
) -> None:
    patient = ours.patient("p1")
    account = ours.person("pat", "patient")
    teams.link_patient(ours.connection, account, patient)
    async with api.client(ours.token(ours.person("ada", "clinician"))) as client:
        body = {"profile": {"night_work": True}, "reason": "works at night"}
        assert (await client.put(PROFILE, json=body)).status_code == 200
        assert (await got(client, PROFILE))["set"]["reason"] == "works at night"
        own = {"rules": {"fever": {"levels": [38, 39]}, "spo2_drift": {"bound": 1.5}}}
        assert (await client.put(LIMITS, json=own)).status_code == 200
    async with api.client(ours.token(account)) as client:
        shown = await got(client, PROFILE)
        assert (shown["profile"], shown["set"], shown["history"]) == ({"night_work": True}, None, [])
        limits, document = await got(client, LIMITS), await got(client, "/v1/patients/p1")
    assert (limits["history"], [rule["set"] for rule in limits["rules"] if rule.get("set")]) == ([], [])
    assert (
        shown["limits_note"]
        == document["limits_note"]
        == (
            "What is known of you: works at night. Limits that are not the general ones: high body temperature. Told when "
            "it has changed from your first weeks: oxygen saturation at night by 1.5 % (set for you)."
        )
    )
