"""One row of the audit: who did what to whose data, why, from where, and with what outcome.

A row is written in the transaction of what it tells of, so that neither is there without the other. What seals the
rows into a chain is in the schema (``seal_audit``); what checks the chain is `services.store.audit_chain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

Actor = Literal["person", "service", "command"]
Outcome = Literal["allowed", "refused", "failed"]
MAX_PATIENTS: Final = 500  # the longest list of patients one row names
CARE: Final = "care"
OPERATIONS: Final = "operations"
PATIENT_RIGHT: Final = "patient_right"  # a copy of their own data, for the patient or as the patient asked


class Entry(NamedTuple):
    """What a row says. ``purpose`` is one word, ``reason`` is for words of a person and must not hold findings:
    the audit outlives an erasure."""

    at: datetime
    organisation_id: int | None
    actor: Actor
    action: str
    person_id: int | None = None
    name: str = ""
    role: str = ""
    patient_id: int | None = None
    purpose: str = CARE
    reason: str = ""
    address: str = ""
    agent: str = ""
    outcome: Outcome = "allowed"
    request_id: str = ""
    detail: dict[str, Any] = {}


_COLUMNS: Final = ", ".join(Entry._fields)
_INSERT: Final = f"INSERT INTO access_audit ({_COLUMNS}) VALUES ({', '.join(['%s'] * len(Entry._fields))})".encode()  # noqa: S608 - names of this module


def patients(ids: Sequence[int]) -> dict[str, Any]:
    """Return the part of ``detail`` that names the patients of a list, and how many there were."""
    return {"patient_ids": list(ids[:MAX_PATIENTS]), "patients": len(ids)}


def write(connection: psycopg.Connection[Any], entry: Entry) -> None:
    """Write a row in the caller's transaction."""
    connection.execute(_INSERT, _values(entry))


async def write_async(connection: psycopg.AsyncConnection[Any], entries: Iterable[Entry]) -> None:
    """Write rows in the caller's transaction."""
    for entry in entries:
        await connection.execute(_INSERT, _values(entry))


def _values(entry: Entry) -> list[Any]:
    return [*entry[:-1], Jsonb(entry.detail)]
