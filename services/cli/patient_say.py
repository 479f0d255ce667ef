"""What the ``keepwell patient`` commands share: the connection, finding the patient, saying it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from services.settings import Settings, SettingsError

if TYPE_CHECKING:
    import psycopg

ORGANISATION = typer.Option("demo", help="key of the organisation (the tenant)")
JSON = typer.Option(False, "--json", help="print JSON for scripts")


@contextmanager
def connected(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """One transaction as the admin role."""
    import psycopg

    if not settings.postgres.host:
        msg = "no database: start the local stack with `keepwell up`, or set postgres.host"
        raise SettingsError(msg)
    try:
        with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
            yield connection
    except psycopg.OperationalError as error:
        refuse(str(error).strip())


def found(connection: psycopg.Connection[Any], organisation: str, key: str) -> int:
    """Return the id of a patient who is enrolled and not erased; else end with one plain sentence."""
    row = connection.execute(
        """SELECT p.id FROM patient p JOIN organisation o ON o.id = p.organisation_id
           WHERE o.key = %s AND p.key = %s AND p.erased_at IS NULL""",
        [organisation, key],
    ).fetchone()
    if row is None:
        refuse(
            f"there is no patient {key} in {organisation}: never enrolled, or erased already "
            "(`keepwell patient erased` lists the proofs); nothing was changed"
        )
    return int(row[0])


def refuse(sentence: str) -> NoReturn:
    """End the command with a plain sentence and exit code 2."""
    Console(stderr=True).print(f"keepwell: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def say(rows: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    """Print rows as JSON or as a table."""
    if as_json:
        Console().print_json(json.dumps(rows, default=str))
        return
    if not rows:
        Console().print(nothing)
        return
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table, markup=False)
