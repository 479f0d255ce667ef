"""Whether the database has the schema this code knows, for readiness."""

from __future__ import annotations

from functools import cache
from typing import Final

from ingest.health import NotReady
from services.store.schema import revisions

DATABASE_UNAVAILABLE: Final = "database_unavailable"
SCHEMA_DIFFERS: Final = "schema_differs"
QUERY: Final = "SELECT version_num FROM alembic_version"


@cache
def head() -> str:
    """Return the newest revision this code brings."""
    return revisions()[0]


def check_revision(found: str | None) -> dict[str, str]:
    """Return the revision for the health document.

    Raises:
        NotReady: the database has another one.
    """
    if found != head():
        detail = f"the database is at {found}, this code needs {head()}: run `keepwell migrate`"
        raise NotReady(SCHEMA_DIFFERS, detail)
    return {"revision": head()}
