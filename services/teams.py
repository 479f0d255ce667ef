"""Care teams: who looks after whom, from when until when. By the admin role in SQL, as in `services.devices`.

Each organisation has one default team; people and patients are enrolled into it unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import psycopg

Connection = psycopg.Connection[Any]
What = Literal["readings", "alerts"]

OUTSIDE_TEAMS: Final = ("patient", "proxy")  # see whom they are, or who let them
DEFAULT: Final = "default"


class TeamError(ValueError):
    """There is no such team, person or patient; the text names it and the next step."""


def create_team(connection: Connection, organisation_id: int, key: str, name: str) -> int:
    """Return the team's id, made where missing; the one of key ``default`` is the organisation's default."""
    connection.execute(
        """INSERT INTO care_team (organisation_id, key, name, is_default) VALUES (%s, %s, %s, %s)
           ON CONFLICT (organisation_id, key) DO NOTHING""",
        [organisation_id, key, name, key == DEFAULT],
    )
    return team_id(connection, organisation_id, key)


def team_id(connection: Connection, organisation_id: int, key: str | None = None) -> int:
    """Return a team's id; of the default team where no key is given.

    Raises:
        TeamError: there is none.
    """
    row = connection.execute(
        """SELECT id FROM care_team WHERE organisation_id = %s
           AND CASE WHEN %s::text IS NULL THEN is_default ELSE key = %s END""",
        [organisation_id, key, key],
    ).fetchone()
    if row is None:
        msg = f"there is no care team {key or DEFAULT!r} in this organisation; make it first"
        raise TeamError(msg)
    return int(row[0])


def add_member(connection: Connection, team: int, person_id: int, at: datetime, until: datetime | None = None) -> bool:
    """Let a person see the team's patients from ``at`` on, or ``until``; one who is a member then already stays it.

    Return whether that was new.
    """
    done = connection.execute(
        """INSERT INTO care_team_member (organisation_id, team_id, person_id, valid_from, valid_to)
           SELECT organisation_id, id, %s, %s, coalesce(%s, 'infinity'::timestamptz) FROM care_team WHERE id = %s
           ON CONFLICT DO NOTHING""",
        [person_id, at, until, team],
    )
    return done.rowcount > 0


def add_patients(
    connection: Connection, team: int, patient_ids: Sequence[int], at: datetime, until: datetime | None = None
) -> int:
    """Put patients under the team's care from ``at`` on, or ``until``; those who are then already stay it.

    Return for how many that was new.
    """
    done = connection.execute(
        """INSERT INTO care_team_patient (organisation_id, team_id, patient_id, valid_from, valid_to)
           SELECT t.organisation_id, t.id, p, %s, coalesce(%s, 'infinity'::timestamptz)
           FROM care_team t, unnest(%s::int[]) AS p WHERE t.id = %s
           ON CONFLICT DO NOTHING""",
        [at, until, list(patient_ids), team],
    )
    return done.rowcount


def remove_member(connection: Connection, team: int, person_id: int, at: datetime) -> bool:
    """End a membership at ``at``; return whether there was one."""
    done = connection.execute(
        """UPDATE care_team_member SET valid_to = greatest(valid_from, %s)
           WHERE team_id = %s AND person_id = %s AND valid_to > %s""",
        [at, team, person_id, at],
    )
    return done.rowcount > 0


def remove_patient(connection: Connection, team: int, patient_id: int, at: datetime) -> bool:
    """End a patient's time under the team's care at ``at``; return whether there was one."""
    done = connection.execute(
        """UPDATE care_team_patient SET valid_to = greatest(valid_from, %s)
           WHERE team_id = %s AND patient_id = %s AND valid_to > %s""",
        [at, team, patient_id, at],
    )
    return done.rowcount > 0


def link_patient(connection: Connection, person_id: int, patient_id: int | None) -> None:
    """Say who a person of role patient is; None: nobody any more."""
    connection.execute("UPDATE person SET patient_id = %s WHERE id = %s", [patient_id, person_id])


def grant_proxy(
    connection: Connection, person_id: int, patient_id: int, what: Sequence[What], at: datetime, until: datetime
) -> None:
    """Let a person of role proxy see a patient's readings, alerts or both from ``at`` until ``until``."""
    connection.execute(
        """INSERT INTO proxy_grant (organisation_id, person_id, patient_id, what, valid_from, valid_to)
           SELECT organisation_id, id, %s, %s, %s, %s FROM person WHERE id = %s""",
        [patient_id, list(what), at, until, person_id],
    )


def end_proxy(connection: Connection, person_id: int, patient_id: int, at: datetime) -> int:
    """End a proxy's grants by a patient at ``at`` and return how many there were."""
    done = connection.execute(
        """UPDATE proxy_grant SET valid_to = greatest(valid_from, %s)
           WHERE person_id = %s AND patient_id = %s AND valid_to > %s""",
        [at, person_id, patient_id, at],
    )
    return done.rowcount
