"""What the ``keepwell patient`` commands share: which patient is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.cli.say import refuse

if TYPE_CHECKING:
    import psycopg


def found(connection: psycopg.Connection[Any], organisation: str, key: str) -> int:
    """Return the id of a patient who is enrolled and not erased; else end with one plain sentence."""
    row = connection.execute(
        """SELECT p.id FROM patient p JOIN organisation o ON o.id = p.organisation_id
           WHERE o.key = %s AND p.key = %s AND p.erased_at IS NULL""",
        [organisation, key],
    ).fetchone()
    if row is None:
        refuse(
            f"there is no patient {key} in {organisation}: never enrolled, or erased already "
            "(`keepwell patient erased` lists the proofs); nothing was changed"
        )
    return int(row[0])
