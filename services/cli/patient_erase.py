"""``keepwell patient erase`` and ``erased``: nothing of the patient remains, and the proof does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console

from services.cli import say
from services.cli.audited import noted_of
from services.cli.patient_find import found
from services.cli.say import JSON, ORGANISATION, connected, refuse
from services.settings import Settings, load

if TYPE_CHECKING:
    import psycopg

POLL_S: Final = 0.2
_PROOF: Final = """SELECT 'erased:' || e.patient_id AS id, e.reason, e.asked_at, e.done_at, e.counts, e.logs
                   FROM erasure e"""


def erase(
    key: str = typer.Argument(
        ..., help="key of the patient, e.g. p20; erased:17 takes up an erasure that was cut short"
    ),
    reason: str = typer.Option(..., help="why, in words; kept with the proof, so name nobody in it"),
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    wait: float = typer.Option(60.0, min=0, max=3600, help="seconds to wait for the processor, and for the logs"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Erase a patient: every row, then the records in the logs, and show the proof.

    The processor that owns the patient deletes the rows in one transaction; what comes later
    is counted and never stored. Then the logs are cut up to what is processed. What remains:
    the proof, the audit of who looked, the broker's files until their segment rolls, and
    backups made before.
    """
    if not reason.strip():
        refuse("--reason is empty; say why, without naming anybody")
    settings = load().settings
    patient_id = _ask(settings, organisation, key, reason.strip(), yes)
    if not _done(settings, patient_id, wait):
        refuse(
            f"asked, but no processor did it within {wait:g} s; it will as soon as one runs. "
            f"Then `keepwell patient erase erased:{patient_id} --reason …` cuts the logs"
        )
    _cut(settings, patient_id, wait)
    _tell_mqtt(settings)
    with connected(settings) as connection:
        say.rows(_proofs(connection, patient_id), as_json, "")


def erased(as_json: bool = JSON) -> None:
    """List the proofs of erasure: when, how many rows of what, and up to where the logs were cut."""
    with connected(load().settings) as connection:
        say.rows(_proofs(connection, None), as_json, "nobody was ever erased")


def _ask(settings: Settings, organisation: str, key: str, reason: str, yes: bool) -> int:
    """Return the patient's id, with the change written where it was not before."""
    from ingest.clock import SystemClock, to_datetime
    from services.store import changes

    with connected(settings) as connection:
        known = connection.execute(
            """SELECT p.id FROM patient p JOIN organisation o ON o.id = p.organisation_id
               WHERE o.key = %s AND p.key = %s AND p.erased_at IS NOT NULL""",
            [organisation, key],
        ).fetchone()
        if known is not None:
            return int(known[0])
        patient_id = found(connection, organisation, key)
        asked = connection.execute(
            "SELECT 1 FROM patient_change WHERE patient_id = %s AND kind = 'erase'", [patient_id]
        ).fetchone()
        if asked is not None:
            return patient_id
        if not yes and not typer.confirm(f"Erase patient {key} of {organisation} for good? This cannot be undone."):
            raise typer.Exit(1)
        now = to_datetime(SystemClock().now_ms())
        wanted = changes.Wanted(patient_id, "erase", "", now, {}, reason, None, now)
        changes.write(connection, wanted, settings.kafka.partitions)
        noted_of(connection, "patient.erase", [patient_id], reason=reason)
    return patient_id


def _done(settings: Settings, patient_id: int, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while True:
        with connected(settings) as connection:
            query = "SELECT 1 FROM erasure WHERE patient_id = %s AND done_at IS NOT NULL"
            if connection.execute(query, [patient_id]).fetchone() is not None:
                return True
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_S)


def _cut(settings: Settings, patient_id: int, wait_s: float) -> None:
    """Cut the logs once, and write down up to where."""
    from aiokafka.errors import KafkaError
    from psycopg.types.json import Jsonb

    from ingest.partition import record_key
    from services import erase_logs

    with connected(settings) as connection:
        connection.autocommit = True
        query = "SELECT 1 FROM erasure WHERE patient_id = %s AND logs <> '{}'"
        if connection.execute(query, [patient_id]).fetchone() is not None:
            return
        try:
            logs = asyncio.run(
                erase_logs.cut(settings.kafka, patient_id, lambda: erase_logs.positions_of(connection), wait_s)
            )
        except (KafkaError, OSError) as error:
            refuse(
                f"every row is deleted, but the logs could not be cut: {error}. "
                f"Run `keepwell patient erase erased:{patient_id} --reason …` when the broker answers"
            )
        # what others had put on dead.v1 may have been filed meanwhile
        connection.execute("DELETE FROM dead_letter WHERE record_key = %s", [record_key(patient_id)])
        connection.execute("UPDATE erasure SET logs = %s WHERE patient_id = %s", [Jsonb(logs), patient_id])


def _tell_mqtt(settings: Settings) -> None:
    from services import devices
    from services.cli.enrol import tell_mqtt

    with connected(settings) as connection:
        note = tell_mqtt(settings.stack.home, devices.mqtt_passwords(connection))
    if note:
        Console(stderr=True).print(note, highlight=False)


def _proofs(connection: psycopg.Connection[Any], patient_id: int | None) -> list[dict[str, Any]]:
    cursor = connection.execute(
        (_PROOF + " WHERE %(id)s::int IS NULL OR e.patient_id = %(id)s ORDER BY e.asked_at DESC LIMIT 1000").encode(),
        {"id": patient_id},
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
