"""The REST API on the real database: what a person sees, does, and may not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest

from ingest.clock import to_datetime, to_ms
from ingest.frame import NOT_WORN
from services.api.access import token_hash
from services.settings import Settings
from tests.api_data import HOUR_MS, NOW, ApiData, minutes
from tests.fix_api import ServedApi

pytestmark = pytest.mark.stack


async def got(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["detail"]
    return document


# ------------------------------------------------------------------ who may


async def test_nobody_without_a_live_credential_gets_in(api: ServedApi, ours: ApiData) -> None:
    ada = ours.person()
    expired = ours.token(ada, expires=NOW - timedelta(seconds=1))
    link = ours.token(ada, kind="login_link")
    revoked = ours.token(ada)
    ours.connection.execute("UPDATE person_token SET revoked_at = %s WHERE person_id = %s AND kind = 'api'", [NOW, ada])
    for token in ("", "wrong", expired, link, revoked, "x" * 5000):
        async with api.client(token) as client:
            for path in ("/v1/patients", "/v1/worklist", "/v1/alerts", "/v1/alerts/stream", "/v1/frames/x"):
                problem(await client.get(path), 401, "unauthenticated")


async def test_another_organisations_things_do_not_exist(api: ServedApi, ours: ApiData, theirs: ApiData) -> None:
    patient = theirs.patient("p1")
    device = theirs.device(f"{theirs.key}-watch", patient)
    alert = theirs.alert(patient)
    theirs.frame(f"{theirs.key}~s~1", patient, device)
    ours.patient("q1")
    async with api.client(ours.token(ours.person())) as client:
        assert [p["id"] for p in (await got(client, "/v1/patients"))["items"]] == ["q1"]
        assert (await got(client, "/v1/alerts"))["items"] == []
        assert len((await got(client, "/v1/worklist"))["items"]) == 1
        for path in (
            "/v1/patients/p1",
            "/v1/patients/p1/trends?metric=heart_rate",
            "/v1/alerts?patient=p1",
            f"/v1/alerts/{alert}",
        ):
            problem(await client.get(path), 404, "not_found")
        problem(await client.get(f"/v1/frames/{theirs.key}~s~1"), 404, "frame_not_processed")
        problem(await client.post(f"/v1/alerts/{alert}/acknowledge"), 404, "not_found")
    assert theirs.audit("patient.read") == []


async def test_the_database_role_is_no_owner_and_sees_nothing_on_its_own(migrated: Settings, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    ours.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(hours=3), 180))
    ours.band(patient, "heart_rate", "rest", to_ms(NOW) // HOUR_MS * HOUR_MS - HOUR_MS, 62, 4)
    ours.alert(patient)
    ours.state(patient, "heart_rate", "normal")
    tables = (
        "patient", "device", "device_assignment", "person", "metric_state", "alert", "alert_event", "frame_log",
        "daily_value", "reading_conflict", "quarantined_reading", "request_key",
        "reading_block_view", "rollup_view", "baseline_band_view", "waveform_block_view",
    )  # fmt: skip
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as connection:
        for table in tables:
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,), table
        owned = connection.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").fetchone()
        assert owned == (0,)
        role = connection.execute("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user").fetchone()
        assert role == (False, False)
        chunks = [
            row[0] for row in connection.execute("SELECT relname FROM pg_class WHERE relname ~ '^_hyper_.*_chunk$'")
        ]
        assert chunks
        refused = [
            "reading_block", "rollup", "baseline_band", "waveform_block", "patient_state", "person_token", "device_token",
            "outbox", *(f"_timescaledb_internal.{chunk}" for chunk in chunks),
        ]  # fmt: skip
        ours.enter(connection, ours.person())
        for table in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {table} LIMIT 1".encode())
        assert connection.execute("SELECT count(*) FROM reading_block_view").fetchone() != (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE alert SET state = 'resolved'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM access_audit")


async def test_a_connection_returned_to_the_pool_remembers_no_organisation(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    async with api.client(ours.token(ours.person())) as client:
        for _ in range(8):
            await got(client, "/v1/patients")
    from services.api.app import make_pool

    settings: Settings = api.app.state.settings
    async with make_pool(settings.postgres, size=1) as pool:
        from services.api.access import Access, Origin

        access = Access(pool, api.credential_clock, settings.identity)
        async with access.for_credential(
            token_hash(ours.token(ours.person("bob"))), "patients.list", Origin("", "", "")
        ) as scope:
            row = await (await scope.connection.execute("SELECT count(*) FROM patient")).fetchone()
            assert row == (1,)
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT count(*) FROM patient")).fetchone()
            assert row == (0,)


async def test_each_read_leaves_an_audit_row_that_names_the_patient(api: ServedApi, ours: ApiData) -> None:
    ada = ours.person()
    patient, other = ours.patient("p1"), ours.patient("p2")
    device = ours.device(f"{ours.key}-watch", patient)
    alert = ours.alert(patient)
    ours.frame(f"{ours.key}~s~1", patient, device)
    async with api.client(ours.token(ada)) as client:
        for path, action in (
            ("/v1/patients/p1", "patient.read"),
            ("/v1/patients/p1/trends?metric=heart_rate", "trend.read"),
            (f"/v1/alerts/{alert}", "alert.read"),
            (f"/v1/frames/{ours.key}~s~1", "frame.read"),
        ):
            await got(client, path)
            assert [row[:2] for row in ours.audit(action)] == [(ada, patient)], action
        await got(client, "/v1/worklist")
        await got(client, "/v1/patients")
        await got(client, "/v1/alerts")
    assert ours.audit("worklist.read")[0][2]["patient_ids"] == [patient, other]
    assert ours.audit("patients.list")[0][2]["patient_ids"] == [patient, other]
    assert ours.audit("alerts.list")[0][2]["patient_ids"] == [patient]


# ------------------------------------------------------------------ what is shown


async def test_pages_of_patients_cover_everybody_once(api: ServedApi, ours: ApiData) -> None:
    keys = [f"p{i:02d}" for i in range(7)]
    for key in reversed(keys):
        ours.patient(key)
    async with api.client(ours.token(ours.person())) as client:
        seen, cursor = [], ""
        while True:
            page = await got(client, "/v1/patients", limit=3, **({"cursor": cursor} if cursor else {}))
            seen += [item["id"] for item in page["items"]]
            if not (cursor := page["next"]):
                break
        assert seen == keys
        problem(await client.get("/v1/patients?cursor=nonsense"), 422, "invalid")
        problem(await client.get("/v1/patients?limit=0"), 422, "invalid")


async def test_a_patient_shows_devices_states_and_that_limits_are_general(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1", "Grace")
    ours.device(f"{ours.key}-watch", patient, "Ring")
    ours.state(patient, "heart_rate", "normal")
    ours.state(patient, "spo2", "unknown", "not_worn", value=96.0, at=NOW - timedelta(hours=2))
    async with api.client(ours.token(ours.person())) as client:
        document = await got(client, "/v1/patients/p1")
    assert document["limits_individualised"] is False
    assert document["worst"] == {"state": "unknown", "cause": "not_worn", "metric": "spo2"}
    assert [m["metric"]["key"] for m in document["metrics"]] == ["spo2", "heart_rate"]
    assert document["metrics"][0]["age_s"] == 7200
    assert document["devices"][0]["model"] == "Ring"
    assert document["last_heard"] == "2026-11-22T19:03:05.000Z"


async def test_a_device_that_measures_too_seldom_for_a_night_is_not_said_to_be_learning(
    api: ServedApi, ours: ApiData
) -> None:
    patient = ours.patient("p1", "Grace")
    device = ours.device(f"{ours.key}-watch", patient, "Ring")
    ours.state(patient, "heart_rate", "learning")
    ours.state(patient, "spo2", "learning")
    every_20 = to_ms(NOW) // 3_600_000 * 3_600_000 - 1_200_000 * np.arange(7 * 72, 0, -1)
    ours.readings(patient, device, "heart_rate", every_20, np.full(len(every_20), 61.0))
    ours.readings(patient, device, "spo2", every_20, np.full(len(every_20), 97.0))
    async with api.client(ours.token(ours.person())) as client:
        document = await got(client, "/v1/patients/p1")
    told = {entry["metric"]["key"]: entry["too_seldom"] for entry in document["metrics"]}
    assert told == {
        "heart_rate": {"needs_minutes": 180, "readings": 30},
        "spo2": None,
    }  # 20 readings make a night of it


async def test_links_lead_to_what_they_name_whatever_a_key_is_made_of(api: ServedApi, ours: ApiData) -> None:
    key = "p 1?x=1#y&%2e;ä'\""
    ours.alert(ours.patient(key))
    async with api.client(ours.token(ours.person())) as client:
        (listed,) = (await got(client, "/v1/patients"))["items"]
        patient = await got(client, listed["link"])
        assert (listed["id"], patient["id"]) == (key, key)
        (alert,) = (await got(client, patient["links"]["alerts"]))["items"]
        assert alert["patient"]["id"] == key
        assert (await got(client, alert["link"]))["id"] == alert["id"]
        trend = await got(client, patient["links"]["trends"].format(metric="heart_rate"))
        assert trend["patient"]["id"] == key


async def test_a_patient_nobody_heard_of_yet_is_unknown(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    async with api.client(ours.token(ours.person())) as client:
        assert (await got(client, "/v1/patients/p1"))["worst"]["state"] == "unknown"
        row = (await got(client, "/v1/worklist"))["items"][0]
    assert row["attention"] == "unknown"
    assert row["data"]["state"] == "unknown"
    assert row["value"] is None


async def test_the_worklist_is_sorted_by_who_needs_somebody(api: ServedApi, ours: ApiData) -> None:
    ada = ours.person()
    people = {}
    for key in (
        "usual", "unusual", "learning", "unknown", "nothing", "technical", "seen", "seen-high", "late", "low", "medium",
        "high-new", "high-old", "high-resolved",
    ):  # fmt: skip
        people[key] = ours.patient(key)
        ours.state(people[key], "heart_rate", "normal")
    for key, state in (("unusual", "unusual"), ("learning", "learning")):
        ours.connection.execute("UPDATE metric_state SET state = %s WHERE patient_id = %s", [state, people[key]])
    ours.state(people["unknown"], "spo2", "unknown", "poor_signal", since=NOW - timedelta(days=9))
    ours.connection.execute("DELETE FROM metric_state WHERE patient_id = %s", [people["nothing"]])
    ours.state(people["nothing"], "heart_rate", "unknown", "no_data")
    old = {"started_at": NOW - timedelta(hours=3)}
    seen = {"acknowledged_at": NOW, "acknowledged_by": ada}
    ours.alert(people["high-new"])
    ours.alert(people["high-old"], **old)
    ours.alert(people["high-resolved"], state="resolved", resolved_at=NOW)
    ours.alert(people["medium"], priority="medium", **old)
    ours.alert(people["medium"], priority="low")
    ours.alert(people["low"], priority="low")
    ours.alert(people["low"], kind="technical", priority="high")
    ours.alert(people["late"], priority="high", late=True, **old)
    ours.alert(people["seen"], priority="medium", **seen)
    ours.alert(people["seen-high"], **seen)
    ours.alert(people["technical"], kind="technical", priority="medium")
    expected = [
        "high-old", "high-new", "medium", "low", "late", "seen-high", "seen", "technical", "nothing", "unknown", "unusual",
        "learning", "high-resolved", "usual",
    ]  # fmt: skip
    async with api.client(ours.token(ada)) as client:
        page = await got(client, "/v1/worklist")
        assert [row["patient"]["id"] for row in page["items"]] == expected
        assert page["summary"] == {
            "unacknowledged": 4, "late": 1, "acknowledged": 2, "technical": 1, "unknown": 2, "none": 4,
        }  # fmt: skip
        medium = page["items"][2]
        assert medium["open_alerts"] == 2
        assert medium["priority"] == "medium"
        seen_keys, cursor = [], None
        while True:
            part = await got(client, "/v1/worklist", limit=5, **({"cursor": cursor} if cursor else {}))
            seen_keys += [row["patient"]["id"] for row in part["items"]]
            if (cursor := part["next"]) is None:
                break
    assert seen_keys == expected


async def test_an_alert_that_late_data_revised_is_shown_once_as_it_was_told(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    became = ours.alert(patient, priority="high", late=True, started_at=NOW - timedelta(hours=4))
    told = ours.alert(patient, priority="medium", revised_by=became)
    async with api.client(ours.token(ours.person())) as client:
        (row,) = (await got(client, "/v1/worklist"))["items"]
        assert (row["alert"]["id"], row["open_alerts"], row["attention"]) == (str(told), 1, "unacknowledged")
        assert (await got(client, f"/v1/alerts/{told}"))["revised_by"] == str(became)
        assert (await got(client, f"/v1/alerts/{became}"))["revised_by"] is None


async def test_a_worklist_row_shows_value_baseline_and_the_last_day(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    t_ms, value = minutes(NOW - timedelta(hours=30), 1800)
    ours.readings(patient, device, "heart_rate", t_ms, value)
    hour = to_ms(NOW) // HOUR_MS * HOUR_MS
    for i in range(1, 5):
        ours.band(patient, "heart_rate", "rest", hour - i * HOUR_MS, 60.0 + i, 4.0)
    ours.state(patient, "heart_rate", "normal", value=71.0)
    ours.alert(patient, priority="medium", unknown_since=NOW - timedelta(minutes=3))
    async with api.client(ours.token(ours.person())) as client:
        row = (await got(client, "/v1/worklist"))["items"][0]
    assert row["value"]["value"] == 71.0
    assert row["baseline"] == {"center": 61.0, "spread": 4.0, "context": "rest"}
    assert row["age_s"] == 1200
    assert row["alert"]["unknown_since"] == "2026-11-22T19:01:05.000Z"
    inside = (t_ms >= hour - HOUR_MS) & (t_ms < hour)
    assert row["spark"]["high"][-1] == value[inside].max()
    assert 23 <= len(row["spark"]["times_ms"]) <= 25


async def test_frame_fate_links_to_the_trend_that_shows_it(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    ours.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(hours=1), 60))
    frame = f"{ours.key}-watch~2026-11-22a~41"
    ours.frame(frame, patient, device, deliveries=2, stored=58, duplicate=1, conflict=1)
    async with api.client(ours.token(ours.person())) as client:
        fate = await got(client, f"/v1/frames/{frame}")
        assert (fate["stored"], fate["duplicate"], fate["conflict"], fate["deliveries"]) == (58, 1, 1, 2)
        trend = await got(client, fate["links"]["trends"]["heart_rate"])
        assert trend["readings"] == 60
        again = await client.get("/v1/frames/never~seen~1")
        assert "ask again" in problem(again, 404, "frame_not_processed")["detail"]
        assert again.headers["retry-after"] == "1"


# ------------------------------------------------------------------ trends


@pytest.fixture
def fortnight(ours: ApiData) -> tuple[ApiData, Any, Any]:
    """Forty days of a value a minute with a hole, ending in an open hour that has no rollup yet."""
    patient = ours.patient("p1", days=60)
    device = ours.device(f"{ours.key}-watch", patient)
    t_ms, value = minutes(NOW - timedelta(days=40), 40 * 1440)
    value[3_333], value[44_444] = 31.0, 177.0
    kept = (t_ms < t_ms[20_000]) | (t_ms > t_ms[20_700])
    t_ms, value = t_ms[kept], value[kept]
    ours.readings(patient, device, "heart_rate", t_ms, value, closed_ms=to_ms(NOW))
    return ours, t_ms, value


async def test_trends_choose_their_source_by_what_they_would_read(
    api: ServedApi, fortnight: tuple[ApiData, Any, Any]
) -> None:
    ours, t_ms, value = fortnight
    async with api.client(ours.token(ours.person())) as client:
        path = "/v1/patients/p1/trends"
        day = await got(client, path, metric="heart_rate")
        assert day["source"] == "readings"
        assert day["readings"] == int((t_ms >= to_ms(NOW) - 24 * HOUR_MS).sum())
        long = await got(
            client, path, metric="heart_rate", to=NOW.isoformat(), points=500,
            **{"from": (NOW - timedelta(days=41)).isoformat()},
        )  # fmt: skip
    assert long["source"] == "hour+readings"
    assert long["readings"] == len(value)
    open_hour = long["sources"][-1]
    assert open_hour["points_read"] == int((t_ms >= to_ms(NOW) // HOUR_MS * HOUR_MS).sum())
    assert len(long["times_ms"]) <= 500
    assert (long["lowest"], long["highest"]) == (31.0, 177.0)
    assert min(x for x in long["low"] if x is not None) == 31.0
    assert max(x for x in long["high"] if x is not None) == 177.0
    hole = (t_ms[19_999], t_ms[20_000])
    assert any(g["from_ms"] <= hole[0] + HOUR_MS and g["to_ms"] >= hole[1] - HOUR_MS for g in long["gaps"])
    assert [i for i, x in enumerate(long["mean"]) if x is None]


async def test_a_value_a_second_is_read_from_its_minutes(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    t_ms = to_ms(NOW - timedelta(hours=24)) + np.arange(86_400, dtype=np.int64) * 1000
    value = np.round(60 + np.random.default_rng(1).normal(0, 2, len(t_ms)), 1)
    value[50_000] = 166.0
    ours.readings(patient, device, "heart_rate", t_ms, value, closed_ms=to_ms(NOW) // HOUR_MS * HOUR_MS)
    async with api.client(ours.token(ours.person())) as client:
        trend = await got(client, "/v1/patients/p1/trends", metric="heart_rate", points=300)
        hour = await got(
            client, "/v1/patients/p1/trends", metric="heart_rate", **{"from": (NOW - timedelta(hours=1)).isoformat()}
        )
    assert trend["source"] == "minute+readings"
    assert abs(trend["readings"] - 86_400) <= 60
    assert trend["highest"] == 166.0
    assert max(x for x in trend["high"] if x is not None) == 166.0
    assert hour["source"] == "readings"
    assert hour["readings"] == 3600


async def test_hours_without_minutes_stand_among_the_minutes_and_sources_are_named(
    api: ServedApi, ours: ApiData
) -> None:
    patient = ours.patient("p1")
    watch, ring = ours.device(f"{ours.key}-watch", patient), ours.device(f"{ours.key}-ring", patient)
    begin = to_ms(NOW - timedelta(hours=24)) // HOUR_MS * HOUR_MS
    t_ms = begin + HOUR_MS + np.arange(82_800, dtype=np.int64) * 1000
    ours.readings(
        patient, watch, "heart_rate", t_ms, np.full(len(t_ms), 60.0), closed_ms=to_ms(NOW) // HOUR_MS * HOUR_MS
    )
    seventh = begin + 7 * HOUR_MS
    ours.connection.execute(
        "DELETE FROM rollup WHERE patient_id = %s AND bucket_s = 60 AND t0 >= %s AND t0 < %s",
        [patient, to_datetime(seventh), to_datetime(seventh + HOUR_MS)],
    )
    ours.connection.execute(
        "UPDATE rollup SET devices = CASE WHEN t0 = %s THEN ARRAY[%s, %s] ELSE ARRAY[%s] END WHERE patient_id = %s",
        [to_datetime(seventh), ring, watch, watch, patient],
    )
    async with api.client(ours.token(ours.person())) as client:
        trend = await got(client, "/v1/patients/p1/trends", metric="heart_rate", points=5000)
    assert trend["source"].startswith("minute")
    assert trend["readings"] >= 22 * 3600
    assert seventh + HOUR_MS // 2 in trend["times_ms"]  # the middle of that hour
    spans = [(one["preferred"], one["others"]) for one in trend["devices"]]
    assert spans == [(f"{ours.key}-watch", []), (f"{ours.key}-ring", [f"{ours.key}-watch"]), (f"{ours.key}-watch", [])]
    assert trend["devices"][1]["from_ms"] == seventh


async def test_a_trend_carries_band_and_alerts_but_nothing_measured_off_the_wrist(
    api: ServedApi, ours: ApiData
) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-watch", patient)
    ours.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(hours=5), 60))
    off, values = minutes(NOW - timedelta(hours=3), 60)
    ours.readings(patient, device, "heart_rate", off, values + 100, quality=NOT_WORN, rollups=False)
    hour = to_ms(NOW) // HOUR_MS * HOUR_MS
    ours.band(patient, "heart_rate", "asleep", hour - 5 * HOUR_MS, 55, 3)
    alert = ours.alert(patient, started_at=NOW - timedelta(hours=4), state="resolved", resolved_at=NOW)
    ours.alert(patient, started_at=NOW - timedelta(days=4), state="resolved", resolved_at=NOW - timedelta(days=3))
    async with api.client(ours.token(ours.person())) as client:
        trend = await got(client, "/v1/patients/p1/trends", metric="heart_rate")
        problem(await client.get("/v1/patients/p1/trends?metric=hart_rate"), 422, "invalid")
        problem(await client.get("/v1/patients/p1/trends?metric=ecg"), 422, "invalid")
        problem(await client.get("/v1/patients/p1/trends?metric=heart_rate&from=2026-11-22T10:00:00"), 422, "invalid")
        problem(await client.get("/v1/patients/p1/trends?metric=heart_rate&points=1"), 422, "invalid")
    assert trend["readings"] == 60
    assert trend["highest"] < 120
    begin, end = to_ms(NOW) - 24 * HOUR_MS, to_ms(NOW)
    silent = [(gap["from_ms"], gap["to_ms"]) for gap in trend["gaps"]]
    assert silent == [(begin, end - 5 * HOUR_MS), (end - 4 * HOUR_MS - 60_000, end)]
    assert trend["band"] == [
        {
            "from_ms": hour - 5 * HOUR_MS, "to_ms": hour - 4 * HOUR_MS, "context": "asleep", "center": 55.0,
            "spread": 3.0, "low": 49.0, "high": 61.0, "days": 14,
        }
    ]  # fmt: skip
    assert [a["id"] for a in trend["alerts"]] == [str(alert)]


# ------------------------------------------------------------------ alerts


async def test_alerts_are_filtered_and_paged(api: ServedApi, ours: ApiData) -> None:
    first, second = ours.patient("p1"), ours.patient("p2")
    made = [
        str(ours.alert(first, started_at=NOW - timedelta(hours=i), priority="low" if i % 2 else "high"))
        for i in range(6)
    ]
    late = str(ours.alert(second, late=True, state="resolved", kind="technical", started_at=NOW - timedelta(days=2)))
    async with api.client(ours.token(ours.person())) as client:
        page = await got(client, "/v1/alerts", limit=4)
        rest = await got(client, "/v1/alerts", limit=4, cursor=page["next"])
        assert [a["id"] for a in page["items"] + rest["items"]] == [*made, late]
        assert rest["next"] is None

        async def ids(**filters: Any) -> list[str]:
            return [a["id"] for a in (await got(client, "/v1/alerts", **filters))["items"]]

        assert await ids(patient="p2") == await ids(late=True) == await ids(kind="technical") == [late]
        assert await ids(state="resolved") == [late]
        assert await ids(patient="p1", priority="low") == made[1::2]
        assert await ids(acknowledged=True) == []
        problem(await client.get("/v1/alerts?state=open"), 422, "invalid")


async def test_acknowledging_is_done_once_however_often_it_is_sent(api: ServedApi, ours: ApiData) -> None:
    patient, ada = ours.patient("p1"), ours.person()
    alert = ours.alert(patient)
    async with api.client(ours.token(ada)) as client:
        seen = await client.get(f"/v1/alerts/{alert}")
        headers = {"Idempotency-Key": "k1", "If-Match": seen.headers["etag"]}
        path = f"/v1/alerts/{alert}/acknowledge"
        first = await client.post(path, json={"note": "called, she is fine"}, headers=headers)
        assert first.status_code == 200
        assert first.json()["acknowledged"]["by"]["id"] == "ada"
        assert first.headers["etag"] != seen.headers["etag"]
        again = await client.post(path, json={"note": "called, she is fine"}, headers=headers)
        assert again.json() == first.json()
        assert (await client.post(path)).json() == first.json()
        problem(await client.post(path, json={"note": "else"}, headers={"Idempotency-Key": "k1"}), 409, "key_reused")
        problem(await client.post(path, json={"not": 1}), 422, "invalid")
    query = "SELECT sentence, person_id FROM alert_event WHERE alert_id = %s AND change = 'acknowledged'"
    rows = ours.connection.execute(query, [alert]).fetchall()
    assert rows == [("Acknowledged by Ada Nurse: called, she is fine", ada)]
    assert [row[:2] for row in ours.audit("alert.acknowledge")] == [(ada, patient)] * 3


async def test_an_alert_that_worsened_is_not_acknowledged_by_who_did_not_see_it(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    alert = ours.alert(patient, priority="medium")
    async with api.client(ours.token(ours.person())) as client:
        etag = (await client.get(f"/v1/alerts/{alert}")).headers["etag"]
        ours.connection.execute("UPDATE alert SET last_evidence_at = now() WHERE id = %s", [alert])
        assert (await client.get(f"/v1/alerts/{alert}")).headers["etag"] == etag
        ours.connection.execute("UPDATE alert SET priority = 'high' WHERE id = %s", [alert])
        path = f"/v1/alerts/{alert}/acknowledge"
        refused = problem(await client.post(path, headers={"If-Match": etag}), 412, "changed_meanwhile")
        assert (await client.post(path, headers={"If-Match": refused["etag"]})).status_code == 200


@pytest.mark.parametrize("state", ["resolved", "withdrawn"])
async def test_a_closed_alert_cannot_be_acknowledged(api: ServedApi, ours: ApiData, state: str) -> None:
    alert = ours.alert(ours.patient("p1"), state=state, resolved_at=NOW)
    async with api.client(ours.token(ours.person())) as client:
        problem(await client.post(f"/v1/alerts/{alert}/acknowledge"), 409, "alert_closed")


async def test_an_administrator_does_not_acknowledge(api: ServedApi, ours: ApiData) -> None:
    alert = ours.alert(ours.patient("p1"))
    async with api.client(ours.token(ours.person("root", "administrator"))) as client:
        problem(await client.post(f"/v1/alerts/{alert}/acknowledge"), 403, "role_not_allowed")


# ------------------------------------------------------------------ signing in, and the edge


async def test_a_login_link_works_once_and_only_when_its_button_is_pressed(api: ServedApi, ours: ApiData) -> None:
    ours.patient("p1")
    link = ours.token(ours.person(), kind="login_link", expires=NOW + timedelta(minutes=15))
    same = {"Sec-Fetch-Site": "same-origin"}
    async with api.client() as client:
        for _ in range(3):  # a mail program looks before the person does
            page = await client.get(f"/login?token={link}")
            assert page.status_code == 200
            assert "set-cookie" not in page.headers
        problem_page = await client.get("/")
        assert problem_page.status_code == 401
        cross = await client.post("/login", data={"token": link}, headers={"Sec-Fetch-Site": "cross-site"})
        assert cross.status_code == 403
        answer = await client.post("/login", data={"token": link}, headers=same)
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/v1/patients")).status_code == 200
        assert (await client.post("/login", data={"token": link}, headers=same)).status_code == 401
        assert (await client.post("/logout", headers=same)).status_code == 303
    async with api.client() as stolen:
        stolen.cookies.set("keepwell_session", cookie.split("=")[1].split(";")[0])
        assert (await stolen.get("/v1/patients")).status_code == 401


async def test_writes_from_other_sites_are_refused(api: ServedApi, ours: ApiData) -> None:
    alert = ours.alert(ours.patient("p1"))
    session = ours.token(ours.person(), kind="session")
    path = f"/v1/alerts/{alert}/acknowledge"
    async with api.client() as client:
        client.cookies.set("keepwell_session", session)
        for headers in (
            {},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
        ):
            problem(await client.post(path, headers=headers), 403, "cross_site")
        assert (await client.post(path, headers={"Origin": api.url})).status_code == 200


async def test_every_answer_is_dressed_and_bounded(api: ServedApi, ours: ApiData) -> None:
    async with api.client(ours.token(ours.person())) as client:
        for path in ("/", "/login", "/v1/patients", "/v1/none", "/healthz", "/static/app.css", "/patients/nobody"):
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "http" not in policy
        assert (await client.get("/v1/patients")).headers["cache-control"] == "no-store"
        problem(await client.get("/v1/none"), 404, "not_found")
        problem(await client.delete("/v1/patients"), 405, "method_not_allowed")
        problem(await client.post("/v1/alerts/x/acknowledge", content=b"x" * 70_000), 413, "body_too_large")

        async def endless() -> Any:
            for _ in range(80):
                yield b"x" * 1000

        problem(await client.post("/v1/alerts/x/acknowledge", content=endless()), 413, "body_too_large")
        problem(await client.get("/v1/patients/%00"), 422, "invalid")
        assert (await client.get("/readyz")).json()["status"] == "ready", (await client.get("/readyz")).json()
