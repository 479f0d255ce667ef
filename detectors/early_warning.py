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

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.early_runs import LEVELS, Occasion, Run
from detectors.protocol import Bools, Change, Doubles, Evidence, Finding, Floats, Longs, Readings, Rows, Shorts, State
from detectors.rules import NEWS2_HIGH
from detectors.scores import news2
from detectors.scores.clinical import STATES, UNSCORED, Table, rounded
from detectors.scores.observations import MAX_AGE_S, PARAMETERS, WHO, Observations, oxygen_by_profile

AT_REST: Final = ("respiratory_rate", "heart_rate")

EARLY_DTYPE = np.dtype(
    [
        ("at", "u4", (len(PARAMETERS),)),  # the last good value of each parameter: seconds since 1970, 0: none yet
        ("value", "i2", (len(PARAMETERS),)),  # in the chart's steps
        ("since", "u4", (len(LEVELS),)),  # where the run at each level begins, 0: none; the first: the open episode
        ("low", "u4", (len(LEVELS),)),  # since when the score has been below it within the run
        ("back", "u4"),  # since when it has been low enough to end
        ("open", "u1"),  # how many levels were told
        ("worst", "u1"),  # of the run, or of the episode
    ]
)
N: Final = len(PARAMETERS)
OXYGEN: Final = PARAMETERS.index("supplemental_oxygen")
_STEP: Final = np.array([table.step for table in news2.TABLES])
_RESTS: Final = np.isin(PARAMETERS, AT_REST)
_NEAR: Final = 0.001  # values this near a boundary may be on either side of it


def _usual(table: Table) -> tuple[float, float]:
    """Return between which values a parameter surely has no points."""
    tops = [(-np.inf, -1), *table.steps, (np.inf, table.above)]
    place = next(place for place, (_, points) in enumerate(tops) if points == 0)
    half = table.step / 2
    return tops[place - 1][0] + half + _NEAR, tops[place][0] + half - _NEAR


_USUAL_FROM, _USUAL_TO = np.array([_usual(table) for table in news2.TABLES], np.float32).T
MOST: Final = 4095  # steps: further out there are no more points
_SPO2_SCALES: Final = (news2.SPO2_SCALE_1, news2.SPO2_SCALE_2_AIR, news2.SPO2_SCALE_2_OXYGEN)


def _best_points(tables: Sequence[Table]) -> Shorts:
    """Return for each number of steps the most points that one of the tables gives."""
    values = np.arange(MOST + 1, dtype=np.float64)
    return np.asarray(np.max([table.points(values * table.step) for table in tables], axis=0))


_MOST_POINTS: Final = np.stack(
    [
        np.stack([_best_points(scales if table.parameter == "spo2" else (table,)) for table in news2.TABLES])
        for scales in (_SPO2_SCALES[:1], _SPO2_SCALES)
    ]
)
"""(2, 7, steps) by everybody's scale of oxygen saturation, and by whichever a profile may say."""


class Holds(NamedTuple):
    """What a profile makes of a person's NEWS2."""

    scale_2: bool = False
    off: bool = False  # it does not hold for this person
    home_oxygen: bool | None = None  # None: nobody said


EVERYBODY: Final = Holds()
Timelines = Mapping[int, Sequence[tuple[int, Holds]]]  # row → (from which instant on, ms; what holds), in order


class EarlyWarning:
    """NEWS2 over all patients, advanced reading by reading; nothing of it is learned.

    Source, deviations and for whom it is valid: the module. Units: those of the chart; instants in Unix ms, told to
    the second. Whose points can't come to 5 whatever their age costs a comparison. State: 64 bytes a patient.

    >>> early, at = EarlyWarning(), lambda minute, *values: Readings(
    ...     np.zeros(4, np.intp), np.array([0, 1, 4, 6], "i2"), np.full(4, minute * 60_000), np.array(values, "f4"),
    ...     np.ones(4, bool), np.ones(4, bool))
    >>> state = early.new_state(1)
    >>> found = [early.advance(state, at(minute, 24, 93, 125, 38.4)) for minute in (100, 110, 115)]
    >>> [(one.change, one.level, one.evidence["total"], one.evidence["known"]) for several in found for one in several]
    [('raised', 1, 7, 4)]
    """

    dtype = EARLY_DTYPE

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return np.zeros(n, self.dtype)

    def advance(self, state: State, readings: Readings, holds: Timelines = MappingProxyType({})) -> list[Finding]:
        """Take the N readings into the rows they name, in place; return what changed, by (at_ms, row).

        ``readings.metric`` indexes PARAMETERS here; of one second the last of a parameter counts. ``holds``: whose
        profile says something.
        """
        counted = readings.good & (readings.at_rest | ~_RESTS[readings.metric])
        if not counted.all():
            readings = Readings(*(getattr(readings, field.name)[counted] for field in fields(readings)))
        if not len(readings.row):
            return []
        new = np.ones(len(readings.row), bool)
        np.not_equal(readings.row[1:], readings.row[:-1], out=new[1:])
        begins = np.flatnonzero(new)
        rows, length = readings.row[begins], np.diff(np.append(begins, len(readings.row)))
        concerned = self._concerned(state, readings, rows, begins, holds)
        if not concerned.all():
            _note(state, readings, rows, np.repeat(np.where(concerned, -1, np.arange(len(rows))), length))
        findings: list[Finding] = []
        for place in np.flatnonzero(concerned).tolist():
            row, mine = int(rows[place]), slice(begins[place], begins[place] + length[place])
            findings += _walk(row, state[row], _taken(readings, mine), holds.get(row, ()))
        return sorted(findings, key=lambda finding: (finding.at_ms, finding.row))

    def _concerned(self, state: State, readings: Readings, rows: Rows, begins: Rows, holds: Timelines) -> Bools:
        """Return (R,) in which of the rows something runs, or whose values could come to the first level."""
        running = (state["since"][rows, 0] > 0) | (state["open"][rows] > 0)
        value, metric = readings.value, readings.metric
        scores = (value < _USUAL_FROM[metric]) | (value > _USUAL_TO[metric])
        able = np.logical_or.reduceat(scores, begins)
        of_row = np.array([row in holds for row in rows.tolist()]) if holds else np.zeros(len(rows), bool)
        doubtful = np.flatnonzero((able | of_row) & ~running)
        if not len(doubtful):
            return np.asarray(running)
        most = np.zeros((len(rows), N), np.int16)
        place = np.repeat(np.arange(len(rows)), np.diff(np.append(begins, len(value))))
        chosen = np.flatnonzero((scores | of_row[place]) & ~running[place])
        points = _most_points(_in_steps(value[chosen], metric[chosen]), metric[chosen], of_row[place[chosen]])
        np.maximum.at(most, (place[chosen], metric[chosen]), points)
        which, parameter = np.nonzero(state["at"][rows[doubtful]])
        values = state["value"][rows[doubtful]][which, parameter]
        kept = _most_points(values, parameter.astype(np.int16), of_row[doubtful[which]])
        most[doubtful[which], parameter] = np.maximum(most[doubtful[which], parameter], kept)
        most[of_row, OXYGEN] = news2.TABLES[OXYGEN].above
        return np.asarray(running | (most.sum(axis=1) >= LEVELS[0]))


def _note(state: State, readings: Readings, rows: Rows, place: Rows) -> None:
    """Keep the last value of each parameter of the readings whose ``place`` in ``rows`` is not negative."""
    last = np.full(len(rows) * N, -1)
    passed = np.flatnonzero(place >= 0)
    last[place[passed] * N + readings.metric[passed]] = passed
    cells = np.flatnonzero(last >= 0)
    newest, whose, parameter = last[cells], rows[cells // N], cells % N
    state["at"][whose, parameter] = readings.t_ms[newest] // 1000
    state["value"][whose, parameter] = _in_steps(readings.value[newest], readings.metric[newest])


@dataclass(frozen=True, slots=True)
class _Taken:
    """One person's good readings, by instant."""

    parameter: Shorts
    t_s: Longs
    steps: Shorts


def _taken(readings: Readings, mine: slice) -> _Taken:
    metric = readings.metric[mine]
    return _Taken(metric, readings.t_ms[mine] // 1000, _in_steps(readings.value[mine], metric))


def _in_steps(value: Floats, parameter: Shorts) -> Shorts:
    """Return values in the steps of their parameter's chart, halves up."""
    steps = rounded(value.astype(np.float64), _STEP[parameter])
    return np.minimum(np.maximum(steps, 0), MOST).astype(np.int16)


def _most_points(steps: Shorts, parameter: Shorts, of_profile: Bools) -> Shorts:
    """Return the most points each value can have; ``of_profile``: whose profile may say another scale."""
    return np.asarray(_MOST_POINTS[of_profile.astype(np.intp), parameter, steps])


class _Occasions:
    """One person's E occasions to score: the newest values at each, and their points, in time or whatever their age."""

    def __init__(self, row: np.void, taken: _Taken, timeline: Sequence[tuple[int, Holds]]) -> None:
        self.t_s, place = np.unique(taken.t_s, return_inverse=True)
        at, steps = np.zeros((len(self.t_s) + 1, N), np.int64), np.zeros((len(self.t_s) + 1, N), np.int64)
        at[0], steps[0] = row["at"], row["value"]
        at[place + 1, taken.parameter], steps[place + 1, taken.parameter] = taken.t_s, taken.steps
        newest = np.maximum.accumulate(np.where(at > 0, np.arange(len(at))[:, None], 0), axis=0)
        self.at_before = np.take_along_axis(at, newest, axis=0)  # (E + 1, 7): before the first one too
        self.steps = np.take_along_axis(steps, newest, axis=0)
        self.at = self.at_before[1:]
        self.holds = [_at(timeline, t * 1000) for t in self.t_s.tolist()]
        self.value = np.where(self.at > 0, self.steps[1:] * _STEP, np.nan).round(1)
        self.age_s = np.where(self.at > 0, self.t_s[:, None] - self.at, 0).astype(np.float64)
        self.by_profile = self._take_oxygen_by_profile()
        self.scored = self._scored(self.age_s)
        self.points = np.maximum(self.scored.points, 0)  # (E, 7)
        self.lasting = np.maximum(self._scored(np.zeros_like(self.age_s)).points, 0)

    def _take_oxygen_by_profile(self) -> Bools:
        """Return (E,) where air or oxygen is the profile's word, which then counts as a value of the present."""
        told = np.zeros(len(self.t_s), bool)
        for place, one in enumerate(self.holds):
            heard = bool(self.at[place, OXYGEN])
            fresh = heard and self.age_s[place, OXYGEN] <= MAX_AGE_S[PARAMETERS[OXYGEN]]
            home = oxygen_by_profile(one.home_oxygen, heard=heard, fresh=fresh)
            if home is not None:
                self.value[place, OXYGEN], self.age_s[place, OXYGEN], told[place] = float(home), 0, True
        return told

    def _scored(self, age_s: Doubles) -> Any:
        nobody = np.zeros((len(self.t_s), len(WHO)), bool)  # an episode goes on for whom it no longer holds
        return news2.work_out(Observations(self.value, age_s, np.array([one.scale_2 for one in self.holds]), nobody))

    def parameters(self, place: int) -> list[dict[str, Any]]:
        """Return what is known of each parameter at an occasion, as plain data."""
        told = []
        for number, key in enumerate(PARAMETERS):
            measured = self.at[place, number] > 0 and not (number == OXYGEN and self.by_profile[place])
            points = int(self.scored.points[place, number])
            told.append(
                {
                    "metric": key,
                    "state": STATES[self.scored.states[place, number]],
                    "points": None if points == UNSCORED else points,
                    "value": None if np.isnan(self.value[place, number]) else float(self.value[place, number]),
                    "at_ms": int(self.at[place, number]) * 1000 if measured else None,
                    "age_s": int(self.age_s[place, number]) if measured else None,
                }
            )
        return told


def _at(timeline: Sequence[tuple[int, Holds]], t_ms: int) -> Holds:
    place = bisect_right(timeline, t_ms, key=lambda entry: entry[0])
    return timeline[place - 1][1] if place else EVERYBODY


def _walk(row: int, kept: np.void, taken: _Taken, timeline: Sequence[tuple[int, Holds]]) -> Iterator[Finding]:
    """Let one person's row, changed in place, take readings; yield what changed."""
    seen = _Occasions(kept, taken, timeline)
    run = Run(kept["since"].tolist(), kept["low"].tolist(), int(kept["back"]), int(kept["open"]), int(kept["worst"]))
    last = seen.at_before.max(axis=1).tolist()
    for place, t_s in enumerate(seen.t_s.tolist()):
        one = Occasion(
            t_s, last[place], seen.points[place].tolist(), seen.lasting[place].tolist(), seen.at[place].tolist(),
            seen.holds[place].off,
        )  # fmt: skip
        change = run.take(one)
        if change is not None:
            yield _finding(row, change, run, one, seen, place)
        if change == "cleared":
            run.forget()
    kept["at"], kept["value"] = seen.at[-1], seen.steps[-1]
    kept["since"], kept["low"], kept["back"] = run.since, run.low, run.back
    kept["open"], kept["worst"] = run.open, run.worst


def _finding(row: int, change: Change, run: Run, one: Occasion, seen: _Occasions, place: int) -> Finding:
    level = max(run.open - 1, 0)
    cleared = change == "cleared"
    evidence: Evidence = {
        "change": change,
        "metric": NEWS2_HIGH.metric,
        "score": news2.NEWS2.key,
        "score_version": news2.NEWS2.version,
        "spo2_scale": 2 if seen.holds[place].scale_2 else 1,
        "threshold": LEVELS[0] if cleared else LEVELS[level],
        "total": run.lasting(one) if cleared else sum(one.points),
        "known": int(seen.scored.known[place].sum()),
        "of": N,
        "worst": run.worst,
        "from_ms": (run.back if cleared else run.since[level]) * 1000,
        "to_ms": one.t_s * 1000,
        "parameters": seen.parameters(place),
    }
    return Finding(row, NEWS2_HIGH.id, change, run.since[0] * 1000, one.t_s * 1000, level, evidence)
