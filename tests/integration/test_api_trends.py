"""Trends over the REST API: their source, their band, and what is left out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ingest.clock import to_datetime, to_ms
from ingest.frame import NOT_WORN
from tests.api_data import HOUR_MS, NOW, ApiData, minutes
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem

pytestmark = pytest.mark.stack


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
    ours.band(patient, "heart_rate", "rest", hour - 4 * HOUR_MS, 70, 10, days=4)
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
            "spread": 3.0, "low": 49.0, "high": 61.0, "days": 14, "learned": True,
        },
        {
            "from_ms": hour - 4 * HOUR_MS, "to_ms": hour - 3 * HOUR_MS, "context": "rest", "center": 70.0,
            "spread": 10.0, "low": 50.0, "high": 90.0, "days": 4, "learned": False,
        },
    ]  # fmt: skip
    assert [a["id"] for a in trend["alerts"]] == [str(alert)]
