"""Sessions: made at a sign-in, listed and ended by their person, over when idle or old."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from psycopg import AsyncConnection

from services.api.access import Access
from services.api.credentials import new_token, token_hash
from services.api.problems import Problem, not_found
from services.api.scope import Origin, Scope
from services.api.times import rfc3339

MAX_AGENT: Final = 200
KEPT: Final = timedelta(days=30)  # what ended stays this long, then its row goes


async def make(
    connection: AsyncConnection[Any], person_id: int, agent: str, at: datetime, lasts: timedelta, *,
    provider_session: str | None = None, id_token: bytes | None = None,
) -> str:  # fmt: skip
    """Return a new session's token, in a transaction that has the person's organisation set."""
    session = new_token()
    await connection.execute(
        "DELETE FROM person_token WHERE person_id = %s AND kind IN ('session', 'bearer') AND expires_at < %s",
        [person_id, at - KEPT],
    )
    await connection.execute(
        """INSERT INTO person_token (hash, person_id, kind, created_at, expires_at, seen_at, agent, provider_session,
                                     id_token)
           VALUES (%s, %s, 'session', %s, %s, %s, %s, %s, %s)""",
        [token_hash(session), person_id, at, at + lasts, at, agent[:MAX_AGENT], provider_session, id_token],
    )
    return session


async def listed(scope: Scope, idle: timedelta) -> list[dict[str, Any]]:
    """Return the person's open sessions, the last used first."""
    cursor = await scope.connection.execute(
        """SELECT id, created_at, coalesce(seen_at, created_at) AS seen, expires_at, agent FROM person_token
           WHERE person_id = %s AND kind = 'session' AND revoked_at IS NULL AND expires_at > %s
             AND coalesce(seen_at, created_at) > %s
           ORDER BY seen DESC, id DESC LIMIT 200""",
        [scope.person.id, scope.at, scope.at - idle],
    )
    return [
        {
            "id": str(session),
            "signed_in_at": rfc3339(created),
            "last_used_at": rfc3339(seen),
            "ends_at": rfc3339(expires),
            "browser": agent,
            "this_one": session == scope.token_id,
        }
        for session, created, seen, expires, agent in await cursor.fetchall()
    ]


async def id_token(access: Access, hashed: bytes) -> bytes | None:
    """Return the sealed ID token a session began with, None when it began here or has ended."""
    try:
        async with access.for_credential(hashed, "account.sign_out", Origin("", "", "")) as scope:
            cursor = await scope.connection.execute("SELECT id_token FROM person_token WHERE id = %s", [scope.token_id])
            row = await cursor.fetchone()
    except Problem:
        return None
    return bytes(row[0]) if row and row[0] is not None else None


async def end_one(scope: Scope, session: str) -> None:
    """End one of the person's sessions.

    Raises:
        Problem: they have no such open session.
    """
    known = session.isascii() and session.isdigit() and len(session) < 19
    cursor = await scope.connection.execute(
        """UPDATE person_token SET revoked_at = %s
           WHERE person_id = %s AND id = %s AND kind = 'session' AND revoked_at IS NULL""",
        [scope.at, scope.person.id, int(session) if known else 0],
    )
    if cursor.rowcount != 1:
        raise not_found(session, "open session of yours")
    scope.detail["session"] = session


async def end_all(connection: AsyncConnection[Any], person_id: int, at: datetime, *, keep: int = 0) -> int:
    """End every session of a person, but for the one to ``keep``; return how many."""
    cursor = await connection.execute(
        """UPDATE person_token SET revoked_at = %s
           WHERE person_id = %s AND id <> %s AND kind = 'session' AND revoked_at IS NULL AND expires_at > %s""",
        [at, person_id, keep, at],
    )
    return cursor.rowcount
