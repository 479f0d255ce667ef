"""What the API shows of patients, the worklist and frames, on the real database."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from ingest.clock import to_ms
from tests.api_data import HOUR_MS, NOW, ApiData, minutes
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem

pytestmark = pytest.mark.stack


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
    assert row["baseline"] == {"center": 61.0, "spread": 4.0, "context": "rest", "days": 14, "learned": True}
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
