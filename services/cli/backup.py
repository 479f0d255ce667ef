"""``keepwell backup`` and ``keepwell restore``: the database in one file, and back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from services.cli.audited import noted
from services.settings import Settings, load

if TYPE_CHECKING:
    from services.store.bundle import Manifest
    from services.store.reach import Reach

FAILED = 1
GAP = 3
JSON = typer.Option(False, "--json", help="print one JSON document for scripts")


def register(app: typer.Typer) -> None:
    """Add the two commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Path = typer.Argument(..., help="the file to write; it must not exist, e.g. keepwell-2026-11-22.backup"),
    as_json: bool = JSON,
) -> None:
    """Write the whole database to FILE, while everything goes on running.

    The file is one snapshot: readings, alerts, and how far into Kafka they go. `keepwell restore FILE` brings it
    back, and the processor then takes in what came since, as long as Kafka still holds it: take backups more often
    than the retention of readings.v1. Settings, passwords and certificates are not in it. The file holds patient
    data: keep it encrypted and away from this machine.
    """
    settings = load().settings
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    began = time.monotonic()
    import psycopg

    from services.store.backup import backup as take
    from services.store.schema import check_schema

    with _failing(as_json):
        check_schema(settings.postgres, "admin")
        with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
            noted(connection, "database.backup", file=file.name)  # before: it is in the backup, and in no doubt
        with _progress(console) as progress:
            task = progress.add_task("dumping", total=None)
            made = take(settings, file, _programs(), lambda size: progress.update(task, completed=size))
        seconds = time.monotonic() - began
    if as_json:
        typer.echo(json.dumps(_document(made) | {"file": str(file), "seconds": round(seconds, 2)}))
        return
    console.print(f"{file}: {decimal(made.dump_bytes)} in {seconds:.1f} s, schema {made.revision}, {_told(made)}")
    console.print(f"To bring it back: keepwell restore {file} --database NAME")


def restore(
    file: Path = typer.Argument(..., help="a file made by `keepwell backup`", exists=True, dir_okay=False),
    database: str = typer.Option(
        None, help="database to make; it must be missing or empty (default: setting postgres.database)"
    ),
    as_json: bool = JSON,
) -> None:
    """Make a database from a backup: all of it, or nothing.

    The file is compared with its checksum first, and the rows are counted before the database gets its name. Then
    start the processor: it goes on in Kafka where the backup ends. A processor that knew the lost database can't
    write into this one, and streams go on from the place a reader remembers.

    Exits with 3 when the database is restored and Kafka no longer holds all that came since; it says what is gone.
    """
    settings = load({"postgres.database": database}).settings
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    began = time.monotonic()
    from services.store.reach import look
    from services.store.restore import restore as bring_back

    with _failing(as_json):
        with _progress(console) as progress:
            check = progress.add_task("checking", total=file.stat().st_size)
            load_task = progress.add_task("restoring", total=None)
            made = bring_back(
                settings,
                file,
                _programs(),
                lambda size: progress.update(check, completed=size),
                lambda size: progress.update(load_task, completed=size),
            )
        _note(settings, made, file)
        seconds = time.monotonic() - began
    places = [(one.topic, one.partition, one.next_offset) for one in made.positions]
    reach = asyncio.run(look(settings.kafka, places)) if settings.kafka.prefix == made.prefix else None
    gaps = [one.trouble for one in reach or [] if one.trouble]
    if as_json:
        waiting = None if reach is None else sum(one.waiting for one in reach)
        facts = {"database": settings.postgres.database, "seconds": round(seconds, 2), "waiting": waiting, "gaps": gaps}
        typer.echo(json.dumps(_document(made) | facts))
    else:
        _say(console, settings, made, reach, gaps, seconds)
    if gaps:
        raise typer.Exit(GAP)


def _say(
    console: Console, settings: Settings, made: Manifest, reach: list[Reach] | None, gaps: list[str], seconds: float
) -> None:
    console.print(f"database {settings.postgres.database}: {_told(made)}, as of {made.made_at}, in {seconds:.1f} s")
    if reach is None:
        console.print(f"Kafka could not be asked about what came since (topics with prefix {made.prefix!r})")
    else:
        console.print(f"{sum(one.waiting for one in reach)} records in Kafka came since and will be taken in")
    for gap in gaps:
        console.print(f"gone: {gap}", style="red", markup=False)
    if gaps:
        console.print("The processor stops there and says how to accept the loss.")
    console.print(
        f"Next: keepwell migrate, then start the processor, both with postgres.database = {settings.postgres.database}"
    )


def _note(settings: Settings, made: Manifest, file: Path) -> None:
    """Say in the restored database that it was restored; one of an older schema has no words for it."""
    import psycopg

    from services.store.schema import revisions

    if made.revision == revisions()[0]:
        with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
            noted(connection, "database.restore", file=file.name, made_at=made.made_at)


def _told(made: Manifest) -> str:
    return (
        f"{made.counts.get('patient', 0)} patients, {made.counts.get('frame_log', 0)} frames, "
        f"{made.counts.get('alert', 0)} alerts"
    )


def _document(made: Manifest) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(made)
    return document


def _programs() -> Path | None:
    """Return the folder of the PostgreSQL programs that `keepwell up` unpacked, where it did."""
    from deploy.local import debian, paths, user
    from deploy.local.errors import StackError

    try:
        folder = debian.tree(paths.programs(user.choose())) / "usr/lib/postgresql/17/bin"
    except StackError:
        return None
    return folder if folder.exists() else None


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def _failing(as_json: bool) -> Iterator[None]:
    """Turn what can go wrong into one plain text on stderr (or JSON) and exit code 1."""
    import psycopg

    from services.store.bundle import BackupError
    from services.store.schema import SchemaError

    try:
        yield
    except (BackupError, SchemaError, psycopg.Error, OSError) as error:
        if as_json:
            typer.echo(json.dumps({"error": str(error).strip()}))
        else:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"keepwell: {error}", style="red", markup=False)
        raise typer.Exit(FAILED) from error
