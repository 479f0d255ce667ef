"""``keepwell admin people import``: many people at once, with their invitations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from services.cli import say
from services.cli.admin_desk import Desk, a_team, desk
from services.cli.admin_import import CHECK, FILE, end_with, rows_of, teams_of
from services.cli.say import JSON, ORGANISATION, refuse
from services.roles import Role
from services.settings import load

if TYPE_CHECKING:
    from services.roster import Cells
    from services.roster_rules import People


def people(file: Path = FILE, check: bool = CHECK, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """Make people from a CSV with the columns key,name,role,team,invite.

    An empty team is the default one; a patient or proxy has none. invite is yes or no: a
    yes prints an invitation, once, for who has neither an account nor one that still works.
    Everything is checked before anything is written. Who is there already stays as they
    are, so the same file can be imported again; one that says otherwise is refused.
    """
    from services.api.identity.vault import open_vault
    from services.roster import PEOPLE
    from services.roster_rules import bad_people
    from services.runtime import api_base

    settings = load().settings
    rows, bad = rows_of(file, PEOPLE)
    with desk(organisation) as at:
        there = _there(at)
        end_with([*bad, *bad_people(rows, there)], file, as_json)
        wanted = any(row.cells["invite"] == "yes" for row in rows)
        if wanted and open_vault(settings.identity) is None:
            refuse("invitations need identity.key or identity.key_file; write no into the column invite, or set one")
        done = [_enter(at, row.cells, there) for row in rows]
        if check:
            at.connection.rollback()
        else:
            made = [one["person"] for one in done if one["state"] != "there"]
            at.note("people.import", file=file.name, rows=len(rows), changed=len(made), people=made[:500])
    for one in done:
        token = one.pop("invitation")
        one["invitation"] = token and ("to be made" if check else f"{api_base(settings)}/invitation?token={token}")
    if as_json:
        say.rows(done, as_json, "")
        return
    say.rows([{"person": one["person"], "state": one["state"]} for one in done], as_json, f"{file} has no rows")
    for one in done:
        if one["invitation"]:
            say.told({"person": one["person"], "invitation": one["invitation"]}, as_json)
    say.told({"checked" if check else "imported": len(done)}, as_json)


def _there(at: Desk) -> People:
    from services.roster_rules import Known, People

    rows = at.connection.execute(
        "SELECT key, id, name, role, service FROM person WHERE organisation_id = %s", [at.organisation_id]
    ).fetchall()
    return People(teams_of(at), {key: Known(*rest) for key, *rest in rows})


def _enter(at: Desk, cells: Cells, there: People) -> dict[str, Any]:
    """Make a person where missing, and say what became of the row."""
    from services import teams
    from services.people import create_person

    key, team, known = cells["key"], cells["team"] or None, there.people.get(cells["key"])
    state = "there"
    if known is None:
        role = cast("Role", cells["role"])  # judged with the whole file
        create_person(at.connection, at.organisation, key, cells["name"] or key, role, team=team, at=at.now)
        state = "made"
    elif team is not None and teams.add_member(at.connection, a_team(at, team), known.id, at.now):
        state = "joined"
    return {"person": key, "state": state, "invitation": _invitation(at, key) if cells["invite"] == "yes" else None}


def _invitation(at: Desk, key: str) -> str | None:
    """Return a new invitation's token, None for who can come in already or holds one that works."""
    from services.people import invite

    row = at.connection.execute(
        """SELECT 1 FROM person p WHERE p.organisation_id = %(organisation)s AND p.key = %(key)s
           AND (EXISTS (SELECT 1 FROM account a WHERE a.person_id = p.id)
             OR EXISTS (SELECT 1 FROM person_subject s WHERE s.person_id = p.id)
             OR EXISTS (SELECT 1 FROM person_token t WHERE t.person_id = p.id AND t.kind = 'invitation'
                        AND t.used_at IS NULL AND t.revoked_at IS NULL AND t.expires_at > %(at)s))""",
        {"organisation": at.organisation_id, "key": key, "at": at.now},
    ).fetchone()
    return invite(at.connection, at.organisation, key, "", None, at.now) if row is None else None
