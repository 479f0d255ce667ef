"""Who asks, and the one transaction in which it is answered.

Every request that touches the database opens :meth:`Access.scoped`. It finds the person, sets the
organisation for row-level security and, on success, writes the audit row, all in one transaction: what was
read is never known without having been written down. Without an organisation every policy hides every row.

Sessions and tokens are judged by the host's clock, never by a time-lapse's: a login must not expire because
the simulated month did.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from starlette.requests import HTTPConnection

from ingest.clock import Clock, to_datetime
from services.api.identity import holders, scopes
from services.api.identity.holders import Holder
from services.api.problems import Code, Problem
from services.settings import IdentitySettings

COOKIE: Final = "keepwell_session"
SECURE_COOKIE: Final = "__Host-keepwell_session"
MAX_TOKEN: Final = 200
MAX_JWT: Final = 8192
AUDITED_PATIENTS: Final = 500  # the longest list of patients one audit row names

Pool = AsyncConnectionPool[AsyncConnection[Any]]


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks."""

    id: int
    organisation_id: int
    key: str
    name: str
    role: str


@dataclass(slots=True)
class Scope:
    """One transaction on behalf of one person; everything read through it is one organisation's."""

    connection: AsyncConnection[Any]
    person: Person
    action: str
    at: datetime
    token_id: int = 0
    patient_id: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def saw(self, patient_ids: list[int]) -> None:
        """Name the patients a list shows, for the audit row."""
        self.detail["patient_ids"] = patient_ids[:AUDITED_PATIENTS]
        self.detail["patients"] = len(patient_ids)


def new_token() -> str:
    """Return a fresh 256-bit token."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """Return what is stored of a token. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def cookie_name(request: HTTPConnection) -> str:
    """Return the session cookie's name: with TLS one that only this host, over TLS, can have set."""
    return SECURE_COOKIE if request.url.scheme in ("https", "wss") else COOKIE


def presented(request: HTTPConnection) -> str:
    """Return the request's bearer token or session cookie as it is.

    Raises:
        Problem: there is neither.
    """
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
    else:
        token = request.cookies.get(cookie_name(request), "")
    if not token or len(token) > (MAX_JWT if is_jwt(token) else MAX_TOKEN):
        raise Problem(Code.UNAUTHENTICATED, "send `Authorization: Bearer TOKEN`, or sign in")
    return token


def is_jwt(token: str) -> bool:
    """Whether a token is a provider's: ours have no dots."""
    return token.count(".") == 2


def credential(request: HTTPConnection) -> bytes:
    """Return the hash of the request's bearer token or session cookie.

    Raises:
        Problem: there is neither.
    """
    return token_hash(presented(request))


def is_use(request: HTTPConnection) -> bool:
    """Whether a person did something: opened a page or pressed a button. What a page fetches by itself is no use,
    or a screen left alone would never be signed out."""
    if request.scope.get("method") not in ("GET", "HEAD"):
        return True
    return request.headers.get("sec-fetch-mode", "navigate") == "navigate" and "hx-request" not in request.headers


class Subjects(Protocol):
    """Finds the people behind a provider's access tokens."""

    async def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of an access token that is genuine, for us and in time.

        Raises:
            Problem: it is not.
        """

    async def register(
        self, connection: AsyncConnection[Any], hashed: bytes, claims: Mapping[str, Any], at: datetime
    ) -> None:
        """Store that the token with this hash is that person's, until it expires.

        Raises:
            Problem: nobody here is this subject.
        """


class Access:
    """Opens scopes; made once for each app. ``subjects`` speaks for a provider, where there is one."""

    def __init__(
        self, pool: Pool, credential_clock: Clock, settings: IdentitySettings, subjects: Subjects | None = None
    ) -> None:
        self.pool = pool
        self.idle = timedelta(minutes=settings.idle_minutes)
        self.session = timedelta(hours=settings.session_hours)
        self._clock = credential_clock
        self._subjects = subjects

    def now(self) -> datetime:
        """Return the instant credentials are judged at."""
        return to_datetime(self._clock.now_ms())

    @asynccontextmanager
    async def scoped(self, request: HTTPConnection, action: str) -> AsyncIterator[Scope]:
        """Open the transaction of a request for whoever sent it; the audit row is written when it succeeds.

        Raises:
            Problem: nobody, or nobody any more, holds this credential, or its scopes do not cover the action.
        """
        token = presented(request)
        claims = await self._subjects.verify(token) if self._subjects is not None and is_jwt(token) else None
        async with self.for_credential(token_hash(token), action, claims=claims, used=is_use(request)) as scope:
            yield scope

    @asynccontextmanager
    async def for_credential(
        self, hashed: bytes, action: str, *, claims: Mapping[str, Any] | None = None, used: bool = False
    ) -> AsyncIterator[Scope]:
        """Open the transaction for the holder of a hashed token; see :meth:`scoped`.

        ``claims`` are those of a provider's token that was verified; ``used`` whether its person did something.
        """
        at = self.now()
        async with self.pool.connection() as connection, connection.transaction():
            holder = await self._holder(connection, hashed, claims, at)
            person = Person(holder.person_id, holder.organisation_id, holder.person_key, holder.name, holder.role)
            scope = await open_scope(connection, person, action, at, holder.token_id)
            scopes.check(holder.scopes, action)
            if used:
                await holders.touch(connection, holder, at)
            yield scope
            await write_audit(scope)

    async def _holder(
        self, connection: AsyncConnection[Any], hashed: bytes, claims: Mapping[str, Any] | None, at: datetime
    ) -> Holder:
        holder = await holders.find(connection, hashed, at, self.idle)
        if holder is None and claims is not None and self._subjects is not None:
            await self._subjects.register(connection, hashed, claims, at)
            holder = await holders.find(connection, hashed, at, self.idle)
        if holder is None:
            raise Problem(Code.UNAUTHENTICATED, "the token is unknown, expired or revoked; sign in again")
        return holder

    @asynccontextmanager
    async def for_person(self, person: Person, action: str, at: datetime) -> AsyncIterator[Scope]:
        """Open the transaction of somebody who is only just signing in; the audit row is written on success."""
        async with self.pool.connection() as connection, connection.transaction():
            scope = await open_scope(connection, person, action, at)
            yield scope
            await write_audit(scope)

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
                [token_hash(link), token_hash(session), at, at + self.session],
            )
            row = await cursor.fetchone()
        return session if row and row[0] is not None else None

    async def end(self, hashed: bytes) -> None:
        """Revoke a session; unknown ones are nothing to do."""
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT end_session(%s, %s)", [hashed, self.now()])

    async def still_valid(self, connection: AsyncConnection[Any], hashes: list[bytes]) -> set[bytes]:
        """Return which of these hashed tokens still open anything."""
        return await holders.open_among(connection, hashes, self.now(), self.idle)


async def open_scope(
    connection: AsyncConnection[Any], person: Person, action: str, at: datetime, token_id: int = 0
) -> Scope:
    """Set whose rows a transaction may see, and return its scope."""
    await connection.execute("SELECT set_config('keepwell.organisation', %s, true)", [str(person.organisation_id)])
    return Scope(connection, person, action, at, token_id)


async def write_audit(scope: Scope) -> None:
    """Write who did what to whose data."""
    await scope.connection.execute(
        """INSERT INTO access_audit (at, organisation_id, person_id, action, patient_id, detail)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        [
            scope.at, scope.person.organisation_id, scope.person.id, scope.action, scope.patient_id,
            Jsonb(scope.detail),
        ],
    )  # fmt: skip
