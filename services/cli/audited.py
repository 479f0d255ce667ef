"""What commands leave in the audit: a row in the transaction of what they do, or before what needs none."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from services.settings import SettingsError

if TYPE_CHECKING:
    import psycopg

ADDRESS = "command line"


def noted(
    connection: psycopg.Connection[Any],
    action: str,
    *,
    organisation_id: int | None = None,
    patient_id: int | None = None,
    reason: str = "",
    purpose: str = "",
    **detail: Any,
) -> None:
    """Write that a command did something, in the caller's transaction. ``organisation_id`` None: for all of them;
    ``purpose`` left out: to run this service.

    Raises:
        SettingsError: the database's schema has no such audit yet.
    """
    import psycopg

    from ingest.clock import SystemClock, to_datetime
    from services.store import audit

    entry = audit.Entry(
        to_datetime(SystemClock().now_ms()), organisation_id, "command", action, name=operator(), patient_id=patient_id,
        purpose=purpose or audit.OPERATIONS, reason=reason, address=ADDRESS, detail=detail,
    )  # fmt: skip
    try:
        audit.write(connection, entry)
    except psycopg.errors.UndefinedColumn as error:
        msg = "this database's schema is older than this Keepwell and can't note who did what: run `keepwell migrate`"
        raise SettingsError(msg) from error


def noted_of(
    connection: psycopg.Connection[Any], action: str, patients: Sequence[int | None], reason: str = "", **detail: Any
) -> None:
    """Write that a command touched these patients' data: a row for each of their organisations.

    What names no patient (None) or one nobody knows is written once, for the whole installation.
    """
    from services.store import audit

    known = {patient for patient in patients if patient is not None}
    rows = connection.execute(
        "SELECT organisation_id, array_agg(id ORDER BY id) FROM patient WHERE id = ANY(%s) GROUP BY 1", [list(known)]
    ).fetchall()
    for organisation_id, ids in rows:
        for begin in range(0, len(ids), audit.MAX_PATIENTS):
            some = ids[begin : begin + audit.MAX_PATIENTS]
            one = some[0] if len(some) == 1 else None
            named = detail if one is not None else {**audit.patients(some), **detail}
            noted(connection, action, organisation_id=organisation_id, patient_id=one, reason=reason, **named)
    if None in patients or known - {number for _, ids in rows for number in ids}:
        noted(connection, action, reason=reason, **detail)


def operator() -> str:
    """Return who runs this command: the user of this machine, as far as it says."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    return f"{user}{f' (sudo of {behind})' if behind else ''}@{platform.node()}"
