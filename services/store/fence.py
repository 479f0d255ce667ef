"""Position and fence: who owns a partition, and how far its effects go. Both live beside the effects."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import psycopg


class FencedError(RuntimeError):
    """Another process owns these partitions now; this one must stop and write nothing."""


async def take_over(
    connection: psycopg.AsyncConnection, partitions: Iterable[tuple[str, int]], owner: str, at: datetime
) -> dict[tuple[str, int], tuple[int, int]]:
    """Raise the epoch of each (topic, partition), log it, and return (next offset, epoch); its own transaction."""
    taken = {}
    async with connection.transaction():
        for topic, partition in sorted(partitions):
            cursor = await connection.execute(
                """INSERT INTO partition_position AS p (topic, partition, next_offset, epoch) VALUES (%s, %s, 0, 1)
                   ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1
                   RETURNING next_offset, epoch""",
                [topic, partition],
            )
            row = await cursor.fetchone()
            assert row is not None  # noqa: S101 - RETURNING of an upsert
            taken[topic, partition] = (row[0], row[1])
            await connection.execute(
                """INSERT INTO partition_owner_log (topic, partition, epoch, owner, taken_at)
                   VALUES (%s, %s, %s, %s, %s)""",
                [topic, partition, row[1], owner, at],
            )
    return taken


async def check(connection: psycopg.AsyncConnection, epochs: dict[tuple[str, int], int]) -> None:
    """Hold the fence for this transaction.

    Raises:
        FencedError: a partition's epoch is no longer the one given.
    """
    keys = sorted(epochs)
    cursor = await connection.execute(
        """SELECT 1 FROM partition_position p
           JOIN unnest(%s::text[], %s::int[], %s::bigint[]) AS mine (topic, partition, epoch)
           USING (topic, partition, epoch)
           ORDER BY topic, partition FOR SHARE OF p""",
        [[topic for topic, _ in keys], [number for _, number in keys], [epochs[key] for key in keys]],
    )
    if len(await cursor.fetchall()) != len(keys):
        msg = f"partitions are owned by a newer process; stopping without writing: {keys}"
        raise FencedError(msg)


async def move(connection: psycopg.AsyncConnection, positions: dict[tuple[str, int], int]) -> None:
    """Set the next offsets, inside the transaction that holds the effects."""
    for (topic, partition), offset in sorted(positions.items()):
        await connection.execute(
            "UPDATE partition_position SET next_offset = %s WHERE topic = %s AND partition = %s",
            [offset, topic, partition],
        )
