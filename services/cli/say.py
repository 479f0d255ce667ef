"""What commands share: the admin connection, a refusal in one plain sentence, rows and answers as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from services.cli.refusal import refuse as refuse
from services.roles import ROLES, Role
from services.settings import Settings, SettingsError

if TYPE_CHECKING:
    import psycopg

ORGANISATION = typer.Option("demo", help="key of the organisation (the tenant)")
JSON = typer.Option(False, "--json", help="print JSON for scripts")


@contextmanager
def connected(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """One transaction as the admin role.

    Raises:
        SettingsError: no database is named.
    """
    import psycopg

    if not settings.postgres.host:
        msg = "no database: start the local stack with `keepwell up`, or set postgres.host"
        raise SettingsError(msg)
    try:
        with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
            yield connection
    except psycopg.OperationalError as error:
        refuse(str(error).strip())


def moment(option: str, text: str | None) -> datetime | None:
    """Return the instant an option names; end with one plain sentence where it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        refuse(f"{option} = {text!r} is no instant; write RFC 3339 with an offset, e.g. 2026-12-01T08:00Z")
    return moment.astimezone(UTC)


def known_role(text: str) -> Role:
    """Return the role an option or argument names; end with one plain sentence where there is none."""
    if text not in ROLES:
        refuse(f"role = {text!r} is not known; there are {', '.join(ROLES)}")
    return text


def told(document: dict[str, Any], as_json: bool) -> None:
    """Say what was done."""
    if as_json:
        print(json.dumps(document, default=str))  # noqa: T201 - one document on stdout, not wrapped
    else:
        Console(highlight=False, markup=False).print(
            " ".join(f"{k}={v}" for k, v in document.items() if v is not None), soft_wrap=True
        )


def rows(found: Iterable[dict[str, Any]], as_json: bool, nothing: str) -> None:
    """Say a list; ``nothing`` stands for an empty one."""
    rows = list(found)
    if as_json:
        print(json.dumps(rows, default=str))  # noqa: T201 - one document on stdout, not wrapped
        return
    if not rows:
        Console().print(nothing)
        return
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(highlight=False, markup=False).print(table)


def _shown(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
