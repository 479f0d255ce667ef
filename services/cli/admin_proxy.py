"""``keepwell admin proxy``: whom a patient lets look on, at what and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

import typer

from services.cli import say
from services.cli.admin_desk import END, SINCE, a_patient, a_person, desk, ending, span, text_of
from services.cli.audited import noted_of
from services.cli.say import JSON, ORGANISATION, refuse

if TYPE_CHECKING:
    from services.teams import What

HELP: Final = """Write down whom a patient lets see their readings, their alerts or both, until when.

    keepwell admin proxy grant p20 mia --what readings,alerts --until 2027-06-01T00:00Z
    keepwell admin proxy list p20
    keepwell admin proxy end p20 mia           at once: open pages and streams show nothing more

It is the patient who lets them: ask the patient, and keep how they said so. mia is a person of role proxy
(`keepwell account invite mia --role proxy`).
"""
PATIENT = typer.Argument(..., help="key of the patient, e.g. p20")
PERSON = typer.Argument(..., help="key of the person of role proxy, e.g. mia")


def register(admin: typer.Typer) -> None:
    """Add the ``admin proxy`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    admin.add_typer(group, name="proxy")
    group.command("grant")(grant)
    group.command("end")(end)
    group.command("list")(listed)


def grant(
    patient: str = PATIENT,
    person: str = PERSON,
    what: str = typer.Option(..., help="readings, alerts or both with a comma between"),
    until: str = typer.Option(..., help="when it ends by itself, RFC 3339 with an offset"),
    since: str = SINCE,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Let a proxy see what a patient lets them see, until an instant."""
    from services.teams import grant_proxy

    kinds = _kinds(what)
    with desk(organisation) as at:
        patient_id, who = a_patient(at, patient), a_person(at, person)
        if who.role != "proxy":
            refuse(
                f"{person} is of role {who.role}; only a proxy is let in by a patient (`keepwell admin people role`)"
            )
        start, finish = span(at, since, until, "--until")
        if finish is None:
            refuse("--until is empty; a grant ends by itself, e.g. 2027-06-01T00:00Z")
        known = at.connection.execute(
            """SELECT array_to_string(what, ', '), valid_to FROM proxy_grant
               WHERE person_id = %s AND patient_id = %s AND tstzrange(valid_from, valid_to) && tstzrange(%s, %s)
               ORDER BY valid_from LIMIT 1""",
            [who.id, patient_id, start, finish],
        ).fetchone()
        if known is not None:
            refuse(
                f"{person} may see {known[0] or 'the name'} of {patient} until {known[1].isoformat()} already; "
                f"end that first (`keepwell admin proxy end {patient} {person}`), or choose a time beside it"
            )
        grant_proxy(at.connection, who.id, patient_id, kinds, start, finish)
        noted_of(
            at.connection, "proxy.grant", [patient_id], person=person, what=kinds, since=text_of(start),
            until=text_of(finish),
        )  # fmt: skip
    answer = {"patient": patient, "person": person, "what": ",".join(kinds)}
    say.told({**answer, "from": text_of(start), "until": text_of(finish)}, as_json)


def end(
    patient: str = PATIENT, person: str = PERSON, until: str = END, organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """End what a patient let a proxy see, at once or at an instant to come."""
    from services.teams import end_proxy

    with desk(organisation) as at:
        patient_id, who, finish = a_patient(at, patient), a_person(at, person), ending(at, until)
        count = end_proxy(at.connection, who.id, patient_id, finish)
        if not count:
            refuse(
                f"{person} is let see nothing of {patient} after {finish.isoformat()}; "
                f"`keepwell admin proxy list {patient}` says who is"
            )
        noted_of(at.connection, "proxy.end", [patient_id], person=person, until=text_of(finish), grants=count)
    say.told({"patient": patient, "person": person, "to": text_of(finish), "ended": count}, as_json)


def listed(
    patient: str = typer.Argument(None, help="key of a patient; everybody's where left out"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """List the grants, ended ones too (at most 1000), the last to end first."""
    with desk(organisation) as at:
        chosen = None if patient is None else a_patient(at, patient)
        rows = at.connection.execute(
            """SELECT t.id, t.key, p.key, p.name, array_to_string(g.what, ','), g.valid_from, g.valid_to,
                      CASE WHEN g.valid_to <= greatest(g.valid_from, %(at)s) THEN 'ended'
                           WHEN g.valid_from > %(at)s THEN 'to come' WHEN p.role <> 'proxy' THEN 'no proxy any more'
                           ELSE 'open' END
               FROM proxy_grant g JOIN person p ON p.id = g.person_id JOIN patient t ON t.id = g.patient_id
               WHERE g.organisation_id = %(organisation)s AND (%(patient)s::int IS NULL OR g.patient_id = %(patient)s)
               ORDER BY g.valid_to DESC, g.id LIMIT 1000""",
            {"at": at.now, "organisation": at.organisation_id, "patient": chosen},
        ).fetchall()
        noted_of(at.connection, "proxy.list", list({row[0] for row in rows}))
    names = ("patient", "person", "name", "what", "from", "until", "state")
    shown: list[dict[str, Any]] = [dict(zip(names, row[1:], strict=True)) for row in rows]
    say.rows(shown, as_json, "no patient lets anybody look on")


def _kinds(text: str) -> list[What]:
    from services.teams import What

    allowed: tuple[What, ...] = get_args(What)
    wanted = [one.strip() for one in text.split(",")]
    unknown = [one for one in wanted if one not in allowed]
    if unknown:
        refuse(f"--what = {text!r} names {unknown[0]!r}; allowed: {', '.join(allowed)}, or both with a comma between")
    return [one for one in allowed if one in wanted]
