"""Who asks, from where, and the one transaction in which they are answered: see :mod:`services.api.access`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection
from starlette.requests import HTTPConnection

from services.api import permissions
from services.api.problems import Code, Problem
from services.consent import PURPOSE_OF
from services.store import audit
from services.store.audit import Entry, Outcome

MAX_AGENT: Final = 120  # characters of a program's own name that are kept


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks."""

    id: int
    organisation_id: int
    key: str
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from. Behind a proxy the address is what that proxy says (setting api.trusted_proxies)."""

    address: str
    agent: str
    request_id: str

    @classmethod
    def of(cls, request: HTTPConnection) -> Origin:
        """Return a request's origin."""
        agent = request.headers.get("user-agent", "")[:MAX_AGENT].replace("\0", "")
        return cls(request.client.host if request.client else "", agent, getattr(request.state, "request_id", ""))


@dataclass(slots=True)
class Scope:
    """One transaction on behalf of one person; nothing is read through it but what that person may see.

    ``purpose`` and ``reason`` go into the audit row; the reason must hold no finding, for the row outlives an erasure.
    """

    connection: AsyncConnection[Any]
    person: Person
    action: str
    at: datetime
    origin: Origin
    token_id: int = 0
    patient_id: int | None = None
    purpose: str = audit.CARE
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def may(self, action: str) -> bool:
        """Whether this person's role may do another action."""
        return permissions.reach(action, self.person.role) != "-"

    def sees(self, kind: str) -> bool:
        """Whether this person's role sees anything of a kind of document."""
        return permissions.sees(self.person.role, kind)

    def show(self, kind: str, document: dict[str, Any]) -> dict[str, Any]:
        """Return a document with the fields this person's role sees."""
        return permissions.shown(self.person.role, kind, document)

    @property
    def plain(self) -> bool:
        """Whether this person reads the sentences for patients."""
        return self.person.role in permissions.PLAIN_WORDS

    def saw(self, patient_ids: list[int]) -> None:
        """Name the patients a list shows, for the audit row."""
        self.detail.update(audit.patients(patient_ids))

    def entry(self, outcome: Outcome = "allowed") -> Entry:
        """Return the audit row as it stands."""
        return Entry(
            self.at, self.person.organisation_id, "person", self.action, self.person.id, "", self.person.role,
            self.patient_id, self.purpose, self.reason, self.origin.address, self.origin.agent, outcome,
            self.origin.request_id, self.detail,
        )  # fmt: skip


_SET: Final = """SELECT set_config('keepwell.organisation', %s, true), set_config('keepwell.person', %s, true),
                        set_config('keepwell.at', %s, true)"""


async def set_organisation(connection: AsyncConnection[Any], organisation_id: int, at: datetime) -> None:
    """Tell row-level security for which organisation, and for nobody in it, a transaction is."""
    await connection.execute(_SET, [str(organisation_id), "", at.isoformat()])


async def open_scope(
    connection: AsyncConnection[Any], person: Person, action: str, at: datetime, origin: Origin, token_id: int = 0
) -> Scope:
    """Tell row-level security for whom, and at which instant, a transaction is; return its scope."""
    scope = Scope(connection, person, action, at, origin, token_id, purpose=purpose_of(person.role))
    await enter(scope)
    return scope


def purpose_of(role: str) -> str:
    """Return what a role sees patients for, as the audit says it; a patient's own looks count as care."""
    return PURPOSE_OF.get(role, audit.CARE)


async def enter(scope: Scope) -> None:
    """Tell row-level security for whom, and at which instant, the transaction of a scope is."""
    person = scope.person
    await scope.connection.execute(_SET, [str(person.organisation_id), str(person.id), scope.at.isoformat()])


def check(scope: Scope) -> None:
    """Refuse what the person's role may not do.

    Raises:
        Problem: it may not.
    """
    if not scope.may(scope.action):
        roles = permissions.who_may(scope.action)
        allowed = f"the roles that may: {', '.join(roles)}" if roles else "nobody may"
        detail = f"{scope.action} is not for the role {scope.person.role}; {allowed}"
        raise Problem(Code.ROLE_NOT_ALLOWED, detail, role=scope.person.role)


async def write_audit(scope: Scope) -> None:
    """Write who did what to whose data."""
    await audit.write_async(scope.connection, [scope.entry()])
