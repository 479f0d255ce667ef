"""Rules that need the database, written once as steps that yield statements; two drivers run them.

The API's connection is asynchronous, the command line's is not. A step is (statement, values); its rows come back.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

Outcome = TypeVar("Outcome")
Rows = list[tuple[Any, ...]]
Steps = Generator[tuple[str, list[Any]], Rows, Outcome]


def run(connection: psycopg.Connection[Any], steps: Steps[Outcome]) -> Outcome:
    """Run steps in the caller's transaction and return what they return."""
    try:
        statement = next(steps)
        while True:
            cursor = connection.execute(statement[0].encode(), statement[1])
            statement = steps.send(cursor.fetchall() if cursor.description else [])
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome


async def run_async(connection: psycopg.AsyncConnection[Any], steps: Steps[Outcome]) -> Outcome:
    """Run steps in the caller's transaction; see `run`."""
    try:
        statement = next(steps)
        while True:
            cursor = await connection.execute(statement[0].encode(), statement[1])
            statement = steps.send(await cursor.fetchall() if cursor.description else [])
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome
