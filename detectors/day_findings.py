"""What the close of people's days says: each finding with all its evidence, in the order in which it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from detectors import choices, considered, desaturation, devices, drift, rise, shift
from detectors.baseline import NIGHT_SPO2, PAIR_CONTEXT, PAIRS, Usual, days_used
from detectors.context import DAY_FROM, SLEEP_FROM, SLEEP_TO
from detectors.measured_by import numbers
from detectors.protocol import (
    CONTEXTS,
    DAY_MS,
    MINUTE_MS,
    Bools,
    Bytes,
    Change,
    Counts,
    Doubles,
    Evidence,
    Finding,
    HourSlice,
    Longs,
    Rows,
    Rule,
    Shorts,
    State,
)
from detectors.rules import DRIFTS
from detectors.score import p_value


@dataclass(slots=True)
class DayFindings:
    """What the close of R patients' days says, in the order in which it is said."""

    state: State  # (R,) as of the day that closes
    slots: Rows
    began: Longs  # (R,) of the night, Unix ms
    ended: Longs
    at: Longs  # (R,) the day's end
    offset: Shorts  # (R,) minutes
    zone_since: Counts  # (R,) local day of the jump of the offset that the body still follows, 0: of none
    doubted: Bools | None = None  # (R,) somebody else may have worn the device: said beside what follows
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, state: State, hour: HourSlice, slots: Rows) -> Self:
        """Return what nothing has been said of yet; ``hour`` is the first one after each day's end."""
        began, ended = _local(state, hour, SLEEP_FROM - 1440), _local(state, hour, SLEEP_TO)
        return cls(
            state,
            slots,
            began,
            ended,
            np.minimum(_local(state, hour, DAY_FROM), hour.hour_ms),
            hour.utc_offset_min,
            state["zone_since"].copy(),
        )

    def add(
        self, rule: Rule, of: Callable[[int], Evidence], start_ms: Longs, changes: Mapping[Change, Bools],
        level: Bytes | None = None,
    ) -> None:  # fmt: skip
        """Say of whom ``changes`` (R,) tell what the rule found; ``of`` returns a patient's evidence, by place.

        ``start_ms`` (R,) of the episode, ``level`` (R,) from 1 on; None: the rule has one.
        """
        for change, which in changes.items():
            for i in np.flatnonzero(which).tolist():
                span = {"change": change, "from_ms": int(self.began[i]), "to_ms": int(self.ended[i])}
                evidence = of(i) | span | {"utc_offset_min": int(self.offset[i])}
                if self.zone_since[i]:
                    evidence["zone_since_day"] = int(self.zone_since[i])
                if self.doubted is not None:
                    evidence |= considered.of_day(self.state, self.doubted, i, evidence)
                    evidence |= {"wearer_in_doubt": True} if self.doubted[i] else {}
                start, at, step = int(start_ms[i]), int(self.at[i]), 0 if level is None else max(int(level[i]) - 1, 0)
                self.findings.append(Finding(int(self.slots[i]), rule.id, change, start, at, step, evidence))


def by_device(
    of: Callable[[int], Evidence], night: devices.Night, measured: Doubles, pair: int
) -> Callable[[int], Evidence]:
    """Return ``of`` with what another device has to do with a baseline's value."""
    return lambda i: of(i) | devices.evidence(night, measured, pair, i)


def rise_evidence(
    heart: rise.Rise, state: State, held: choices.Held, night: devices.Night, measured: Doubles, i: int
) -> Evidence:
    """Return what a rising resting heart rate tells of patient ``i``, and whose word its limit is."""
    pair = rise.HEART_PAIRS[rise.told_first(heart, i)]
    by = _set_by(held, choices.ALL_TOGETHER, i)
    return rise.evidence(heart, state, held.limit, i) | devices.evidence(night, measured, pair, i) | by


def shift_evidence(
    shifted: shift.Shift, heart: rise.Rise, state: State, values: Doubles, place: int, night: devices.Night,
    measured: Doubles, i: int,
) -> Evidence:  # fmt: skip
    """Return what a small shift tells of patient ``i``."""
    told = shift.evidence(shifted, heart, state, values, place, i)
    return told | devices.evidence(night, measured, shift.told_first(shifted, place, i), i)


def drift_evidence(state: State, values: Doubles, held: choices.Held, place: int, i: int) -> Evidence:
    """Return what a drift tells of patient ``i``, and whose word its bound is."""
    return drift.evidence(state, values, place, held.bound, i) | _set_by(held, DRIFTS[place].id, i)


def _set_by(held: choices.Held, rule: str, i: int) -> Evidence:
    return {"limit_set_by": held.set_by[i][rule]} if rule in held.set_by[i] else {}


def night_evidence(state: State, values: Doubles, expected: Usual, z: Doubles, pair: int, i: int) -> Evidence:
    """Return what a night far out tells of patient ``i``."""
    return day_evidence(state[i], pair, float(values[i, pair]), expected, i, float(z[i, pair]))


def falls_evidence(falls: desaturation.Night, state: State, i: int) -> Evidence:
    """Return what falls of oxygen saturation tell of patient ``i``."""
    by = numbers(int(state["day"]["devices"][i, NIGHT_SPO2]))
    return desaturation.evidence(falls, int(state["open_day"][i]), i) | {"devices": by}


def day_evidence(patient: np.void, pair: int, value: float, expected: Usual, i: int, z: float) -> Evidence:
    """Return what every finding on a baseline tells; ``expected`` is that of patient ``i`` (R, P)."""
    median = round(float(expected.median[i, pair]), 4)
    return {
        "metric": PAIRS[pair].metric,
        "context": CONTEXTS[PAIR_CONTEXT[pair]],
        "day": int(patient["open_day"]),
        "value": round(value, 4),
        "usual": median,
        "difference": round(value - median, 4),
        "center": round(float(expected.center[i, pair]), 4),
        "spread": round(float(expected.day[i, pair]), 4),
        "z": round(z, 3),
        "p": float(p_value(np.array(z), expected.n[i, pair], patient["tails"][pair])),
        "n_days": int(expected.n[i, pair]),
        "days": days_used(patient["baselines"][pair]),
        "minutes": int(patient["day"]["n"][pair]),
        "devices": numbers(int(patient["day"]["devices"][pair])),
    }


def _local(state: State, hour: HourSlice, minute: int) -> Longs:
    """Return (R,) the instant of a local minute of the open day, in Unix ms."""
    day = state["open_day"].astype(np.int64) * DAY_MS
    return np.asarray(day + (minute - hour.utc_offset_min.astype(np.int64)) * MINUTE_MS)
