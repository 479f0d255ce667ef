"""``keepwell patient life-event`` and ``life-event-withdraw``: medicines and what else happened to a patient."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

import typer

from services.cli.patient_find import found
from services.cli.patient_write import REASON, VERSION, now, write
from services.cli.say import JSON, ORGANISATION, connected, refuse
from services.settings import load


def life_event(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    event: str = typer.Argument(..., help="what happened, e.g. medication_stopped"),
    medication: str | None = typer.Argument(None, help="the class of medicine, e.g. beta_blocker; no doses"),
    day: datetime = typer.Option(..., formats=["%Y-%m-%d"], help="when it happened"),
    correct: str = typer.Option("", help="the key of the event that this puts right"),
    reason: str = REASON,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Write down a medicine begun, ended or changed, or another event; docs/windows.md says what it does.

    keepwell patient life-event p20 medication_stopped beta_blocker --day 2026-03-03
    """
    from services.impossible import ImpossibleError
    from services.life_events import checked, takes_effect

    before = [_latest(organisation, key, correct)] if correct else []
    try:
        payload = checked(event, medication, day.date(), now().date())
    except ImpossibleError as error:
        refuse(str(error))
    effective = takes_effect(now(), payload, *before)
    write(
        key, organisation, "life_event", correct or secrets.token_hex(6), payload, reason, effective, version, as_json
    )


def life_event_withdraw(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    event: str = typer.Argument(..., help="key of the event, as `keepwell patient changes` lists it under subject"),
    reason: str = REASON,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Take an event back that was written down by mistake; it stays in the history."""
    from services.life_events import takes_effect

    before = _latest(organisation, key, event)
    payload = before | {"withdrawn": True}
    effective = takes_effect(now(), before)
    write(key, organisation, "life_event", event, payload, reason, effective, version, as_json)


def _latest(organisation: str, key: str, event: str) -> dict[str, Any]:
    with connected(load().settings) as connection:
        patient_id = found(connection, organisation, key)
        row = connection.execute(
            """SELECT payload FROM patient_change WHERE (patient_id, kind, subject) = (%s, 'life_event', %s)
               ORDER BY version DESC LIMIT 1""",
            [patient_id, event],
        ).fetchone()
    if row is None:
        refuse(f"no event {event[:40]!r} is written down of {key}; `keepwell patient changes {key}` lists them")
    payload: dict[str, Any] = row[0]
    return payload
