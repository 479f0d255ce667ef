"""Guessing is slow: failed tries are counted by account and by address, and after some each next one must wait.

A try is counted before it is judged, in a transaction of its own, so that many at once are many; a sign-in that
succeeds takes its own back. What was typed is counted whether or not there is such an account.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

from psycopg import AsyncConnection

from services.api.problems import Code, Problem

FORGOTTEN: Final = timedelta(minutes=15)  # after this long without a try; also the longest wait
SWEPT: Final = 100  # forgotten rows one try removes, so that they go faster than they can come
FIRST_WAIT: Final = timedelta(seconds=30)
ACCOUNT_TRIES: Final = 5
ADDRESS_TRIES: Final = 30  # many people may share an address


@dataclass(frozen=True)
class Subject:
    """What tries are counted of."""

    hashed: bytes
    free: int


def subjects(login: str, address: str) -> list[Subject]:
    """Return what one try counts for, always in one order, so that two tries never wait for each other."""
    named = [("account", login.casefold(), ACCOUNT_TRIES), ("address", address, ADDRESS_TRIES)]
    return [Subject(hashlib.sha256(f"{kind} {what}".encode()).digest(), free) for kind, what, free in named]


def wait_after(tries: int, free: int) -> timedelta:
    """Return how long after the last of ``tries`` the next may come: nothing, then twice as long each time."""
    return min(FORGOTTEN, FIRST_WAIT * 2 ** min(tries - free, 16)) if tries >= free else timedelta(0)


async def take(connection: AsyncConnection[Any], of: list[Subject], at: datetime) -> None:
    """Count a try, in the caller's own transaction.

    Raises:
        Problem: it comes too soon; it is then not counted.
    """
    await connection.execute(
        """DELETE FROM sign_in_try WHERE subject IN (
               SELECT subject FROM sign_in_try WHERE last_at < %s LIMIT %s FOR UPDATE SKIP LOCKED)""",
        [at - FORGOTTEN, SWEPT],
    )
    for subject in of:
        cursor = await connection.execute(
            """INSERT INTO sign_in_try AS t (subject, tries, last_at) VALUES (%s, 0, %s)
               ON CONFLICT (subject) DO UPDATE SET tries = t.tries RETURNING tries, last_at""",
            [subject.hashed, at],
        )
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - inserted or updated
        left = row[1] + wait_after(row[0], subject.free) - at
        if row[0] and left > timedelta(0):
            seconds = ceil(left.total_seconds())
            raise Problem(
                Code.TOO_MANY_TRIES, f"wait {_words(seconds)}, then try again; each failed try makes it longer, "
                f"up to {int(FORGOTTEN.total_seconds() // 60)} min", retry_after_s=seconds,
            )  # fmt: skip
        await connection.execute(
            "UPDATE sign_in_try SET tries = tries + 1, last_at = %s WHERE subject = %s", [at, subject.hashed]
        )


async def forgive(connection: AsyncConnection[Any], of: list[Subject]) -> None:
    """Take back what led to a success: all of the account's, and one of the address's."""
    account, address = of
    await connection.execute("DELETE FROM sign_in_try WHERE subject = %s", [account.hashed])
    await connection.execute(
        "UPDATE sign_in_try SET tries = greatest(tries - 1, 0) WHERE subject = %s", [address.hashed]
    )


def _words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{ceil(seconds / 60)} min"
