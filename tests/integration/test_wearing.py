"""Who wears less than before: to whoever organises care, of many what their own page says of one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest
from psycopg.types.json import Jsonb

from services import teams
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem
from tests.integration.test_trend_statements import hours

pytestmark = pytest.mark.stack

TODAY: Final = date(2026, 11, 22)


def worn(data: ApiData, key: str, spans: list[tuple[int, int, str]]) -> int:
    """A patient who wore a device from one day before today to another, each day the hours that are asked for."""
    patient = data.patient(key, key.title(), days=100)
    data.device(f"{data.key}-{key}", patient)
    for first, last, of_day in spans:
        begin, end = TODAY - timedelta(days=first), TODAY - timedelta(days=last)
        hours(data, patient, "heart_rate", f"{begin} 00:00", f"{end} 23:00", 70, of_day)
    return patient


def monitored(data: ApiData, patient: int, state: str, first: int, last: int) -> None:
    begin = datetime(2026, 11, 22, tzinfo=UTC) - timedelta(days=first)
    until = begin + timedelta(days=first - last)
    data.connection.execute(
        """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason,
                                       recorded_at) VALUES (%s, %s, 'monitoring', 1, %s, %s, 'x', %s)""",
        [data.organisation, patient, begin, Jsonb({"state": state, "until_ms": int(until.timestamp() * 1000)}), begin],
    )


EVERY_DAY = (60, 1, "hour >= 8")
CAST: Final[dict[str, list[tuple[int, int, str]]]] = {
    "steady": [EVERY_DAY],
    "fewer": [(60, 15, "hour >= 8"), (14, 1, "hour >= 8 AND dow IN (1, 3, 5)")],
    "shorter": [(60, 15, "true"), (14, 1, "hour >= 10")],
    "gone": [(60, 20, "hour >= 8")],
    "long gone": [(60, 40, "hour >= 8")],
    "on holiday": [(60, 10, "hour >= 8")],
    "new": [(9, 1, "hour >= 8")],
    "few hours": [(60, 1, "hour >= 18")],
}


@pytest.fixture
def cast(ours: ApiData) -> dict[str, int]:
    """Everybody, and somebody who never sent anything."""
    people = {key: worn(ours, key.replace(" ", "-"), spans) for key, spans in CAST.items()}
    monitored(ours, people["on holiday"], "paused", 10, 0)
    ours.patient("silent", "Silent", days=100)
    return people


async def test_the_list_says_of_each_what_their_own_page_says_and_nothing_clinical(
    api: ServedApi, ours: ApiData, cast: dict[str, int]
) -> None:
    async with api.client(ours.token(ours.person("ada", "nurse"))) as client:
        page = await got(client, "/v1/wearing")
        pages = {key: await got(client, f"/v1/patients/{key.replace(' ', '-')}/trend-statements") for key in CAST}
    found = {one["patient"]["id"]: one for one in page["items"]}
    assert [(one["patient"]["id"], one["state"]) for one in page["items"]] == [
        ("gone", "stopped"), ("long-gone", "stopped"), ("fewer", "falling"), ("shorter", "falling"),
    ]  # fmt: skip
    assert (page["patients"], page["stopped"], page["falling"], page["unknown"]) == (9, 2, 2, 2)
    for key, said in pages.items():
        one, wear = found.get(key.replace(" ", "-")), said["wear"]
        falls = wear["state"] == "falling"
        assert falls == (one is not None and (one["state"] == "falling" or key == "gone")), key
        if one is not None:
            assert one["days_with_enough"] + one["days_with_enough_before"] == wear["days_with_enough"], key
            assert one["days_expected"] + one["days_expected_before"] == wear["days_expected"], key
            assert (one["longest_gap_days"], one["gap_since"]) == (wear["longest_gap_days"], wear["gap_since"]), key
    assert found["fewer"]["sentence"].startswith(
        "6 of 14 days with at least 10 h of data in the last 14 days, 14 of 14 in the 14 before"
    )
    assert not {"value", "mean", "baseline", "alert", "hours"} & {name for one in page["items"] for name in one}
    assert ours.connection.execute("SELECT count(*) FROM alert").fetchone() == (0,)


async def test_a_coordinator_sees_their_own_teams_and_who_may_not_is_refused(
    api: ServedApi, ours: ApiData, cast: dict[str, int]
) -> None:
    default = teams.team_id(ours.connection, ours.organisation)
    teams.remove_patient(ours.connection, default, cast["fewer"], NOW - timedelta(days=1))
    teams.add_patients(ours.connection, ours.another_team(), [cast["fewer"]], NOW - timedelta(days=1))
    async with api.client(ours.token(ours.person("co", "coordinator"))) as client:
        page = await got(client, "/v1/wearing?limit=1")
        assert [one["patient"]["id"] for one in page["items"]] == ["gone"]
        assert (page["patients"], page["stopped"], page["falling"]) == (8, 2, 1)
        problem(await client.get("/v1/patients/gone/trend-statements"), 403, "role_not_allowed")
    async with api.client(ours.token(ours.person("dana", "data_specialist"))) as client:
        items = (await got(client, "/v1/wearing"))["items"]
        assert [set(one["patient"]) for one in items] == [{"id", "link"}] * 3, "no names"
    for role in ("pharmacist", "researcher", "administrator"):
        async with api.client(ours.token(ours.person(role, role))) as client:
            problem(await client.get("/v1/wearing"), 403, "role_not_allowed")
    entries: list[Any] = ours.audit("wearing.read")
    assert sorted(entries[0][2]["patient_ids"]) == [cast["gone"]]
    assert NOW.date() == TODAY
