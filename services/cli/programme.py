"""``keepwell programme``: how people are watched together, who is in it and how far, and the organisation's limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import typer

from services.cli import say
from services.cli.patient_find import found
from services.cli.patient_profile import document_of
from services.cli.patient_write import REASON, SINCE, VERSION, now
from services.cli.say import JSON, ORGANISATION, connected, moment, refuse
from services.settings import load

if TYPE_CHECKING:
    import psycopg

    from services.store.programmes import Who
    from services.store.steps import Steps

HELP: Final = """Write a programme, activate it, and take patients through it.

    keepwell programme set heart '{"name": "Heart at home", "hours": {"time_zone": "Europe/Vienna"},
        "ladder": [{"after_min": 0, "role": "nurse"}, {"after_min": 30, "role": "clinician"}]}'
    keepwell programme activate heart              refused while its ladder doesn't end in a role
    keepwell programme step heart p20 eligible     then consented, ordered, device_paired, learning, active …
    keepwell programme steps                       what each step needs, and who may take it
    keepwell programme limits '{"fever": {"levels": [38, 39]}}'      the whole organisation's
"""


def register(app: typer.Typer) -> None:
    """Add the ``programme`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(group, name="programme")
    group.command("set")(write)
    group.command("list")(listed)
    for command in (activate, retire, step, steps, limits):
        group.command(command.__name__)(command)


def write(
    key: str, document: str, reason: str = REASON, version: int = VERSION, organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """Write a programme's JSON document; a new one is a draft."""
    from services.store.programmes import save

    done = _run(organisation, reason, version, lambda who, _: save(who, key, document_of(document)))
    say.told({"programme": key, "version": done}, as_json)


def activate(
    key: str, reason: str = REASON, version: int = VERSION, organisation: str = ORGANISATION, as_json: bool = JSON
) -> None:
    """Let patients be watched in a programme."""
    from services.store.programmes import turn

    done = _run(organisation, reason, version, lambda who, _: turn(who, key, "active"))
    say.told({"programme": key, "state": "active", "version": done}, as_json)


def retire(
    key: str, reason: str = REASON, version: int = VERSION, organisation: str = ORGANISATION, as_json: bool = JSON
) -> None:
    """End a programme in which nobody is enrolled any more."""
    from services.store.programmes import turn

    done = _run(organisation, reason, version, lambda who, _: turn(who, key, "retired"))
    say.told({"programme": key, "state": "retired", "version": done}, as_json)


def step(
    key: str = typer.Argument(..., help="key of the programme"),
    patient: str = typer.Argument(..., help="key of the patient"),
    state: str = typer.Argument(..., help="the state to come into; see `keepwell programme steps`"),
    facts: str = typer.Option("{}", help="what the step needs, as JSON, e.g. given_on and form of a consent"),
    reason: str = REASON,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Take a patient a step further in a programme."""
    from services.store import programmes

    def steps_of(who: Who, connection: psycopg.Connection[Any]) -> Steps[int]:
        return programmes.step(who, found(connection, organisation, patient), key, state, document_of(facts))

    done = _run(organisation, reason, version, steps_of)
    say.told({"patient": patient, "programme": key, "state": state, "version": done}, as_json)


def steps(as_json: bool = JSON) -> None:
    """Show the steps of an enrolment: from where, who may take them, what they need."""
    from services.enrolment import STEPS

    say.rows(
        [
            {
                "state": name, "after": ", ".join(filter(None, one.after)) or "nothing", "by": ", ".join(one.roles),
                "needs": ", ".join(one.needs),
            }
            for name, one in STEPS.items()
        ],
        as_json, "",
    )  # fmt: skip


def listed(organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List the programmes, with how many patients are in each state."""
    with connected(load().settings) as connection:
        rows = connection.execute(
            """SELECT g.key, g.state, g.version, g.document->>'name',
                      (SELECT json_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM enrolment
                       WHERE programme_id = g.id GROUP BY state) AS each)
               FROM programme g JOIN organisation o ON o.id = g.organisation_id
               WHERE o.key = %s ORDER BY 1 LIMIT 200""",
            [organisation],
        ).fetchall()
    shown = [
        {"programme": key, "state": state, "version": version, "name": name, "patients": json.dumps(patients or {})}
        for key, state, version, name, patients in rows
    ]
    say.rows(shown, as_json, f"{organisation} has no programme; write one with `keepwell programme set`")


def limits(
    document: str = typer.Argument(..., help="the JSON document of the organisation's limits"),
    reason: str = REASON,
    since: str = SINCE,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Set the organisation's safety limits, for every patient of it, within bounds."""
    from services.store.programmes import limit_organisation

    rules, effective = document_of(document), moment("--from", since) or now()
    number, told = _run(organisation, reason, version, lambda who, _: limit_organisation(who, rules, effective))
    say.told({"organisation": organisation, "version": number, "patients_told": told}, as_json)


def _run(organisation: str, reason: str, version: int | None, make: Any) -> Any:
    """Run steps for an organisation; what stands in their way ends with one plain sentence."""
    from services.impossible import ImpossibleError
    from services.store.programmes import StaleError, UnknownProgrammeError, Who
    from services.store.steps import run

    settings = load().settings
    with connected(settings) as connection:
        row = connection.execute("SELECT id FROM organisation WHERE key = %s", [organisation]).fetchone()
        if row is None:
            refuse(f"there is no organisation {organisation!r}")
        who = Who(row[0], None, None, reason.strip(), now(), settings.kafka.partitions, version)
        try:
            return run(connection, make(who, connection))
        except (ImpossibleError, StaleError, UnknownProgrammeError) as error:
            connection.rollback()
            refuse(str(error))
