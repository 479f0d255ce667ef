"""Who asks, and the one transaction in which it is answered.

Every request that touches the database opens :meth:`Access.scoped`. It finds the person, sets the
organisation for row-level security and, on success, writes the audit row, all in one transaction: what was
read is never known without having been written down. Without an organisation every policy hides every row.
What was refused or failed is rolled back, and then written down as that.

Sessions and tokens are judged by the host's clock, never by a time-lapse's: a login must not expire because
the simulated month did.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from starlette.requests import HTTPConnection

from ingest.clock import Clock, to_datetime
from services.api.problems import Code, Problem
from services.store import audit
from services.store.audit import Entry, Outcome

SESSION: Final = timedelta(hours=12)
COOKIE: Final = "keepwell_session"
SECURE_COOKIE: Final = "__Host-keepwell_session"
USABLE_KINDS: Final = ("api", "session")  # a login link is exchanged, never used as a credential
MAX_TOKEN: Final = 200
MAX_AGENT: Final = 120  # characters of a program's own name that are kept
REFUSALS: Final = (Code.ROLE_NOT_ALLOWED, Code.NOT_FOUND)  # somebody may not do or see this; the rest failed

log = structlog.get_logger("keepwell.api.access")

Pool = AsyncConnectionPool[AsyncConnection[Any]]


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
    """One transaction on behalf of one person; everything read through it is one organisation's.

    ``purpose`` and ``reason`` go into the audit row; the reason must hold no finding, for the row outlives an erasure.
    """

    connection: AsyncConnection[Any]
    person: Person
    action: str
    at: datetime
    origin: Origin
    patient_id: int | None = None
    purpose: str = audit.CARE
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

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


def new_token() -> str:
    """Return a fresh 256-bit token."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """Return what is stored of a token. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def cookie_name(request: HTTPConnection) -> str:
    """Return the session cookie's name: with TLS one that only this host, over TLS, can have set."""
    return SECURE_COOKIE if request.url.scheme in ("https", "wss") else COOKIE


def credential(request: HTTPConnection) -> bytes:
    """Return the hash of the request's bearer token or session cookie.

    Raises:
        Problem: there is neither.
    """
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
    else:
        token = request.cookies.get(cookie_name(request), "")
    if not token or len(token) > MAX_TOKEN:
        raise Problem(Code.UNAUTHENTICATED, "send `Authorization: Bearer TOKEN`, or open a login link")
    return token_hash(token)


class Access:
    """Opens scopes; made once for each app."""

    def __init__(self, pool: Pool, credential_clock: Clock) -> None:
        self.pool = pool
        self._clock = credential_clock

    def now(self) -> datetime:
        """Return the instant credentials are judged at."""
        return to_datetime(self._clock.now_ms())

    @asynccontextmanager
    async def scoped(self, request: HTTPConnection, action: str) -> AsyncIterator[Scope]:
        """Open the transaction of a request for whoever sent it; the audit row is written when it succeeds.

        Raises:
            Problem: nobody, or nobody any more, holds this credential.
        """
        async with self.for_credential(credential(request), action, Origin.of(request)) as scope:
            yield scope

    @asynccontextmanager
    async def for_credential(self, hashed: bytes, action: str, origin: Origin) -> AsyncIterator[Scope]:
        """Open the transaction for the holder of a hashed token; see :meth:`scoped`."""
        at = self.now()
        scope = None
        async with self.pool.connection() as connection:
            try:
                async with connection.transaction():
                    person = await _person(connection, hashed, at)
                    scope = Scope(connection, person, action, at, origin)
                    yield scope
                    await write_audit(scope)
            except Exception as error:
                if scope is not None:
                    await _write_undone(scope, error)
                raise

    @asynccontextmanager
    async def for_organisation(self, organisation_id: int) -> AsyncIterator[AsyncConnection[Any]]:
        """Open a transaction for one organisation's stream, which writes its own audit rows."""
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT set_config('keepwell.organisation', %s, true)", [str(organisation_id)])
            yield connection

    async def exchange(self, link: str) -> str | None:
        """Return a new session's token for a login link; None when the link no longer works."""
        session, at = new_token(), self.now()
        async with self.pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT exchange_login_link(%s, %s, %s, %s)",
                [token_hash(link), token_hash(session), at, at + SESSION],
            )
            row = await cursor.fetchone()
        return session if row and row[0] is not None else None

    async def end(self, hashed: bytes) -> None:
        """Revoke a session; unknown ones are nothing to do."""
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT end_session(%s, %s)", [hashed, self.now()])

    async def still_valid(self, connection: AsyncConnection[Any], hashes: list[bytes]) -> set[bytes]:
        """Return which of these hashed tokens still open anything."""
        cursor = await connection.execute(
            """SELECT h FROM unnest(%s::bytea[]) AS h
               WHERE EXISTS (SELECT 1 FROM person_of_token(h, %s) AS p WHERE p.kind = ANY(%s))""",
            [hashes, self.now(), list(USABLE_KINDS)],
        )
        return {bytes(row[0]) for row in await cursor.fetchall()}


async def _person(connection: AsyncConnection[Any], hashed: bytes, at: datetime) -> Person:
    cursor = await connection.execute(
        """SELECT p.person_id, p.organisation_id, p.person_key, p.name, p.role,
                  set_config('keepwell.organisation', p.organisation_id::text, true)
           FROM person_of_token(%s, %s) AS p WHERE p.kind = ANY(%s)""",
        [hashed, at, list(USABLE_KINDS)],
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem(Code.UNAUTHENTICATED, "the token is unknown, expired or revoked; sign in again")
    return Person(*row[:5])


async def write_audit(scope: Scope) -> None:
    """Write who did what to whose data."""
    await audit.write_async(scope.connection, [scope.entry()])


async def _write_undone(scope: Scope, error: Exception) -> None:
    """Write that somebody tried, in a transaction of its own: theirs was rolled back, and nothing of it was seen."""
    if isinstance(error, Problem):
        scope.detail["code"] = str(error.code)
    refused = isinstance(error, Problem) and error.code in REFUSALS
    try:
        async with scope.connection.transaction():
            await scope.connection.execute(
                "SELECT set_config('keepwell.organisation', %s, true)", [str(scope.person.organisation_id)]
            )
            await audit.write_async(scope.connection, [scope.entry("refused" if refused else "failed")])
    except psycopg.Error as unwritten:
        log.warning("audit_unwritten", action=scope.action, error=str(unwritten).strip())
