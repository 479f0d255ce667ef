"""Repeated falls of the oxygen saturation at night: how many there were, and when so many are worth a word.

Source: the oxygen desaturation index: falls by 4 points or more per hour (the AASM's manual, Berry 2012, scores by 3 or
by 4; 3 is what a wearable misses by), and the bounds 5 and 15 an hour by which a sleep study is graded, with 25 for its
30; Levy 2021 (PhysioZoo OBM) for falls from a level that runs along. Deviations: the level is a bounded running mean of
the readings that rises twice as fast as it falls, so that a train of falls does not become the level; a fall must be 4
points or 4.5 times the person's own mean deviation, whichever is more, so that a noisy sensor shows none; "asleep" is
the window of ``context`` and a reading the mean of a minute, which hides falls that are shorter. Where readings come
less than every minute sixty of them count as an hour: that is no index and is not told as one. Falls that last a minute
are nearly as many of sixty readings as they are an hour while they are few; two in a row look like one, so that where
falls come at random no more than 15 of sixty are to be seen, however many there are.

Units: % (points), minutes. Valid: adults who sleep at night; nights of readings at most 10 minutes apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.gate import JUMP, USABLE
from detectors.minutes import Minutes
from detectors.protocol import ASLEEP, CONTEXTS, VITALS, Bools, Bytes, Change, Doubles, Evidence, Ints, State

SPO2: Final = VITALS.index("spo2")
FALL, SCATTERS, BACK = 4.0, 4.5, 0.5  # points below the level; mean deviations; the part of a fall at which it is over
NEAR_MINUTES: Final = 10  # a reading with none this near before it tells of no fall
LOWEST, UP, DOWN, RATE = 85.0, 2.0, -1.0, 0.1  # of a first level; how far a reading counts as away from it; its weight
SCATTER, SCATTER_RATE = 1.0, 0.05  # points, before anything is known; weight of a reading in it
LEAST_MINUTES, LEAST_FALLS = 240, 8  # of a night that is judged (four hours), and that is told of
EVERY_MINUTE: Final = 0.9  # readings a minute from which on their hours are hours
BOUNDS: Final = (15.0, 25.0)  # falls an hour; by minutes there are 30 at the most, a fall in every second one
LEAST_UNUSUAL, TIMES_USUAL = 5.0, 2.0  # unusual for this person: the mildest grade, and twice what is usual on top
LEARNED, MEMORY, CALM, CALM_NIGHTS = 5, 14, 0.5, 2
HUNDRED, MOST = 100, 255

DESATURATION_DTYPE: Final = np.dtype(
    [
        ("minute", "i4"),  # of the last reading that counted, since 1970; 0 before the first
        ("level", "u2"),  # hundredths of a point
        ("scatter", "u2"),  # the same: mean deviation of what is no fall
        ("fallen", "u1"),  # tenths of a point below the level, the most of the fall that is on; 0: none
        ("deepest", "u1"),  # the same of the night's falls
        ("readings", "u2"),  # of the night, those with another one near before them
        ("minutes", "u2"),  # between those and the ones before them
        ("falls", "u2"),
        ("usual", "u2"),  # hundredths of a fall an hour
        ("nights", "u1"),  # behind it
        ("told", "u1"),  # level: 0 none, 1 and 2 by BOUNDS
        ("calm", "u1"),  # nights in a row
    ]
)


@dataclass(frozen=True, slots=True)
class Night:
    """What was said of R people's night."""

    rate: Doubles  # (R,) falls an hour of readings, NaN where too little is known
    bound: Doubles  # (R,) from which on a night is told
    before: State  # (R,) of DESATURATION_DTYPE, as the night ended
    level: Bytes  # (R,) told now: 0 none, 1, 2
    changes: Mapping[Change, Bools]


def add(state: State, minutes: Minutes, code: Bytes, context: Bytes) -> None:
    """Follow the live minutes of R people, (R,) of DESATURATION_DTYPE, in place.

    A reading is a minute asleep that the gate lets pass, or calls a jump (the deepest falls are some), and in which the
    device doubted nothing. A fall begins where
    it lies ``FALL`` points, or ``SCATTERS`` of the scatter, below the level, and counts when it is over: nearer than
    half of that again, without a gap of more than ``NEAR_MINUTES``. So it has good readings before and after it.
    The state is the same to the last bit however the minutes are cut: levels are whole hundredths.
    """
    believed = (code[:, :, SPO2] == USABLE) | (code[:, :, SPO2] == JUMP)
    counts = believed & (minutes.poor[:, :, SPO2] == 0) & (context == ASLEEP)
    for place in np.flatnonzero(counts.any(axis=0)):
        which = np.flatnonzero(counts[:, place])
        part = state[which]
        _read(
            part, minutes.minute[which, place], np.rint(minutes.mean[which, place, SPO2].astype(np.float64) * 1000) / 10
        )
        state[which] = part


def _read(part: State, minute: Ints, value: Doubles) -> None:
    """Take one reading each, in hundredths of a point, in place."""
    first, gap = part["minute"] == 0, minute - part["minute"]
    level = np.where(first, np.maximum(np.rint(value), LOWEST * HUNDRED), part["level"])
    scatter = np.where(first, SCATTER * HUNDRED, part["scatter"])
    below = level - value
    bound = np.maximum(FALL * HUNDRED, SCATTERS * scatter)
    near = ~first & (gap <= NEAR_MINUTES)
    was = near & (part["fallen"] > 0)  # nobody knows what happened in a longer gap: a fall across one is none
    over = was & (below < BACK * bound)
    still = (near & (below >= bound)) | (was & ~over)
    part["falls"] += over
    part["deepest"] = np.where(over, np.maximum(part["deepest"], part["fallen"]), part["deepest"])
    depth = np.clip(np.rint(below / 10), 1, MOST)
    part["fallen"] = np.where(still, np.maximum(np.where(was, part["fallen"], 0), depth), 0)
    part["readings"] += near
    part["minutes"] += np.where(near, gap, 0).astype(np.uint16)
    part["level"] = np.rint(level + RATE * np.clip(-below, DOWN * HUNDRED, UP * HUNDRED))
    away = np.minimum(np.abs(below), FALL * HUNDRED)
    quiet = below < FALL * HUNDRED
    part["scatter"] = np.rint(np.where(quiet, scatter + SCATTER_RATE * (away - scatter), scatter))
    part["minute"] = minute


def judge(state: State, learns: Bools | None = None) -> Night:
    """Close the night of R people, (R,) of DESATURATION_DTYPE, in place; ``learns`` (R,) who learns of it, None: all.

    A night of at least ``LEAST_FALLS`` falls is told from BOUNDS[0] an hour on, and once ``LEARNED`` nights are known
    from five and twice this person's usual rate on, where that is less; it is told again at BOUNDS[1]. It is over after
    two known nights in a row with less than half of what it is told from. A night that was told, or that comes while
    one stands, is not learned from. What is not known changes nothing.

    >>> state = np.zeros(1, DESATURATION_DTYPE)
    >>> for night, falls in enumerate([2, 0, 3, 1, 2, 90, 1, 250, 4, 0]):
    ...     state["readings"], state["minutes"], state["falls"] = 450, 450, falls
    ...     for change, which in judge(state).changes.items():
    ...         if which.any():
    ...             print(night, falls, change)
    5 90 raised
    7 250 worsened
    9 0 cleared
    """
    before = state.copy()
    known = (before["minutes"] >= LEAST_MINUTES) & (before["readings"] > 0)
    rate = np.where(known, before["falls"] * 60.0 / np.maximum(before["readings"], 1), np.nan)
    usual = before["usual"] / HUNDRED
    own = np.minimum(BOUNDS[0], LEAST_UNUSUAL + TIMES_USUAL * usual)
    bound = np.where(before["nights"] >= LEARNED, own, BOUNDS[0])
    enough = known & (before["falls"] >= LEAST_FALLS)
    reached = np.where(enough & (rate >= BOUNDS[1]), 2, np.where(enough & (rate >= bound), 1, 0))
    calm = known & (before["told"] > 0) & (rate < CALM * bound)
    counted = np.where(calm, before["calm"] + 1, np.where(known, 0, before["calm"]))
    cleared = counted >= CALM_NIGHTS
    level = np.where(cleared, 0, np.maximum(before["told"], reached)).astype(np.uint8)
    clean = known & (reached == 0) & (before["told"] == 0)
    clean &= True if learns is None else learns
    nights = np.minimum(before["nights"] + clean, MEMORY)
    moved = usual + np.where(clean, rate - usual, 0) / np.maximum(nights, 1)
    state["usual"] = np.rint(moved * HUNDRED)
    state["nights"], state["told"], state["calm"] = nights, level, np.where(cleared, 0, counted)
    for name in ("deepest", "readings", "minutes", "falls"):
        state[name] = 0
    more = level > before["told"]
    changes: dict[Change, Bools] = {
        "raised": more & (before["told"] == 0),
        "worsened": more & (before["told"] > 0),
        "cleared": cleared,
    }
    return Night(rate, bound, before, level, changes)


def evidence(night: Night, day: int, i: int) -> Evidence:
    """Return what a finding about person ``i`` tells; ``an_hour``: readings came every minute, so it is a rate."""
    one = night.before[i]
    return {
        "metric": "spo2",
        "context": CONTEXTS[ASLEEP],
        "day": day,
        "falls": int(one["falls"]),
        "readings": int(one["readings"]),
        "minutes": int(one["minutes"]),
        "an_hour": bool(one["readings"] >= EVERY_MINUTE * one["minutes"]),
        "rate": round(float(night.rate[i]), 2),
        "bound": round(float(night.bound[i]), 2),
        "fall": FALL,
        "deepest": int(one["deepest"]) / 10,
        "usual_rate": int(one["usual"]) / HUNDRED,
        "n_days": int(one["nights"]),
    }
