"""``keepwell patient life-event`` and ``life-event-withdraw``: medicines and what else happened to a patient."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from services.cli.patient_find import found
from services.cli.patient_write import REASON, VERSION, now, write
from services.cli.say import JSON, ORGANISATION, connected, refuse
from services.settings import load

if TYPE_CHECKING:
    from services.impossible import ImpossibleError


def life_event(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    event: str = typer.Argument(..., help="what happened, e.g. medication_stopped"),
    medication: str | None = typer.Argument(None, help="the class of medicine, e.g. beta_blocker; no doses"),
    day: datetime = typer.Option(..., formats=["%Y-%m-%d"], help="when it happened"),
    rise: float | None = typer.Option(None, help="so far, /min, the heart rate is expected to rise, at most 10"),
    fall: float | None = typer.Option(
        None, help="the same of a fall; neither where the catalogue has a size, nor of surgery or a vaccination"
    ),
    days: int | None = typer.Option(None, help="for so many days, if fewer than the event stands"),
    correct: str = typer.Option(
        "", help="the key of the event that this puts right; what was stated of it is dropped unless stated again"
    ),
    reason: str = REASON,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Write down a medicine begun, ended or changed, or another event; docs/windows.md says what it does.

    keepwell patient life-event p20 medication_stopped beta_blocker --day 2026-03-03
    keepwell patient life-event p20 admission --day 2026-03-03 --rise 6 --days 10
    """
    from services.impossible import ImpossibleError
    from services.life_events import checked, takes_effect

    before = [_latest(organisation, key, correct)] if correct else []
    try:
        expects = _expects(rise, fall, days)
        payload = checked(event, medication, day.date(), now().date(), expects, "command_line")
    except ImpossibleError as error:
        refuse(_by_option(error, rise, fall, days))
    effective = takes_effect(now(), payload, *before)
    write(
        key, organisation, "life_event", correct or secrets.token_hex(6), payload, reason, effective, version, as_json
    )


def _by_option(error: ImpossibleError, rise: float | None, fall: float | None, days: int | None) -> str:
    """Return what is refused by the options that said it."""
    option, size = ("--rise", rise) if rise is not None else ("--fall", fall)
    if error.field == "expects.heart_rate.days":
        option, size = "--days", days
    elif not error.field.startswith("expects."):
        return str(error)
    side = "--" if error.field.endswith(".side") else ""
    return f"{option} {size:g} is not allowed; allowed: {side}{error.allowed}"


def _expects(rise: float | None, fall: float | None, days: int | None) -> dict[str, Any] | None:
    if rise is None and fall is None:
        if days is not None:
            refuse(f"--days {days} without what is expected; add --rise or --fall")
        return None
    if rise is not None and fall is not None:
        refuse(f"--rise {rise} and --fall {fall}: one side can be expected of an event; leave one out")
    side, size = ("rise", rise) if rise is not None else ("fall", fall)
    return {"heart_rate": {"side": side, "size": size} | ({} if days is None else {"days": days})}


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
