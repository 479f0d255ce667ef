"""Clinical scores through the API and on the care team's screen, and once the whole way from the device's request."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from ingest.clock import FrozenClock, SystemClock, to_ms
from ingest.frame import GOOD, MOTION, POOR_SIGNAL
from services import teams
from services.api.credentials import new_token, token_hash
from services.settings import Settings
from tests.api_data import ENROLLED, NOW, ApiData
from tests.databases import drop_database
from tests.fix_api import ServedApi, serve
from tests.fix_doors import Doors, Process, drop_topics, is_ready, migrated_settings
from tests.fix_faults import eventually
from tests.fix_stack import LiveStack
from tests.integration.test_api import got, problem

pytestmark = pytest.mark.stack

SCORES = "/v1/patients/p1/scores"
OXYGEN = {"oxygen": {"target": [88, 92], "set_by": "ada", "home": True}}


def measured(
    data: ApiData, patient: int, device: int, metric: str, *values: tuple[float, float], quality: int = 0
) -> None:
    """Readings of (minutes ago, value), one block each, and the data state the newest of them leaves."""
    for ago, value in values:
        at = NOW - timedelta(minutes=ago)
        data.readings(
            patient, device, metric, np.array([to_ms(at)], np.int64), np.array([value]), rollups=False, quality=quality
        )
    ago, value = min(values)
    data.connection.execute("DELETE FROM metric_state WHERE patient_id = %s AND metric_id = (SELECT id FROM metric WHERE key = %s)", [patient, metric])  # fmt: skip
    data.state(patient, metric, "learning", value=value, at=NOW - timedelta(minutes=ago))


def profile(data: ApiData, patient: int, document: dict[str, Any], since: datetime = NOW - timedelta(days=2)) -> None:
    data.connection.execute(
        """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason,
                                       recorded_at)
           SELECT %s, %s, 'profile', 1 + count(*), %s, %s, 'seen', %s FROM patient_change
           WHERE patient_id = %s AND kind = 'profile'""",
        [data.organisation, patient, since, Jsonb(document), since, patient],
    )


def one(document: dict[str, Any], key: str) -> dict[str, Any]:
    found: dict[str, Any] = next(score for score in document["scores"] if score["score"] == key)
    return found


def parameter(score: dict[str, Any], key: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in score["parameters"] if entry["metric"]["key"] == key)
    return found


async def asked(api: ServedApi, data: ApiData, role: str = "nurse") -> dict[str, Any]:
    async with api.client(data.token(data.person(f"{role}-{time.monotonic_ns()}", role))) as client:
        document: dict[str, Any] = await got(client, SCORES)
        return document


async def test_what_is_known_is_summed_and_what_is_not_is_named(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    measured(ours, patient, device, "heart_rate", (50, 80), (2, 118))
    measured(ours, patient, device, "spo2", (60, 91))  # exactly an hour
    measured(ours, patient, device, "respiratory_rate", (61, 26))
    measured(ours, patient, device, "systolic_pressure", (11 * 60, 98))
    measured(ours, patient, device, "body_temperature", (10, 38.05))
    document = await asked(api, ours)
    assert document["at"] == "2026-11-22T19:04:05.000Z"
    assert document["notes"] == ["Age not known: these scores are for people of 16 and over who are not pregnant."]
    news2 = one(document, "news2")
    assert (news2["state"], news2["total"], news2["known"], news2["of"], news2["spo2_scale"]) == ("partial", 8, 4, 7, 1)
    assert news2["band"] == {"key": "high", "title": "high risk", "at_least": False}
    assert news2["red"] == ["spo2"]
    assert news2["sentence"] == "At least 8, 4 of 7 parameters known: high risk"
    assert {entry["metric"]["key"]: (entry["points"], entry["state"]) for entry in news2["parameters"]} == {
        "respiratory_rate": (None, "too_old"), "spo2": (3, "known"), "supplemental_oxygen": (None, "missing"),
        "systolic_pressure": (2, "known"), "heart_rate": (2, "known"), "consciousness": (None, "missing"),
        "body_temperature": (1, "known"),
    }  # fmt: skip
    pulse = parameter(news2, "heart_rate")
    assert (pulse["value"], pulse["words"], pulse["age_s"], pulse["source"]) == (118, "118 /min", 120, "reading")
    assert {"system": "http://loinc.org", "code": "8867-4"} in pulse["code"]["coding"]
    assert pulse["metric"]["unit"] == "/min"
    assert parameter(news2, "body_temperature")["words"] == "38.1 °C"  # as it is scored
    assert (parameter(news2, "respiratory_rate")["value"], parameter(news2, "respiratory_rate")["age_s"]) == (26, 3660)
    assert one(document, "mews")["sentence"] == (
        "At least 3, 3 of 5 parameters known: what is missing could raise it, so no risk is told"
    )
    assert (one(document, "qsofa")["total"], one(document, "qsofa")["band"]) == (1, None)
    index = one(document, "shock_index")
    assert (index["state"], index["total"], index["sentence"]) == (
        "unknown",
        None,
        "Not known: 0 of 2 parameters known",
    )
    assert [entry["state"] for entry in index["parameters"]] == ["apart", "apart"]


async def test_a_value_in_doubt_or_of_somebody_moving_or_of_the_future_does_not_count(
    api: ServedApi, ours: ApiData
) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    measured(ours, patient, device, "spo2", (5, 84), quality=POOR_SIGNAL)
    measured(ours, patient, device, "heart_rate", (30, 72))
    measured(ours, patient, device, "heart_rate", (3, 165), (-10, 40))  # on the stairs; a clock ten minutes ahead
    measured(ours, patient, device, "respiratory_rate", (6, 30), quality=MOTION)
    measured(ours, patient, device, "steps", (9, 30), (5, 30), (4, 30))
    news2 = one(await asked(api, ours), "news2")
    assert (news2["state"], news2["total"], news2["known"]) == ("partial", 0, 1)
    assert news2["band"] is None
    assert parameter(news2, "heart_rate")["value"] == 72
    for key, value in (("spo2", 84), ("respiratory_rate", 30)):
        entry = parameter(news2, key)
        assert (entry["state"], entry["points"], entry["value"]) == ("doubted", None, value)


async def test_a_pulse_is_not_taken_for_one_at_rest_where_the_steps_are_withheld(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    measured(ours, patient, device, "heart_rate", (3, 128))
    measured(ours, patient, device, "respiratory_rate", (61, 26))
    measured(ours, patient, device, "spo2", (5, 97))
    measured(ours, patient, device, "steps", (9, 30), (5, 30), (4, 30))
    assert parameter(one(await asked(api, ours), "news2"), "heart_rate")["state"] == "doubted"
    ours.rests(care="consent")
    ours.consent(patient, "care", at=ENROLLED)
    ours.consent(patient, "care", "withdrawn", ["activity"])
    document = await asked(api, ours)
    news2 = one(document, "news2")
    pulse = parameter(news2, "heart_rate")
    assert (pulse["state"], pulse["points"], pulse["value"]) == ("rest_unknown", None, 128)
    assert parameter(news2, "respiratory_rate")["state"] == "too_old"
    assert (news2["total"], news2["known"], news2["red"]) == (0, 1, [])
    note = "Activity is withheld by the patient's consent: pulse and breathing are not known to be at rest."
    assert document["notes"][0] == note
    async with api.client(ours.token(ours.person("ned", "nurse"))) as client:
        page = (await client.get("/patients/p1", headers={"Accept": "text/html"})).text
    assert "not counted: not known to be at rest, activity is withheld" in page


async def test_scale_2_only_for_the_target_of_a_named_clinician(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    measured(ours, patient, device, "spo2", (5, 95))

    async def shown() -> tuple[int, Any, Any, str, list[str]]:
        document = await asked(api, ours)
        news2 = one(document, "news2")
        oxygen = parameter(news2, "supplemental_oxygen")
        return (
            news2["spo2_scale"],
            parameter(news2, "spo2")["points"],
            oxygen["points"],
            oxygen["words"],
            document["notes"],
        )

    assert (await shown())[:3] == (1, 1, None)
    profile(ours, patient, OXYGEN | {"birth_date": "1950-01-01"})
    note = "NEWS2 takes SpO2 scale 2: 88 to 92 % wanted, set by ada."
    assert await shown() == (2, 2, 2, "oxygen at home, by the profile", [note])
    profile(ours, patient, {"oxygen": OXYGEN["oxygen"] | {"home": False}})
    assert (await shown())[:4] == (2, 0, 0, "air: no oxygen at home, by the profile")
    measured(ours, patient, device, "supplemental_oxygen", (30, 1.5))  # what is measured goes before the profile
    assert (await shown())[:4] == (2, 2, 2, "on oxygen, 1.5 L/min")
    profile(ours, patient, {"oxygen": {"target": [85, 90], "set_by": "ada", "home": True}})
    scale, points, *_, notes = await shown()
    assert (scale, points) == (1, 1)
    assert "NEWS2 takes SpO2 scale 1, because scale 2 is for 88 to 92 % only: 85 to 90 % wanted, set by ada." in notes


@pytest.mark.parametrize("home", [None, False, True])
@pytest.mark.parametrize(
    ("ago", "quality", "state"),
    [(61, GOOD, "too_old"), (5, POOR_SIGNAL, "doubted"), (-10, GOOD, "doubted"), (0, GOOD, "missing")],
)
async def test_oxygen_that_was_measured_never_turns_into_air(
    api: ServedApi, ours: ApiData, home: bool | None, ago: int, quality: int, state: str
) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    measured(ours, patient, device, "spo2", (5, 95))
    profile(ours, patient, {"oxygen": {"target": [88, 92], "set_by": "ada"} | ({} if home is None else {"home": home})})
    if ago:
        measured(ours, patient, device, "supplemental_oxygen", (ago, 4), quality=quality)
    news2 = one(await asked(api, ours), "news2")
    oxygen = parameter(news2, "supplemental_oxygen")
    if home:
        assert (oxygen["state"], oxygen["points"], oxygen["words"]) == ("known", 2, "oxygen at home, by the profile")
    elif home is False and not ago:
        assert (oxygen["state"], oxygen["points"]) == ("known", 0)
        assert oxygen["words"] == "air: no oxygen at home, by the profile"
    else:
        assert (oxygen["state"], oxygen["points"]) == (state, None)
        assert oxygen["words"] == ("on oxygen, 4.0 L/min" if ago else None)
        assert (parameter(news2, "spo2")["state"], news2["known"], news2["band"]) == ("needs_oxygen", 0, None)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"age_band": "under_16", "adult_limits": "off"}, "its table is for people of 16 and over"),
        ({"pregnancy": {"from": "2026-09-01", "to": "2027-05-01"}}, "its table does not hold in pregnancy"),
    ],
)
async def test_it_is_off_outside_its_validity_with_the_reason(
    api: ServedApi, ours: ApiData, document: dict[str, Any], reason: str
) -> None:
    patient = ours.patient("p1")
    measured(ours, patient, ours.device(f"{ours.key}-watch", patient), "spo2", (5, 84))
    profile(ours, patient, document)
    scores = (await asked(api, ours))["scores"]
    assert "news2" in {score["score"] for score in scores}
    for score in scores:
        assert (score["state"], score["off_reason"], score["total"], score["band"]) == ("off", reason, None, None)
        assert score["red"] == []
        assert {entry["points"] for entry in score["parameters"]} == {None}


async def test_only_who_may_know_sees_them_and_only_with_consent(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    measured(ours, patient, ours.device(f"{ours.key}-watch", patient), "spo2", (5, 84))
    nurse = ours.person("ned", "nurse")
    own = ours.person("paul", "patient", "Paul")
    teams.link_patient(ours.connection, own, patient)
    async with api.client(ours.token(nurse)) as client:
        page = (await client.get("/patients/p1", headers={"Accept": "text/html"})).text
        assert "At least 3, 1 of 7 parameters known: at least low to medium risk" in re.sub(r"\s+", " ", page)
        assert "Red, 3 points by itself: oxygen saturation" in re.sub(r"\s+", " ", page)
        await got(client, SCORES)
        async with api.client(ours.token(ours.person("carl", "coordinator"))) as other:
            brief = await other.get("/patients/p1", headers={"Accept": "text/html"})
            assert brief.status_code == 200
            assert "NEWS2" not in brief.text
            problem(await other.get(SCORES), 403, "role_not_allowed")
        ours.consent(patient, "care", at=ENROLLED, document=ours.document())
        ours.consent(patient, "care", "refused", ["vitals"])
        ours.rests(care="consent")
        assert problem(await client.get(SCORES), 403, "consent_withheld")["data_classes"] == ["vitals"]
        withheld = await client.get("/patients/p1", headers={"Accept": "text/html"})
        assert withheld.status_code == 200
        assert "Scores" not in withheld.text
    async with api.client(ours.token(own)) as client:
        problem(await client.get(SCORES), 403, "role_not_allowed")
        assert "NEWS2" not in (await client.get("/me", headers={"Accept": "text/html"})).text
    assert [row[:2] for row in ours.audit("scores.read")] == [(nurse, patient)]


# ------------------------------------------------------------------------------------------------------ the whole way
@pytest.fixture
def alone(stack: LiveStack) -> Iterator[Settings]:
    """A database and topics of this test's own: its processor takes everything that is on them."""
    settings = migrated_settings(stack)
    yield settings
    asyncio.run(drop_topics(settings))
    drop_database(settings)


def clinician(settings: Settings) -> str:
    """A clinician of the default team; return their token."""
    token = new_token()
    with psycopg.connect(settings.postgres.conninfo("admin")) as admin:
        row = admin.execute(
            """INSERT INTO person (organisation_id, key, name, role) SELECT id, 'ada', 'Ada', 'clinician' FROM organisation
               RETURNING id, organisation_id"""
        ).fetchone()
        assert row is not None
        teams.add_member(admin, teams.create_team(admin, row[1], teams.DEFAULT, "Everybody"), row[0], ENROLLED)
        admin.execute(
            "INSERT INTO person_token (hash, person_id, kind, created_at, expires_at) VALUES (%s, %s, 'api', %s, %s)",
            [token_hash(token), row[0], ENROLLED, NOW + timedelta(days=3650)],
        )
    return token


async def test_from_the_devices_request_to_the_score(alone: Settings, stack: LiveStack, tmp_path: Path) -> None:
    """Somebody with COPD on home oxygen: partial until their carer tells that they are awake. Points by the chart."""
    doors, now_ms = Doors(stack, alone), SystemClock().now_ms()
    (watch,) = doors.enrol(("p1", "whole-way-watch"))
    context = ssl.create_default_context(cafile=alone.tls.ca_file)
    url = f"https://127.0.0.1:{alone.gateway.port}"

    def block(metric: str, minutes_ago: float, *values: float) -> dict[str, Any]:
        first = now_ms - int(minutes_ago * 60_000)
        return {"metric": metric, "times": [first + i * 60_000 for i in range(len(values))], "values": list(values)}

    readings = [
        block("heart_rate", 9, 117, 118, 118), block("respiratory_rate", 8, 24),
        block("systolic_pressure", 6, 98), block("body_temperature", 5, 38.6),
        block("spo2", 7, 95, 80) | {"quality": [GOOD, POOR_SIGNAL]},
    ]  # fmt: skip
    with (
        Process(alone, ["gateway"], tmp_path / "gateway.log"),
        Process(alone, ["processor"], tmp_path / "processor.log"),
    ):
        await eventually(lambda: is_ready(url, alone), "the gateway's readiness", 60)
        clock = FrozenClock(now_ms)
        async with (
            serve(alone, credential_clock=clock) as api,
            api.client(clinician(alone)) as client,
            httpx.AsyncClient(
                base_url=url, verify=context, trust_env=False, headers={"Authorization": f"Bearer {watch.token}"}
            ) as device,
        ):
            api.clock.set(now_ms)

            async def scores(known: int) -> dict[str, Any]:
                async with asyncio.timeout(60):
                    while one(document := await got(client, SCORES), "news2")["known"] < known:
                        await asyncio.sleep(0.1)
                found: dict[str, Any] = document
                return found

            put = await client.put(
                "/v1/patients/p1/profile",
                json={"profile": {"oxygen": {"target": [88, 92], "home": True}, "birth_date": "1950-01-01"}},
            )
            assert put.status_code == 200, put.text
            for seq, blocks in enumerate((readings, [block("consciousness", 1, 0)])):
                sent = await device.post(
                    "/v1/frames", json={"frames": [{"session": "s", "seq": seq, "blocks": blocks}]}
                )
                assert sent.status_code == 202, sent.text
                document = await scores(6 + seq)
                news2 = one(document, "news2")
                assert {entry["metric"]["key"]: entry["points"] for entry in news2["parameters"]} == {
                    "respiratory_rate": 2, "spo2": 2, "supplemental_oxygen": 2, "systolic_pressure": 2, "heart_rate": 2,
                    "consciousness": 0 if seq else None, "body_temperature": 1,
                }  # fmt: skip
                assert (news2["total"], news2["spo2_scale"], news2["red"]) == (11, 2, [])
                assert news2["state"] == ("complete" if seq else "partial")
                assert news2["sentence"] == (
                    "11, complete: high risk" if seq else "At least 11, 6 of 7 parameters known: high risk"
                )
    assert one(document, "mews")["total"] == 2 + 1 + 2 + 0 + 2
    assert one(document, "qsofa")["total"] == 2
    assert (one(document, "shock_index")["total"], one(document, "shock_index")["state"]) == (1.2, "complete")
    with psycopg.connect(alone.postgres.conninfo("admin")) as admin:
        raised = {row[0] for row in admin.execute("SELECT rule FROM alert")}
        vitals = {row[0] for row in admin.execute("SELECT m.key FROM metric_state JOIN metric m ON m.id = metric_id")}
    assert not {rule for rule in raised if "score" in rule or "news" in rule}
    assert "consciousness" in vitals
