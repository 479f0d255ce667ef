"""What weeks come to, asked through the public door: by the team, the patient and those to whom less is open."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from ingest.catalogue import catalogue
from ingest.clock import to_ms
from services import teams
from tests.api_data import ENROLLED, NOW, ApiData
from tests.fix_api import ServedApi

pytestmark = pytest.mark.stack

TODAY = date(2026, 11, 22)  # 20:04 in Berlin, so the night to today is over, and yesterday is the last whole day
DAYS = 100


async def said(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/v1/patients/p1/trend-statements")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def one(document: dict[str, Any], quantity: str, kind: str) -> dict[str, Any]:
    (found,) = (c for c in document["changes"] if (c["quantity"], c["kind"]) == (quantity, kind))
    return dict(found)


def nights(
    data: ApiData, patient: int, metric: str, values: NDArray[np.float64], used: NDArray[np.bool_] | None = None
) -> None:
    """Store daily values asleep, the last of the night to today."""
    with data.connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO daily_value VALUES (%s, %s, 'asleep', %s, %s, 400, 60, 2, 14, 0, NULL, %s)",
            [
                (patient, catalogue()[metric].id, TODAY - timedelta(len(values) - 1 - i), v, used is None or used[i])
                for i, v in enumerate(values.tolist())
            ],
        )


def hours(data: ApiData, patient: int, metric: str, first: str, last: str, mean: float, of_day: str = "true") -> None:
    """Store closed hours of a metric from one local hour to another, those for which ``of_day`` holds, and their days."""
    data.connection.execute(
        f"""INSERT INTO rollup SELECT %s, %s, 3600, t AT TIME ZONE 'Europe/Berlin', 60, %s, %s, %s, %s, %s
            FROM (SELECT t, extract(hour FROM t) AS hour, extract(dow FROM t) AS dow
                  FROM generate_series(%s::timestamp, %s::timestamp, '1 hour') AS t) AS s WHERE {of_day}""".encode(),
        [patient, catalogue()[metric].id, *[mean] * 5, first, last],
    )
    data.connection.execute(
        """INSERT INTO rollup SELECT patient_id, metric_id, 86400, date_trunc('day', t0, 'UTC'), sum(n), min(low), max(high),
                                     avg(mean), min(q10), max(q90) FROM rollup
           WHERE patient_id = %s AND metric_id = %s AND bucket_s = 3600 GROUP BY 1, 2, 4 ON CONFLICT DO NOTHING""",
        [patient, catalogue()[metric].id],
    )


def wobbling(levels: list[tuple[int, float]]) -> NDArray[np.float64]:
    """Days at levels, one after the other, each about it by -1, 0 or 1."""
    level = np.concatenate([np.full(n, value) for n, value in levels])
    return np.asarray(level + np.arange(len(level)) % 3 - 1.0)


@pytest.fixture
def grace(ours: ApiData) -> int:
    """Somebody whose heart at night is 3 higher for four weeks, who walks more of late, and breathes as ever."""
    patient = ours.patient("p1", "Grace", days=DAYS)
    ours.device(f"{ours.key}-watch", patient)
    nights(ours, patient, "heart_rate", wobbling([(DAYS - 28, 60), (28, 63)]))
    nights(ours, patient, "respiratory_rate", wobbling([(DAYS, 15)]))
    nights(ours, patient, "hrv_rmssd", wobbling([(13, 40)]))
    hours(ours, patient, "heart_rate", "2026-08-15 00:00", "2026-11-22 19:00", 66)
    hours(ours, patient, "steps", "2026-08-15 00:00", "2026-11-14 23:00", 2, "dow <> 0 AND hour <> dow")
    hours(ours, patient, "steps", "2026-08-15 00:00", "2026-11-14 23:00", 4, "dow = 0")
    hours(ours, patient, "steps", "2026-11-15 00:00", "2026-11-22 19:00", 5)
    return patient


@pytest.mark.usefixtures("grace")
async def test_the_team_reads_how_far_from_whose_normal_since_when_and_how_sure(api: ServedApi, ours: ApiData) -> None:
    ada = ours.person()
    async with api.client(ours.token(ada)) as client:
        whole = await said(client)
    heart = one(whole, "resting_heart_rate", "first_weeks")
    assert (heart["state"], heart["change"], heart["reference"], heart["value"]) == ("higher", 3.0, 60.0, 63.0)
    assert (heart["days"], heart["compared_days"], heart["since"]) == (28, 14, "2026-10-27")
    assert 0 < heart["low"] < 3 < heart["high"]
    assert heart["p"] < 0.01
    assert heart["sentence"].startswith(
        "Resting heart rate asleep in the last 4 weeks: 3.0 /min higher than in this person's first weeks (60.0 /min, "
        "14 nights); 99 % interval +"
    )
    assert heart["sentence"].endswith(", 28 nights; since 27 Oct")
    breath = one(whole, "respiratory_rate", "first_weeks")
    assert (breath["state"], breath["change"]) == ("no_clear_change", 0.0)
    assert "no clear change from this person's first weeks (15.0 /min, 14 nights)" in breath["sentence"]
    hrv = one(whole, "hrv_rmssd", "first_weeks")
    assert (hrv["state"], hrv["days"], hrv["days_needed"], hrv["change"]) == ("unknown", 13, 14, None)
    assert "not known; of the nights needed 13 of 14 are there" in hrv["sentence"]
    steps = one(whole, "steps", "same_weekdays")
    assert (steps["state"], steps["value"], steps["days"], steps["since"]) == ("higher", 7200.0, 7, "2026-11-15")
    assert one(whole, "body_temperature", "eight_weeks")["state"] == "unknown"
    assert whole["wear"] | {"sentence": ""} == {
        "state": "not_falling", "days_with_enough": 28, "days_expected": 28, "hours_needed": 10, "longest_gap_days": 0,
        "gap_since": None, "hours": 24.0, "hours_before": 24.0, "sentence": "",
    }  # fmt: skip
    assert (whole["to"], whole["calendar_to"]) == ("2026-11-22", "2026-11-21")
    assert (whole["confidence"], whole["not_shown"], whole["recoveries"]) == (0.99, [], [])
    assert [(row[0], row[2]) for row in ours.audit("trend.read")] == [(ada, {"statements": True})]


async def test_the_patient_reads_it_in_plain_words_on_their_page_too(api: ServedApi, ours: ApiData, grace: int) -> None:
    person = ours.person("grace", "patient", "Grace")
    teams.link_patient(ours.connection, person, grace)
    async with api.client(ours.token(person)) as client:
        whole = await said(client)
        page = (await client.get("/me")).text
    heart = "Your resting heart rate at night was 3 beats a minute higher in the last four weeks than in your first weeks here."
    assert one(whole, "resting_heart_rate", "first_weeks")["sentence"] == heart
    worn = "On 28 of 28 days in the last four weeks enough came in from your device to compare."
    assert whole["wear"]["sentence"] == worn
    for sentence in (heart, worn, one(whole, "steps", "same_weekdays")["sentence"]):
        assert f"<li>{sentence}</li>" in page
    for change in whole["changes"]:
        assert not {"normal", "stable", "should"} & set(change["sentence"].lower().replace(".", "").split())


@pytest.mark.parametrize(("hour", "to"), [(8, "2026-11-21"), (9, "2026-11-22")])  # 9 and 10 in Berlin
async def test_the_last_night_is_the_last_that_is_over(api: ServedApi, ours: ApiData, hour: int, to: str) -> None:
    patient = ours.patient("p1", days=DAYS)
    nights(ours, patient, "heart_rate", wobbling([(DAYS, 60)])[: DAYS if hour == 9 else -1])
    token = ours.token(ours.person())
    api.clock.set(to_ms(NOW.replace(hour=hour, minute=0, second=0)))
    try:
        async with api.client(token) as client:
            whole = await said(client)
            page = " ".join((await client.get("/patients/p1")).text.split())
    finally:
        api.clock.set(to_ms(NOW))
    assert (whole["to"], whole["calendar_to"]) == (to, "2026-11-21")
    assert one(whole, "resting_heart_rate", "four_weeks_before")["days"] == 28
    assert (
        f"Nights to {to[-2:]} Nov 2026, steps, weight, regularity and wear to 21 Nov 2026, against this person's own days."
        in page
    )


async def test_nobody_heard_of_is_unknown_and_nothing_else(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    async with api.client(ours.token(ours.person())) as client:
        whole = await said(client)
        page = (await client.get("/patients/p1")).text
        ours.state(patient, "heart_rate", "learning", value=66)  # of today, so no day was asked for yet
        began = (await said(client))["wear"]["sentence"]
    assert {change["state"] for change in whole["changes"]} == {"unknown"}
    assert len(whole["changes"]) == 25
    assert whole["weight_gain"] is None
    assert (whole["wear"]["state"], whole["wear"]["days_expected"]) == ("unknown", 0)
    assert whole["wear"]["sentence"] == "Wear in the last 28 days: not known, no heart rate was ever received"
    assert whole["wear"]["sentence"] in page
    assert began == "Wear in the last 28 days: not known, data were asked for on none of them"
    assert "Not known, too few days: Resting heart rate asleep, Heart rate variability" in page
    assert "o clear change" not in page


async def test_where_nothing_can_be_bounded_nothing_is_told(api: ServedApi, ours: ApiData) -> None:
    """Nights that swing slowly, so that each is like the one before: enough to be asked, too few to answer."""
    patient = ours.patient("p1", days=DAYS)
    nights(ours, patient, "heart_rate", 60 + 3 * np.sin(np.arange(42) / 4))
    async with api.client(ours.token(ours.person())) as client:
        heart = one(await said(client), "resting_heart_rate", "four_weeks_before")
        page = (await client.get("/patients/p1")).text
    assert (heart["state"], heart["days"], heart["compared_days"]) == ("unknown", 28, 14)
    assert (heart["change"], heart["low"], heart["high"], heart["p"]) == (None, None, None, None)
    assert heart["sentence"] == (
        "Resting heart rate asleep in the last 4 weeks: not known; 28 nights, to compare with 14, are too few to bound a "
        "difference"
    )
    assert "too few days to bound it" in page
    assert "o clear change" not in page


async def test_nights_that_come_at_any_time_are_told_to_the_team_and_the_patient(api: ServedApi, ours: ApiData) -> None:
    """Up from 7 to 23 until four weeks ago; since then every other day from two to five hours later."""
    patient = ours.patient("p1", days=DAYS)
    hours(ours, patient, "heart_rate", "2026-08-15 00:00", "2026-11-22 19:00", 66)
    late = "CASE WHEN t < '2026-10-24' THEN 0 ELSE (extract(doy FROM t)::int %% 2) * (2 + extract(doy FROM t)::int %% 4) END"
    up = f"extract(hour FROM t) >= 7 + {late} AND extract(hour FROM t) < 23"
    hours(ours, patient, "steps", "2026-08-15 00:00", "2026-11-22 19:00", 5, up)
    hours(ours, patient, "steps", "2026-08-15 00:00", "2026-11-22 19:00", 1, f"NOT ({up})")  # 60 steps are no walk
    async with api.client(ours.token(ours.person())) as client:
        regular = one(await said(client), "rest_regularity", "four_weeks_before")
        page = (await client.get("/patients/p1")).text
        assert (regular["state"], regular["reference"], regular["days"]) == ("lower", 100.0, 28)
        assert "Regularity of rest (index to 100) in the last 4 weeks: 33 points lower" in page
        profile = {"profile": {"night_work": True}, "reason": "bakery"}
        assert (await client.put("/v1/patients/p1/profile", json=profile)).status_code == 200
        assert "rest_regularity" in {off["quantity"] for off in (await said(client))["off"]}
        profile = {"profile": {}, "reason": "no longer"}
        headers = {"If-Match": (await client.get("/v1/patients/p1/profile")).headers["ETag"]}
        assert (await client.put("/v1/patients/p1/profile", json=profile, headers=headers)).status_code == 200
    person = ours.person("grace", "patient", "Grace")
    teams.link_patient(ours.connection, person, patient)
    async with api.client(ours.token(person)) as client:
        page = (await client.get("/me")).text
    assert (
        "<li>Your days and nights were less regular in the last four weeks than in the four weeks before.</li>" in page
    )


async def test_a_day_of_another_course_is_told_to_the_team_alone(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1", days=DAYS)
    hours(ours, patient, "heart_rate", "2026-10-01 10:00", "2026-11-21 09:00", 70, "hour BETWEEN 7 AND 22")
    hours(ours, patient, "heart_rate", "2026-10-01 10:00", "2026-11-21 09:00", 55, "hour NOT BETWEEN 7 AND 22")
    hours(ours, patient, "heart_rate", "2026-11-21 10:00", "2026-11-22 09:00", 70, "hour BETWEEN 1 AND 15")
    async with api.client(ours.token(ours.person())) as client:
        few = (await said(client))["day_shape"]
        hours(ours, patient, "heart_rate", "2026-11-21 16:00", "2026-11-21 23:00", 55)
        hours(ours, patient, "heart_rate", "2026-11-22 00:00", "2026-11-22 00:00", 70)
        told = (await said(client))["day_shape"]
        page = (await client.get("/patients/p1")).text
    assert (few["state"], few["hours"], few["p"]) == ("unknown", 15, None)
    assert (told["state"], told["day"], told["since"], told["turned_hours"]) == (
        "unlike",
        "2026-11-22",
        "2026-11-22",
        -7,
    )
    assert (told["hours"], told["days"]) == (24, 28)
    assert told["p"] < 0.001
    assert f"<li>{told['sentence']}</li>" in page
    person = ours.person("grace", "patient", "Grace")
    teams.link_patient(ours.connection, person, patient)
    async with api.client(ours.token(person)) as client:
        assert "day_shape" not in await said(client)


async def test_an_episode_is_followed_back_to_usual(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1", days=DAYS)
    values = wobbling([(80, 60), (6, 70), (14, 61)])
    nights(ours, patient, "heart_rate", values, (np.arange(DAYS) < 80) | (np.arange(DAYS) > 90))
    alert = ours.alert(
        patient, rule="resting_heart_rate_rise", priority="medium", state="resolved", evidence={"metric": "heart_rate"},
        started_at=NOW.replace(hour=21, minute=0) - timedelta(days=20), resolved_at=NOW - timedelta(days=13),
    )  # fmt: skip
    ours.alert(patient, rule="resting_heart_rate_rise", state="withdrawn", evidence={"metric": "heart_rate"})
    async with api.client(ours.token(ours.person())) as client:
        (told,) = (await said(client))["recoveries"]
        page = (await client.get("/patients/p1")).text
    assert told["alert"] == f"/v1/alerts/{alert}"
    assert (told["state"], told["usual"], told["worst"], told["now"]) == ("back", 60.0, 71.0, 61.0)
    assert (told["since"], told["days"], told["share"]) == ("2026-11-09", 14, 0.91)
    assert told["sentence"] == (
        "Resting heart rate asleep after the episode of 3 Nov: back to usual since 9 Nov, 14 nights "
        "(usual 60.0, worst 71.0, now 61.0 /min)"
    )
    assert told["sentence"] in page


async def test_a_pause_is_no_gap_and_a_drawer_is_no_quiet_day(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1", days=DAYS)
    hours(ours, patient, "heart_rate", "2026-09-01 00:00", "2026-11-04 23:00", 66)
    hours(ours, patient, "heart_rate", "2026-11-10 00:00", "2026-11-22 19:00", 66, "hour < 9")
    hours(ours, patient, "steps", "2026-09-01 00:00", "2026-11-22 19:00", 3)
    async with api.client(ours.token(ours.person())) as client:
        whole = await said(client)
        assert whole["wear"]["sentence"] == (
            "Wear is falling: 11 of 28 days with at least 10 h of data, longest gap 17 d from 5 Nov"
        )
        assert one(whole, "steps", "first_weeks")["days"] == 11  # 9 hours are no day, whatever was counted in them
        ours.connection.execute(
            """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason,
                                           recorded_at) VALUES (%s, %s, 'monitoring', 1, %s, %s, 'holiday', %s)""",
            [
                ours.organisation, patient, "2026-11-04T23:00:00Z",
                Jsonb({"state": "paused", "until_ms": to_ms(datetime(2026, 11, 10, 22, tzinfo=UTC))}), NOW,
            ],
        )  # fmt: skip
        paused = (await said(client))["wear"]
    assert (paused["days_expected"], paused["longest_gap_days"], paused["gap_since"]) == (22, 11, "2026-11-11")


async def test_what_says_nothing_of_somebody_is_off_and_says_why(api: ServedApi, ours: ApiData, grace: int) -> None:
    person = ours.person("grace", "patient", "Grace")
    teams.link_patient(ours.connection, person, grace)
    async with api.client(ours.token(ours.person())) as client:
        profile = {"profile": {"pacemaker": True}, "reason": "since 2019"}
        assert (await client.put("/v1/patients/p1/profile", json=profile)).status_code == 200
        whole = await said(client)
        page = (await client.get("/patients/p1")).text
    assert [one["quantity"] for one in whole["off"]] == ["resting_heart_rate", "hrv_rmssd", "day_shape"]
    assert whole["day_shape"] is None
    assert {change["quantity"] for change in whole["changes"]} == {
        "respiratory_rate", "body_temperature", "weight", "steps", "rest_regularity", "wear",
    }  # fmt: skip
    assert "Off: Resting heart rate asleep: a pacemaker sets the heart rate at rest" in page
    async with api.client(ours.token(person)) as client:
        assert "off" not in await said(client)


def weighed(
    data: ApiData, patient: int, values: NDArray[np.float64], quality: int | None = None, hour: int = 6
) -> None:
    """Store a weight at 7:00 in Berlin (6:00 UTC; in summer 8:00) of as many days, the last one today."""
    row = data.connection.execute("SELECT device_id FROM device_assignment WHERE patient_id = %s", [patient]).fetchone()
    today = to_ms(NOW.replace(hour=hour, minute=0, second=0, microsecond=0))
    t_ms = today - 86_400_000 * np.arange(len(values), dtype=np.int64)[::-1]
    assert row is not None
    data.readings(patient, row[0], "weight", t_ms, values, rollups=False, quality=quality)


async def test_weight_is_a_quantity_of_weeks_and_a_fast_gain_is_told(api: ServedApi, ours: ApiData, grace: int) -> None:
    weighed(ours, grace, wobbling([(DAYS - 28, 80.0), (26, 82.0), (2, 86.0)]))
    weighed(ours, grace, np.full(DAYS, 95.0), hour=17)  # with a meal inside, in winter clothes: no first weighing
    weighed(ours, grace, np.full(DAYS, 40.0), quality=1, hour=4)  # doubted by the scale
    person = ours.person("grace", "patient", "Grace")
    teams.link_patient(ours.connection, person, grace)
    async with api.client(ours.token(ours.person())) as client:
        whole = await said(client)
        page = (await client.get("/patients/p1")).text
        first = one(whole, "weight", "first_weeks")
        assert (first["state"], first["change"], first["reference"], first["days"]) == ("higher", 2.0, 80.0, 28)
        assert one(whole, "weight", "eight_weeks")["state"] == "higher"
        told = whole["weight_gain"]
        assert (told["state"], told["day"], told["value"]) == ("risen", "2026-11-22", 85.0)
        assert (told["from_day"], told["from_value"], told["change"]) == ("2026-11-19", 81.0, 4.0)
        assert told["sentence"] == (
            "Weight 4.0 kg up in 3 days (81.0 kg on 19 Nov, 85.0 kg on 22 Nov); for somebody with heart failure, teams "
            "usually ask to be told of more than 2 kg in 3 days"
        )
        assert f"<li><b>{told['sentence']}</b></li>" in page
        profile = {"profile": {"dialysis": True}, "reason": "three times a week"}
        assert (await client.put("/v1/patients/p1/profile", json=profile)).status_code == 200
        whole = await said(client)
        assert whole["weight_gain"] is None
        assert (
            "Off: Fast gain of weight: the weight rises between dialyses by itself"
            in (await client.get("/patients/p1")).text
        )
        assert one(whole, "weight", "first_weeks")["state"] == "higher"
    async with api.client(ours.token(person)) as client:
        page = (await client.get("/me")).text
    assert "fast gain" not in page


async def test_a_patient_reads_of_a_fast_gain_first(api: ServedApi, ours: ApiData, grace: int) -> None:
    weighed(ours, grace, np.array([80.0, 80.4, 82.4, 82.5]))
    person = ours.person("grace", "patient", "Grace")
    teams.link_patient(ours.connection, person, grace)
    async with api.client(ours.token(person)) as client:
        page = (await client.get("/me")).text
    sentence = (
        "Your weight rose by 2.5 kg from 19 Nov to 22 Nov. Care teams often want to hear of that from people with"
    )
    assert f'<ul class="weeks"><li>{sentence} heart failure.</li>' in page


async def test_what_is_not_open_is_named_and_never_said_to_be_unknown(
    api: ServedApi, ours: ApiData, grace: int
) -> None:
    proxy = ours.person("mia", "proxy")
    teams.grant_proxy(ours.connection, proxy, grace, ["alerts"], NOW - timedelta(1), NOW + timedelta(1))
    async with api.client(ours.token(proxy)) as client:
        whole = await said(client)
    assert (whole["changes"], whole["wear"], whole["not_shown"]) == ([], None, ["activity", "vitals"])
    async with api.client(ours.token(ours.person("sam", "data_specialist"))) as client:
        whole = await said(client)
    assert whole.keys() == {"patient", "time_zone", "to", "calendar_to", "wear", "not_shown"}
    assert "name" not in whole["patient"]
    ours.rests(care="consent")
    ours.consent(grace, "care", at=ENROLLED)
    weighed(ours, grace, np.full(4, 80.0))
    async with api.client(ours.token(ours.person())) as client:
        assert (await said(client))["weight_gain"]["state"] == "not_risen"
        assert one(await said(client), "steps", "same_weekdays")["state"] == "higher"
        ours.consent(grace, "care", "withdrawn", ["activity"])
        whole = await said(client)
        assert {change["quantity"] for change in whole["changes"]} == {
            "resting_heart_rate", "hrv_rmssd", "respiratory_rate", "body_temperature", "weight", "wear",
        }  # fmt: skip
        assert whole["not_shown"] == ["activity"]
        ours.consent(grace, "care", "withdrawn", ["vitals"])
        whole = await said(client)
        assert (whole["changes"], whole["wear"], whole["not_shown"]) == ([], None, ["activity", "vitals"])
        assert whole["day_shape"] is None
        assert whole["weight_gain"] is None
        assert "Not shown to you: activity, vitals." in (await client.get("/patients/p1")).text
