"""Who asks, and the one transaction in which it is answered.

Every request that touches the database opens :meth:`Access.scoped`. It finds the person, looks the action up in the
table of permissions, sets organisation, person and instant for row-level security and, on success, writes the audit
row, all in one transaction: what was read is never known without having been written down. Without them every policy
hides every row. What was refused or failed is rolled back, and then written down as that.

Sessions and tokens are judged by the host's clock, never by a time-lapse's: a login must not expire because
the simulated month did.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from starlette.requests import HTTPConnection

from ingest.clock import Clock, to_datetime
from services.api.credentials import is_jwt, is_use, new_token, presented, token_hash
from services.api.identity import holders, scopes
from services.api.identity.holders import Holder, TokenRefusedProblem
from services.api.problems import Code, Problem
from services.api.scope import (
    Origin,
    Person,
    Scope,
    check,
    enter,
    open_scope,
    purpose_of,
    set_organisation,
    write_audit,
)
from services.settings_sections import IdentitySettings
from services.store import audit

REFUSALS: Final = (401, 403, 404)  # hidden is refused too: nobody is told which; the rest failed

log = structlog.get_logger("keepwell.api.access")

Pool = AsyncConnectionPool[AsyncConnection[Any]]


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

    async def whose(self, connection: AsyncConnection[Any], claims: Mapping[str, Any]) -> Person | None:
        """Return who a subject is here, whether or not they are let in; None where nobody is."""


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
            Problem: nobody, or nobody any more, holds this credential, its scopes do not cover the action, or the role
                may not do this.
        """
        token, origin = presented(request), Origin.of(request)
        hashed = token_hash(token)
        try:
            claims = await self._subjects.verify(token) if self._subjects is not None and is_jwt(token) else None
        except TokenRefusedProblem as refused:
            async with self.pool.connection() as connection:
                await self._write_undone(connection, None, hashed, action, origin, refused, refused.claims)
            raise
        async with self.for_credential(hashed, action, origin, claims=claims, used=is_use(request)) as scope:
            yield scope

    @asynccontextmanager
    async def for_credential(
        self, hashed: bytes, action: str, origin: Origin, *, claims: Mapping[str, Any] | None = None,
        used: bool = False,
    ) -> AsyncIterator[Scope]:  # fmt: skip
        """Open the transaction for the holder of a hashed token; see :meth:`scoped`.

        ``claims`` are those of a provider's token that was verified; ``used`` whether its person did something.
        """
        at, scope = self.now(), None
        async with self.pool.connection() as connection:
            try:
                async with connection.transaction():
                    holder = await self._holder(connection, hashed, claims, at)
                    scope = await open_scope(connection, _of(holder), action, at, origin, holder.token_id)
                    scopes.check(holder.scopes, action)
                    check(scope)
                    if used:
                        await holders.touch(connection, holder, at)
                    yield scope
                    await write_audit(scope)
            except Exception as error:
                await self._write_undone(connection, scope, hashed, action, origin, error, claims or {})
                raise

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

    async def _write_undone(
        self, connection: AsyncConnection[Any], scope: Scope | None, hashed: bytes, action: str, origin: Origin,
        error: Exception, claims: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Write that somebody tried, in a transaction of its own: theirs was rolled back, and nothing of it was seen.

        Of a token that never was anybody's, and that no provider signed, there is nobody to name.
        """
        refused = isinstance(error, Problem) and error.status in REFUSALS
        at = self.now()
        try:
            async with connection.transaction():
                if scope is None:
                    tried = await self._tried(connection, hashed, claims, at) if refused else None
                    if tried is None:
                        return
                    scope = Scope(connection, tried, action, at, origin, purpose=purpose_of(tried.role))
                if isinstance(error, Problem):
                    scope.detail["code"] = str(error.code)
                await enter(scope)
                await audit.write_async(connection, [scope.entry("refused" if refused else "failed")])
        except psycopg.Error as unwritten:
            log.warning("audit_unwritten", action=action, error=str(unwritten).strip())

    async def _tried(
        self, connection: AsyncConnection[Any], hashed: bytes, claims: Mapping[str, Any], at: datetime
    ) -> Person | None:
        """Return whose a refused credential is or was, as far as anybody can be named."""
        was = await holders.whose(connection, hashed, at, self.idle)
        if was is not None:
            return _of(was)
        return await self._subjects.whose(connection, claims) if self._subjects is not None and claims else None

    @asynccontextmanager
    async def for_person(self, person: Person, action: str, at: datetime, origin: Origin) -> AsyncIterator[Scope]:
        """Open the transaction of somebody who is only just signing in; the audit row is written on success."""
        async with self.pool.connection() as connection, connection.transaction():
            scope = await open_scope(connection, person, action, at, origin)
            yield scope
            await write_audit(scope)

    @asynccontextmanager
    async def snapshot(self, scope: Scope) -> AsyncIterator[Scope]:
        """Open a transaction that changes nothing and sees one instant throughout, for the person of a scope whose
        audit row was written."""
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield await open_scope(connection, scope.person, scope.action, self.now(), scope.origin)

    @asynccontextmanager
    async def for_organisation(self, organisation_id: int) -> AsyncIterator[AsyncConnection[Any]]:
        """Open a transaction for one organisation's stream, which asks for whom and writes its own audit rows."""
        async with self.pool.connection() as connection, connection.transaction():
            await set_organisation(connection, organisation_id, self.now())
            yield connection

    async def exchange(self, link: str, origin: Origin) -> str | None:
        """Return a new session's token for a login link; None when the link no longer works."""
        session, at = new_token(), self.now()
        async with self.pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT exchange_login_link(%s, %s, %s, %s)",
                [token_hash(link), token_hash(session), at, at + self.session],
            )
            await cursor.fetchone()
            holder = await holders.find(connection, token_hash(session), at, self.idle)
            if holder is None:
                return None
            scope = await open_scope(connection, _of(holder), "account.sign_in", at, origin, holder.token_id)
            scope.detail["by"] = "link"
            await write_audit(scope)
        return session

    async def end(self, hashed: bytes) -> None:
        """Revoke a session; unknown ones are nothing to do."""
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT end_session(%s, %s)", [hashed, self.now()])

    async def still_valid(self, connection: AsyncConnection[Any], hashes: list[bytes]) -> dict[bytes, str]:
        """Return which of these hashed tokens still open anything, with the role of who holds each."""
        return await holders.open_among(connection, hashes, self.now(), self.idle)


def _of(holder: Holder) -> Person:
    return Person(holder.person_id, holder.organisation_id, holder.person_key, holder.name, holder.role)
