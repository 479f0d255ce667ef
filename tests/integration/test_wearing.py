"""Who wears less than before: to whoever organises care, of many what their own page says of one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest
from psycopg.types.json import Jsonb

from services import people, teams
from services.api import pages
from services.api.weeks import wearing
from services.api.weeks import worn as reading
from services.web import screens
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


def monitored(data: ApiData, patient: int, state: str, first: int, last: int | None = None) -> None:
    """Set a state from one day before today to another, or without an end."""
    begin = datetime(2026, 11, 22, tzinfo=UTC) - timedelta(days=first)
    until = None if last is None else int((begin + timedelta(days=first - last)).timestamp() * 1000)
    data.connection.execute(
        """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason,
                                       recorded_at) VALUES (%s, %s, 'monitoring', 1, %s, %s, 'x', %s)""",
        [data.organisation, patient, begin, Jsonb({"state": state, "until_ms": until}), begin],
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
    "deceased": [(60, 20, "hour >= 8")],
    "discharged": [(60, 20, "hour >= 8")],
    "paused": [(60, 20, "hour >= 8")],
    "inpatient": [(60, 20, "hour >= 8")],
    "comfort-care": [(60, 20, "hour >= 8")],
}


NOT_LISTED: Final = ("deceased", "discharged", "paused", "inpatient", "comfort-care")  # whom nobody asks for data
COUNTS: Final = ("patients", "never_heard", "unknown", "stopped", "falling", "not_asked", "not_looked_at")


def counts(page: dict[str, Any]) -> dict[str, int]:
    return {name: page[name] for name in COUNTS}


@pytest.fixture
def cast(ours: ApiData) -> dict[str, int]:
    """Everybody, and somebody who never sent anything."""
    people = {key: worn(ours, key.replace(" ", "-"), spans) for key, spans in CAST.items()}
    monitored(ours, people["on holiday"], "paused", 10, 0)
    monitored(ours, people["paused"], "paused", 5, -5)
    for state in ("deceased", "discharged", "inpatient", "comfort-care"):
        monitored(ours, people[state], state.replace("-", "_"), 12)
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
    assert counts(page) == {
        "patients": 12, "never_heard": 1, "unknown": 2, "stopped": 2, "falling": 2, "not_asked": 3, "not_looked_at": 0,
    }  # fmt: skip
    assert (page["note"], page["next"]) == (None, None)
    for key, said in pages.items():
        one, wear = found.get(key.replace(" ", "-")), said["wear"]
        falls = wear["state"] == "falling" and key not in NOT_LISTED
        assert falls == (one is not None and (one["state"] == "falling" or key == "gone")), key
        if one is not None:
            assert one["days_with_enough"] + one["days_with_enough_before"] == wear["days_with_enough"], key
            assert one["days_expected"] + one["days_expected_before"] == wear["days_expected"], key
            assert (one["longest_gap_days"], one["gap_since"]) == (wear["longest_gap_days"], wear["gap_since"]), key
    assert found["fewer"]["sentence"].startswith(
        "6 of 14 days with at least 10 h of data in the last 14 days, 14 of 14 in the 14 before"
    )
    assert not {"value", "mean", "baseline", "alert", "hours"} & {name for one in page["items"] for name in one}


async def test_a_coordinator_sees_their_own_teams_and_who_may_not_is_refused(
    api: ServedApi, ours: ApiData, cast: dict[str, int]
) -> None:
    default = teams.team_id(ours.connection, ours.organisation)
    teams.remove_patient(ours.connection, default, cast["fewer"], NOW - timedelta(days=1))
    teams.add_patients(ours.connection, ours.another_team(), [cast["fewer"]], NOW - timedelta(days=1))
    async with api.client(ours.token(ours.person("co", "coordinator"))) as client:
        page = await got(client, "/v1/wearing?limit=1")
        assert [one["patient"]["id"] for one in page["items"]] == ["gone"]
        assert (page["patients"], page["stopped"], page["falling"]) == (11, 2, 1)
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


async def followed(client: Any, path: str) -> list[dict[str, Any]]:
    """Every page, one after the other."""
    found = [await got(client, path)]
    while cursor := found[-1]["next"]:
        found.append(await got(client, path, cursor=cursor))
    return found


async def test_every_name_is_on_one_page_whatever_the_pages_and_the_parts(
    api: ServedApi, ours: ApiData, cast: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api.client(ours.token(ours.person())) as client:
        whole = await got(client, "/v1/wearing")
        names = [one["patient"]["id"] for one in whole["items"]]
        by_one = await followed(client, "/v1/wearing?limit=1")
        assert [one["patient"]["id"] for page in by_one for one in page["items"]] == names
        assert {tuple(counts(page).items()) for page in by_one} == {tuple(counts(whole).items())}
        monkeypatch.setattr(reading, "SLICE", 2)
        assert (await got(client, "/v1/wearing"))["items"] == whole["items"]
        monkeypatch.setattr(wearing, "MOST", 5)
        parts = await followed(client, "/v1/wearing?limit=1")
        assert sorted(one["patient"]["id"] for page in parts for one in page["items"]) == sorted(names)
        assert parts[0]["note"] == (
            "the first 5 patients by id were looked at, 7 were not: they are on the pages after this"
        )
        assert parts[0]["not_looked_at"] == 7
        assert parts[-1]["note"].startswith("these are the last 2 patients by id")
        begun = {page["not_looked_at"]: counts(page) for page in parts}  # one of each part
        summed = {name: sum(one[name] for one in begun.values()) for name in COUNTS if name != "not_looked_at"}
        assert summed == {name: number for name, number in counts(whole).items() if name != "not_looked_at"}
        for wrong in ("WzFd", pages.encode([1, None, None, None]), pages.encode(["a", "b", 1, "c"]), "x"):
            assert (
                problem(await client.get("/v1/wearing", params={"cursor": wrong}), 422, "invalid")["field"] == "cursor"
            )


async def test_the_pages_lead_on_from_one_to_the_next(
    api: ServedApi, ours: ApiData, cast: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "ROWS", 3)
    monkeypatch.setattr(wearing, "MOST", 8)
    async with api.client(ours.token(ours.person(), "session")) as client:
        for begin, there in (("/wearing", "/patients/"), ("/", 'id="row-')):
            text, seen, pages_read = (await client.get(begin)).text, 0, 1
            while onward := re.search(r'href="(/(?:wearing)?\?cursor=[^"]+)"', text):
                seen += text.count(there)
                answer = await client.get(onward[1])
                assert answer.status_code == 200, answer.text
                text, pages_read = answer.text, pages_read + 1
                assert "First page" in text
            assert (seen + text.count(there), pages_read) == ((4, 2) if begin == "/wearing" else (12, 4))


async def test_only_who_withholds_the_heart_rate_is_left_out(
    api: ServedApi, ours: ApiData, cast: dict[str, int]
) -> None:
    ours.rests(care="consent")
    for patient in [*cast.values(), ours.patient("nobody", days=100)]:
        ours.consent(patient, "care", at=NOW - timedelta(days=100))
    ours.consent(cast["gone"], "care", "withdrawn", ["waveforms"])
    ours.consent(cast["fewer"], "care", "withdrawn", ["vitals"])
    ours.consent(cast["shorter"], "care", "withdrawn")
    async with api.client(ours.token(ours.person())) as client:
        page = await got(client, "/v1/wearing")
    assert [one["patient"]["id"] for one in page["items"]] == ["gone", "long-gone"]
    assert page["withheld_by_consent"] == 3, "vitals of one, everything of two: the other never agreed"


async def test_too_long_is_said_with_what_fits(
    api: ServedApi, ours: ApiData, cast: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(connection: Any, *_: Any, **__: Any) -> list[Any]:
        await connection.execute("SET LOCAL statement_timeout = '1ms'")
        await connection.execute("SELECT pg_sleep(1)")
        return []

    monkeypatch.setattr(reading, "every", slow)
    async with api.client(ours.token(ours.person())) as client:
        answer = await client.get("/v1/wearing")
        assert "own page" in problem(answer, 503, "too_slow")["detail"]
        assert answer.headers["retry-after"] == "60"


async def test_a_data_specialist_finds_the_list_from_their_account_and_a_program_by_its_scope(
    api: ServedApi, ours: ApiData, cast: dict[str, int]
) -> None:
    link = 'href="/wearing"'
    async with api.client(ours.token(ours.person("dana", "data_specialist"), "session")) as client:
        assert link in (await client.get("/account")).text
        page = (await client.get("/wearing")).text
        assert "Your account" in page
        assert "3 paused, in hospital or in comfort care are not asked for" in page
        assert "Of 1 of the 12 no heart rate ever came" in page
    async with api.client(ours.token(ours.person("ada", "nurse"), "session")) as client:
        assert link not in (await client.get("/account")).text, "it is below their worklist"
    for scope, allowed in (("worklist:read", True), ("alerts:read", False)):
        token = people.service_token(ours.connection, ours.key, scope[:3], "coordinator", [scope], NOW, 90)
        async with api.client(token) as client:
            assert ((await client.get("/v1/wearing")).status_code == 200) == allowed
