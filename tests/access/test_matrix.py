"""Every address × role × whose patient × credential, allowed exactly where the table of permissions says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from deploy import access_page
from ingest.clock import to_ms
from services import metrics, teams
from services.api import permissions
from services.api.permissions import PERMISSIONS
from services.roles import ROLES
from services.settings import Settings
from tests.access.credentials import CREDENTIALS, QUICK, Bearer
from tests.access.exercises import EXERCISES, OF_THE_SCREENS, PUBLIC, Exercise
from tests.access.world import CANARIES, Subject, World, grant, made
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi, serve
from tests.stand_in_provider import StandIn, stand_in
from tests.ways_in import StandInWay

pytestmark = pytest.mark.stack

LISTS: Final = {"team": {"own"}, "self": {"own"}, "organisation": {"own", "other"}}
HIDDEN: Final = ("not_found", "frame_not_processed")
EVERYTHING: Final = ("clinician", "nurse", "pharmacist")  # see every field of what they may read
STREAM_S: Final = 0.4  # how long a stream is listened to


@pytest.fixture(scope="module")
def world(migrated: Settings) -> Iterator[World]:
    with made(migrated) as whole:
        yield whole


@pytest_asyncio.fixture(scope="module")
async def provider() -> AsyncIterator[StandIn]:
    async with stand_in() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def api(migrated: Settings, world: World, provider: StandIn) -> AsyncIterator[ServedApi]:
    """An API that takes a provider's tokens too."""
    identity = StandInWay(provider).settings(world.ours.key)
    async with serve(migrated.model_copy(update={"identity": identity})) as served:
        yield served


@pytest.fixture(scope="module")
def bearer(world: World, provider: StandIn) -> Bearer:
    """A nurse of ours whom the provider knows."""
    return Bearer(world.ours, world.ours.person("ada", "nurse"), provider)


@pytest_asyncio.fixture(scope="module")
async def clients(api: ServedApi, world: World) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    opened: dict[str, httpx.AsyncClient] = {role: api.client(world.token(role)) for role in ROLES}
    yield opened
    for client in opened.values():
        await client.aclose()


def test_the_page_about_access_says_what_the_table_says() -> None:
    page = access_page.PAGE.read_text("utf-8")
    assert page == access_page.filled(page), "run `make docs`"


async def test_every_address_has_an_exercise_and_every_exercise_an_entry(api: ServedApi) -> None:
    document = api.app.openapi()
    addresses = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert addresses - PUBLIC == EXERCISES.keys()
    assert {exercise.action for exercise in EXERCISES.values()} | OF_THE_SCREENS == PERMISSIONS.keys()


async def test_what_the_table_does_not_name_nobody_may() -> None:
    for role in (*ROLES, "root", ""):
        assert permissions.reach("patient.sell", role) == "-"
        whole = {"id": 1}
        assert permissions.shown(role, "no such kind", whole) == (whole if role in EVERYTHING else {})
    assert permissions.reach("patient.read", "root") == "-"
    assert permissions.shown("root", "patient", {"id": 1}) == {}


@pytest.mark.parametrize("whose", ["own", "other", pytest.param("foreign", marks=pytest.mark.slow)])
@pytest.mark.parametrize("role", ROLES)
async def test_each_role_reaches_exactly_as_far_as_the_table_says(
    world: World, clients: dict[str, httpx.AsyncClient], role: str, whose: str
) -> None:
    person, about = world.people[role], world.subjects[whose]
    for address, exercise in EXERCISES.items():
        if (exercise.named is None or exercise.mine) and whose != "own":
            continue  # a list shows whom it shows; it is asked for once
        world.reset(person)
        before = last_audit(world.ours)
        status, code, shown = await tried(clients[role], address, exercise, about)
        far = PERMISSIONS[exercise.action][role]
        said = f"{address} as {role} about {whose}: {status} {code}"
        if far == "-":
            assert (status, code) == (403, "role_not_allowed"), said
        elif exercise.named is None:
            assert status == 200, said
            assert not exercise.of_patients or shown == LISTS[far] & with_something(exercise, world), said
        elif whose in LISTS[far] or exercise.mine:
            assert status == (exercise.own if whose == "own" else 200), said
        else:
            assert status == 404, said
            assert code in HIDDEN, said
        done = status == 200
        outcome = "allowed" if done else "failed" if status in (409, 422) else "refused"
        rows = audited(world.ours, before, person)
        if not exercise.stream:  # its pages are written down too
            assert len(rows) == 1, said
        assert {(action, written) for action, written, _ in rows} <= {(exercise.action, outcome)}, said
        assert all(detail["code"] == code for _, _, detail in rows if not done), said
    world.reset(person)


def with_something(exercise: Exercise, world: World) -> set[str]:
    """Return about whom there is anything to list."""
    if exercise.action != "break_glass.list":
        return set(world.subjects)
    keys = world.ours.connection.execute(
        "SELECT DISTINCT p.key FROM break_glass b JOIN patient p ON p.id = b.patient_id WHERE p.organisation_id = %s",
        [world.ours.organisation],
    )
    return {key for (key,) in keys}


async def tried(
    client: httpx.AsyncClient, address: str, exercise: Exercise, about: Subject
) -> tuple[int, str, set[str]]:
    """Return the status, the problem's code and, of a list, whom it shows."""
    method, path = address.split(" ", 1)
    if exercise.stream:
        return await listened(client, exercise.address(path, about))
    answer = await client.request(method, exercise.address(path, about), json=exercise.body)
    document = answer.json()
    if answer.status_code != 200:
        return answer.status_code, document["code"], set()
    named = [item.get("patient", item) for item in document.get("items", [])]
    return 200, "", {one["id"] for one in named if isinstance(one, dict) and "id" in one}


async def listened(client: httpx.AsyncClient, address: str) -> tuple[int, str, set[str]]:
    shown: set[str] = set()
    async with client.stream("GET", address) as answer:
        if answer.status_code != 200:
            return answer.status_code, json.loads(await answer.aread())["code"], shown
        lines = answer.aiter_lines()
        try:
            async with asyncio.timeout(STREAM_S) as waiting:
                async for line in lines:
                    if line.startswith("data:"):
                        shown.add(json.loads(line[5:])["patient"])
                        waiting.reschedule(asyncio.get_running_loop().time() + STREAM_S)
        except TimeoutError:
            pass
    return 200, "", shown


def last_audit(data: ApiData) -> int:
    row = data.connection.execute("SELECT coalesce(max(id), 0) FROM access_audit").fetchone()
    assert row is not None
    return int(row[0])


def audited(data: ApiData, after: int, person: int) -> list[tuple[str, str, dict[str, Any]]]:
    query = "SELECT action, outcome, detail FROM access_audit WHERE id > %s AND person_id = %s ORDER BY id"
    return data.connection.execute(query, [after, person]).fetchall()


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in CREDENTIALS]
)
async def test_no_address_opens_without_a_live_credential(
    api: ServedApi, world: World, bearer: Bearer, kind: str
) -> None:
    one = CREDENTIALS[kind]
    async with api.client(one.make(bearer)) as client:
        assert one.says in (await client.get("/v1/patients")).json()["detail"]
        for address, exercise in EXERCISES.items():
            before, counted = last_audit(world.ours), refusals()
            status, code, _ = await tried(client, address, exercise, world.subjects["own"])
            write_of_nobody = kind == "anonymous" and not address.startswith("GET ")
            wanted = (403, "cross_site") if write_of_nobody else (401, "unauthenticated")
            assert (status, code) == wanted, address
            assert refusals() == counted + 1, address
            rows = world.ours.connection.execute(
                "SELECT person_id, action, outcome FROM access_audit WHERE id > %s", [before]
            ).fetchall()
            assert rows == ([(bearer.person, exercise.action, "refused")] if one.names else []), address


def refusals() -> float:
    """How many requests of any address were answered with 401 or 403."""
    samples = [sample for family in metrics.API_REQUESTS.collect() for sample in family.samples]
    refused = [one for one in samples if one.name.endswith("_total") and one.labels["status"] in ("401", "403")]
    return sum(one.value for one in refused)


async def test_the_same_token_without_anything_wrong_opens(api: ServedApi, world: World, bearer: Bearer) -> None:
    before = last_audit(world.ours)
    async with api.client(bearer.signed()) as client:
        assert (await client.get("/v1/patients")).status_code == 200
        async with api.client(bearer.signed(roles=["visitor"])) as visitor:
            refused = await visitor.get("/v1/patients")
        assert (refused.status_code, refused.json()["code"]) == (403, "not_known_here")
        api.credential_clock.advance(331_000)
        try:
            ended = await client.get("/v1/patients")
        finally:
            api.credential_clock.set(to_ms(NOW))
        assert (ended.status_code, ended.json()["code"]) == (401, "unauthenticated")
    said = [(action, outcome) for action, outcome, _ in audited(world.ours, before, bearer.person)]
    assert said == [("patients.list", "allowed"), ("patients.list", "refused"), ("patients.list", "refused")]


@pytest.mark.parametrize("first", ["own", "other"])
async def test_a_parameter_sent_twice_opens_nothing_more(
    world: World, clients: dict[str, httpx.AsyncClient], first: str
) -> None:
    second = "other" if first == "own" else "own"
    keys = [world.subjects[whose].key for whose in (first, second)]
    answer = await clients["nurse"].get("/v1/alerts", params={"patient": keys})
    if answer.status_code == 200:
        assert {item["patient"]["id"] for item in answer.json()["items"]} == {world.subjects["own"].key}
    else:
        assert (answer.status_code, second) == (404, "other"), "one of them decides, and it is judged"


# Which canaries a role meets when it reads everything it may about its own patient: said apart from the table on purpose.
SEES: Final = {
    "clinician": {"name", "plain", "sentence", "evidence", "note", "value", "reason"},
    "nurse": {"name", "sentence", "evidence", "note", "value", "reason"},
    "pharmacist": {"name", "sentence", "evidence", "note", "value", "reason"},
    "coordinator": {"name", "sentence", "note", "reason"},
    "genetic_counsellor": {"name"},
    "data_specialist": {"value"},
    "researcher": set(),
    "administrator": {"name"},
    "patient": {"name", "plain", "value"},
    "proxy": {"name", "plain", "value"},
}


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_meets_only_what_it_is_there_for(
    world: World, clients: dict[str, httpx.AsyncClient], role: str
) -> None:
    met = set()
    for address, exercise in EXERCISES.items():
        method, path = address.split(" ", 1)
        if method == "GET" and not exercise.stream:
            text = (await clients[role].get(exercise.address(path, world.subjects["own"]))).text
            met |= {name for name, canary in CANARIES.items() if canary in text}
    assert met == SEES[role]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["left", "not yet", "ended grant", "alerts only", "readings only"])
async def test_a_right_holds_from_its_beginning_to_its_end_and_no_further(
    api: ServedApi, world: World, when: str
) -> None:
    data, own = world.ours, world.subjects["own"]
    role = "nurse" if when in ("left", "not yet") else "proxy"
    person = data.person(f"p-{when.replace(' ', '-')}", role, team=None)
    sees = {"patient.read": False, "trend.read": False, "alert.read": False}
    if when == "left":
        teams.add_member(data.connection, data.team, person, NOW - timedelta(days=9))
        assert teams.remove_member(data.connection, data.team, person, NOW - timedelta(seconds=1))
    elif when == "not yet":
        teams.add_member(data.connection, data.team, person, NOW + timedelta(seconds=1))
    elif when == "ended grant":
        grant(data, person, own, until=NOW - timedelta(seconds=1))
    elif when == "alerts only":
        grant(data, person, own, "alerts")
        sees |= {"patient.read": True, "alert.read": True}
    else:
        grant(data, person, own, "readings")
        sees |= {"patient.read": True, "trend.read": True}
    async with api.client(data.token(person)) as client:
        for address, exercise in EXERCISES.items():
            if exercise.action in sees:
                status, code, _ = await tried(client, address, exercise, own)
                if (
                    exercise.action == "trend.read" and when == "alerts only"
                ):  # the patient is there, the readings are not
                    trend = (await client.get(f"/v1/patients/{own.key}/trends?metric=heart_rate")).json()
                    assert (status, trend["readings"], trend["band"]) == (200, 0, [])
                else:
                    assert status == (200 if sees[exercise.action] else 404), (address, code)
        listed = (await client.get("/v1/alerts")).json()["items"]
        assert bool(listed) == sees["alert.read"]
