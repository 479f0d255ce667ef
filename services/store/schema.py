"""Which schema a database has, and which this code was written for. Light: every process asks at its start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

import psycopg

from services.settings import SettingsError
from services.settings_sections import PostgresSettings

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_STEP: Final = re.compile(r"""^(down_)?revision = (?:None|"(\w+)")$""", re.MULTILINE)


class SchemaError(SettingsError):
    """The database's schema is not the one this code was written for."""


def revisions() -> list[str]:
    """Return the schema's revisions this code knows, the newest first."""
    before: dict[str, str] = {}
    for file in (MIGRATIONS / "versions").glob("*.py"):
        said = dict(_STEP.findall(file.read_text("utf-8")))
        before[said[""]] = said["down_"]
    (newest,) = before.keys() - set(before.values())
    chain = [newest]
    while before[chain[-1]]:
        chain.append(before[chain[-1]])
    return chain


def unknown(settings: PostgresSettings, found: str, head: str) -> str:
    """Return what to say of a schema that only newer code knows."""
    return (
        f"database {settings.database} has schema {found}, which this Keepwell (up to {head}) does not know: "
        "run the newer Keepwell that made it"
    )


def check_schema(settings: PostgresSettings, role: Literal["admin", "writer", "api", "gateway"]) -> None:
    """Let nobody run on a schema that is not this code's.

    Raises:
        SchemaError: the database has another revision, or none; the text says which command helps.
        psycopg.Error: the database can't be asked.
    """
    head = revisions()[0]
    with psycopg.connect(settings.conninfo(role)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            row = None
    if row is None or row[0] in revisions()[1:]:
        found = row[0] if row else "an older one, or none"
        msg = f"database {settings.database} has schema {found}, this Keepwell needs {head}: run `keepwell migrate`"
        raise SchemaError(msg)
    if row[0] != head:
        raise SchemaError(unknown(settings, row[0], head))
