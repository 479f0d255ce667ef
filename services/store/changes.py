"""A change people make about a patient: its row and its outbox entry, in the caller's transaction.

The rules are written once, as steps that yield statements; two drivers run them, for the API's connection and for
the command line's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from ingest.clock import to_ms
from ingest.partition import partition_of, record_key
from services import topics
from services.control import CHANNEL, ControlMessage, Kind, encode
from services.store.steps import Rows, Steps

MAX_RACES: Final = 5  # how often a writer without an expected version begins again when another was quicker

_INSERT: Final = """
    INSERT INTO patient_change (organisation_id, patient_id, kind, subject, version, effective_at, payload, reason,
                                person_id, recorded_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_OUTBOX: Final = """
    INSERT INTO outbox (organisation_id, partition, topic, record_key, record, created_at)
    VALUES (%s, %s, %s, %s, %s, %s)"""

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


def steps(wanted: Wanted, partitions: int) -> Steps[Written]:
    """Write a change as one of the steps of something larger; see `write`."""
    inner = _steps(wanted, partitions)
    statement = next(inner)
    try:
        while True:
            rows: Rows = yield statement
            statement = inner.send(rows[0] if rows else None)
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
            f"{_INSERT} ON CONFLICT (patient_id, kind, subject, version) DO NOTHING RETURNING id",
            _values(wanted, organisation_id, current + 1),
        )
        if row is not None:
            break
    else:
        raise StaleVersionError(wanted, current)
    written = Written(int(row[0]), current + 1)
    yield _OUTBOX, _entry(wanted, organisation_id, written, partitions)
    yield "SELECT pg_notify(%s, '')", [CHANNEL]
    return written


def write_many(connection: psycopg.Connection[Any], wanted: Sequence[Wanted], partitions: int) -> None:
    """Write changes of enrolled patients, each of another (patient, kind, subject), in a few round trips.

    Raises:
        psycopg.errors.UniqueViolation: somebody else changes the same at this moment.
    """
    if not wanted:
        return
    rows = connection.execute(
        """SELECT p.organisation_id, (SELECT coalesce(max(c.version), 0) FROM patient_change c
                                     WHERE (c.patient_id, c.kind, c.subject) = (w.patient_id, w.kind, w.subject))
           FROM unnest(%s::int[], %s::text[], %s::text[]) WITH ORDINALITY AS w (patient_id, kind, subject, place)
           JOIN patient p ON p.id = w.patient_id ORDER BY w.place""",
        [[w.patient_id for w in wanted], [w.kind for w in wanted], [w.subject for w in wanted]],
    ).fetchall()
    with connection.cursor() as cursor:
        entries = []
        for one, (organisation_id, current) in zip(wanted, rows, strict=True):
            values = _values(one, organisation_id, current + 1)
            row = cursor.execute(f"{_INSERT} RETURNING id".encode(), values).fetchone()
            assert row is not None  # noqa: S101 - RETURNING of an insert
            entries.append(_entry(one, organisation_id, Written(row[0], current + 1), partitions))
        cursor.executemany(_OUTBOX.encode(), entries)
    connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])


def _values(wanted: Wanted, organisation_id: int, version: int) -> list[Any]:
    return [
        organisation_id, wanted.patient_id, wanted.kind, wanted.subject, version, wanted.effective_at,
        Jsonb(wanted.payload), wanted.reason, wanted.person_id, wanted.recorded_at,
    ]  # fmt: skip


def _entry(wanted: Wanted, organisation_id: int, written: Written, partitions: int) -> list[Any]:
    message = ControlMessage(
        written.change_id, organisation_id, wanted.patient_id, wanted.kind, wanted.subject, written.version,
        to_ms(wanted.effective_at), wanted.payload, wanted.person_id,
    )  # fmt: skip
    return [
        organisation_id, partition_of(wanted.patient_id, partitions), topics.CONTROL, record_key(wanted.patient_id),
        encode(message), wanted.recorded_at,
    ]  # fmt: skip
