"""What the ``keepwell dead`` commands share: a letter found or a refusal, and answers as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import psycopg

    from services.cli.dead_letters import Letter

MAX_LISTED: Final = 1000
JSON = typer.Option(False, "--json", help="print JSON for scripts")
TOPIC = typer.Argument(..., help="as `keepwell dead list` shows it, e.g. readings.v1")


def letter(connection: psycopg.Connection, topic: str, partition: int | None, offset: int | None) -> Letter:
    """Return the letter of a record, or refuse."""
    from services.cli import dead_letters

    if partition is None or offset is None:
        refuse("give TOPIC, PARTITION and OFFSET, or none of them")
    found = dead_letters.one(connection, topic, partition, offset)
    if found is None:
        refuse(f"no dead letter at {topic} {partition} {offset}; `keepwell dead list --all` shows what there is")
    return found


def refuse(text: str) -> NoReturn:
    """Say why not, and exit with 2."""
    Console(stderr=True).print(f"keepwell: {text}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def told(document: dict[str, Any], as_json: bool) -> None:
    """Say what was done."""
    if as_json:
        print(json.dumps(document, default=str))  # noqa: T201 - one document on stdout, not wrapped
    else:
        Console(highlight=False, markup=False).print(" ".join(f"{k}={v}" for k, v in document.items()), soft_wrap=True)


def rows(found: Iterable[dict[str, Any]], as_json: bool, none: str) -> None:
    """Say a list; ``none`` stands for an empty one."""
    rows = list(found)
    if as_json:
        print(json.dumps(rows, default=str))  # noqa: T201 - one document on stdout, not wrapped
        return
    if not rows:
        Console().print(none)
        return
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(highlight=False, markup=False).print(table)


def _shown(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
