"""A fast gain of weight is told: what heart failure programmes ask their patients to report.

Source: more than 2 kg in 3 days (European Society of Cardiology, guidelines on heart failure 2021). Nothing is learned.
Such a gain is seldom when nothing is wrong and often missing when something is: it came before 20 and 21 % of
decompensations (Gyllensten 2016, JMIR Med Inform 4:e3; Ledwidge 2013, Eur J Heart Fail 15:447). No source was found for
a second number, so the worse level is such a gain on top of one. Valid: whoever weighs themselves; not in dialysis,
where weight swings.

Deviations: the weight of a day is that of its first weighing, as in ``weights``, and the rise is counted from the
lowest of the three days before, so that a day left out hides none.

    told      a second reading within the hour, or another weighing of the next three days, shows such a rise too: from
              the same weight, or from one of its own three days before. One odd reading is none, nor is its copy: an
              equal one within a minute. More than JUMP is told the same way, and that it may be another person or scale
    worse     while one is told, once: another, seen twice, from more than ENDS above the weight that was counted from,
              or to more than GAIN above the weight that was told
    no base   a weight that lies more than JUMP below both its neighbours: somebody else stood on the scale
    ended     two weighings in a row, of two days, at most ENDS above the weight it was counted from; or CALM weighings
              in a row none of which was such a rise or lay more than ENDS above the weight that was told. With nothing
              in the three days before a weighing tells that only if it is no higher than told. No gap ends it

How long it takes to end, and by how much, are engineering choices.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import LIMIT_METRICS, Change, Evidence, Finding, Readings, Rows, Shorts, State
from detectors.rules import WEIGHT_GAIN
from detectors.weighing import QUARTER_S
from detectors.weight_runs import Run
from detectors.weights import CALM, ENDS, GAIN, GAIN_DAYS, JUMP, UNIT, tens

WEIGHT: Final = LIMIT_METRICS.index("weight")
WEIGHT_DTYPE = np.dtype(
    [
        ("first", "u4"),  # of the newest weighing, seconds since 1970
        ("quarters", "i1"),  # the wearer's local time minus UTC then
        ("today", "u2", (2,)),  # tens of grams: see Run.middle and Run.other
        ("before", "u2", (GAIN_DAYS,)),  # of the days before, 0: none
        ("base", "u2"),  # 0: none is told
        ("rise", "u1"),
        ("flags", "u4"),  # bits, see _SIZES
    ]
)
_SIZES: Final = (1, 1, 1, 2, 2, 3, 22)  # three, back, worse, half, ago, calm, and quarters of an hour since (to 2089)
_QUARTER_MIN: Final = QUARTER_S // 60


class WeightGain:
    """A fast gain of weight over all patients, reading by reading; nothing of it is learned.

    Source: European Society of Cardiology 2021; deviations in the module. Units: kg, to 10 g; instants in Unix ms, told
    to the second. Valid: not in dialysis. Whoever has no weight among the readings costs nothing. State: 22 bytes a
    patient.

    >>> gains, state = WeightGain(), WeightGain().new_state(1)
    >>> def weighed(day, kilograms):
    ...     one = lambda x, kind: np.array([x], kind)
    ...     t_ms = (24 * day + 7) * 3_600_000
    ...     return Readings(one(0, np.intp), one(WEIGHT, "i2"), one(t_ms, "i8"), one(kilograms, "f4"),
    ...                     one(True, bool), one(True, bool))
    >>> mornings = enumerate([80.1, 80.3, 82.4, 82.5])
    >>> found = [one for day, kilograms in mornings for one in gains.update(state, weighed(day, kilograms))]
    >>> [(one.change, one.evidence["gain"], one.evidence["from_day"]) for one in found]
    [('raised', 2.4, 0)]
    """

    takes = Readings
    dtype = WEIGHT_DTYPE

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return np.zeros(n, self.dtype)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def update(self, state: State, given: Readings) -> list[Finding]:
        """Take readings into the rows they name, of people whose clock is UTC."""
        return self.advance(state, given, np.zeros(len(given.row), np.int16))

    def advance(self, state: State, readings: Readings, utc_offset_min: Shorts) -> list[Finding]:
        """Take the weights among N readings into the rows they name, in place; return what changed, by (at_ms, row).

        ``utc_offset_min`` (N,): the wearers' local time minus UTC at each reading.
        """
        chosen = np.flatnonzero((readings.metric == WEIGHT) & readings.good & (readings.value > 0))
        if not len(chosen):
            return []
        columns = (
            readings.row[chosen], readings.t_ms[chosen], np.rint(utc_offset_min[chosen] / _QUARTER_MIN).astype(np.int8),
            tens(readings.value[chosen]),
        )  # fmt: skip
        runs: dict[int, Run] = {}
        findings = []
        for row, t_ms, quarters, weight in zip(*(column.tolist() for column in columns), strict=True):
            if row not in runs:
                runs[row] = run_of(state[row])
            run = runs[row]
            change = run.take(t_ms // 1000, quarters, weight)
            if change is not None:
                findings.append(_finding(row, run, change, t_ms))
                run.go_on(change)
        for row, run in runs.items():
            state[row] = row_of(run)
        return sorted(findings, key=lambda finding: (finding.at_ms, finding.row))


def run_of(row: np.void) -> Run:
    """Return a row of WEIGHT_DTYPE as a run."""
    first, quarters, today, before, base, rise, flags = (row[name].tolist() for name in WEIGHT_DTYPE.names or ())
    parts = []
    for size in _SIZES:
        parts.append(flags & (1 << size) - 1)
        flags >>= size
    three, back, worse, half, ago, calm, since = parts
    return Run(
        first, quarters, today[0], today[1], bool(three), before, half, ago, since * QUARTER_S, base, rise,
        bool(worse), calm, bool(back),
    )  # fmt: skip


def row_of(run: Run) -> np.void:
    """Return a run as a row of WEIGHT_DTYPE."""
    parts = (run.three, run.back, run.worse, run.half, run.ago, run.calm, run.since_s // QUARTER_S)
    flags, place = 0, 0
    for part, size in zip(parts, _SIZES, strict=True):
        flags |= part << place
        place += size
    today, before = (run.middle, run.other), tuple(run.before)
    row: np.void = np.array([(run.first_s, run.quarters, today, before, run.base, run.rise, flags)], WEIGHT_DTYPE)[0]
    return row


def _finding(row: int, run: Run, change: Change, t_ms: int) -> Finding:
    low, start_ms = run.lowest(), run.since_s * 1000
    base = run.base if change == "cleared" or low is None else low.weight
    evidence: Evidence = {
        "change": change,
        "metric": WEIGHT_GAIN.metric,
        "day": run.day,
        "value": run.value / UNIT,
        "least": run.least / UNIT,
        "n": run.readings,
        "threshold": GAIN / UNIT,
        "within_days": GAIN_DAYS,
        "base": base / UNIT,
        "from_ms": run.first_s * 1000,
        "to_ms": t_ms,
    }
    if change == "cleared":
        near = run.back and run.near
        evidence |= {"clear_from_ms": run.first_s * 1000, "near": near, "ends_above": ENDS / UNIT, "calm": CALM}
        return Finding(row, WEIGHT_GAIN.id, change, start_ms, t_ms, int(run.worse), evidence)
    gained = run.value - base
    evidence |= {
        "gain": gained / UNIT,
        "from_day": run.day - (low.days if low else 0),
        "same_weighing": not run.half,  # it was seen twice in; else on two days
        "jump": gained > JUMP,
    }
    return Finding(row, WEIGHT_GAIN.id, change, start_ms, t_ms, int(run.worse), evidence)
