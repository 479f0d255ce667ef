"""Who is in which care team and who sees whom, by the admin role in SQL; `services.teams` changes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

Connection = psycopg.Connection[Any]
Rows = list[dict[str, Any]]
Side = Literal["member", "patient"]

MOST: Final = 1000  # the longest list
COLUMN: Final[dict[Side, str]] = {"member": "person_id", "patient": "patient_id"}


class Standing(NamedTuple):
    """A membership, or a patient's time under a team's care; None is without a beginning, or without an end."""

    start: datetime | None
    end: datetime | None
    covers: bool  # all of the time that was asked about


def teams(connection: Connection, organisation_id: int, at: datetime) -> Rows:
    """Return an organisation's teams with how many members and patients each has at ``at``."""
    query = """SELECT t.key AS team, t.name, t.is_default AS default,
                      (SELECT count(*) FROM care_team_member m
                       WHERE m.team_id = t.id AND m.valid_from <= %(at)s AND m.valid_to > %(at)s) AS members,
                      (SELECT count(*) FROM care_team_patient c
                       WHERE c.team_id = t.id AND c.valid_from <= %(at)s AND c.valid_to > %(at)s) AS patients
               FROM care_team t WHERE t.organisation_id = %(organisation)s ORDER BY 1 LIMIT %(most)s"""
    return _rows(connection, query, {"at": at, "organisation": organisation_id, "most": MOST})


def members(connection: Connection, team: int, at: datetime) -> Rows:
    """Return who is in a team at ``at`` or will be."""
    query = """SELECT p.key AS person, p.name, p.role, nullif(m.valid_from, '-infinity') AS from,
                      nullif(m.valid_to, 'infinity') AS to
               FROM care_team_member m JOIN person p ON p.id = m.person_id
               WHERE m.team_id = %(team)s AND m.valid_to > greatest(m.valid_from, %(at)s)
               ORDER BY 1, 4 LIMIT %(most)s"""
    return _rows(connection, query, {"team": team, "at": at, "most": MOST})


def patients(connection: Connection, team: int, at: datetime) -> Rows:
    """Return who is in a team's care at ``at`` or will be, with their ids."""
    query = """SELECT p.id, p.key AS patient, p.name, nullif(c.valid_from, '-infinity') AS from,
                      nullif(c.valid_to, 'infinity') AS to
               FROM care_team_patient c JOIN patient p ON p.id = c.patient_id
               WHERE c.team_id = %(team)s AND c.valid_to > greatest(c.valid_from, %(at)s)
               ORDER BY 2, 4 LIMIT %(most)s"""
    return _rows(connection, query, {"team": team, "at": at, "most": MOST})


def standing(
    connection: Connection, side: Side, team: int, number: int, start: datetime, end: datetime | None
) -> Standing | None:
    """Return the first time a person or patient has in a team between ``start`` and ``end`` (None: for ever)."""
    query = sql.SQL(
        """SELECT nullif(valid_from, '-infinity'), nullif(valid_to, 'infinity'),
                  tstzrange(valid_from, valid_to) @> tstzrange(%(start)s, coalesce(%(end)s, 'infinity'::timestamptz))
           FROM {table} WHERE team_id = %(team)s AND {column} = %(number)s
             AND tstzrange(valid_from, valid_to) && tstzrange(%(start)s, coalesce(%(end)s, 'infinity'::timestamptz))
           ORDER BY valid_from LIMIT 1"""
    ).format(table=sql.Identifier(f"care_team_{side}"), column=sql.Identifier(COLUMN[side]))
    row = connection.execute(query, {"start": start, "end": end, "team": team, "number": number}).fetchone()
    return None if row is None else Standing(*row)


def in_no_team_from(connection: Connection, patient_id: int, at: datetime) -> datetime | None:
    """Return the first instant from ``at`` on at which a patient is in no team's care, None when there is none."""
    query = """SELECT lower(tstzmultirange(tstzrange(%s, 'infinity'))
                            - coalesce(range_agg(tstzrange(valid_from, valid_to)), '{}'))
               FROM care_team_patient WHERE patient_id = %s"""
    row = connection.execute(query, [at, patient_id]).fetchone()
    return None if row is None else row[0]


def unseen(connection: Connection, organisation_id: int, team: int, at: datetime) -> int:
    """Return how many of a team's patients nobody sees at ``at`` by being in a team of theirs."""
    _judge(connection, organisation_id, at)
    query = """SELECT count(*) FROM care_team_patient c
               WHERE c.team_id = %(team)s AND c.valid_from <= %(at)s AND c.valid_to > %(at)s AND NOT EXISTS (
                   SELECT 1 FROM care_team_patient o JOIN person_team m USING (team_id)
                   WHERE o.patient_id = c.patient_id AND o.valid_from <= %(at)s AND o.valid_to > %(at)s)"""
    row = connection.execute(query, {"team": team, "at": at}).fetchone()
    return 0 if row is None else int(row[0])


def seers(connection: Connection, organisation_id: int, patient_id: int, at: datetime) -> Rows:
    """Return who sees a patient at ``at`` and by what: the same views that the policies of the database read."""
    _judge(connection, organisation_id, at)
    query = """SELECT p.key AS person, p.name, p.role, 'team ' || t.key AS by
               FROM care_team_patient c JOIN person_team m USING (team_id) JOIN person p ON p.id = m.person_id
               JOIN care_team t ON t.id = c.team_id
               WHERE c.patient_id = %(patient)s AND c.valid_from <= %(at)s AND c.valid_to > %(at)s
               UNION ALL
               SELECT p.key, p.name, p.role, array_to_string(g.what, ', ')
               FROM person_grant g JOIN person p ON p.id = g.person_id WHERE g.patient_id = %(patient)s
               ORDER BY 1, 4 LIMIT %(most)s"""
    return _rows(connection, query, {"patient": patient_id, "at": at, "most": MOST})


def _judge(connection: Connection, organisation_id: int, at: datetime) -> None:
    """Set, for this transaction, of which organisation and at which instant the views tell."""
    connection.execute(
        "SELECT set_config('keepwell.organisation', %s, true), set_config('keepwell.at', %s, true)",
        [str(organisation_id), at.isoformat()],
    )


def _rows(connection: Connection, query: str, values: dict[str, Any]) -> Rows:
    return connection.cursor(row_factory=dict_row).execute(query.encode(), values).fetchall()
