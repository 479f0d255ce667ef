"""Safety limits: absolute, never adapting, with persistence and hysteresis in event time.

Source: the persistence, hysteresis and "unknown is not continued" rules of bedside alarm practice
(IEC 60601-1-8), written down reading by reading so that a person can recompute every finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from detectors.adult_limits import ADULT_LIMITS, OXYGEN_LIMITS, Limit
from detectors.limit_runs import CLEARING, IDLE, OPEN, RULE_DTYPE, RUN_FULL, Run, rows_of_runs, runs_of
from detectors.limit_sets import LimitSet, Standing
from detectors.protocol import (
    LIMIT_METRICS,
    Change,
    Evidence,
    Finding,
    Readings,
    Rows,
    Shorts,
    State,
)

DEFAULT_LIMITS: Final = (*ADULT_LIMITS, *OXYGEN_LIMITS)  # a new one goes to the end: kept states are read by place
ONLY_BY_PROFILE: Final = tuple(limit.rule for limit in OXYGEN_LIMITS)  # off until a profile calls for them
_FORMER: Final = {"n": ("n", "u4"), "unseen_ms": ("first", "f4"), "run_unseen_ms": ("run_first", "f4")}
FORMER_DTYPE = np.dtype([_FORMER.get(name, (name, RULE_DTYPE[name])) for name in RULE_DTYPE.names or ()])
OLDEST_DTYPE = np.dtype([(name, "u4" if name == "run_n" else FORMER_DTYPE[name]) for name in FORMER_DTYPE.names or ()])
OLDEST_RULES: Final = 12  # what kept states of versions before the profile hold of each patient
FORMER_RULES: Final = 13  # and those of versions that cut a run at any longer step

Taken = tuple[int, float, bool, int]  # a reading's instant, value, whether at rest, and the set of limits that holds


class Limits:
    """All safety limits over all patients, advanced reading by reading.

    Source: see the module. Deviation from bedside alarms: a run is cut by any good reading that is not
    beyond, so that "stayed below 90 % for 12 min" is literally true. Units: the catalogue's; times in Unix
    ms. Valid: for whom `Limit.not_for` does not exclude, per patient in increasing time. State: 546 bytes a
    patient, 42 a rule.

    >>> limits = Limits(DEFAULT_LIMITS)
    >>> state = limits.new_state(1)
    >>> def spo2(minute, value):
    ...     one = lambda x, kind: np.array([x], kind)
    ...     return Readings(one(0, np.intp), one(2, "i2"), one(minute * 60_000, "i8"), one(value, "f4"),
    ...                     one(True, bool), one(True, bool))
    >>> [finding.change for minute in range(6) for finding in limits.advance(state, spo2(minute, 84))]
    ['raised']
    """

    takes = Readings

    def __init__(self, limits: Sequence[Limit] = DEFAULT_LIMITS) -> None:
        """Raise ValueError where two limits share a rule id."""
        self.limits = tuple(limits)
        self.rules = tuple(limit.about() for limit in self.limits)
        if len({limit.rule for limit in self.limits}) != len(self.limits):
            msg = f"two limits share a rule id: {[limit.rule for limit in self.limits]}; give each its own"
            raise ValueError(msg)
        self.dtype = np.dtype([("rules", RULE_DTYPE, (len(self.limits),))])
        self.former_dtypes = tuple(
            np.dtype([("rules", one, (rules,))])
            for one, rules in ((OLDEST_DTYPE, OLDEST_RULES), (FORMER_DTYPE, FORMER_RULES))
        )
        self.everybody = LimitSet(self.limits, frozenset(ONLY_BY_PROFILE))
        self._alike = Standing(self.everybody)
        self._metric = np.array([LIMIT_METRICS.index(limit.metric) for limit in self.limits], np.int16)
        self._sign = np.array([numbers.sign for numbers in self.everybody.numbers], np.float32)

    def new_state(self, n: int) -> State:
        """Return (n,) rows in which nothing is open."""
        return np.zeros(n, self.dtype)

    def restore_former(self, data: bytes) -> np.void:
        """Return a row from the bytes of one that a former version kept; a rule it did not know has nothing open.

        A run towards the end of an episode begins anew: it was counted otherwise.
        """
        dtype = next(one for one in self.former_dtypes if one.itemsize == len(data))
        row, former = self.new_state(1), np.frombuffer(data, dtype)["rules"]
        rules = row["rules"][:, : former.shape[1]]
        for name in set(RULE_DTYPE.names or ()) & set(former.dtype.names or ()):
            full = RUN_FULL if name in ("n", "run_n") else None
            rules[name] = former[name] if full is None else np.minimum(former[name], full)
        back = rules["phase"] == CLEARING
        rules["phase"][back] = OPEN
        for name in ("run_n", "run_ms", "run_worst"):
            rules[name][back] = 0
        restored: np.void = row[0]
        return restored

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def update(self, state: State, given: Readings) -> list[Finding]:
        """Take readings into the rows they name, by everybody's limits."""
        return self.advance(state, given)

    def advance(self, state: State, readings: Readings, standing: Standing | None = None) -> list[Finding]:
        """Take the N readings into the rows they name, in place; return what changed, by (at_ms, row, rule).

        ``standing``: whose limits are other than everybody's, and when. A row and rule that is idle and not crossed
        costs nothing but a comparison.
        """
        standing = standing or self._alike
        rows, rules = self._concerned(state, readings, standing)
        if not len(rows):
            return []
        runs = runs_of(state["rules"][rows, rules])
        last_ms = np.array([run.last_ms for run in runs], np.int64)
        before = standing.at(rows, last_ms).tolist()
        place, bounds = _lined_up(readings, rows, self._metric[rules])
        t_ms = readings.t_ms[place]
        columns = (t_ms, readings.value[place], readings.at_rest[place], standing.at(readings.row[place], t_ms))
        taken: list[Taken] = list(zip(*(column.tolist() for column in columns), strict=True))
        findings: list[Finding] = []
        for pair, (row, rule) in enumerate(zip(rows.tolist(), rules.tolist(), strict=True)):
            given = taken[bounds[pair] : bounds[pair + 1]]
            findings += self._walk(row, rule, runs[pair], before[pair], given, standing.sets)
        state["rules"][rows, rules] = rows_of_runs(runs)
        return sorted(findings, key=lambda finding: (finding.at_ms, finding.row, finding.rule))

    def _concerned(self, state: State, readings: Readings, standing: Standing) -> tuple[Rows, Rows]:
        """Return the (row, rule) pairs with something open or crossed."""
        value, metric = readings.value, readings.metric.astype(np.intp)  # once: each look-up would do it anew
        crossed = np.flatnonzero(readings.good & standing.crossed(readings.row, readings.t_ms, metric, value))
        present = readings.row[np.append(0, np.flatnonzero(readings.row[1:] != readings.row[:-1]) + 1)[: len(value)]]
        concerned = state["rules"]["phase"][present] != IDLE
        if len(crossed):
            mild = standing.mild[standing.at(readings.row[crossed], readings.t_ms[crossed])]
            beyond = (self._sign * value[crossed][:, None] >= mild) & (metric[crossed][:, None] == self._metric)
            of_reading, rule = np.nonzero(beyond)
            concerned[np.searchsorted(present, readings.row[crossed[of_reading]]), rule] = True
        place, which = np.divmod(np.flatnonzero(concerned), len(self.limits))
        return present[place], which

    def _walk(
        self, row: int, rule: int, run: Run, before: int, given: list[Taken], sets: Sequence[LimitSet]
    ) -> Iterator[Finding]:
        """Let a run take a pair's readings; ``before``: the set of limits that its last reading was judged by."""
        for t_ms, value, at_rest, number in given:
            if number != before:
                run.change_over(sets[before].numbers[rule], sets[number].numbers[rule])
                before = number
            change = run.take(sets[number].numbers[rule], t_ms, value, at_rest)
            if change is not None:
                yield self._finding(row, sets[number], rule, change, t_ms, run)
            if change == "cleared":
                run.forget()

    def _finding(self, row: int, own: LimitSet, rule: int, change: Change, t_ms: int, run: Run) -> Finding:
        limit = own.limits[rule]
        of_level = change != "cleared" and run.level > 0
        evidence: Evidence = {
            "change": change,
            "metric": limit.metric,
            "side": limit.side,
            "inclusive": limit.inclusive,
            "threshold": float(limit.levels[run.level if of_level else 0][0]),
            "clear": float(limit.clear),
            "persist_s": limit.persist_s,
            "from_ms": t_ms - run.run_ms if of_level else run.start_ms,
            "to_ms": t_ms,
            "n": run.run_n if of_level else run.n,
            "worst": _plain(run.run_worst if of_level else run.worst),
            "at_rest_only": limit.at_rest_only,
            "step": run.level if of_level else 0,
        }
        if run.run_unseen_ms if of_level or change == "cleared" else run.unseen_ms:
            evidence["seldom"] = True
        if change == "cleared":
            evidence |= {"clear_from_ms": t_ms - run.run_ms, "clear_n": run.run_n, "clear_s": limit.clear_s}
        if limit.rule in own.origin:
            evidence["limit_set_by"] = own.origin[limit.rule]
        return Finding(row, limit.rule, change, run.start_ms, t_ms, run.level, evidence)


def _lined_up(readings: Readings, rows: Rows, metrics: Shorts) -> tuple[Rows, list[int]]:
    """Return the places of each pair's good readings of its metric, and where those of each pair begin, and the end."""
    begin = np.searchsorted(readings.row, rows, "left")
    count = np.searchsorted(readings.row, rows, "right") - begin
    pair = np.repeat(np.arange(len(rows)), count)
    place = np.arange(len(pair)) + (begin - np.cumsum(count) + count)[pair]
    own = readings.good[place] & (readings.metric[place] == metrics[pair])
    return place[own], np.searchsorted(pair[own], np.arange(len(rows) + 1)).tolist()


def dangerous(limits: Sequence[Limit], metric: str, value: float) -> bool:
    """Tell whether one value, taken at its word, is beyond the worst level of a limit.

    >>> dangerous(DEFAULT_LIMITS, "glucose", 5.5), dangerous(DEFAULT_LIMITS, "glucose", 60)
    (True, False)
    """
    for limit in limits:
        if limit.metric == metric:
            threshold, sign = limit.levels[-1][0], 1 if limit.side == "above" else -1
            if sign * value > sign * threshold or (limit.inclusive and value == threshold):
                return True
    return False


def _plain(value: float) -> float:
    """Return what was a float32 as the short decimal it was, so that 38.7 is not told as 38.70000076."""
    return round(value, 4)
