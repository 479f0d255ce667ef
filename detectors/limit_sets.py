"""Which limits hold for whom, and since when: everybody's, or a patient's own, as arrays of thresholds.

A limit's numbers change with a profile, or where a clinician sets them otherwise; the rule stays the same. A rule
that does not hold for somebody is *off*: no reading is beyond its levels, and an open episode still ends at its
clear threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from detectors.adult_limits import MAX_LEVELS, Limit
from detectors.in_time import InTime
from detectors.limit_runs import Numbers
from detectors.protocol import ASLEEP, CONTEXTS, LIMIT_METRICS, REST, VITALS, Bools, Floats, Longs, Rows
from detectors.sums import AlarmRange


class LimitSet:
    """The limits one person is watched with at a time, one for each rule, always in the same order.

    ``off``: rules that do not hold for this person. ``origin``: rule → who set its numbers, where not everybody's.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        off: frozenset[str] = frozenset(),
        origin: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.limits, self.off, self.origin = tuple(limits), off, origin
        self.numbers = tuple(_numbers(limit, off=limit.rule in off) for limit in limits)
        self.upper = np.full(len(LIMIT_METRICS), np.inf, np.float32)
        self.lower = np.full(len(LIMIT_METRICS), -np.inf, np.float32)
        for limit, numbers in zip(limits, self.numbers, strict=True):
            metric = LIMIT_METRICS.index(limit.metric)
            if numbers.sign > 0:
                self.upper[metric] = min(self.upper[metric], numbers.mild)
            else:
                self.lower[metric] = max(self.lower[metric], -numbers.mild)
        self.alarm = alarm_range([limit for limit in limits if limit.rule not in off])


Timeline = Sequence[tuple[int, LimitSet]]  # (from which instant on, what holds), in order


class Standing:
    """Which set of limits holds for each row at each instant: ``everybody``, unless a row's timeline says otherwise."""

    def __init__(self, everybody: LimitSet, timelines: Mapping[int, Timeline] = MappingProxyType({})) -> None:
        number = {id(everybody): 0}
        self.sets = [everybody]
        marks, which = [], []
        for row in sorted(timelines):
            for from_ms, one in timelines[row]:
                if id(one) not in number:
                    number[id(one)] = len(self.sets)
                    self.sets.append(one)
                marks.append((row, from_ms))
                which.append(number[id(one)])
        self._time = InTime(marks)
        self._which = np.array([*which, 0], np.intp)  # the last one is of whom nothing is said
        self.mild = np.array([[numbers.mild for numbers in one.numbers] for one in self.sets])  # (sets, rules)
        self.upper = np.concatenate([one.upper for one in self.sets])  # (sets * metrics,)
        self.lower = np.concatenate([one.lower for one in self.sets])

    def at(self, rows: Rows, t_ms: Longs) -> Rows:
        """Return (N,) the number of the set that holds for each row at each instant."""
        return self._which[self._time.at(rows, t_ms)]

    def crossed(self, rows: Rows, t_ms: Longs, metric: Rows, value: Floats) -> Bools:
        """Tell for each reading whether it is beyond the mildest level of a limit."""
        place = metric if len(self.sets) == 1 else self.at(rows, t_ms) * len(LIMIT_METRICS) + metric
        return np.asarray((value >= self.upper.take(place)) | (value <= self.lower.take(place)))

    def alarm(self, rows: Rows, t_ms: Longs) -> AlarmRange:
        """Return the range outside which nothing is learned, for R rows at an instant each."""
        number = self.at(rows, t_ms)
        if not number.any():
            return self.sets[0].alarm
        low = np.stack([one.alarm.low for one in self.sets])
        high = np.stack([one.alarm.high for one in self.sets])
        return AlarmRange(low[number][:, None], high[number])


def alarm_range(limits: Sequence[Limit]) -> AlarmRange:
    """Return the range between the mildest levels of the limits, by context for those that ask for rest."""
    low = np.full(len(VITALS), -np.inf, np.float32)
    high = np.full((len(CONTEXTS), len(VITALS)), np.inf, np.float32)
    for limit in limits:
        if limit.metric not in VITALS:
            continue
        metric, mildest = VITALS.index(limit.metric), limit.levels[0][0]
        if limit.side == "below":
            low[metric] = max(low[metric], mildest)
            continue
        for context in range(len(CONTEXTS)):
            if context in (ASLEEP, REST) or not limit.at_rest_only:
                high[context, metric] = min(high[context, metric], mildest)
    return AlarmRange(low, high)


def _numbers(limit: Limit, *, off: bool) -> Numbers:
    """Return the limit as numbers; "past the threshold" becomes "at or past the next float"."""
    sign = 1 if limit.side == "above" else -1
    levels = [math.inf] * MAX_LEVELS
    for i, (threshold, _) in enumerate(() if off else limit.levels):
        exact = np.float32(sign * threshold)
        levels[i] = float(exact if limit.inclusive else np.nextafter(exact, np.float32(np.inf)))
    mild, severe = levels
    clear = float(np.float32(limit.clear))
    persist_ms, clear_ms, max_gap_ms = (s * 1000 for s in (limit.persist_s, limit.clear_s, limit.max_gap_s))
    return Numbers(
        sign=sign,
        mild=mild,
        severe=severe,
        clear=clear,
        persist_ms=persist_ms,
        clear_ms=clear_ms,
        gap_ms=max(max_gap_ms, persist_ms // 2),
        clear_gap_ms=max_gap_ms,
        longest_gap_ms=limit.longest_gap_s * 1000,
        mild_in_full=limit.levels[0][1] == "high",
        min_readings=limit.min_readings,
        rest_only=limit.at_rest_only,
        top=len(limit.levels) - 1,
    )
