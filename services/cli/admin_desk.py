"""What the ``keepwell admin`` commands share: a transaction in one organisation, who is meant, from when to when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from services.cli.audited import noted
from services.cli.say import connected, moment, refuse
from services.roles import Role
from services.settings import load

if TYPE_CHECKING:
    import psycopg

SINCE = typer.Option(None, "--from", help="when it begins, RFC 3339 with an offset; now where left out")
UNTIL = typer.Option(None, "--to", help="when it ends, RFC 3339 with an offset; never where left out")
END = typer.Option(None, "--to", help="when it ends, RFC 3339 with an offset; now where left out")
FORCE = typer.Option(False, "--force", help="do it although nobody of a team would look after them")


class Desk(NamedTuple):
    """One transaction as the admin role for one organisation, and the present."""

    connection: psycopg.Connection[Any]
    organisation: str
    organisation_id: int
    now: datetime

    def note(self, action: str, **detail: Any) -> None:
        """Write to the audit what was done and concerns no patient; instants as text."""
        noted(self.connection, action, organisation_id=self.organisation_id, **detail)


class Person(NamedTuple):
    """A person or a program; ``patient_id`` says who a person of role patient is."""

    id: int
    key: str
    name: str
    role: Role
    service: bool
    patient_id: int | None


@contextmanager
def desk(organisation: str) -> Iterator[Desk]:
    """One transaction for an organisation; what can't be done ends with one plain sentence and changes nothing."""
    from ingest.clock import SystemClock, to_datetime
    from services.devices import EnrolmentError
    from services.teams import TeamError

    try:
        with connected(load().settings) as connection:
            row = connection.execute("SELECT id FROM organisation WHERE key = %s", [organisation]).fetchone()
            if row is None:
                known = connection.execute("SELECT key FROM organisation ORDER BY key LIMIT 100").fetchall()
                refuse(
                    f"organisation = {organisation!r} is not known; there are "
                    f"{', '.join(key for (key,) in known) or 'none'}; `keepwell admin organisation add` makes one"
                )
            yield Desk(connection, organisation, row[0], to_datetime(SystemClock().now_ms()))
    except (EnrolmentError, TeamError) as error:
        refuse(str(error))


def a_team(desk: Desk, key: str) -> int:
    """Return a team's id; else end with one plain sentence."""
    query = "SELECT key, id FROM care_team WHERE organisation_id = %s ORDER BY key LIMIT 1000"
    known = dict(desk.connection.execute(query, [desk.organisation_id]).fetchall())
    if key not in known:
        refuse(
            f"team = {key!r} is not known in {desk.organisation}; there are {', '.join(known) or 'none'}; "
            f"`keepwell admin team add {key}` makes it"
        )
    return int(known[key])


def a_person(desk: Desk, key: str) -> Person:
    """Return a person, nobody else changes whom until this is done; else end with one plain sentence."""
    row = desk.connection.execute(
        """SELECT id, key, name, role, service, patient_id FROM person WHERE organisation_id = %s AND key = %s
           FOR NO KEY UPDATE""",
        [desk.organisation_id, key],
    ).fetchone()
    if row is None:
        refuse(
            f"person = {key!r} is not known in {desk.organisation}; `keepwell admin people list` shows who is, "
            f"`keepwell account invite {key} --role ROLE` makes one"
        )
    return Person(*row)


def a_patient(desk: Desk, key: str) -> int:
    """Return a patient's id, nobody else changes whose care until this is done; else end with one plain sentence."""
    from services.cli.patient_find import found

    number = found(desk.connection, desk.organisation, key)
    desk.connection.execute("SELECT 1 FROM patient WHERE id = %s FOR NO KEY UPDATE", [number])
    return number


def span(desk: Desk, since: str | None, until: str | None, option: str = "--to") -> tuple[datetime, datetime | None]:
    """Return from when until when something is to hold; else end with one plain sentence."""
    start, end = _to_come(desk, "--from", since), moment(option, until)
    if end is not None and end <= start:
        refuse(f"{option} = {until!r} is not after --from, {start.isoformat()}; choose a later end")
    return start, end


def ending(desk: Desk, until: str | None) -> datetime:
    """Return when something is to end; else end with one plain sentence."""
    return _to_come(desk, "--to", until)


def _to_come(desk: Desk, option: str, text: str | None) -> datetime:
    instant = moment(option, text) or desk.now
    if instant < desk.now:
        refuse(
            f"{option} = {text!r} is past, and what somebody could see then can't be changed any more; "
            "allowed: an instant to come, or leave it out for now"
        )
    return instant


def text_of(instant: datetime | None) -> str | None:
    """Return an instant as the audit and the answers have it."""
    return None if instant is None else instant.isoformat()
