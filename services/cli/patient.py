"""``keepwell patient``: what is watched of a patient, a new normal, and erasure with its proof."""

from __future__ import annotations

from typing import Any, Final

import typer

from services.cli import patient_erase, patient_event, patient_profile, say
from services.cli.audited import noted_of
from services.cli.patient_find import found
from services.cli.patient_write import REASON, SINCE, VERSION, now, write
from services.cli.say import JSON, ORGANISATION, connected, moment, refuse
from services.settings import load

HELP: Final = """Say what is watched of a patient, let a baseline start afresh, or erase somebody for good.

    keepwell patient monitoring p20 paused --until 2026-12-01T08:00Z --reason "on holiday"
    keepwell patient monitoring p20 active              watch again, at once
    keepwell patient new-normal p20 heart_rate --reason "beta blocker since Monday"
    keepwell patient life-event p20 medication_stopped beta_blocker --day 2026-03-03
    keepwell patient profile p20 '{"pacemaker": true}'   what changes the rules for this person
    keepwell patient limits p20 '{"fever": {"levels": [38, 39]}}'
    keepwell patient changes p20                        who changed what, and since when
    keepwell patient erase p20 --reason "asked for it on 22 Nov"
    keepwell patient erased                             the proofs: when, and how many rows of what

What each state lets through: `keepwell patient states`.
"""


def register(app: typer.Typer) -> None:
    """Add the ``patient`` commands."""
    patient = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(patient, name="patient")
    commands = (
        monitoring, new_normal, patient_event.life_event, patient_event.life_event_withdraw,
        patient_profile.profile, patient_profile.limits, patient_profile.bounds, changes, states,
        patient_erase.erase, patient_erase.erased,
    )  # fmt: skip
    for command in commands:
        patient.command(command.__name__.replace("_", "-"))(command)


def monitoring(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    state: str = typer.Argument(..., help="active, paused, inpatient, comfort_care, discharged or deceased"),
    until: str = typer.Option(None, help="when it ends by itself; a pause needs an end"),
    reason: str = REASON,
    since: str = SINCE,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Set what is watched of a patient from an instant on; readings are stored in every state."""
    from ingest.clock import to_ms
    from services.monitoring import refusal

    effective = moment("--from", since) or now()
    end = moment("--until", until)
    refused = refusal(state, None if end is None else to_ms(end), reason, to_ms(effective))
    if refused is not None:
        field, value, allowed = refused
        refuse(f"{field} = {until if field == 'until' else value!r} is not allowed; allowed: {allowed}")
    payload: dict[str, Any] = {"state": state} | ({} if end is None else {"until_ms": to_ms(end)})
    write(key, organisation, "monitoring", "", payload, reason, effective, version, as_json)


def new_normal(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    metric: str = typer.Argument(..., help="the metric that is as it should be from now on, e.g. heart_rate"),
    reason: str = REASON,
    since: str = SINCE,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Let the baseline of a metric start afresh with the next full hour.

    An open finding against the old baseline is resolved, by a person. What was usual at
    enrolment is remembered for ever.
    """
    from detectors.baseline import PAIRS

    allowed = list(dict.fromkeys(pair.metric for pair in PAIRS))
    if metric not in allowed:
        refuse(f"metric = {metric!r} has no baseline; those that have one: {', '.join(allowed)}")
    write(key, organisation, "new_normal", metric, {}, reason, moment("--from", since) or now(), version, as_json)


def changes(key: str, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List what people changed about a patient, the newest first (at most 200)."""
    with connected(load().settings) as connection:
        patient_id = found(connection, organisation, key)
        noted_of(connection, "patient.changes", [patient_id])
        rows = connection.execute(
            """SELECT c.kind, c.subject, c.version, c.effective_at, c.payload, c.reason, p.name, c.recorded_at
               FROM patient_change c LEFT JOIN person p ON p.id = c.person_id
               WHERE c.patient_id = %s ORDER BY c.id DESC LIMIT 200""",
            [patient_id],
        ).fetchall()
    names = ("kind", "subject", "version", "effective_at", "payload", "reason", "by", "recorded_at")
    say.rows([dict(zip(names, row, strict=True)) for row in rows], as_json, f"nothing was ever changed about {key}")


def states(as_json: bool = JSON) -> None:
    """Show what each monitoring state lets through."""
    from services.monitoring import STATES

    say.rows([{"state": name, **row._asdict()} for name, row in STATES.items()], as_json, "")
