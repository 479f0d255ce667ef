"""NEWS2 of 5 and more is told: what no single limit says, because nothing by itself is far out.

Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, London 2017, chart 2: from 5 on an urgent
response, from 7 on an emergency one. A single red parameter (3 points) is not told here: each has a limit of its own.
Valid: 16 and over, not pregnant, at rest. Made for hospital wards, not validated with wearables at home.

Deviations: the chart is for full sets of observations that somebody took. Here every good reading is an occasion to
score anew, by the newest values that are not too old, so a score is "at least" so much; pulse and breathing count at
rest only, for that is what the chart is of. One occasion tells nothing: wearables have single wrong values.

    told      the score was at that level again and again over PERSIST_S, never lower for as long as BRIEF_S, and what
              breathing, saturation and pulse give it was measured again since. Each level has a run of its own
    ended     below 5 for CLEAR_S on good data. What became too old meanwhile counts as it was last: unknown is not well

The times are engineering choices. That an episode ends at the number at which it began, and four times as slowly,
instead of at a lower one, is for whoever always has 3 or 4 points, on oxygen at home for instance.
"""

from __future__ import annotations

from dataclasses import fields, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from detectors.early_occasions import Occasions, Timelines, walk
from detectors.early_points import OXYGEN, N, in_steps, may_have_points, most_points
from detectors.early_runs import LEVELS
from detectors.protocol import LIMIT_METRICS, Bools, Finding, Readings, Rows, Shorts, State, put_rows, rows_of
from detectors.scores import news2
from detectors.scores.observations import PARAMETERS

AT_REST: Final = ("respiratory_rate", "heart_rate")

EARLY_DTYPE = np.dtype(
    [
        ("at", "u4", (N,)),  # the last good value of each parameter: seconds since 1970, 0: none yet
        ("value", "i2", (N,)),  # in the chart's steps
        ("since", "u4", (len(LEVELS),)),  # where the run at each level begins, 0: none; the first: the open episode
        ("low", "u4", (len(LEVELS),)),  # since when the score has been below it within the run
        ("back", "u4"),  # since when it has been low enough to end
        ("open", "u1"),  # how many levels were told
        ("worst", "u1"),  # of the run, or of the episode
    ]
)
_RESTS: Final = np.isin(PARAMETERS, AT_REST)
_PARAMETERS: Final = np.arange(N)
_OF_METRIC: Final = np.array([PARAMETERS.index(key) if key in PARAMETERS else -1 for key in LIMIT_METRICS], np.int16)


class EarlyWarning:
    """NEWS2 over all patients, advanced reading by reading; nothing of it is learned.

    Source: Royal College of Physicians, NEWS2, 2017; deviations in the module. Units: those of the chart; instants in
    Unix ms, told to the second. Valid: 16 and over, not pregnant, at rest. Whose points can't come to 5 whatever their
    age costs a comparison. State: 64 bytes a patient.

    >>> early, at = EarlyWarning(), lambda minute, *values: Readings(
    ...     np.zeros(4, np.intp), np.array([0, 1, 4, 6], "i2"), np.full(4, minute * 60_000), np.array(values, "f4"),
    ...     np.ones(4, bool), np.ones(4, bool))
    >>> state = early.new_state(1)
    >>> found = [early.advance(state, at(minute, 24, 93, 125, 38.4)) for minute in (100, 110, 115)]
    >>> [(one.change, one.level, one.evidence["total"], one.evidence["known"]) for several in found for one in several]
    [('raised', 1, 7, 4)]
    """

    takes = Readings
    dtype = EARLY_DTYPE

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return np.zeros(n, self.dtype)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def update(self, state: State, given: Readings) -> list[Finding]:
        """Take readings of LIMIT_METRICS, of people without a profile; consciousness and oxygen stay unknown."""
        parameter = _OF_METRIC[given.metric]
        return self.advance(state, _taken(replace(given, metric=parameter), parameter >= 0))

    def advance(self, state: State, readings: Readings, holds: Timelines = MappingProxyType({})) -> list[Finding]:
        """Take the N readings into the rows they name, in place; return what changed, by (at_ms, row).

        ``readings.metric`` indexes PARAMETERS here; of one second the last of a parameter counts. ``holds``: whose
        profile says something.
        """
        readings = _counted(readings)
        if not len(readings.row):
            return []
        ends = _ends(readings)
        mine = readings.row[ends]
        begins = np.append(0, ends[:-1][mine[1:] != mine[:-1]] + 1)
        rows = readings.row[begins]
        concerned = self._concerned(state, readings, rows, begins, holds)
        which = np.flatnonzero(concerned)
        if not len(which):
            _note(state, readings, ends)
            return []
        length = np.diff(np.append(begins, len(readings.row)))
        _note(state, readings, ends[~np.repeat(concerned, length)[ends]])
        kept = rows_of(state, rows[which])
        seen = Occasions(
            kept, _taken(readings, np.repeat(concerned, length)), np.cumsum(length[which]) - length[which],
            [holds.get(row, ()) for row in rows[which].tolist()],
        )  # fmt: skip
        findings = list(walk(rows[which], kept, seen))
        put_rows(state, rows[which], kept)
        return sorted(findings, key=lambda finding: (finding.at_ms, finding.row))

    def _concerned(self, state: State, readings: Readings, rows: Rows, begins: Rows, holds: Timelines) -> Bools:
        """Return (R,) in which of the rows something runs, or whose values could come to the first level."""
        concerned = np.asarray((state["since"][rows, 0] > 0) | (state["open"][rows] > 0))
        scores = may_have_points(readings.value, readings.metric)
        able = np.logical_or.reduceat(scores, begins)
        of_row = np.zeros(len(rows), bool)
        if holds:
            of_row[:] = [row in holds for row in rows.tolist()]
            scores |= np.repeat(of_row, np.diff(np.append(begins, len(scores))))
        doubtful = np.flatnonzero((able | of_row) & ~concerned)
        if not len(doubtful):
            return concerned
        place = np.full(len(rows), -1)
        place[doubtful] = np.arange(len(doubtful))
        chosen = np.flatnonzero(scores)
        person = place[np.searchsorted(begins, chosen, "right") - 1]
        chosen, person = chosen[person >= 0], person[person >= 0]
        most = _most(rows_of(state, rows[doubtful]), _taken(readings, chosen), person, of_row[doubtful])
        concerned[doubtful] = most >= LEVELS[0]
        return concerned


def _counted(readings: Readings) -> Readings:
    """Return those that count: good ones, of what the chart takes at rest at rest."""
    if readings.good.all() and readings.at_rest.all():
        return readings
    return _taken(readings, readings.good & (readings.at_rest | ~_RESTS.take(readings.metric)))


def _taken(readings: Readings, which: Rows | Bools) -> Readings:
    return Readings(*(getattr(readings, field.name)[which] for field in fields(readings)))


def _ends(readings: Readings) -> Rows:
    """Return the last place of each stretch of one person's readings of one parameter: a dozen in a row are usual."""
    last = np.ones(len(readings.row), bool)
    last[:-1] = (readings.row[1:] != readings.row[:-1]) | (readings.metric[1:] != readings.metric[:-1])
    return np.flatnonzero(last)


def _most(kept: State, readings: Readings, person: Rows, of_profile: Bools) -> Shorts:
    """Return (D,) the most points that D people can have come to by what is ``kept`` of them and by readings.

    ``person`` (K,) whose each reading is, ``of_profile`` (D,) whose profile may say another scale, or oxygen.
    """
    points = most_points(kept["value"], _PARAMETERS, of_profile[:, None])
    most = np.where(kept["at"] > 0, points, 0)
    given = most_points(in_steps(readings.value, readings.metric), readings.metric, of_profile[person])
    np.maximum.at(most.reshape(-1), person * N + readings.metric, given)
    most[of_profile, OXYGEN] = news2.TABLES[OXYGEN].above
    return np.asarray(most.sum(axis=1), np.int16)


def _note(state: State, readings: Readings, ends: Rows) -> None:
    """Keep the values of stretches of readings, known by their last place, in place; of a parameter the last one."""
    row, parameter = readings.row[ends], readings.metric[ends]
    state["at"][row, parameter] = readings.t_ms[ends] // 1000  # where an index comes again, the last value stays
    state["value"][row, parameter] = in_steps(readings.value[ends], parameter)
