"""``keepwell admin organisation``: the tenants of this installation."""

from __future__ import annotations

from typing import Final

import typer

from services.cli import say
from services.cli.audited import noted
from services.cli.say import JSON, connected, refuse
from services.settings import load

HELP: Final = """Make and list organisations. Nobody of one ever sees anything of another.

    keepwell admin organisation add clinic --name "Heart clinic"
    keepwell admin people import staff.csv --organisation clinic
"""


def register(admin: typer.Typer) -> None:
    """Add the ``admin organisation`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    admin.add_typer(group, name="organisation")
    group.command("add")(add)
    group.command("list")(listed)


def add(
    key: str = typer.Argument(..., help="key of the organisation, e.g. clinic: it is part of how people sign in"),
    name: str = typer.Option("", help="what people call it; its key where left out"),
    as_json: bool = JSON,
) -> None:
    """Make an organisation with its default care team; one that is there stays as it is."""
    from services.devices import EnrolmentError, create_organisation

    query = "SELECT id, name FROM organisation WHERE key = %s"
    with connected(load().settings) as connection:
        made = connection.execute(query, [key]).fetchone() is None
        try:
            number = create_organisation(connection, key, name or key)
        except EnrolmentError as error:
            refuse(str(error))
        (_, called) = connection.execute(query, [key]).fetchone() or (number, name)
        if made:
            noted(connection, "organisation.add", organisation_id=number, organisation=key)
    say.told({"organisation": key, "name": called, "made": made}, as_json)


def listed(as_json: bool = JSON) -> None:
    """List the organisations, with how many teams, people and patients each has."""
    with connected(load().settings) as connection:
        rows = connection.execute(
            """SELECT o.key, o.name, (SELECT count(*) FROM care_team t WHERE t.organisation_id = o.id),
                      (SELECT count(*) FROM person p WHERE p.organisation_id = o.id),
                      (SELECT count(*) FROM patient p WHERE p.organisation_id = o.id AND p.erased_at IS NULL)
               FROM organisation o ORDER BY 1 LIMIT 1000"""
        ).fetchall()
    names = ("organisation", "name", "teams", "people", "patients")
    shown = [dict(zip(names, row, strict=True)) for row in rows]
    say.rows(shown, as_json, "there is no organisation; make one with `keepwell admin organisation add`")
