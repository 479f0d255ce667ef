"""Windows in which a person's heart rate is expected to change: one way, so far, for a while.

Source: none that is published for wearables; the practice of asking what else changed before a change is called
unexplained. What may come of a medicine, and its source, stands in ``services/life_events.toml``. Deviations from what
one might do instead: nothing is switched off and no value is corrected. A value between what is usual and the stated
size, on the stated side, is judged as usual; beyond it, and on the other side, as ever. The size is counted from the
level before the window, so that what was learned meanwhile buys no further room. Windows that overlap are not added
up: of two that say the same side the larger size holds, from the level before the first of them.

Units: /min. Valid: of heart rates asleep and at rest, from five clean nights on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from detectors.baseline import LEARNED, NIGHT_HEART, REST_HEART
from detectors.in_time import InTime
from detectors.protocol import Bools, Doubles, Floats, Longs, Rows, State

SHIFTED: Final = (NIGHT_HEART, REST_HEART)  # the baselines that a window bears on
SIDES: Final = 2  # 0: a fall, 1: a rise
BEFORE: Final = ("before", "u2", (len(SHIFTED), SIDES))  # the usual before the window, in hundredths; 0: no window
_HUNDRED: Final = 100
_SHIFTED: Final = np.array(SHIFTED)


class Window(NamedTuple):
    """One stretch of one person, ``from_ms`` to before ``to_ms``, and how far the heart rate may go, /min."""

    from_ms: int
    to_ms: int
    fall: float  # 0 or less
    rise: float  # 0 or more


@dataclass(frozen=True, slots=True)
class Expected:
    """How far the heart rate of R patients may fall and rise at an instant each, /min."""

    fall: Doubles  # (R,) 0 or less
    rise: Doubles  # (R,) 0 or more

    def take(self, which: Rows | Bools) -> Expected:
        """Return the patients ``which``."""
        return Expected(self.fall[which], self.rise[which])


@dataclass(frozen=True, slots=True)
class Room:
    """Between which values a change of R patients is expected, for the baselines of ``SHIFTED``; NaN where none is."""

    lowest: Doubles  # (R, 2) how far down
    highest: Doubles  # (R, 2) how far up
    before: Doubles  # (R, 2, 2) the levels they are counted from, of a fall and of a rise


def timeline(windows: Sequence[Window]) -> list[tuple[int, float, float]]:
    """Return from which instant on how far a fall and a rise are expected, in order; before the first: not at all.

    >>> timeline([Window(10, 40, 0, 5), Window(20, 30, -10, 0), Window(20, 60, 0, 3)])
    [(10, 0, 5), (20, -10, 5), (30, 0, 5), (40, 0, 3), (60, 0, 0)]
    """
    marks = sorted({mark for window in windows for mark in (window.from_ms, window.to_ms)})
    entries = []
    for mark in marks:
        standing = [one for one in windows if one.from_ms <= mark < one.to_ms]
        entries.append(
            (mark, min((one.fall for one in standing), default=0), max((w.rise for w in standing), default=0))
        )
    return entries


class Windows:
    """What is expected of each row at each instant; ``timelines``: row → as `timeline` returns it."""

    def __init__(self, timelines: Mapping[int, Sequence[tuple[int, float, float]]]) -> None:
        entries = [(row, *entry) for row in sorted(timelines) for entry in timelines[row]]
        self._time = InTime((row, mark) for row, mark, *_ in entries)
        sizes = [(fall, rise) for *_, fall, rise in entries]
        self._size = np.array([*sizes, (0, 0)], np.float64)  # the last one is of whom nothing is said

    def at(self, rows: Rows, t_ms: Longs) -> Expected:
        """Return what is expected of R rows at an instant each."""
        size = self._size[self._time.at(rows, t_ms)]
        return Expected(size[:, 0], size[:, 1])


def begin(state: State, expected: Expected) -> None:
    """Note the usual of R patients for whom a window has begun, in place; who is still being learned waits for it."""
    baselines = state["baselines"][:, _SHIFTED]
    stands = _stands(expected)[:, None] & (baselines["n"] >= LEARNED)[:, :, None] & (state["before"] == 0)
    level = np.rint(baselines["median"].astype(np.float64) * _HUNDRED).astype(np.uint16)  # the gate ends far below 655
    state["before"] = np.where(stands, level[:, :, None], state["before"])


def end(state: State, expected: Expected | None) -> None:
    """Forget the level before a window that does not stand any more, in place; call it when a day has been closed."""
    stands = False if expected is None else _stands(expected)[:, None]
    state["before"] = np.where(stands, state["before"], 0)


def room(state: State, expected: Expected) -> Room:
    """Return between which values R patients' heart rate is expected to change.

    >>> from detectors.pipeline import PIPELINE_DTYPE
    >>> state = np.zeros(1, PIPELINE_DTYPE)
    >>> state["baselines"]["n"], state["baselines"]["median"] = 14, 70
    >>> started = Expected(np.array([-10.0]), np.array([0.0]))
    >>> begin(state, started)
    >>> room(state, started).lowest.tolist(), room(state, started).highest.tolist()
    ([[60.0, 60.0]], [[nan, nan]])
    """
    before = np.where(state["before"] > 0, state["before"] / _HUNDRED, np.nan)
    stands = _stands(expected)
    size = np.stack([expected.fall, expected.rise], axis=1)
    furthest = np.where(stands[:, None, :], before + size[:, None, :], np.nan)
    return Room(furthest[:, :, 0], furthest[:, :, 1], before)


def inside(values: Doubles, usual: Doubles, room: Room) -> Bools:
    """Return where a value (R, P) lies between what is usual now (R, P) and how far a change is expected.

    >>> side = np.full((1, 2), 60.0), np.full((1, 2), np.nan)
    >>> to_60 = Room(*side, np.full((1, 2, 2), 70.0))
    >>> usual = np.full((1, 11), 70.0)
    >>> [np.flatnonzero(inside(usual + away, usual, to_60)).tolist() for away in (-11, -9, 1)]
    [[], [0, 1], []]
    """
    return _between(values, usual[:, _SHIFTED], usual[:, _SHIFTED], room)


def from_before(values: Doubles | Floats, room: Room) -> Bools:
    """Return where a value (R, P) lies between the level before the window and how far a change is expected."""
    return _between(values, room.before[:, :, 0], room.before[:, :, 1], room)


def _between(values: Doubles | Floats, top: Doubles, bottom: Doubles, room: Room) -> Bools:
    found, value = np.zeros(values.shape, bool), values[:, _SHIFTED]
    fallen = (value < top) & (value >= room.lowest)
    risen = (value > bottom) & (value <= room.highest)
    found[:, _SHIFTED] = fallen | risen
    return found


def _stands(expected: Expected) -> Bools:
    return np.stack([expected.fall < 0, expected.rise > 0], axis=1)
