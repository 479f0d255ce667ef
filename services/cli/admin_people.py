"""``keepwell admin people``: who works here, as what, and which patient somebody is."""

from __future__ import annotations

from typing import Final

import typer

from services.cli import admin_import_people, say
from services.cli.admin_desk import Desk, Person, a_patient, a_person, desk
from services.cli.audited import noted_of
from services.cli.say import JSON, ORGANISATION, known_role, refuse
from services.roles import ROLES, Role
from services.settings import load

HELP: Final = """List people, change what they are, and say which patient somebody is.

    keepwell admin people list
    keepwell admin people role ada clinician         holds at once, in open sessions and streams too
    keepwell admin people link pat p20               pat, of role patient, is p20 and sees their own data
    keepwell admin people unlink pat
    keepwell admin people import staff.csv --check   a hundred at once

One person alone is made by `keepwell account invite`.
"""
PERSON = typer.Argument(..., help="key of the person, e.g. ada")


def register(admin: typer.Typer) -> None:
    """Add the ``admin people`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    admin.add_typer(group, name="people")
    group.command("list")(listed)
    for command in (role, link, unlink):
        group.command(command.__name__)(command)
    group.command("import")(admin_import_people.people)


def listed(organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List people and programs (at most 1000): role, the teams they are in now, and which patient they are."""
    with desk(organisation) as at:
        rows = at.connection.execute(
            """SELECT p.key, p.name, p.role, p.service, a.person_id IS NOT NULL, t.key, (
                          SELECT string_agg(c.key, ', ' ORDER BY c.key)
                          FROM care_team_member m JOIN care_team c ON c.id = m.team_id
                          WHERE m.person_id = p.id AND m.valid_from <= %(at)s AND m.valid_to > %(at)s)
               FROM person p LEFT JOIN account a ON a.person_id = p.id LEFT JOIN patient t ON t.id = p.patient_id
               WHERE p.organisation_id = %(organisation)s ORDER BY 1 LIMIT 1000""",
            {"at": at.now, "organisation": at.organisation_id},
        ).fetchall()
        at.note("people.list", people=len(rows))
    names = ("person", "name", "role", "program", "account", "patient", "teams")
    say.rows([dict(zip(names, row, strict=True)) for row in rows], as_json, f"nobody is in {organisation} yet")


def role(
    person: str = PERSON,
    role: str = typer.Argument(..., help=f"what they are from now on: {', '.join(ROLES)}"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Change a person's role, at once. What only the old role can have is ended first, by you."""
    wanted = known_role(role)
    with desk(organisation) as at:
        who = a_person(at, person)
        reason = _in_the_way(at, who, wanted)
        if reason:
            refuse(f"{person} can't become {wanted}: {reason}; nothing was changed")
        at.connection.execute("UPDATE person SET role = %s WHERE id = %s", [wanted, who.id])
        at.note("person.role", person=person, before=who.role, role=wanted)
        by_provider = bool(load().settings.identity.role_map) and _has_subject(at, who)
    answer = {"person": person, "role": wanted, "before": who.role}
    if by_provider:
        answer["until"] = "the next sign-in, when identity.role_map says the role again"
    say.told(answer, as_json)


def link(
    person: str = PERSON,
    patient: str = typer.Argument(..., help="key of the patient they are, e.g. p20"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Say which patient a person of role patient is: from now on they see their own data."""
    from services.teams import link_patient

    with desk(organisation) as at:
        who, patient_id = a_person(at, person), a_patient(at, patient)
        if who.role != "patient" or who.service:
            what = "a program" if who.service else f"of role {who.role}"
            refuse(f"{person} is {what}; only a person of role patient is somebody's own account (`… people role`)")
        query = "SELECT key FROM person WHERE patient_id = %s AND id <> %s"
        other = at.connection.execute(query, [patient_id, who.id]).fetchone()
        if other is not None or who.patient_id not in (None, patient_id):
            held = f"{patient} is {other[0]}" if other else f"{person} is another patient"
            refuse(f"{held} already; `keepwell admin people unlink {other[0] if other else person}` ends that first")
        made = who.patient_id is None
        if made:
            link_patient(at.connection, who.id, patient_id)
            noted_of(at.connection, "person.link", [patient_id], person=person)
    say.told({"person": person, "patient": patient, "made": made}, as_json)


def unlink(person: str = PERSON, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """End that a person is a patient: from now on they see nothing."""
    from services.teams import link_patient

    with desk(organisation) as at:
        who = a_person(at, person)
        if who.patient_id is None:
            refuse(f"{person} is linked to no patient; `keepwell admin people list` shows who is")
        link_patient(at.connection, who.id, None)
        noted_of(at.connection, "person.unlink", [who.patient_id], person=person)
    say.told({"person": person, "patient": None}, as_json)


def _in_the_way(at: Desk, who: Person, wanted: Role) -> str:
    """Return what a person has that the wanted role can't have, with the next step; "" for nothing."""
    from services.teams import OUTSIDE_TEAMS

    if who.patient_id is not None and wanted != "patient":
        return f"they are linked to a patient; `keepwell admin people unlink {who.key}`"
    grants = "SELECT count(*) FROM proxy_grant WHERE person_id = %s AND valid_to > greatest(valid_from, %s)"
    (count,) = at.connection.execute(grants, [who.id, at.now]).fetchone() or (0,)
    if count and wanted != "proxy":
        return f"{count} of their grants as a proxy last or begin; `keepwell admin proxy end PATIENT {who.key}`"
    query = """SELECT string_agg(t.key, ', ' ORDER BY t.key)
               FROM care_team_member m JOIN care_team t ON t.id = m.team_id
               WHERE m.person_id = %s AND m.valid_to > greatest(m.valid_from, %s)"""
    (teams,) = at.connection.execute(query, [who.id, at.now]).fetchone() or (None,)
    if teams and wanted in OUTSIDE_TEAMS:
        return f"they are in {teams}, and a {wanted} is in no team; `keepwell admin team leave TEAM {who.key}`"
    return ""


def _has_subject(at: Desk, who: Person) -> bool:
    query = "SELECT 1 FROM person_subject WHERE person_id = %s LIMIT 1"
    return at.connection.execute(query, [who.id]).fetchone() is not None
