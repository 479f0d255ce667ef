"""What the ``keepwell dead`` commands share: which letter is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from services.cli import say

if TYPE_CHECKING:
    import psycopg

    from services.cli.dead_letters import Letter

MAX_LISTED: Final = 1000
TOPIC = typer.Argument(..., help="as `keepwell dead list` shows it, e.g. readings.v1")


def find_letter(connection: psycopg.Connection, topic: str, partition: int | None, offset: int | None) -> Letter:
    """Return the letter of a record, or refuse."""
    from services.cli import dead_letters

    if partition is None or offset is None:
        say.refuse("give TOPIC, PARTITION and OFFSET, or none of them")
    found = dead_letters.one(connection, topic, partition, offset)
    if found is None:
        say.refuse(f"no dead letter at {topic} {partition} {offset}; `keepwell dead list --all` shows what there is")
    return found
