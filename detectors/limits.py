"""Safety limits: absolute, never adapting, with persistence and hysteresis in event time.

Source: the persistence, hysteresis and "unknown is not continued" rules of bedside alarm practice
(IEC 60601-1-8), written down reading by reading so that a person can recompute every finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.adult_limits import ADULT_LIMITS, MAX_LEVELS, Limit
from detectors.protocol import (
    LIMIT_METRICS,
    Bools,
    Change,
    Evidence,
    Finding,
    Floats,
    Longs,
    Readings,
    Rows,
    Shorts,
    State,
)

DEFAULT_LIMITS: Final = ADULT_LIMITS
IDLE, PENDING, OPEN, CLEARING = 0, 1, 2, 3

# `start`..`worst` belong to the mildest level's run (then: the episode), `run_*` to a run beside it: towards
# the next level while PENDING or OPEN, towards the end while CLEARING. IDLE is all zeros.
RULE_DTYPE = np.dtype(
    [
        ("phase", "u1"),
        ("level", "u1"),
        ("n", "u4"),
        ("start_ms", "i8"),
        ("last_ms", "i8"),
        ("first", "f4"),
        ("worst", "f4"),
        ("run_n", "u4"),
        ("run_ms", "u4"),
        ("run_first", "f4"),
        ("run_worst", "f4"),
    ]
)
_PARAMETERS = np.dtype(
    [
        ("sign", "f4"),
        ("level", "f4", (MAX_LEVELS,)),
        ("clear", "f4"),
        ("persist_ms", "i8"),
        ("clear_ms", "i8"),
        ("max_gap_ms", "i8"),
        ("min_readings", "u4"),
        ("rest_only", "?"),
        ("top", "u1"),
    ]
)


class Limits:
    """All safety limits over all patients, advanced reading by reading.

    Source: see the module. Deviation from bedside alarms: a run is cut by any good reading that is not
    beyond, so that "stayed below 90 % for 12 min" is literally true. Units: the catalogue's; times in Unix
    ms. Valid: readings of adults, per patient in increasing time. State: 46 bytes a rule and patient.

    >>> limits = Limits(DEFAULT_LIMITS)
    >>> state = limits.new_state(1)
    >>> def spo2(minute, value):
    ...     one = lambda x, kind: np.array([x], kind)
    ...     return Readings(one(0, np.intp), one(2, "i2"), one(minute * 60_000, "i8"), one(value, "f4"),
    ...                     one(True, bool), one(True, bool))
    >>> [finding.change for minute in range(6) for finding in limits.advance(state, spo2(minute, 84))]
    ['raised']
    """

    def __init__(self, limits: Sequence[Limit] = DEFAULT_LIMITS) -> None:
        """Raise ValueError where two limits share a rule id."""
        self.limits = tuple(limits)
        self.rules = tuple(limit.about() for limit in self.limits)
        if len({limit.rule for limit in self.limits}) != len(self.limits):
            msg = f"two limits share a rule id: {[limit.rule for limit in self.limits]}; give each its own"
            raise ValueError(msg)
        self.dtype = np.dtype([("rules", RULE_DTYPE, (len(self.limits),))])
        self._parameters = np.array([_parameters(limit) for limit in self.limits], _PARAMETERS)
        self._metric = np.array([LIMIT_METRICS.index(limit.metric) for limit in self.limits], np.int16)
        self._upper = np.full(len(LIMIT_METRICS), np.inf, np.float32)
        self._lower = np.full(len(LIMIT_METRICS), -np.inf, np.float32)
        for metric, parameter in zip(self._metric, self._parameters, strict=True):
            mildest = parameter["level"][0]
            if parameter["sign"] > 0:
                self._upper[metric] = min(self._upper[metric], mildest)
            else:
                self._lower[metric] = max(self._lower[metric], -mildest)

    def new_state(self, n: int) -> State:
        """Return (n,) rows in which nothing is open."""
        return np.zeros(n, self.dtype)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def advance(self, state: State, readings: Readings) -> list[Finding]:
        """Take the N readings into the rows they name, in place; return what changed, by (at_ms, row, rule).

        A row and rule that is idle and not crossed costs nothing but a comparison.
        """
        rows, rules = self._concerned(state, readings)
        if not len(rows):
            return []
        walk = _Walk(self._parameters[rules], state["rules"][rows, rules], readings)
        walk.lay_out(rows, self._metric[rules])
        findings = [
            self._finding(int(rows[pair]), int(rules[pair]), change, reading, then)
            for change, pair, reading, then in walk.run()
        ]
        state["rules"][rows, rules] = walk.state
        return sorted(findings, key=lambda finding: (finding.at_ms, finding.row, finding.rule))

    def _concerned(self, state: State, readings: Readings) -> tuple[Rows, Rows]:
        """Return the (row, rule) pairs with something open or crossed by these readings."""
        metric, value = readings.metric, readings.value
        crossed = np.flatnonzero((value >= self._upper[metric]) | (value <= self._lower[metric]))
        crossed = crossed[readings.good[crossed]]
        fresh = np.ones(len(readings.row), bool)
        fresh[1:] = readings.row[1:] != readings.row[:-1]
        present = readings.row[fresh]
        concerned = state["rules"]["phase"][present] != IDLE
        if len(crossed):
            place = np.searchsorted(present, readings.row[crossed])
            for rule, parameter in enumerate(self._parameters):
                beyond = parameter["sign"] * value[crossed] >= parameter["level"][0]
                concerned[place[beyond & (metric[crossed] == self._metric[rule])], rule] = True
        place, rules = np.nonzero(concerned)
        return present[place], rules

    def _finding(self, row: int, rule: int, change: Change, t_ms: int, then: np.void) -> Finding:
        limit = self.limits[rule]
        level = int(then["level"])
        of_level = change != "cleared" and level > 0
        evidence: Evidence = {
            "change": change,
            "metric": limit.metric,
            "side": limit.side,
            "inclusive": limit.inclusive,
            "threshold": float(limit.levels[level if of_level else 0][0]),
            "clear": float(limit.clear),
            "persist_s": limit.persist_s,
            "from_ms": t_ms - int(then["run_ms"]) if of_level else int(then["start_ms"]),
            "to_ms": t_ms,
            "n": int(then["run_n" if of_level else "n"]),
            "first_value": _plain(then["run_first" if of_level else "first"]),
            "worst": _plain(then["run_worst" if of_level else "worst"]),
            "at_rest_only": limit.at_rest_only,
        }
        if change == "cleared":
            evidence |= {
                "clear_from_ms": t_ms - int(then["run_ms"]),
                "clear_n": int(then["run_n"]),
                "clear_s": limit.clear_s,
            }
        return Finding(row, limit.rule, change, int(then["start_ms"]), t_ms, level, evidence)


class _Walk:
    """One pass over the readings of P (row, rule) pairs: all pairs take their next reading together."""

    def __init__(self, parameters: State, state: State, readings: Readings) -> None:
        self.parameters, self.state, self.readings = parameters, state, readings

    def lay_out(self, rows: Rows, metrics: Shorts) -> None:
        """Line up each pair's good readings of its metric, and for each where the next beyond reading is."""
        readings, pairs = self.readings, len(rows)
        begin, count = np.zeros(pairs, np.intp), np.zeros(pairs, np.intp)
        taken: list[Rows] = []
        offset = 0
        for metric in np.unique(metrics):
            of_metric = np.flatnonzero((readings.metric == metric) & readings.good)
            chosen = np.flatnonzero(metrics == metric)
            low = np.searchsorted(readings.row[of_metric], rows[chosen], "left")
            high = np.searchsorted(readings.row[of_metric], rows[chosen], "right")
            begin[chosen], count[chosen] = low + offset, high - low
            taken.append(of_metric)
            offset += len(of_metric)
        self.end = np.cumsum(count)
        self.begin = self.end - count
        pair = np.repeat(np.arange(pairs), count)
        order = np.concatenate(taken)[np.arange(len(pair)) + (begin - self.begin)[pair]]
        self.t, self.value = readings.t_ms[order], readings.value[order]
        self.at_rest = readings.at_rest[order]
        beyond = self.parameters["sign"][pair] * self.value >= self.parameters["level"][pair, 0]
        ahead = np.where(beyond, np.arange(len(pair)), len(pair))
        self.next_beyond = np.minimum.accumulate(ahead[::-1])[::-1]

    def run(self) -> list[tuple[Change, int, int, np.void]]:
        """Walk to the end; return (change, pair, instant, the pair's state when it changed)."""
        changes: list[tuple[Change, int, int, np.void]] = []
        at = self.begin.copy()
        live = self._skip(at, np.arange(len(at)))
        while len(live):  # bounded: every turn takes one reading of each live pair
            state, t = self.state[live], self.t[at[live]]
            done = _step(state, self.parameters[live], t, self.value[at[live]], self.at_rest[at[live]])
            for change, which in done:
                changes += [(change, int(live[i]), int(t[i]), state[i].copy()) for i in np.flatnonzero(which)]
                if change == "cleared":
                    state[which] = np.zeros((), RULE_DTYPE)
            self.state[live] = state
            at[live] += 1
            live = self._skip(at, live)
        return changes

    def _skip(self, at: Rows, live: Rows) -> Rows:
        """Move idle pairs to their next beyond reading, in place; return the pairs that have one to take."""
        live = live[at[live] < self.end[live]]
        idle = live[self.state["phase"][live] == IDLE]
        at[idle] = self.next_beyond[at[idle]]
        return live[at[live] < self.end[live]]


def _step(state: State, parameters: State, t: Longs, value: Floats, at_rest: Bools) -> list[tuple[Change, Bools]]:
    """Let each pair take one good reading, in place; return which were raised, worsened and cleared."""
    sign, thresholds = parameters["sign"], parameters["level"]
    signed = sign * value
    beyond = signed >= thresholds[:, 0]
    counts = at_rest | ~parameters["rest_only"]
    was_open, was_clearing = state["phase"] >= OPEN, state["phase"] == CLEARING
    since = t - state["last_ms"]
    gap = since > parameters["max_gap_ms"]
    below_top = ~was_open | (state["level"] < parameters["top"])
    toward = (signed >= thresholds[:, 1]) & counts & below_top
    back = was_open & (signed <= sign * parameters["clear"])

    fresh = ~was_open & beyond & counts & ((state["phase"] == IDLE) | gap)
    _start(state, fresh, t, value)
    more = beyond & ~fresh & (was_open | counts)
    state["n"][more] += 1
    state["worst"][more] = (sign * np.maximum(sign * state["worst"], signed))[more]

    goes_on = (toward & ~was_clearing | back & was_clearing) & (state["run_n"] > 0) & ~gap & ~fresh
    _start_run(state, (toward | back) & ~goes_on, value)
    state["run_n"][goes_on] += 1
    state["run_ms"][goes_on] += since[goes_on].astype(np.uint32)
    state["run_worst"][goes_on] = (sign * np.maximum(sign * state["run_worst"], signed))[goes_on]
    _end_run(state, ~toward & ~back)
    state["phase"][was_open] = np.where(back, CLEARING, OPEN)[was_open]
    state["last_ms"] = t
    state[~was_open & ~(beyond & counts)] = np.zeros((), RULE_DTYPE)
    return _outcomes(state, parameters, t)


def _outcomes(state: State, parameters: State, t: Longs) -> list[tuple[Change, Bools]]:
    """Judge persistence after a reading, in place (``cleared`` is left for the caller to wipe)."""
    phase = state["phase"].copy()
    enough = state["run_n"] >= parameters["min_readings"]
    reached = enough & (state["run_ms"] >= parameters["persist_ms"])
    lasted = (t - state["start_ms"] >= parameters["persist_ms"]) & (state["n"] >= parameters["min_readings"])
    raised = (phase == PENDING) & lasted
    state["phase"][raised] = OPEN
    worsened = (phase == OPEN) & reached
    state["level"][worsened | (raised & reached)] = 1
    cleared = (phase == CLEARING) & enough & (state["run_ms"] >= parameters["clear_ms"])
    return [("raised", raised), ("worsened", worsened), ("cleared", cleared)]


def _start(state: State, which: Bools, t: Longs, value: Floats) -> None:
    state["phase"][which], state["n"][which] = PENDING, 1
    state["start_ms"][which] = t[which]
    state["first"][which] = state["worst"][which] = value[which]


def _start_run(state: State, which: Bools, value: Floats) -> None:
    state["run_n"][which], state["run_ms"][which] = 1, 0
    state["run_first"][which] = state["run_worst"][which] = value[which]


def _end_run(state: State, which: Bools) -> None:
    for name in ("run_n", "run_ms", "run_first", "run_worst"):
        state[name][which] = 0


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


def _parameters(limit: Limit) -> tuple[object, ...]:
    """Return the limit as numbers; "past the threshold" becomes "at or past the next float"."""
    sign = np.float32(1 if limit.side == "above" else -1)
    levels = np.full(MAX_LEVELS, np.inf, np.float32)
    for i, (threshold, _) in enumerate(limit.levels):
        exact = sign * np.float32(threshold)
        levels[i] = exact if limit.inclusive else np.nextafter(exact, np.float32(np.inf))
    milliseconds = (limit.persist_s * 1000, limit.clear_s * 1000, limit.max_gap_s * 1000)
    top = len(limit.levels) - 1
    return (sign, levels, limit.clear, *milliseconds, limit.min_readings, limit.at_rest_only, top)


def _plain(value: np.floating) -> float:
    """Return a float32 as the short decimal it was, so that 38.7 is not told as 38.70000076."""
    return round(float(value), 4)
