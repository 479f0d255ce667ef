"""``keepwell audit``: who did what to whose data, and whether anybody changed the record of it since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from services.cli import say
from services.cli.audited import noted, noted_of
from services.cli.say import JSON, ORGANISATION, connected, moment, refuse
from services.settings import load

if TYPE_CHECKING:
    import psycopg

    from services.store.audit_verify import Verified
    from services.store.checkpoints import Checkpoint

BROKEN: Final = 1
MAX_FOUND: Final = 10_000
HELP: Final = """Search the record of who did what to whose data, and check that nobody changed it.

    keepwell audit search --patient p20 --from 2026-11-01T00:00Z
    keepwell audit search --person nurse --action trend.read
    keepwell audit verify                               names the first row that is not as it was sealed
    keepwell audit checkpoint /media/usb/audit.jsonl    keep where the chain stands, out of this machine's reach
    keepwell audit verify --checkpoint /media/usb/audit.jsonl

What is written, and what a chain does not prove: docs/audit.md.
"""


def register(app: typer.Typer) -> None:
    """Add the ``audit`` commands."""
    audit = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(audit, name="audit")
    for command in (search, verify, checkpoint):
        audit.command(command.__name__)(command)


def search(
    patient: str = typer.Option(None, help="key of a patient; erased:17 for one who was erased"),
    person: str = typer.Option(None, help="key of a person, e.g. nurse"),
    action: str = typer.Option(None, help="what was done, e.g. trend.read"),
    start: str = typer.Option(None, "--from", help="from when, RFC 3339 with an offset"),
    to: str = typer.Option(None, "--to", help="until when"),
    limit: int = typer.Option(100, min=1, max=MAX_FOUND),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """List what was done, the newest first: in one organisation, and what concerns the whole installation."""
    first, last = moment("--from", start), moment("--to", to)
    with connected(load().settings) as connection:
        organisation_id = _id(connection, "SELECT id FROM organisation WHERE key = %s", [organisation], organisation)
        about = _of(connection, "patient", organisation_id, patient)
        by = _of(connection, "person", organisation_id, person)
        if about is None:
            noted(connection, "audit.read", organisation_id=organisation_id)
        else:
            noted_of(connection, "audit.read", [about])
        connection.execute("SELECT set_config('keepwell.organisation', %s, true)", [str(organisation_id)])
        found = _found(connection, [about, by, action, first, last, None, limit])
    say.rows(found, as_json, "nothing was found")


def verify(
    checkpoint: Path = typer.Option(
        None, help="a file of `keepwell audit checkpoint`; else those the API wrote to the stack's home",
        exists=True, dir_okay=False,
    ),
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """Compute the chain anew and name the first row that was edited, deleted, put in or moved, or a tail cut off.

    Exits with 1 when the chain is broken. Reads every row once; several tens of thousands a second.
    """
    from services.store import audit_verify
    from services.store.checkpoints import CheckpointError, beside, read

    settings = load().settings
    try:
        known = read(checkpoint or beside(settings.stack.home, settings.postgres.database))
    except CheckpointError as error:
        refuse(str(error))
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with connected(settings) as connection:
        total = audit_verify.rows_to_check(connection)
        connection.commit()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("rows", total=total)
            result = audit_verify.verify(connection, known, lambda rows: progress.update(task, completed=rows))
    _say(result, as_json)
    raise typer.Exit(0 if result.trouble is None else BROKEN)


def checkpoint(
    file: Path = typer.Argument(..., help="the file to add a line to; made where missing", dir_okay=False),
    as_json: bool = JSON,
) -> None:
    """Write down where the chain stands. Keep FILE where whoever could change the database can't reach it."""
    from services.store import checkpoints

    with connected(load().settings) as connection:
        point = _head(connection)
    try:
        checkpoints.append(file, point)
    except OSError as error:
        refuse(f"{file} can't be written: {error.strerror}; name a file in a folder that can")
    if as_json:
        print(point.line())  # noqa: T201 - one document on stdout, not wrapped
    else:
        said = f"block {point.number}, {point.total} rows, SHA-256 {point.hash.hex()}"
        Console(highlight=False).print(f"{file}: {said}", soft_wrap=True)


def _say(result: Verified, as_json: bool) -> None:
    trouble = result.trouble
    if as_json:
        document: dict[str, Any] = result._asdict() | {
            "whole": trouble is None,
            "trouble": trouble and trouble._asdict(),
        }
        print(json.dumps(document))  # noqa: T201 - one document on stdout, not wrapped
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if trouble is not None:
        console.print(trouble.sentence, style="red")
        console.print(f"{result.rows} rows before it are as they were sealed. What to do: docs/audit.md")
        return
    console.print(
        f"{result.rows} rows in {result.blocks} blocks are as they were sealed; {result.waiting} wait to be sealed."
    )
    if result.checkpoints:
        console.print(f"The chain agrees with {result.checkpoints} checkpoints.")
    else:
        console.print("There was no checkpoint to compare with: a tail cut off or a chain made anew would not be seen.")


def _head(connection: psycopg.Connection[Any]) -> Checkpoint:
    from services.store.checkpoints import Checkpoint

    row = connection.execute(
        """SELECT (SELECT hash FROM audit_block WHERE number = 0), number, hash, total, sealed_at
           FROM audit_block ORDER BY number DESC LIMIT 1"""
    ).fetchone()
    if row is None or row[0] is None:
        refuse("the chain has no beginning: its blocks were deleted; `keepwell audit verify` says from where on")
    return Checkpoint(*row)


def _found(connection: psycopg.Connection[Any], wanted: list[Any]) -> list[dict[str, Any]]:
    rows = connection.execute(
        """SELECT a.id, a.at, a.actor, coalesce(p.key, a.name), a.role, a.action,
                  coalesce((SELECT string_agg(q.key, ' ' ORDER BY q.key) FROM patient q WHERE q.id = a.patient_id
                      OR q.id IN (SELECT jsonb_array_elements(a.detail -> 'patient_ids')::int)), ''),
                  a.purpose, a.reason, a.address, a.agent, a.outcome, a.request_id, a.detail - 'patient_ids'
           FROM audit_rows(%s, %s, %s, %s, %s, %s, %s) a LEFT JOIN person p ON p.id = a.person_id ORDER BY a.id DESC""",
        wanted,
    ).fetchall()
    names = (
        "id", "at", "actor", "who", "role", "action", "patients", "purpose", "reason", "address", "agent", "outcome",
        "request_id", "detail",
    )  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in rows]


def _of(connection: psycopg.Connection[Any], what: str, organisation_id: int, key: str | None) -> int | None:
    if key is None:
        return None
    query = f"SELECT id FROM {what} WHERE organisation_id = %s AND key = %s"  # noqa: S608 - patient or person
    return _id(connection, query, [organisation_id, key], f"{what} {key}")


def _id(connection: psycopg.Connection[Any], query: str, values: list[Any], what: str) -> int:
    row = connection.execute(query.encode(), values).fetchone()
    if row is None:
        refuse(f"there is no {what} here; organisations have their own patients and people (--organisation)")
    return int(row[0])
