"""Safety limits: absolute, never adapting, with persistence and hysteresis in event time.

Source: the persistence, hysteresis and "unknown is not continued" rules of bedside alarm practice
(IEC 60601-1-8), written down reading by reading so that a person can recompute every finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.adult_limits import ADULT_LIMITS, OXYGEN_LIMITS, Limit
from detectors.limit_sets import LimitSet, Standing, stricter
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

DEFAULT_LIMITS: Final = (*ADULT_LIMITS, *OXYGEN_LIMITS)  # a new one goes to the end: kept states are read by place
ONLY_BY_PROFILE: Final = tuple(limit.rule for limit in OXYGEN_LIMITS)  # off until a profile calls for them
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
        ("run_n", "u2"),
        ("run_ms", "u4"),
        ("run_first", "f4"),
        ("run_worst", "f4"),
    ]
)
FORMER_DTYPE = np.dtype([(name, "u4" if name == "run_n" else RULE_DTYPE[name]) for name in RULE_DTYPE.names or ()])
FORMER_RULES: Final = 12  # what kept states of versions before the profile hold of each patient
RUN_FULL: Final = np.iinfo(RULE_DTYPE["run_n"]).max


class Limits:
    """All safety limits over all patients, advanced reading by reading.

    Source: see the module. Deviation from bedside alarms: a run is cut by any good reading that is not
    beyond, so that "stayed below 90 % for 12 min" is literally true. Units: the catalogue's; times in Unix
    ms. Valid: for whom `Limit.not_for` does not exclude, per patient in increasing time. State: 572 bytes a
    patient, 44 a rule.

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
        self.former_dtype = np.dtype([("rules", FORMER_DTYPE, (FORMER_RULES,))])
        self.everybody = LimitSet(self.limits, frozenset(ONLY_BY_PROFILE))
        self._alike = Standing(self.everybody)
        self._metric = np.array([LIMIT_METRICS.index(limit.metric) for limit in self.limits], np.int16)

    def new_state(self, n: int) -> State:
        """Return (n,) rows in which nothing is open."""
        return np.zeros(n, self.dtype)

    def restore_former(self, data: bytes) -> np.void:
        """Return a row from the bytes of one that a former version kept; a rule it did not know has nothing open."""
        row, former = self.new_state(1), np.frombuffer(data, self.former_dtype)
        row["rules"][:, :FORMER_RULES] = former["rules"].astype(RULE_DTYPE)
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
        number = standing.at(readings.row, readings.t_ms) * len(self.limits)
        rows, rules = self._concerned(state, readings, standing, number)
        if not len(rows):
            return []
        kept = state["rules"][rows, rules]
        before = standing.at(rows, kept["last_ms"]) * len(self.limits) + rules
        walk = _Walk(standing.table, before, kept, readings)
        walk.lay_out(rows, rules, self._metric[rules], number)
        findings = [
            self._finding(int(rows[pair]), standing.sets[key // len(self.limits)], int(rules[pair]), change, t, then)
            for change, pair, key, t, then in walk.run()
        ]
        state["rules"][rows, rules] = walk.state
        return sorted(findings, key=lambda finding: (finding.at_ms, finding.row, finding.rule))

    def _concerned(self, state: State, readings: Readings, standing: Standing, number: Rows) -> tuple[Rows, Rows]:
        """Return the (row, rule) pairs with something open or crossed; ``number`` (N,): of the set's first rule."""
        metric, value, rules = readings.metric, readings.value, len(self.limits)
        place = metric if len(standing.sets) == 1 else number // rules * len(LIMIT_METRICS) + metric
        crossed = np.flatnonzero((value >= standing.upper[place]) | (value <= standing.lower[place]))
        crossed = crossed[readings.good[crossed]]
        fresh = np.ones(len(readings.row), bool)
        fresh[1:] = readings.row[1:] != readings.row[:-1]
        present = readings.row[fresh]
        concerned = state["rules"]["phase"][present] != IDLE
        if len(crossed):
            mildest, sign = standing.table["level"][:, 0], standing.table["sign"][:rules]
            beyond = sign * value[crossed][:, None] >= mildest[number[crossed][:, None] + np.arange(rules)]
            of_rule, rule = np.nonzero(beyond & (metric[crossed][:, None] == self._metric))
            concerned[np.searchsorted(present, readings.row[crossed[of_rule]]), rule] = True
        place, which = np.nonzero(concerned)
        return present[place], which

    def _finding(self, row: int, own: LimitSet, rule: int, change: Change, t_ms: int, then: np.void) -> Finding:
        limit = own.limits[rule]
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
        if limit.rule in own.origin:
            evidence["limit_set_by"] = own.origin[limit.rule]
        return Finding(row, limit.rule, change, int(then["start_ms"]), t_ms, level, evidence)


class _Walk:
    """One pass over the readings of P (row, rule) pairs: all pairs take their next reading together."""

    def __init__(self, table: State, before: Rows, state: State, readings: Readings) -> None:
        """``table``: numbers of every set's rules; ``before`` (P,): the place in it of each pair's last reading."""
        self.table, self.before, self.state, self.readings = table, before, state, readings

    def lay_out(self, rows: Rows, rules: Rows, metrics: Shorts, number: Rows) -> None:
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
        self.key = number[order] + rules[pair]
        beyond = self.table["sign"][self.key] * self.value >= self.table["level"][self.key, 0]
        ahead = np.where(beyond, np.arange(len(pair)), len(pair))
        self.next_beyond = np.minimum.accumulate(ahead[::-1])[::-1]

    def run(self) -> list[tuple[Change, int, int, int, np.void]]:
        """Walk to the end; return (change, pair, place in the table, instant, the pair's state when it changed)."""
        changes: list[tuple[Change, int, int, int, np.void]] = []
        at = self.begin.copy()
        live = self._skip(at, np.arange(len(at)))
        while len(live):  # bounded: every turn takes one reading of each live pair
            state, t, key = self.state[live], self.t[at[live]], self.key[at[live]]
            parameters = self.table[key]
            moved = np.flatnonzero(key != self.before[live])
            if len(moved):
                state[moved] = _changed_over(state[moved], self.table[self.before[live[moved]]], parameters[moved])
                self.before[live] = key
            done = _step(state, parameters, t, self.value[at[live]], self.at_rest[at[live]])
            for change, which in done:
                changes += [
                    (change, int(live[i]), int(key[i]), int(t[i]), state[i].copy()) for i in np.flatnonzero(which)
                ]
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


def _changed_over(state: State, old: State, new: State) -> State:
    """Return what goes on of each pair when its limit becomes another one, before the first reading under that.

    A run goes on where every reading in it would have counted under the new limit too: all of it, or what of it was
    beyond the worse level; else it begins anew. An open episode stays open whatever the limit becomes: it goes on to
    the clear threshold that holds then.
    """
    phase, (mild, worse) = state["phase"].copy(), stricter(new["level"], old["level"]).T
    pending, clearing = phase == PENDING, phase == CLEARING
    severe = pending & ~mild & stricter(new["level"][:, 0], old["level"][:, 1]) & (state["run_n"] > 0)
    for whole, part in (("n", "run_n"), ("first", "run_first"), ("worst", "run_worst")):
        state[whole][severe] = state[part][severe]
    state["start_ms"][severe] = state["last_ms"][severe] - state["run_ms"][severe]
    back = new["sign"] * (new["clear"] - old["clear"]) >= 0
    _end_run(state, np.where(clearing, ~back, ~worse))
    state["phase"][clearing & ~back] = OPEN
    state[pending & ~mild & ~severe] = np.zeros((), RULE_DTYPE)
    return state


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
    of_it = more | was_open  # under a looser limit than it began with, an episode's worst reading need not be beyond
    state["worst"][of_it] = (sign * np.maximum(sign * state["worst"], signed))[of_it]

    goes_on = (toward & ~was_clearing | back & was_clearing) & (state["run_n"] > 0) & ~gap & ~fresh
    _start_run(state, (toward | back) & ~goes_on, value)
    state["run_n"][goes_on] = np.minimum(state["run_n"][goes_on].astype(np.uint32) + 1, RUN_FULL)
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


def _plain(value: np.floating) -> float:
    """Return a float32 as the short decimal it was, so that 38.7 is not told as 38.70000076."""
    return round(float(value), 4)
