"""Small helpers to read rows as dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import dict_row

Connection = AsyncConnection[Any]
Row = dict[str, Any]
Parameters = Sequence[Any] | Mapping[str, Any]


async def every(
    connection: Connection, query: LiteralString, parameters: Parameters = (), *, prepare: bool | None = None
) -> list[Row]:
    """Return all rows; ``prepare`` False plans it anew each time, by its parameters."""
    cursor = await connection.cursor(row_factory=dict_row).execute(query, parameters, prepare=prepare)
    return await cursor.fetchall()


async def first(connection: Connection, query: LiteralString, parameters: Parameters = ()) -> Row | None:
    """Return the first row, None without one."""
    cursor = await connection.cursor(row_factory=dict_row).execute(query, parameters)
    return await cursor.fetchone()
