"""Who holds a credential, and whether it still opens anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg import AsyncConnection

from services.api.problems import Code, Problem

USABLE_KINDS: Final = ("api", "session", "service", "bearer")  # links and invitations are exchanged, never used
SEEN_EVERY: Final = timedelta(seconds=30)  # a session's last use is written no more often than this


class TokenRefusedProblem(Problem):
    """A provider's token is refused; ``claims`` is what the provider did sign, to write down who tried."""

    def __init__(self, detail: str, claims: Mapping[str, Any]) -> None:
        super().__init__(Code.UNAUTHENTICATED, detail)
        self.claims = claims


@dataclass(frozen=True, slots=True)
class Holder:
    """The person behind a credential."""

    person_id: int
    organisation_id: int
    person_key: str
    name: str
    role: str
    kind: str
    token_id: int
    scopes: list[str] | None
    seen_at: datetime | None


async def find(connection: AsyncConnection[Any], hashed: bytes, at: datetime, idle: timedelta) -> Holder | None:
    """Return who holds a credential, None when it is not known.

    Raises:
        Problem: it opened something once and does not any more; the text says why.
    """
    row = await _row(connection, hashed, at, idle)
    if row is None or row[5] not in USABLE_KINDS:
        return None
    if row[9] != "open":
        raise ended(row[9], row[5], idle)
    return Holder(*row[:9])


async def whose(connection: AsyncConnection[Any], hashed: bytes, at: datetime, idle: timedelta) -> Holder | None:
    """Return whose a credential is or was, whether it opens anything or not: to write down who was refused."""
    row = await _row(connection, hashed, at, idle)
    return Holder(*row[:9]) if row else None


async def _row(
    connection: AsyncConnection[Any], hashed: bytes, at: datetime, idle: timedelta
) -> tuple[Any, ...] | None:
    cursor = await connection.execute("SELECT * FROM holder_of_token(%s, %s, %s)", [hashed, at, idle])
    return await cursor.fetchone()


def ended(state: str, kind: str, idle: timedelta) -> Problem:
    """Return the problem of a credential that does not work any more."""
    what = "the session" if kind == "session" else "the token"
    details = {
        "idle": f"you were signed out after {int(idle.total_seconds() // 60)} minutes without use; sign in again",
        "expired": f"{what} has come to its end; sign in again",
        "ended": f"{what} was ended; sign in again",
    }
    return Problem(Code.UNAUTHENTICATED, details[state], ended=state)


async def touch(connection: AsyncConnection[Any], holder: Holder, at: datetime) -> None:
    """Note that a session's person used it."""
    if holder.kind == "session" and (holder.seen_at is None or at - holder.seen_at > SEEN_EVERY):
        await connection.execute("UPDATE person_token SET seen_at = %s WHERE id = %s", [at, holder.token_id])


async def open_among(
    connection: AsyncConnection[Any], hashes: list[bytes], at: datetime, idle: timedelta
) -> dict[bytes, str]:
    """Return which of these credentials still open anything, with the role of who holds each."""
    cursor = await connection.execute(
        """SELECT h, t.role FROM unnest(%s::bytea[]) AS h CROSS JOIN LATERAL holder_of_token(h, %s, %s) AS t
           WHERE t.state = 'open' AND t.kind = ANY(%s)""",
        [hashes, at, idle, list(USABLE_KINDS)],
    )
    return {bytes(row[0]): row[1] for row in await cursor.fetchall()}
