"""Whose wear is falling, and of whom hardly anything comes any more: a list for whoever organises care.

It says of many what `statements.wear` says of one on their page, by the same function of the same days; it holds no
clinical value, alerts nobody and is stored nowhere. Who is discharged or has died is not on it, and whose silence is in
order now (paused, in hospital, in comfort care) is counted apart.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

from psycopg.errors import QueryCanceled

from detectors.wear import ENOUGH_HOURS, Wear
from ingest.catalogue import catalogue
from ingest.clock import to_ms
from services.api import monitoring, pages, withheld
from services.api.patients import link
from services.api.problems import Code, Problem
from services.api.query import Row, every
from services.api.scope import Scope
from services.api.times import rfc3339
from services.api.weeks import words, worn
from services.api.weeks.quantities import iso
from services.api.weeks.worn import Worn
from services.monitoring import STATES

MOST: Final = 2000  # patients looked at for one page, by id; the next one goes on with the others
COUNTED: Final = (catalogue()["heart_rate"].data_class,)  # whose consent withholds it is left out
ENDED: Final = [name for name, state in STATES.items() if state.closes]
IN_ORDER: Final = frozenset(name for name, state in STATES.items() if not state.silence and not state.closes)

# Whom the person's teams look after; ``n`` counts those of them who come after a key.
_PEOPLE: LiteralString = (
    """
    SELECT p.id, p.key, p.name, p.time_zone, coalesce(m.state, 'active') AS monitoring, count(*) OVER () AS n
    FROM patient p """  # noqa: S608 - constants only
    + monitoring.NOW
    + """
    WHERE p.erased_at IS NULL AND p.id IN (SELECT patient_id FROM my_team_patient) AND p.key > %(after)s
      AND coalesce(m.state, 'active') <> ALL (%(ended)s)
      AND p.id <> ALL (ARRAY(SELECT w.patient_id FROM my_withholding() w WHERE w.classes @> %(counted)s))
    ORDER BY p.key LIMIT %(most)s"""
)
Place = tuple[float, float, str]  # in the list: those who stopped first, then by days lost


class _Found(NamedTuple):
    place: Place
    row: Row
    worn: Worn


async def document(scope: Scope, now: datetime, limit: int, cursor: str | None = None) -> dict[str, Any]:
    """Return of whom less comes than before, those of whom hardly anything comes first, then by days lost.

    Raises:
        Problem: not a cursor this list gave out, or it took too long.
    """
    after, begin = _begun(cursor)
    try:
        rows = await _people(scope, now, after)
        asked = {row["id"]: row["time_zone"] for row in rows if row["monitoring"] not in IN_ORDER}
        said = await worn.read(scope.connection, asked, now)
    except QueryCanceled as error:
        detail = "try again in a minute; what a patient's own page says of their wear takes less"
        raise Problem(Code.TOO_SLOW, detail, retry_after_s=60) from error
    rest = [one for one in _listed(rows, said) if begin is None or one.place > begin]
    shown = rest[:limit]
    scope.saw([one.row["id"] for one in shown])
    beyond = rows[0]["n"] - len(rows) if rows else 0
    following = [after, *shown[-1].place] if len(rest) > limit else [rows[-1]["key"], *[None] * 3] if beyond else None
    return {
        "at": rfc3339(now),
        "patients": len(rows),
        **_counts(list(said.values())),
        "not_asked": len(rows) - len(said),
        "not_looked_at": beyond,
        "note": _note(len(rows), beyond, after),
        "items": [scope.show("wearing", _item(one.row, one.worn)) for one in shown],
        "next": pages.encode(following) if following else None,
        **await withheld.count(scope, COUNTED),
    }


def _listed(rows: list[Row], said: dict[int, Worn]) -> list[_Found]:
    known = [(row, said[row["id"]]) for row in rows if row["id"] in said]
    less = [(row, one) for row, one in known if one.wear.stopped or one.wear.state == "falling"]
    return sorted((_Found(_place(row, one.wear), row, one) for row, one in less), key=lambda found: found.place)


async def _people(scope: Scope, now: datetime, after: str) -> list[Row]:
    asked = {"now": now, "now_ms": to_ms(now), "after": after, "ended": ENDED, "counted": list(COUNTED), "most": MOST}
    return await every(scope.connection, _PEOPLE, asked)


def _counts(said: list[Worn]) -> dict[str, int]:
    """Return how many there are of each; of who is in none of them, enough is known and wear does not fall."""
    known = [one.wear for one in said if one.heard]
    return {
        "never_heard": len(said) - len(known),
        "unknown": sum(one.state == "unknown" and not one.stopped for one in known),
        "stopped": sum(one.stopped for one in known),
        "falling": sum(one.state == "falling" and not one.stopped for one in known),
    }


def _note(looked_at: int, beyond: int, after: str) -> str | None:
    """Return in words that not everybody was looked at, and what to do."""
    if not beyond:
        return f"these are the last {looked_at} patients by id: the others are on the pages before" if after else None
    which = "next" if after else "first"
    return f"the {which} {looked_at} patients by id were looked at, {beyond} were not: they are on the pages after this"


def _begun(cursor: str | None) -> tuple[str, Place | None]:
    """Return after which patient a page begins to look, and after which place of what it finds to show."""
    if cursor is None:
        return "", None
    after, rank, lost, key = pages.decode(cursor, 4)
    if rank is None and isinstance(after, str):
        return after, None
    if not (isinstance(after, str) and isinstance(key, str) and all(isinstance(n, int | float) for n in (rank, lost))):
        raise pages.unknown()
    return after, (rank, lost, key)


def _place(row: Row, one: Wear) -> Place:
    return float(not one.stopped), -_lost(one), row["key"]


def _lost(one: Wear) -> float:
    """Return how many of a fortnight's days with enough data were lost against the one before."""
    before = one.expected - one.expected_lately
    return (one.enough - one.enough_lately) / max(before, 1) - one.enough_lately / max(one.expected_lately, 1)


def _item(row: Row, found: Worn) -> dict[str, Any]:
    one = found.wear
    return {
        "patient": {"id": row["key"], "name": row["name"], "link": link(row["key"])},
        "time_zone": row["time_zone"],
        "state": "stopped" if one.stopped else "falling",
        "hours_needed": ENOUGH_HOURS,
        "days_with_enough": one.enough_lately,
        "days_expected": one.expected_lately,
        "days_with_enough_before": one.enough - one.enough_lately,
        "days_expected_before": one.expected - one.expected_lately,
        "longest_gap_days": one.longest_gap,
        "gap_since": iso(one.gap_since),
        "last_heard": rfc3339(found.last_heard),
        "sentence": words.wearing(one),
    }
