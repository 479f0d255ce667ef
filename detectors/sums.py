"""The open hour and the open day: exact sums of usable minutes by baseline.

Minute means are added in thousandths as integers, so that any cut of the input gives the same sum to the
last bit. An hour counts towards its day when it closes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors import measured_by
from detectors.baseline import PAIRS
from detectors.coverage import HEART_PAIRS
from detectors.gate import ABSENT, DOUBTED, USABLE
from detectors.minutes import Minutes
from detectors.protocol import (
    CONTEXTS,
    HEART_RATE,
    STEPS,
    VITALS,
    Bools,
    Bytes,
    Doubles,
    Floats,
    State,
)

P, M = len(PAIRS), len(VITALS)
THOUSAND = 1000.0
FULL_HOUR = np.array([min(10, pair.least_minutes) for pair in PAIRS], np.uint8)
"""An hour with fewer usable minutes says nothing about how a day's hours differ."""

HOUR_DTYPE = np.dtype(
    [
        ("sum", "i4", (P,)),
        ("n", "u1", (P,)),  # usable minutes in the baseline's contexts
        ("more", "u1", (len(HEART_PAIRS),)),  # that heart rates measured seldom stand for beyond those
        ("context", "u1", (len(CONTEXTS),)),  # minutes with a usable vital, by context
        ("usable", "u1", (M,)),
        ("poor", "u1", (M,)),
        ("off", "u1"),  # minutes not worn
        ("steps", "u1"),  # minutes for which steps were reported, zero included
    ]
)
DAY_DTYPE = np.dtype(
    [
        ("sum", "i4", (P,)),
        ("n", "u2", (P,)),
        ("more", "u2", (len(HEART_PAIRS),)),
        ("hours_sum", "f4", (P,)),  # of hourly means less the population's center
        ("hours_square", "f4", (P,)),
        ("hours", "u1", (P,)),  # that are full; the highest bit: one was far out, nothing is learned from this day
        ("alarming", "u1", (M,)),  # minutes beyond a safety limit
        ("steps", "u4"),
        ("steps_minutes", "u2"),  # for which steps were reported, zero included
        ("devices", "u2", (P,)),  # that measured a minute which counts: `measured_by`
    ]
)
DIRTY: Final = 0x80
MOST_HOURS: Final = 0x7F
_CENTER = np.array([pair.center for pair in PAIRS])
_IN_CONTEXT = np.array([[c in pair.contexts for c in range(len(CONTEXTS))] for pair in PAIRS])
_ONE_OF_FOUR = np.array([1 << 8 * c for c in range(len(CONTEXTS))], "<u4")
"""A minute of each context, a byte each: up to 60 of them can be added up at once."""
_METRIC = np.array([VITALS.index(pair.metric) for pair in PAIRS])
_VITAL = np.arange(len(VITALS)) != STEPS


@dataclass(frozen=True, slots=True)
class AlarmRange:
    """Where no safety limit is crossed: what lies outside is never learned from."""

    low: Floats  # (M,), or (R, 1, M) for R patients
    high: Floats  # (contexts, M), or (R, contexts, M)

    def high_in(self, context: Bytes) -> Floats:
        """Return (R, W, M) the upper bounds in the contexts (R, W)."""
        if self.high.ndim == 2:
            return self.high.T.take(context.T, axis=1).T
        return self.high[np.arange(len(context))[:, None], context]


def add_minutes(
    hours: State, days: State, heard: Bools, minutes: Minutes, code: Bytes, context: Bytes, alarm: AlarmRange,
    more: Bytes,
) -> None:  # fmt: skip
    """Add the live minutes of R patients to their open hour and day, in place.

    ``heard`` (R,): the patient's device measures heart rate, so steps without it mean "not worn". ``more`` (R, W, 2)
    minutes that heart rate and steps stand for beyond their own.
    """
    usable = code == USABLE
    pairs = np.flatnonzero(usable.any(axis=(0, 1))[_METRIC])  # what nobody measures costs nothing
    thousandths = np.rint(np.where(usable, minutes.mean, 0) * THOUSAND).astype(np.int32)
    chosen = usable.T[_METRIC[pairs]] & _IN_CONTEXT[pairs].take(context.T, axis=1)  # (pairs, W, R)
    hours["sum"][:, pairs] += np.where(chosen, thousandths.T[_METRIC[pairs]], 0).sum(1, dtype=np.int32).T
    hours["n"][:, pairs] += chosen.sum(1, dtype=np.uint8).T
    measured_by.add(days["devices"], pairs, minutes.device.T[_METRIC[pairs]], chosen)
    vital = (usable & _VITAL).any(2)
    of_four = np.where(vital.T, _ONE_OF_FOUR.take(context.T), 0).sum(0, dtype="<u4")
    hours["context"] += of_four[:, None].view(np.uint8)
    hours["usable"] += usable.sum(1, dtype=np.uint8)
    poor = code >= DOUBTED
    if poor.any():
        hours["poor"] += poor.sum(1, dtype=np.uint8)
    stepping = code[:, :, STEPS] != ABSENT
    silent = heard[:, None] & stepping & (code[:, :, HEART_RATE] == ABSENT)
    hours["off"] += ((minutes.not_worn & minutes.live) | silent).sum(1, dtype=np.uint8)
    hours["steps"] += stepping.sum(1, dtype=np.uint8)
    counted = np.where(usable[:, :, STEPS], minutes.mean[:, :, STEPS], 0)
    days["steps"] += np.rint(counted).sum(1).astype(np.uint32)
    days["steps_minutes"] += usable[:, :, STEPS].sum(1, dtype=np.uint16)
    _add_alarming(days, usable, minutes, context, alarm, more)
    if more.any():
        _add_more(hours, days, more, usable, context)


def _add_alarming(
    days: State, usable: Bools, minutes: Minutes, context: Bytes, alarm: AlarmRange, more: Bytes
) -> None:  # fmt: skip
    """Add the minutes beyond a safety limit, with what seldom readings stand for, in place: hardly anybody has one."""
    with np.errstate(invalid="ignore"):
        beyond = usable & ((minutes.mean < alarm.low) | (minutes.mean > alarm.high_in(context)))
    if not beyond.any():
        return
    alarming = days["alarming"] + beyond.sum(1, dtype=np.uint16)
    alarming[:, HEART_RATE] += np.where(beyond[:, :, HEART_RATE], more[:, :, 0], 0).sum(1, dtype=np.uint16)
    days["alarming"] = np.minimum(alarming, 255)


def _add_more(hours: State, days: State, more: Bytes, usable: Bools, context: Bytes) -> None:
    """Add what seldom readings stand for beyond their own minutes, in place."""
    of_heart, of_steps = np.where(usable[:, :, HEART_RATE], more[:, :, 0], 0), more[:, :, 1]
    for place, pair in enumerate(HEART_PAIRS):
        hours["more"][:, place] += np.where(_IN_CONTEXT[pair].take(context), of_heart, 0).sum(1, dtype=np.uint8)
    hours["steps"] += of_steps.sum(1, dtype=np.uint8)
    days["steps_minutes"] += np.where(usable[:, :, STEPS], of_steps, 0).sum(1, dtype=np.uint16)


def hour_means(hours: State) -> Doubles:
    """Return (R, P) means of the minute means of the open hours, NaN where there is none."""
    return np.where(hours["n"] > 0, hours["sum"] / THOUSAND / np.maximum(hours["n"], 1), np.nan)


def add_hour(days: State, hours: State, means: Doubles, far_out: Bools) -> None:
    """Add closing hours to the open days, in place; ``far_out`` (R, P) where one spoils its day."""
    days["sum"] += hours["sum"]
    days["n"] += hours["n"]
    days["more"] += hours["more"]
    apart = np.where(hours["n"] >= FULL_HOUR, means - _CENTER, 0).astype(np.float32)
    days["hours_sum"] += apart
    days["hours_square"] += apart**2
    full = (hours["n"] >= FULL_HOUR) & (days["hours"] & MOST_HOURS < MOST_HOURS)
    days["hours"] = (days["hours"] + full) | (far_out * DIRTY).astype(np.uint8)


def dirty(days: State) -> Bools:
    """Return (R, P) where an hour of the open day was far out."""
    return np.asarray(days["hours"] & DIRTY > 0)


def day_means(days: State) -> tuple[Doubles, Floats]:
    """Return (R, P) daily means and the variance of the hours about them, NaN where there is none."""
    means = np.where(days["n"] > 0, days["sum"] / THOUSAND / np.maximum(days["n"], 1), np.nan)
    n = (days["hours"] & MOST_HOURS).astype(np.float64)
    square = days["hours_square"] - days["hours_sum"].astype(np.float64) ** 2 / np.maximum(n, 1)
    variance = np.where(n >= 2, np.maximum(square, 0) / np.maximum(n - 1, 1), np.nan)
    return means, variance.astype(np.float32)
