"""A change people make about a patient: its row and its outbox entry, in the caller's transaction.

The rules are written once, as steps that yield statements; two drivers run them, for the API's connection and for
the command line's.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from ingest.clock import to_ms
from ingest.partition import partition_of, record_key
from services import topics
from services.control import CHANNEL, ControlMessage, Kind, encode

MAX_RACES: Final = 5  # how often a writer without an expected version begins again when another was quicker

_Statement = tuple[str, list[Any]]
_Row = tuple[Any, ...] | None
_Steps = Generator[_Statement, _Row, "Written"]


class Wanted(NamedTuple):
    """A change as somebody asks for it; ``expected`` is the version they last saw, None when they don't care."""

    patient_id: int
    kind: Kind
    subject: str
    effective_at: datetime
    payload: dict[str, Any]
    reason: str
    person_id: int | None
    recorded_at: datetime
    expected: int | None = None


class Written(NamedTuple):
    """What became of it."""

    change_id: int
    version: int


class StaleVersionError(ValueError):
    """Somebody else changed it since; ``current`` is the version now."""

    def __init__(self, wanted: Wanted, current: int) -> None:
        what = f"{wanted.kind} {wanted.subject}".strip()
        super().__init__(f"{what} is at version {current}, not {wanted.expected}: read it again, then decide")
        self.current = current


class NoPatientError(LookupError):
    """There is no such patient, or it was erased."""


def write(connection: psycopg.Connection[Any], wanted: Wanted, partitions: int) -> Written:
    """Write a change and leave it for the relay.

    Raises:
        StaleVersionError: ``expected`` is no longer the current version.
        NoPatientError: there is nobody to change anything about.
    """
    steps = _steps(wanted, partitions)
    statement = next(steps)
    try:
        while True:
            cursor = connection.execute(statement[0].encode(), statement[1])
            statement = steps.send(cursor.fetchone() if cursor.description else None)
    except StopIteration as done:
        return Written(*done.value)


async def write_async(connection: psycopg.AsyncConnection[Any], wanted: Wanted, partitions: int) -> Written:
    """Write a change and leave it for the relay; see `write`."""
    steps = _steps(wanted, partitions)
    statement = next(steps)
    try:
        while True:
            cursor = await connection.execute(statement[0].encode(), statement[1])
            statement = steps.send(await cursor.fetchone() if cursor.description else None)
    except StopIteration as done:
        return Written(*done.value)


def _steps(wanted: Wanted, partitions: int) -> _Steps:
    patient_id, key = wanted.patient_id, [wanted.patient_id, wanted.kind, wanted.subject]
    row = yield "SELECT organisation_id FROM patient WHERE id = %s AND erased_at IS NULL", [patient_id]
    if row is None:
        msg = f"there is no patient {patient_id}, or it was erased"
        raise NoPatientError(msg)
    organisation_id = int(row[0])
    for _ in range(MAX_RACES):
        row = yield (
            """SELECT coalesce(max(version), 0) FROM patient_change
               WHERE patient_id = %s AND kind = %s AND subject = %s""",
            key,
        )
        current = int(row[0]) if row else 0
        if wanted.expected is not None and wanted.expected != current:
            raise StaleVersionError(wanted, current)
        row = yield (
            """INSERT INTO patient_change (organisation_id, patient_id, kind, subject, version, effective_at, payload,
                                           reason, person_id, recorded_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
               ON CONFLICT (patient_id, kind, subject, version) DO NOTHING RETURNING id""",
            [organisation_id, *key, current + 1, wanted.effective_at, Jsonb(wanted.payload), wanted.reason,
             wanted.person_id, wanted.recorded_at],
        )  # fmt: skip
        if row is not None:
            break
    else:
        raise StaleVersionError(wanted, current)
    message = ControlMessage(
        int(row[0]), organisation_id, patient_id, wanted.kind, wanted.subject, current + 1,
        to_ms(wanted.effective_at), wanted.payload, wanted.person_id,
    )  # fmt: skip
    yield (
        """INSERT INTO outbox (organisation_id, partition, topic, record_key, record, created_at)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        [organisation_id, partition_of(patient_id, partitions), topics.CONTROL, record_key(patient_id),
         encode(message), wanted.recorded_at],
    )  # fmt: skip
    yield "SELECT pg_notify(%s, '')", [CHANNEL]
    return Written(message.change_id, message.version)
