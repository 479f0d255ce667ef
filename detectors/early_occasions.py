"""When the NEWS2 of some people is scored anew, and what their runs make of it: see `early_warning`.

Scored for all of them at once; then one is walked through after the other, occasion by occasion.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.early_points import OXYGEN, STEP, N, in_steps
from detectors.early_runs import LEVELS, Occasion, Run
from detectors.protocol import Bools, Change, Doubles, Evidence, Finding, Readings, Rows, State
from detectors.rules import NEWS2_HIGH
from detectors.scores import news2
from detectors.scores.clinical import STATES, UNSCORED, Scored
from detectors.scores.observations import MAX_AGE_S, PARAMETERS, WHO, Observations, oxygen_by_profile


class Holds(NamedTuple):
    """What a profile makes of a person's NEWS2."""

    scale_2: bool = False
    off: bool = False  # it does not hold for this person
    home_oxygen: bool | None = None  # None: nobody said


EVERYBODY: Final = Holds()
Timeline = Sequence[tuple[int, Holds]]  # from which instant on, ms; what holds; in order
Timelines = Mapping[int, Timeline]  # by row


class Occasions:
    """E occasions to score of C people, one person's after another's: the newest values at each, and their points.

    ``kept`` (C,) what is known of them before; ``readings`` of these people only, of whom ``begins`` (C,) says where
    each one's begin.
    """

    def __init__(self, kept: State, readings: Readings, begins: Rows, timelines: Sequence[Timeline]) -> None:
        person = np.repeat(np.arange(len(kept)), np.diff(np.append(begins, len(readings.row))))
        seconds = readings.t_ms // 1000
        new = np.ones(len(seconds), bool)
        new[1:] = (person[1:] != person[:-1]) | (seconds[1:] != seconds[:-1])
        first = np.flatnonzero(new)
        self.t_s, self.person = seconds[first], person[first]
        self.bounds = np.searchsorted(self.person, np.arange(len(kept) + 1)).tolist()
        self.at_before, self.at, self.steps = self._newest(kept, readings, person, np.cumsum(new) - 1)
        self.holds = [_at(timelines[c], t * 1000) for c, t in zip(self.person.tolist(), self.t_s.tolist(), strict=True)]
        self.value = np.where(self.at > 0, self.steps * STEP, np.nan).round(1)
        self.age_s = np.where(self.at > 0, self.t_s[:, None] - self.at, 0).astype(np.float64)
        self.by_profile = self._take_oxygen_by_profile()
        self.scored = self._scored(self.age_s)
        self.points = np.maximum(self.scored.points, 0)  # (E, 7) of what is in time
        self.lasting = np.maximum(self._scored(np.zeros_like(self.age_s)).points, 0)  # of everything, whatever its age

    def _newest(self, kept: State, readings: Readings, person: Rows, occasion: Rows) -> tuple[Rows, Rows, Rows]:
        """Return (E, 7) when the newest values before each occasion and at it were measured, and these in steps.

        Each person's values begin with a line of those kept, which nothing of whoever comes before reaches across.
        """
        lines = len(self.t_s) + len(kept)
        at, steps = np.zeros((lines, N), np.int64), np.zeros((lines, N), np.int64)
        begin = np.array(self.bounds[:-1], np.intp) + np.arange(len(kept))
        at[begin], steps[begin] = kept["at"], kept["value"]
        line, parameter = occasion + person + 1, readings.metric
        at[line, parameter] = readings.t_ms // 1000  # of one second the last one counts
        steps[line, parameter] = in_steps(readings.value, parameter)
        known = at > 0
        known[begin] = True
        newest = np.maximum.accumulate(np.where(known, np.arange(lines)[:, None], 0), axis=0)
        at, steps = np.take_along_axis(at, newest, axis=0), np.take_along_axis(steps, newest, axis=0)
        here = np.arange(len(self.t_s)) + self.person + 1
        return at[here - 1], at[here], steps[here]

    def _take_oxygen_by_profile(self) -> Bools:
        """Return (E,) where air or oxygen is the profile's word, which then counts as a value of the present."""
        told = np.zeros(len(self.t_s), bool)
        for place, one in enumerate(self.holds):
            if one.home_oxygen is None:
                continue
            heard = bool(self.at[place, OXYGEN])
            fresh = heard and self.age_s[place, OXYGEN] <= MAX_AGE_S[PARAMETERS[OXYGEN]]
            home = oxygen_by_profile(one.home_oxygen, heard=heard, fresh=fresh)
            if home is not None:
                self.value[place, OXYGEN], self.age_s[place, OXYGEN], told[place] = float(home), 0, True
        return told

    def _scored(self, age_s: Doubles) -> Scored:
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


def _at(timeline: Timeline, t_ms: int) -> Holds:
    place = bisect_right(timeline, t_ms, key=lambda entry: entry[0])
    return timeline[place - 1][1] if place else EVERYBODY


def walk(rows: Rows, kept: State, seen: Occasions) -> Iterator[Finding]:
    """Let the rows ``kept`` (C,) of C people, changed in place, take their occasions; yield what changed.

    ``rows`` (C,) are what the findings call them.
    """
    given = zip(
        seen.t_s.tolist(), seen.at_before.max(axis=1).tolist(), seen.points.tolist(), seen.lasting.tolist(),
        seen.at.tolist(), [one.off for one in seen.holds], strict=True,
    )  # fmt: skip
    occasions = [Occasion(*one) for one in given]
    runs = []
    for c, row in enumerate(rows.tolist()):
        one = kept[c]
        run = Run(one["since"].tolist(), one["low"].tolist(), int(one["back"]), int(one["open"]), int(one["worst"]))
        for place in range(seen.bounds[c], seen.bounds[c + 1]):
            change = run.take(occasions[place])
            if change is not None:
                yield _finding(row, change, run, occasions[place], seen, place)
            if change == "cleared":
                run.forget()
        runs.append(run)
    last = np.array(seen.bounds[1:]) - 1
    kept["at"], kept["value"] = seen.at[last], seen.steps[last]
    for name in ("since", "low", "back", "open", "worst"):
        kept[name] = [getattr(run, name) for run in runs]


def _finding(row: int, change: Change, run: Run, one: Occasion, seen: Occasions, place: int) -> Finding:
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
