"""Alert changes in the order they became visible: what a stream sends, and where it stands.

An id given out first may commit last, so a reader that remembers the largest id it saw loses events. The cursor
is (xid, id), and only events whose transaction lies below the snapshot's xmin are read: below it nothing can
appear any more. After a restore the numbers go on above all that were ever given out (``stream_base`` in the schema).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple, Self

from fastapi.sse import format_sse_event

from services.api import permissions
from services.api.problems import invalid
from services.api.query import Connection, Row, every, first
from services.api.times import rfc3339

PAGE: Final = 500
_CURSOR: Final = re.compile(r"(\d{1,20})-(\d{1,19})")


class Cursor(NamedTuple):
    """A place in the order of events; the event itself is before it."""

    xid: int
    id: int

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Return the cursor in an event's id.

        Raises:
            Problem: not an id this stream gave out.
        """
        found = _CURSOR.fullmatch(text.strip())
        if found is None or int(found[1]) >= 2**64 or int(found[2]) >= 2**63:
            raise invalid(text[:80], field, "the id of an event of this stream, e.g. 7421-96")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.xid}-{self.id}"


class Event(NamedTuple):
    """One alert change: where it stands, whose it is, and who of those asked about may see it."""

    cursor: Cursor
    patient_id: int
    row: Row
    seen_by: frozenset[int]

    def wire(self, role: str) -> bytes:
        """Return its bytes as a role sees it."""
        return _wire(self.row, self.cursor, role)


async def position(connection: Connection) -> Cursor:
    """Return the place before every event that is not visible to all yet."""
    row = await first(connection, "SELECT stream_horizon()::text AS horizon")
    assert row is not None  # noqa: S101 - it always answers one row
    return Cursor(int(row["horizon"]), 0)


async def after(connection: Connection, cursor: Cursor, persons: Collection[int], limit: int = PAGE) -> list[Event]:
    """Return the next events of the transaction's organisation, in order, with who of ``persons`` sees each now.

    Also those that none of them sees are places in the order; of these nothing else is known. Nobody is told anything
    about a patient who has died.
    """
    rows = await every(
        connection,
        "SELECT * FROM alert_events_for(%s, %s::text::xid8, %s, stream_horizon(), %s)",
        [list(persons), str(cursor.xid), cursor.id, limit],
    )
    died = await _died(connection, {row["patient_id"] for row in rows if row["seen_by"]})
    return [
        Event(
            Cursor(int(row["xid"]), row["id"]), row["patient_id"], row,
            frozenset(() if row["patient_id"] in died else row["seen_by"]),
        )
        for row in rows
    ]  # fmt: skip


async def _died(connection: Connection, patients: set[int]) -> set[int]:
    if not patients:
        return set()
    rows = await every(connection, "SELECT deceased_among(%s) AS id", [sorted(patients)])
    return {row["id"] for row in rows}


def _wire(row: Row, cursor: Cursor, role: str) -> bytes:
    data: dict[str, Any] = {
        "alert_id": str(row["alert_id"]),
        "patient": row["patient_key"],
        "rule": row["rule"],
        "kind": row["kind"],
        "priority": row["priority"],
        "change": row["change"],
        "late": row["late"],
        "provisional": row["provisional"],
        "at": rfc3339(row["at"]),
        "sentence": row["patient_sentence"] if role in permissions.PLAIN_WORDS else row["sentence"],
    }
    text = json.dumps(permissions.shown(role, "stream", data), ensure_ascii=False)
    return format_sse_event(data_str=text, event=row["change"], id=str(cursor))
