"""``keepwell admin team``: care teams and who is in them; `admin_care` says whom they look after."""

from __future__ import annotations

from typing import Final

import typer

from services.cli import admin_care, say
from services.cli.admin_desk import END, FORCE, SINCE, UNTIL, Desk, a_person, a_team, desk, ending, span, text_of
from services.cli.audited import noted_of
from services.cli.say import JSON, ORGANISATION, refuse

HELP: Final = """Make care teams, let people join them, and say whom they look after.

    keepwell admin team add heart --name "Heart failure"
    keepwell admin team join heart ada                            ada sees the team's patients from now on
    keepwell admin team join heart bo --from 2026-12-01T07:00Z --to 2026-12-15T19:00Z
    keepwell admin team take heart p20                            into the team's care
    keepwell admin team release default p20                       and out of another's
    keepwell admin team show heart                                who is in it, and whom it looks after

Where nobody of a team would look after somebody any more, `leave` and `release` say so and do nothing without --force.
"""
TEAM = typer.Argument(..., help="key of the team, e.g. heart")
PERSON = typer.Argument(..., help="key of the person, e.g. ada")


def register(admin: typer.Typer) -> None:
    """Add the ``admin team`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    admin.add_typer(group, name="team")
    group.command("list")(listed)
    for command in (add, show, join, leave, admin_care.take, admin_care.release):
        group.command(command.__name__)(command)


def add(
    team: str = TEAM,
    name: str = typer.Option("", help="what people call it; its key where left out"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Make a care team; one that is there stays as it is."""
    from services.devices import create_team

    query = "SELECT name FROM care_team WHERE organisation_id = %s AND key = %s"
    with desk(organisation) as at:
        made = at.connection.execute(query, [at.organisation_id, team]).fetchone() is None
        create_team(at.connection, organisation, team, name or team)
        (called,) = at.connection.execute(query, [at.organisation_id, team]).fetchone() or (name,)
        if made:
            at.note("team.add", team=team)
    say.told({"team": team, "name": called, "made": made}, as_json)


def listed(organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List the care teams, with how many members and patients each has now."""
    from services.memberships import teams

    with desk(organisation) as at:
        rows = teams(at.connection, at.organisation_id, at.now)
    say.rows(rows, as_json, f"{organisation} has no care team")


def show(team: str = TEAM, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """Show who is in a team and whom it looks after, now and from when to when."""
    from services import memberships

    with desk(organisation) as at:
        number = a_team(at, team)
        members = memberships.members(at.connection, number, at.now)
        patients = memberships.patients(at.connection, number, at.now)
        ids = [row.pop("id") for row in patients]
        noted_of(at.connection, "team.show", ids, team=team)
    if as_json:
        say.told({"team": team, "members": members, "patients": patients}, as_json)
        return
    say.rows(members, as_json, f"nobody is in {team}")
    say.rows(patients, as_json, f"{team} looks after nobody")


def join(
    team: str = TEAM, person: str = PERSON, since: str = SINCE, until: str = UNTIL, organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """Let a person see a team's patients, from an instant on or for a time."""
    from services import teams

    with desk(organisation) as at:
        number, who = a_team(at, team), a_person(at, person)
        if who.role in teams.OUTSIDE_TEAMS:
            refuse(
                f"{person} is a {who.role}, and those are in no team: `keepwell admin people link` says who a patient "
                "is, `keepwell admin proxy grant` whom a proxy may see"
            )
        start, end = span(at, since, until)
        made = teams.add_member(at.connection, number, who.id, start, end)
        if made:
            at.note("team.join", team=team, person=person, since=text_of(start), until=text_of(end))
        else:
            admin_care.stands(at, "member", number, who.id, start, end, f"{person} is in {team}", "leave")
    say.told({"team": team, "person": person, "from": text_of(start), "to": text_of(end), "made": made}, as_json)


def leave(
    team: str = TEAM, person: str = PERSON, until: str = END, force: bool = FORCE, organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """End a person's time in a team: they see its patients no longer."""
    from services import memberships, teams

    with desk(organisation) as at:
        number, who, end = a_team(at, team), a_person(at, person), ending(at, until)
        before = memberships.unseen(at.connection, at.organisation_id, number, end)
        if not teams.remove_member(at.connection, number, who.id, end):
            refuse(f"{person} is not in {team} after {end.isoformat()}; `keepwell admin team show {team}` says who is")
        unseen = memberships.unseen(at.connection, at.organisation_id, number, end)
        if unseen > before and not force:
            refuse(_nobody_left(at, team, unseen))
        at.note("team.leave", team=team, person=person, until=text_of(end), patients_unseen=unseen)
    say.told({"team": team, "person": person, "to": text_of(end), "patients_unseen": unseen}, as_json)


def _nobody_left(at: Desk, team: str, unseen: int) -> str:
    whom = "1 patient" if unseen == 1 else f"{unseen} patients"
    return (
        f"nobody of a care team would see {whom} of {team} any more, and nothing was changed; let somebody join first "
        f"(`keepwell admin team join {team} PERSON --organisation {at.organisation}`), or say --force"
    )
