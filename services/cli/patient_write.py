"""What the ``keepwell patient`` commands that change something share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import typer
from rich.console import Console

from services.cli import say
from services.cli.audited import noted_of
from services.cli.patient_find import found
from services.cli.say import connected, refuse
from services.settings import load

REASON = typer.Option("", help="why, in words")
SINCE = typer.Option(None, "--from", help="when it takes effect, RFC 3339 with an offset; now where left out")
VERSION = typer.Option(None, min=0, help="refuse unless this is the version now, so that nobody is overruled unseen")


def write(
    key: str, organisation: str, kind: Any, subject: str, payload: dict[str, Any], reason: str, effective: datetime,
    version: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Write a change of a patient and say what was written; a stale version ends with one plain sentence."""
    from services.store import changes as store

    settings = load().settings
    with connected(settings) as connection:
        patient_id = found(connection, organisation, key)
        wanted = store.Wanted(
            patient_id, kind, subject, effective, payload, reason.strip(), None, now(), expected=version
        )
        try:
            written = store.write(connection, wanted, settings.kafka.partitions)
        except store.StaleVersionError as stale:
            refuse(str(stale))
        noted_of(connection, f"patient.{kind}", [patient_id], kind=kind, subject=subject)
    answer = {"patient": key, "kind": kind, "subject": subject, "version": written.version, **payload}
    if as_json:
        say.rows([answer | {"effective_at": effective}], as_json, "")
        return
    what = payload.get("state") or (f"new normal of {subject}" if kind == "new_normal" else kind)
    Console().print(f"{key}: {what} from {effective:%Y-%m-%d %H:%M} UTC (version {written.version})", highlight=False)


def now() -> datetime:
    """Return the present."""
    from ingest.clock import SystemClock, to_datetime

    return to_datetime(SystemClock().now_ms())
