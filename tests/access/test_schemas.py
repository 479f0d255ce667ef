"""Generated requests to every address as every role: no fault, no answer that breaks its schema, no field beyond the role.

schemathesis makes the requests from the OpenAPI document, valid ones and invalid ones, with ids that exist mixed in.
`make test` takes a few of a fixed choice; ``KEEPWELL_SCHEMA_CASES=100`` takes so many of each address, another choice each
time (`make schemas`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.api.permissions import FIELDS, PARTS, PERMISSIONS, sees
from services.roles import ROLES
from services.settings import Settings
from tests.access.exercises import EXERCISES, PUBLIC, Exercise
from tests.access.world import Subject, World, made
from tests.fix_api import ServedApi
from tests.integration.test_api_programmes import HEART

pytestmark = pytest.mark.stack

MANY: Final = int(os.environ.get("KEEPWELL_SCHEMA_CASES", "0"))
FEW: Final = 2  # of each address, of each role, valid and invalid
STREAM: Final = "GET /v1/alerts/stream"
CHECKS: Final = [status_code_conformance, content_type_conformance, response_schema_conformance]

# What an address shows, by its kind in the table of fields; `[]` of a list.
SHOWS: Final = {
    "GET /v1/patients": "patient[]",
    "GET /v1/patients/{patient_id}": "patient",
    "GET /v1/patients/{patient_id}/trends": "trend",
    "GET /v1/patients/{patient_id}/trend-statements": "weeks",
    "GET /v1/wearing": "wearing[]",
    "GET /v1/patients/{patient_id}/monitoring": "monitoring",
    "PUT /v1/patients/{patient_id}/monitoring": "change",
    "POST /v1/patients/{patient_id}/new-normal": "change",
    "GET /v1/patients/{patient_id}/changes": "change[]",
    "GET /v1/patients/{patient_id}/suppressed": "suppressed[]",
    "PUT /v1/patients/{patient_id}/profile": "change",
    "PATCH /v1/patients/{patient_id}/profile": "change",
    "PUT /v1/patients/{patient_id}/limits": "change",
    "GET /v1/patients/{patient_id}/life-events": "life_event[]",
    "POST /v1/patients/{patient_id}/life-events": "life_event",
    "PUT /v1/patients/{patient_id}/life-events/{event_id}": "life_event",
    "POST /v1/patients/{patient_id}/life-events/{event_id}/withdraw": "life_event",
    "POST /v1/patients/{patient_id}/break-glass": "break_glass",
    "GET /v1/break-glass": "break_glass[]",
    "POST /v1/break-glass/{number}/review": "break_glass",
    "GET /v1/worklist": "worklist[]",
    "GET /v1/alerts": "alert[]",
    "GET /v1/alerts/{alert_id}": "alert",
    "POST /v1/alerts/{alert_id}/acknowledge": "alert",
    "GET /v1/patients/{patient_id}/incidents": "incident[]",
    "POST /v1/patients/{patient_id}/incidents/{alert_id}/acknowledge": "incident",
    "GET /v1/frames/{frame_id}": "frame",
    STREAM: "stream",
}
# Shown whole to whoever may ask: who that is, is said by the table of actions alone.
WHOLE: Final = {
    "GET /v1/patients/{patient_id}/accesses", "GET /v1/audit", "GET /v1/account/sessions",
    "DELETE /v1/account/sessions/{session_id}", "GET /v1/patients/{patient_id}/profile",
    "GET /v1/patients/{patient_id}/limits", "GET /v1/patients/{patient_id}/enrolments",
    "PUT /v1/patients/{patient_id}/enrolments/{key}", "GET /v1/limits", "PUT /v1/limits", "GET /v1/programmes",
    "GET /v1/programmes/{key}", "PUT /v1/programmes/{key}", "PUT /v1/programmes/{key}/state",
    "GET /v1/patients/{patient_id}/consents", "POST /v1/patients/{patient_id}/consents", "GET /v1/consent/documents",
    "POST /v1/consent/documents/{key}", "GET /v1/consent/basis", "PUT /v1/consent/basis",
    "GET /v1/patients/{patient_id}/export", "GET /v1/patients/{patient_id}/scores", "GET /v1/alert-budget",
}  # fmt: skip

# Of those, where only who sees changes may read who said something.
UNNAMED: Final = {"GET /v1/patients/{patient_id}/profile", "GET /v1/patients/{patient_id}/limits"}

# What succeeds where the matrix tries what is refused: the ids in the path, and the body.
KNOWN: Final[dict[str, tuple[dict[str, str], dict[str, Any] | None]]] = {
    "GET /v1/programmes/{key}": ({"key": "programme-own"}, None),
    "PUT /v1/programmes/{key}": ({"key": "programme-own"}, {"programme": HEART, "reason": "new ladder"}),
    "PUT /v1/limits": ({}, {"rules": {"fever": {"levels": [38, 39]}}, "reason": "winter"}),
    "PUT /v1/patients/{patient_id}/enrolments/{key}": (
        {"patient_id": "own", "key": "programme-own"}, {"state": "discharged", "reason": "moved away"}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(migrated: Settings) -> Iterator[World]:
    with made(migrated) as whole:
        whole.ours.connection.execute(
            "UPDATE programme SET state = 'active', document = %s WHERE organisation_id = %s AND key = 'programme-own'",
            [Jsonb(HEART), whole.ours.organisation],
        )
        for person in whole.people.values():
            whole.ours.token(person, kind="session")
        yield whole


@pytest.fixture(scope="module")
def schema(api: ServedApi, world: World) -> schemathesis.BaseSchema:
    """What the API says of itself, with ids that exist among those that are made up."""
    loaded = schemathesis.openapi.from_dict(api.app.openapi())

    def existing(ctx: Any, made_up: Any, known: Callable[[str, Subject], Any]) -> st.SearchStrategy[Any]:
        if ctx.operation.label not in EXERCISES:
            return st.just(made_up)
        there = [known(ctx.operation.label, world.subjects[whose]) for whose in ("own", "other")]
        return st.sampled_from([made_up, *there])

    @loaded.hooks.hook
    def flatmap_path_parameters(ctx: Any, path_parameters: Any) -> st.SearchStrategy[Any]:
        return existing(ctx, path_parameters, path_of)

    @loaded.hooks.hook
    def flatmap_query(ctx: Any, query: Any) -> st.SearchStrategy[Any]:
        return existing(ctx, query, lambda at, about: {**(query or {}), "patient": about.key, **query_of(at)})

    @loaded.hooks.hook
    def flatmap_body(ctx: Any, body: Any) -> st.SearchStrategy[Any]:
        return existing(ctx, body, lambda at, _: body if body_of(at) is None else body_of(at))

    return loaded


def path_of(address: str, about: Subject) -> dict[str, str]:
    named = EXERCISES[address].named
    return KNOWN[address][0] if address in KNOWN else named(about) if named else {}


def query_of(address: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in EXERCISES[address].query.removeprefix("?").split("&") if part)


def body_of(address: str) -> dict[str, Any] | None:
    return KNOWN[address][1] if address in KNOWN else EXERCISES[address].body


def test_every_address_says_what_it_shows(api: ServedApi) -> None:
    assert SHOWS.keys() | WHOLE == EXERCISES.keys()
    assert not SHOWS.keys() & WHOLE
    kinds = {kind.removesuffix("[]") for kind in SHOWS.values()} | set(PARTS.values())
    assert {kind for fields in FIELDS.values() for kind in fields} <= kinds
    for path, methods in api.app.openapi()["paths"].items():
        for method, operation in methods.items():
            success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            if method != "delete":
                for described in success["content"].values():
                    schema = described["schema"]
                    assert schema not in ({}, {"title": schema.get("title")}), f"{method} {path}"
            if path.startswith("/v1/"):
                assert "4XX" in operation["responses"], f"{method} {path}"


async def test_who_set_the_limits_is_there_to_be_read_by_who_sees_changes(api: ServedApi, world: World) -> None:
    answers = {}
    for role in ("clinician", "patient", "proxy"):
        async with api.client(world.token(role)) as client:
            answers[role] = (await client.get("/v1/patients/own/limits")).json()
            said = (await client.get("/v1/patients/own")).json()["limits_note"]
        assert ("this patient's own" in said, "by 1.5 % (set for you)" in said) == (
            role == "clinician",
            role != "clinician",
        )
    assert {role: names_somebody(answer) for role, answer in answers.items()} == {
        "clinician": True, "patient": False, "proxy": False,
    }  # fmt: skip
    drift = next(one for one in answers["patient"]["rules"] if one["rule"] == "spo2_drift")
    assert (drift["bound"], drift["origin"], drift["set"]) == (1.5, "patient", [])


@pytest.mark.parametrize("address", sorted(EXERCISES.keys() | PUBLIC))
async def test_no_request_breaks_what_the_api_says_of_itself(
    api: ServedApi, world: World, schema: schemathesis.BaseSchema, address: str
) -> None:
    tokens: dict[str, str] = {role: world.token(role) for role in ROLES}
    await asyncio.to_thread(Asking(api.url, tokens, schema, world, address).everything)


class Asking:
    """Sends requests of one address as every role, and looks at the answers."""

    def __init__(
        self, url: str, tokens: Mapping[str, str], schema: schemathesis.BaseSchema, world: World, address: str
    ) -> None:
        method, path = address.split(" ", 1)
        self._url, self._tokens, self._world, self._address = url, tokens, world, address
        self._operation = schema[path][method]
        self._exercise = EXERCISES.get(address)
        self._session = requests.Session()
        self._checks = CHECKS if address in PUBLIC else [not_a_server_error, *CHECKS]  # "not ready" is an answer

    def everything(self) -> None:
        """First what is known to succeed, then what is generated."""
        with self._session:
            if self._exercise is not None:
                self._known(self._exercise)
            for mode in GenerationMode:
                if mode is GenerationMode.POSITIVE or self._takes_anything():
                    self._generated(mode)

    def _known(self, exercise: Exercise) -> None:
        about, body = self._world.subjects["own"], body_of(self._address)
        for role in ROLES:
            case = self._operation.Case(
                path_parameters=path_of(self._address, about), query=query_of(self._address),
                body=NOT_SET if body is None else body, media_type=None if body is None else "application/json",
            )  # fmt: skip
            status = self._asked(case, role)
            if role == "clinician" and (exercise.own == 200 or self._address in KNOWN):
                allowed = PERMISSIONS[exercise.action][role] != "-"
                assert status == (200 if allowed else 403), self._address

    def _takes_anything(self) -> bool:
        return bool(self._operation.body or list(self._operation.iter_parameters()))

    def _generated(self, mode: GenerationMode) -> None:
        @settings(
            max_examples=MANY or FEW, derandomize=not MANY, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        )  # fmt: skip
        @given(case=self._operation.as_strategy(mode))
        def everybody_asks(case: Case[Any]) -> None:
            for role in ROLES:
                self._asked(case, role)

        everybody_asks()

    def _asked(self, case: Case[Any], role: str) -> int:
        headers = {"Authorization": f"Bearer {self._tokens[role]}"}
        if self._address == STREAM:
            return self._listened(case, role, headers)
        response = case.call(base_url=self._url, session=self._session, headers=headers)
        case.validate_response(response, checks=self._checks, headers=headers)
        if response.status_code == 200 and self._address in SHOWS:
            self._within(role, json.loads(response.content))
        if response.status_code == 200 and self._address in UNNAMED and not sees(role, "change"):
            assert not names_somebody(json.loads(response.content)), f"{self._address} as {role}"
        return int(response.status_code)

    def _listened(self, case: Case[Any], role: str, headers: dict[str, str]) -> int:
        """Look at a stream's beginning: it has no end."""
        asked = case.as_transport_kwargs(base_url=self._url, headers=headers)
        with self._session.request(**asked, stream=True, timeout=10) as answer:
            if answer.status_code != 200:
                case.validate_response(Response.from_any(answer), checks=self._checks, headers=headers)
                return answer.status_code
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines(chunk_size=1):
                if line.startswith(b"data:"):
                    self._within(role, json.loads(line[5:]))
                if case.query.get("since") != "0-0" or line.startswith(b"data:"):
                    break
            return 200

    def _within(self, role: str, document: Any) -> None:
        kind = SHOWS[self._address]
        for one in document["items"] if kind.endswith("[]") else [document]:
            assert beyond(role, kind.removesuffix("[]"), one) == set(), f"{self._address} as {role}"


def beyond(role: str, kind: str, document: Mapping[str, Any]) -> set[str]:
    """The fields of a document that the table of fields does not name for a role."""
    if role not in FIELDS:
        return set()
    allowed = FIELDS[role].get(kind, "")
    found = set() if allowed == "*" else set(document) - set(allowed.split())
    for name in PARTS.keys() & document.keys():
        parts = document[name] if isinstance(document[name], list) else [document[name]]
        found |= {
            f"{name}.{field}" for part in parts if isinstance(part, dict) for field in beyond(role, PARTS[name], part)
        }
    return found


def names_somebody(document: Any) -> bool:
    """Whether a document says anywhere in it by whom something was done."""
    if isinstance(document, list):
        return any(map(names_somebody, document))
    if not isinstance(document, dict):
        return False
    return bool(document.get("by")) or any(map(names_somebody, document.values()))


def test_a_field_beyond_the_role_would_be_seen() -> None:
    alert = {"id": "1", "evidence": {}, "patient": {"id": "p", "name": "n"}, "acknowledged": {"at": "t", "by": {}}}
    assert beyond("clinician", "alert", alert) == set()
    assert beyond("patient", "alert", alert) == {"evidence", "acknowledged.by"}
    assert beyond("data_specialist", "patient", {"name": "n"}) == {"name"}
    assert beyond("researcher", "patient", {"id": "p"}) == {"id"}
