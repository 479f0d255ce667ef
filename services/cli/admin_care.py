"""``keepwell admin team take`` and ``release``: whom a care team looks after, and who sees them then."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from services.cli import say
from services.cli.admin_desk import END, FORCE, SINCE, UNTIL, Desk, a_patient, a_team, desk, ending, span, text_of
from services.cli.audited import noted_of
from services.cli.say import JSON, ORGANISATION, refuse

if TYPE_CHECKING:
    from services.memberships import Side

TEAM = typer.Argument(..., help="key of the team, e.g. heart")
PATIENT = typer.Argument(..., help="key of the patient, e.g. p20")


def take(
    team: str = TEAM, patient: str = PATIENT, since: str = SINCE, until: str = UNTIL, organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """Put a patient into a team's care: its members see them. Other teams keep them too."""
    from services import teams

    with desk(organisation) as at:
        number, patient_id = a_team(at, team), a_patient(at, patient)
        start, end = span(at, since, until)
        made = teams.add_patients(at.connection, number, [patient_id], start, end) > 0
        if made:
            noted_of(at.connection, "team.take", [patient_id], team=team, since=text_of(start), until=text_of(end))
        else:
            stands(at, "patient", number, patient_id, start, end, f"{patient} is in the care of {team}", "release")
    say.told({"team": team, "patient": patient, "from": text_of(start), "to": text_of(end), "made": made}, as_json)


def release(
    team: str = TEAM, patient: str = PATIENT, until: str = END, force: bool = FORCE, organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """End a patient's time in a team's care, and say who still sees them.

    Refused without --force where the patient would be in no team's care.
    """
    from services import memberships, teams

    with desk(organisation) as at:
        number, patient_id, end = a_team(at, team), a_patient(at, patient), ending(at, until)
        before = memberships.in_no_team_from(at.connection, patient_id, end)
        if not teams.remove_patient(at.connection, number, patient_id, end):
            refuse(
                f"{patient} is not in the care of {team} after {end.isoformat()}; "
                f"`keepwell admin team show {team}` says who is"
            )
        gap = memberships.in_no_team_from(at.connection, patient_id, end)
        seers = memberships.seers(at.connection, at.organisation_id, patient_id, gap or end)
        if gap is not None and (before is None or gap < before) and not force:
            refuse(
                f"{patient} would be in no team's care from {gap.isoformat()} on, and nothing was changed; who would "
                f"still see them: {_names(seers)}; put them into another team first "
                f"(`keepwell admin team take TEAM {patient}`), or say --force"
            )
        noted_of(
            at.connection, "team.release", [patient_id], team=team, until=text_of(end), in_no_team_from=text_of(gap)
        )
    done = {"team": team, "patient": patient, "to": text_of(end), "in_no_team_from": text_of(gap)}
    if as_json:
        say.told({**done, "seen_by": seers}, as_json)
        return
    say.told(done, as_json)
    say.rows(seers, as_json, f"nobody sees {patient} then")


def stands(
    at: Desk, side: Side, team: int, number: int, start: datetime, end: datetime | None, said: str, ender: str
) -> None:
    """End with one plain sentence, unless what was asked for holds already and for all of the time."""
    from services.memberships import standing

    there = standing(at.connection, side, team, number, start, end)
    if there is not None and not there.covers:
        begun = "always" if there.start is None else there.start.isoformat()
        ends = "for ever" if there.end is None else there.end.isoformat()
        refuse(
            f"{said} from {begun} to {ends} already, which is another time than asked for; end that first "
            f"(`keepwell admin team {ender}`), or choose a time beside it"
        )


def _names(seers: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['person']} ({row['role']}: {row['by']})" for row in seers) or "nobody"
