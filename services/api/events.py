"""Alert changes in the order they became visible: what a stream sends, and where it stands.

An id given out first may commit last, so a reader that remembers the largest id it saw loses events. The cursor
is (xid, id), and only events whose transaction lies below the snapshot's xmin are read: below it nothing can
appear any more. After a restore the numbers go on above all that were ever given out (``stream_base`` in the schema).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple, Self

from fastapi.sse import format_sse_event

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
    """One alert change: where it stands, whose it is, and its bytes on the wire."""

    cursor: Cursor
    patient_id: int
    wire: bytes


async def position(connection: Connection) -> Cursor:
    """Return the place before every event that is not visible to all yet."""
    row = await first(connection, "SELECT stream_horizon()::text AS horizon")
    assert row is not None  # noqa: S101 - it always answers one row
    return Cursor(int(row["horizon"]), 0)


async def after(connection: Connection, cursor: Cursor, limit: int = PAGE) -> list[Event]:
    """Return the next events of the transaction's organisation, in order."""
    rows = await every(
        connection,
        """SELECT e.xid::text AS xid, e.id, e.patient_id, e.alert_id, e.change, e.priority, e.late, e.at, e.sentence,
                  a.rule, a.kind, a.provisional, p.key AS patient_key
           FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN patient p ON p.id = e.patient_id
           WHERE (e.xid, e.id) > (%s::text::xid8, %s) AND e.xid < stream_horizon()
           ORDER BY e.xid, e.id LIMIT %s""",
        [str(cursor.xid), cursor.id, limit],
    )
    return [_event(row) for row in rows]


def _event(row: Row) -> Event:
    cursor = Cursor(int(row["xid"]), row["id"])
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
        "sentence": row["sentence"],
    }
    text = json.dumps(data, ensure_ascii=False)
    return Event(cursor, row["patient_id"], format_sse_event(data_str=text, event=row["change"], id=str(cursor)))
