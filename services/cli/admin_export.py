"""``keepwell admin patients export``: a copy of a patient's data, for the patient."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from services.cli import say
from services.cli.admin_desk import desk
from services.cli.audited import noted
from services.cli.patient_find import found
from services.cli.say import JSON, ORGANISATION, refuse
from services.settings import load

if TYPE_CHECKING:
    from services.api.export.source import Source

Write = Callable[["Source"], AsyncGenerator[bytes, None]]


def export(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    out: Path = typer.Option(..., help="the file to write; it must not be there yet"),
    form: str = typer.Option("csv", "--format", help="csv: tables in a ZIP; fhir: a FHIR R4 Bundle"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Write everything stored about a patient into a file, for the patient.

    The file is readable by you alone. Hand it to the patient or to whom they name, then
    delete it. The audit says that it was made.
    """
    import psycopg

    from services.api.export.download import FORMATS
    from services.store import audit

    if form not in FORMATS:
        refuse(f"--format = {form!r} is not known; allowed: {', '.join(FORMATS)}")
    if out.exists() or not out.parent.is_dir():
        why = "is there already" if out.exists() else f"can't be written: there is no folder {out.parent}"
        refuse(f"--out = {str(out)!r} {why}; name a new file in a folder that is there")
    with desk(organisation) as at:
        patient_id = found(at.connection, organisation, key)
        noted(
            at.connection, "patient.export", organisation_id=at.organisation_id, patient_id=patient_id,
            purpose=audit.PATIENT_RIGHT, format=form,
        )  # fmt: skip
    try:
        size = asyncio.run(_write(FORMATS[form].write, patient_id, at.organisation_id, out))
    except (psycopg.OperationalError, OSError) as error:
        out.unlink(missing_ok=True)
        refuse(f"the export of {key} was cut short, and {out} removed: {str(error).strip()}; try again")
    say.told({"patient": key, "file": str(out), "format": form, "bytes": size}, as_json)


async def _write(write: Write, patient_id: int, organisation_id: int, out: Path) -> int:
    """Write the file in one snapshot; return its size in bytes."""
    import psycopg

    from ingest.clock import SystemClock, to_datetime
    from services.api.export.source import Source
    from services.api.patients import Patient
    from services.api.query import first

    conninfo, size = load().settings.postgres.conninfo("admin"), 0
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute("SELECT set_config('keepwell.organisation', %s, true)", [str(organisation_id)])
        query = "SELECT id, key, name, time_zone, enrolled_at FROM patient WHERE id = %s"
        patient = Patient(**(await first(connection, query, [patient_id]) or {}))
        everything = frozenset({"readings", "alerts"})
        source = Source(connection, patient, to_datetime(SystemClock().now_ms()), everything, owner=True)
        private = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(private, "wb") as file:
            async with aclosing(write(source)) as pieces:
                async for piece in pieces:
                    size += file.write(piece)
    return size
