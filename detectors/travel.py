"""Nights in another time zone: how long a body's clock is taken to lag behind the local one.

Source: the body's clock follows a flight by about an hour a day (Aschoff 1975: 57 minutes eastward, 92 westward;
Waterhouse 2007). Deviations: an hour a day either way; a jump is one of three hours or more, anything less, summer time
for instance, is followed at once; the night stays the local clock's. So nights in which the heart beats as by day are
told as ever, with a word of where they were spent, and teach no baseline. Nothing is muted by it.

Units: days, minutes from UTC. Valid: who sleeps at night at home; a device that sends the wearer's offset.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import MINUTE_MS, Bools, HourSlice, Ints, Shorts, State

JUMP_MIN, A_DAY_MIN = 180, 60
"""Minutes of a jump of the wearer's offset from UTC, and by how many the body follows a day."""

FIELDS: Final = (
    ("body_min", "i2"),  # the offset from UTC that the body's clock is taken to stand at
    ("zone_since", "u2"),  # local day of the jump that it still follows; 0: of none
)


def arrive(state: State, hour: HourSlice, first: Bools) -> None:
    """Note of R patients a jump of the offset with which an hour begins, in place; whose ``first`` it is made none.

    >>> from detectors.pipeline import PIPELINE_DTYPE
    >>> from detectors.protocol import blank_hour
    >>> state = np.zeros(1, PIPELINE_DTYPE)
    >>> arrive(state, blank_hour([0], [0], [60]), np.array([True]))
    >>> arrive(state, blank_hour([0], [86_400_000], [480]), np.array([False]))
    >>> lags = []
    >>> for day in range(8):
    ...     lags.append(int(480 - state["body_min"][0]))
    ...     follow(state, np.array([1], "i4"), np.array([480], "i2"))
    >>> lags, abroad(state).tolist()
    ([420, 360, 300, 240, 180, 120, 60, 0], [False])
    """
    offset = hour.utc_offset_min.astype(np.int32)
    if not (abroad(state) | (state["body_min"] != offset)).any():
        return  # everybody is where they were
    away = _away(state, offset)
    jumped = ~first & (np.abs(away) >= JUMP_MIN) & ~abroad(state)
    today = (hour.hour_ms // MINUTE_MS + offset) // 1440
    state["zone_since"] = np.where(away == 0, 0, np.where(jumped, today, state["zone_since"]))  # 0: back where it was
    state["body_min"] = np.where(abroad(state), state["body_min"], offset)


def follow(state: State, days: Ints, offset_min: Ints | Shorts) -> None:
    """Let the bodies of R patients follow for ``days`` (R,) towards the offsets (R,) they are at, in place."""
    away = _away(state, offset_min.astype(np.int32))
    step = np.clip(away, -A_DAY_MIN * days, A_DAY_MIN * days)
    state["body_min"] = np.where(abroad(state), state["body_min"] + step, state["body_min"])
    state["zone_since"] = np.where(away == step, 0, state["zone_since"])


def _away(state: State, offset: Ints) -> Ints:
    """Return (R,) how far a body is behind (or ahead) in minutes, the shorter way round: a date line is no jump."""
    return np.asarray((offset - state["body_min"] + 720) % 1440 - 720, np.int32)


def abroad(state: State) -> Bools:
    """Return (R,) whose body still follows a jump."""
    return np.asarray(state["zone_since"] > 0)
