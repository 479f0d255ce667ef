"""Corrections: at one instant of one device the value of the highest revision counts; the others are kept beside.

A value of a higher revision replaces the stored one, which is filed as superseded. The same value again is a duplicate
(a higher revision of it still counts), so is a value that was superseded; any other value of a lower or equal revision
is a conflict. Only instants with a revision above 0 are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from services.processor import watermark
from services.processor.core import Core
from services.processor.dedupe import CONFLICT, CORRECTED, DUPLICATE, STORED, Series, Verdict, same
from services.processor.readings import Table
from services.processor.records import Corrections, Superseded
from services.store.reader import Reader, Span, Versions

Place = tuple[int, int, int, int]  # patient, metric, device, Unix ms
NO_VERSIONS: Final = Versions({}, {})


@dataclass(slots=True)
class _Current:
    """The value that counts at an instant while its readings are walked through; ``row`` None: stored before."""

    value: float
    revision: int
    row: int | None


def decide(
    core: Core, table: Table, codes: NDArray[np.uint8], revision: NDArray[np.int64], series: Sequence[Series],
    known: dict[int, Table], versions: Versions,
) -> tuple[Verdict, Corrections]:  # fmt: skip
    """Decide the instants that have versions; all others stand as they are.

    Args:
        core: gives slots their patients.
        table: the batch's readings, sorted by `dedupe.by_series`.
        codes: their verdicts without revisions, changed in place.
        revision: each reading's revision, that of its frame, shape (N,).
        series: the table's.
        known: by index of a series, what is stored of it in the batch's span.
        versions: what is known of corrected instants in those spans.
    """
    corrections = Corrections()
    value, quality = table.value.copy(), table.quality.copy()
    rewritten: list[Table] = []
    for index, one in enumerate(series):
        stored = known.get(index)
        for rows, place in _contested(core, table, revision, one, versions):
            current = _stored(stored, place, versions)
            final = _walk(table, revision, codes, rows, place, current, versions, corrections)
            if final.row is None:
                continue  # what was stored before stands
            first = next((row for row in rows if codes[row] == STORED), None)
            if first is None:  # the value stored before was replaced
                rewritten.append(table[final.row : final.row + 1])
            else:
                value[first], quality[first] = table.value[final.row], table.quality[final.row]
    final_table = replace(table, value=value, quality=quality)
    corrections.rewritten = Table.concatenate(rewritten)
    verdict = Verdict(
        final_table[codes == STORED], table[codes == DUPLICATE], table[codes == CONFLICT], table[codes == CORRECTED]
    )
    return verdict, corrections


def _contested(
    core: Core, table: Table, revision: NDArray[np.int64], one: Series, versions: Versions
) -> list[tuple[list[int], Place]]:
    """Return the rows of each instant of a series that has, or gets, a version; rows in the order they came."""
    instants = table.t_ms[one.start : one.stop]
    wanted = set(instants[revision[one.start : one.stop] > 0].tolist())
    series = (int(core.patient_of[one.slot]), one.metric, one.device)
    for key in (*versions.revisions, *versions.superseded):
        if key[:3] == series:
            wanted.add(key[3])
    found = []
    for t_ms in sorted(wanted):
        first, stop = (int(np.searchsorted(instants, t_ms, side)) for side in ("left", "right"))
        if stop > first:
            found.append((list(range(one.start + first, one.start + stop)), (*series, t_ms)))
    return found


def _stored(stored: Table | None, place: Place, versions: Versions) -> _Current | None:
    if stored is None:
        return None
    at = np.flatnonzero(stored.t_ms == place[3])
    return _Current(float(stored.value[at[0]]), versions.revisions.get(place, 0), None) if len(at) else None


def _walk(
    table: Table, revision: NDArray[np.int64], codes: NDArray[np.uint8], rows: list[int], place: Place,
    current: _Current | None, versions: Versions, corrections: Corrections,
) -> _Current:  # fmt: skip
    """Take an instant's readings one after the other; return the value that counts at the end."""
    before = current.revision if current else 0
    superseded = set(versions.superseded.get(place, ()))
    for row in rows:
        value, own = float(table.value[row]), int(revision[row])
        if current is None:
            codes[row], current = STORED, _Current(value, own, row)
        elif same(value, current.value):
            codes[row], current.revision = DUPLICATE, max(current.revision, own)
        elif own > current.revision:
            codes[row] = CORRECTED
            old = Superseded(*place, current.value, current.revision, int(table.frame[row]))
            corrections.superseded.append(old)
            corrections.settled.append((*place, value))
            superseded.add(current.value)
            current = _Current(value, own, row)
        else:
            codes[row] = DUPLICATE if value in superseded else CONFLICT
    if current is None:  # pragma: no cover - an instant has a reading
        msg = f"no reading at {place}"
        raise ValueError(msg)
    if current.revision > before:
        corrections.revisions.append((*place, current.revision))
    return current


def patch(core: Core, rewritten: Table) -> None:
    """Put corrected values in the place of those in memory that are not settled yet."""
    for slot in np.unique(rewritten.slot).tolist():
        mine, table = rewritten[rewritten.slot == slot], core.waiting([slot])
        for i in range(len(mine)):
            hit = (table.t_ms == mine.t_ms[i]) & (table.metric == mine.metric[i]) & (table.device == mine.device[i])
            table.value[hit], table.quality[hit] = mine.value[i], mine.quality[i]
        core.let_wait([slot], table)


def behind(core: Core, rewritten: Table) -> NDArray[np.bool_]:
    """Tell for each corrected reading whether the detectors or the limits have taken the old value as final."""
    marks = [
        max(core.hot[slot].settled_ms, watermark.judged_to(core.hot[slot], metric))
        for slot, metric in zip(rewritten.slot.tolist(), rewritten.metric.tolist(), strict=True)
    ]
    return np.asarray(rewritten.t_ms < np.array(marks, np.int64))


class Overlay:
    """A reader that shows stored readings with this batch's corrections; everything else is the reader's."""

    def __init__(self, reader: Reader, core: Core, rewritten: Table) -> None:
        self._reader = reader
        self._rewritten = rewritten
        self._patient = core.patient_of[rewritten.slot]

    @classmethod
    def over(cls, reader: Reader, core: Core, rewritten: Table) -> Reader:
        """Return the reader as it is, or with corrections over it where there are any."""
        return cast(Reader, cls(reader, core, rewritten)) if len(rewritten) else reader

    async def readings(self, spans: list[Span]) -> list[Table]:
        """Return the stored readings of each span, corrected."""
        found = await self._reader.readings(spans)
        for span, table in zip(spans, found, strict=True):
            mine = self._rewritten[(self._patient == span.patient_id) & (self._rewritten.metric == span.metric_id)]
            for i in range(len(mine)):
                hit = (table.t_ms == mine.t_ms[i]) & (table.device == mine.device[i])
                table.value[hit], table.quality[hit] = mine.value[i], mine.quality[i]
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)
