"""People and programs by the admin role in SQL: login links, invitations, and service tokens with their scopes.

As in `services.devices`, every function takes an open connection; only hashes are stored, so each link and token is
shown once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from ingest.clock import SystemClock, to_datetime
from ingest.devices import token_hash
from services import devices, teams
from services.devices import EnrolmentError
from services.roles import Role

Connection = psycopg.Connection[Any]

LINK_LIFE: Final = timedelta(minutes=15)
INVITATION_LIFE: Final = timedelta(days=7)
LONGEST_TOKEN: Final = timedelta(days=366)
PREFIX: Final = "kws"  # so that a token found in the wrong place is known for what it is


def create_person(
    connection: Connection, organisation: str, key: str, name: str, role: Role, *, team: str | None = None,
    at: datetime | None = None,
) -> int:  # fmt: skip
    """Return the person's id, made where missing; name and role are brought up to date.

    A new person is from ``at`` (else the present) on in the organisation's default team, or in ``team``; a patient or
    a proxy is in none.

    Raises:
        EnrolmentError: an impossible key, an unknown organisation or team.
    """
    devices.check_key("person", key)
    query = "SELECT id FROM organisation WHERE key = %s"
    organisation_id = devices.one_id(connection, query, [organisation], f"organisation {organisation}")
    query = "SELECT id FROM person WHERE organisation_id = %s AND key = %s"
    known = connection.execute(query.encode(), [organisation_id, key]).fetchone()
    connection.execute(
        """INSERT INTO person (organisation_id, key, name, role) VALUES (%s, %s, %s, %s)
           ON CONFLICT (organisation_id, key) DO UPDATE SET name = excluded.name, role = excluded.role""",
        [organisation_id, key, name, role],
    )
    person_id = devices.one_id(connection, query, [organisation_id, key], f"person {key}")
    if team is not None or (known is None and role not in teams.OUTSIDE_TEAMS):
        at = at or to_datetime(SystemClock().now_ms())
        teams.add_member(connection, devices.team_of(connection, organisation_id, team), person_id, at)
    return person_id


def login_token(connection: Connection, organisation: str, person: str, at: datetime) -> str:
    """Make a login link's token for a person: it works once, within `LINK_LIFE` of ``at``.

    Raises:
        EnrolmentError: no such person.
    """
    query = """SELECT p.id FROM person p JOIN organisation o ON o.id = p.organisation_id
               WHERE o.key = %s AND p.key = %s"""
    person_id = devices.one_id(connection, query, [organisation, person], f"person {person} in {organisation}")
    token = devices.new_token()
    connection.execute(
        """INSERT INTO person_token (hash, person_id, kind, created_at, expires_at)
           VALUES (%s, %s, 'login_link', %s, %s)""",
        [token_hash(token), person_id, at, at + LINK_LIFE],
    )
    return token


def invite(connection: Connection, organisation: str, key: str, name: str, role: Role | None, at: datetime) -> str:
    """Return the token of a one-time invitation for a person, who is made where missing; earlier ones end.

    Raises:
        EnrolmentError: an impossible key, an unknown organisation, a new person without a role, a program's name.
    """
    known = _person(connection, organisation, key)
    if known is not None and known[1]:
        msg = f"{key} is a program with service tokens, and programs are not invited; choose another key"
        raise EnrolmentError(msg)
    wanted = role or (known[3] if known is not None else None)
    if wanted is None:
        msg = f"there is no {key} in {organisation} yet; say who it is with --role"
        raise EnrolmentError(msg)
    called = name or (known[2] if known is not None else key)
    person = create_person(connection, organisation, key, called, wanted, at=at)
    connection.execute(
        "UPDATE person_token SET revoked_at = %s WHERE person_id = %s AND kind = 'invitation' AND used_at IS NULL "
        "AND revoked_at IS NULL",
        [at, person],
    )
    token = devices.new_token()
    connection.execute(
        """INSERT INTO person_token (hash, person_id, kind, created_at, expires_at)
           VALUES (%s, %s, 'invitation', %s, %s)""",
        [token_hash(token), person, at, at + INVITATION_LIFE],
    )
    return token


def service_token(
    connection: Connection, organisation: str, name: str, role: Role, scopes: Sequence[str], at: datetime, days: int
) -> str:
    """Return a token for a program, ``kws_PREFIX_SECRET``; the program is made where missing.

    Raises:
        EnrolmentError: an impossible name, an unknown organisation, a person of that name, a life that is too long.
    """
    if not timedelta(0) < timedelta(days=days) <= LONGEST_TOKEN:
        msg = f"--days {days} is not possible: 1 to {LONGEST_TOKEN.days}; make a new token before the old one ends"
        raise EnrolmentError(msg)
    known = _person(connection, organisation, name)
    if known is not None and not known[1]:
        msg = (
            f"{name} is a person in {organisation}; a program's token needs a name of its own, so that it is told apart"
        )
        raise EnrolmentError(msg)
    person = create_person(connection, organisation, name, name, role, at=at)
    connection.execute("UPDATE person SET service = true WHERE id = %s", [person])
    prefix = f"{PREFIX}_{secrets.token_hex(4)}"
    token = f"{prefix}_{devices.new_token()}"
    connection.execute(
        """INSERT INTO person_token (hash, person_id, kind, created_at, expires_at, prefix, scopes)
           VALUES (%s, %s, 'service', %s, %s, %s, %s)""",
        [token_hash(token), person, at, at + timedelta(days=days), prefix, list(scopes)],
    )
    return token


def prefix_of(token: str) -> str:
    """Return the part of a service token that names it and is no secret.

    >>> prefix_of("kws_1a2b3c4d_not-for-anybody")
    'kws_1a2b3c4d'
    """
    return "_".join(token.split("_", 2)[:2])


def service_tokens(connection: Connection, organisation: str, at: datetime) -> list[dict[str, Any]]:
    """Return an organisation's service tokens that still work, the first to end first."""
    rows = connection.execute(
        """SELECT t.prefix, p.key, p.role, t.scopes, t.created_at, t.expires_at
           FROM person_token t JOIN person p ON p.id = t.person_id JOIN organisation o ON o.id = p.organisation_id
           WHERE o.key = %s AND t.kind = 'service' AND t.revoked_at IS NULL AND t.expires_at > %s
           ORDER BY t.expires_at, t.prefix""",
        [organisation, at],
    ).fetchall()
    names = ("prefix", "name", "role", "scopes", "made_at", "ends_at")
    return [dict(zip(names, row, strict=True)) for row in rows]


def revoke_token(connection: Connection, organisation: str, prefix: str, at: datetime) -> None:
    """Revoke a service token by its prefix; the next request with it is refused.

    Raises:
        EnrolmentError: no token of that prefix works there.
    """
    done = connection.execute(
        """UPDATE person_token t SET revoked_at = %s FROM person p, organisation o
           WHERE p.id = t.person_id AND o.id = p.organisation_id AND o.key = %s AND t.prefix = %s
             AND t.revoked_at IS NULL""",
        [at, organisation, prefix],
    )
    if done.rowcount != 1:
        msg = f"no service token {prefix} works in {organisation}; `keepwell account tokens` lists those that do"
        raise EnrolmentError(msg)


def _person(connection: Connection, organisation: str, key: str) -> tuple[int, bool, str, Role] | None:
    return connection.execute(
        """SELECT p.id, p.service, p.name, p.role FROM person p JOIN organisation o ON o.id = p.organisation_id
           WHERE o.key = %s AND p.key = %s""",
        [organisation, key],
    ).fetchone()
