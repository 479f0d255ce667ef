"""The gate: which minutes can be believed, per metric, and why not.

Source: the validity gate every wearable pipeline starts with (plausible range, flat line, wear; e.g. Bent
2020 on motion artefacts). Deviations: thresholds are engineering choices; a flat line is judged causally,
so its first minutes pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.minutes import Minutes
from detectors.protocol import STEPS, VITALS, Bools, Bytes, Floats, Ints, State

USABLE, ABSENT, OFF_BODY, DOUBTED, IMPLAUSIBLE, JUMP, FLAT = range(7)
REASONS: Final = ("usable", "absent", "not_worn", "doubted", "implausible", "jump", "flat")
"""Names of the gate's codes: doubted by the device, outside the range, too fast a change, never changing.

From DOUBTED on the signal is poor."""

NEAR_MINUTES = 5
"""A minute is compared with the last one before it that is at most this old."""

LONG_AGO: Final = -100
"""A minute so far before the open hour, and any before it: nothing asks how long ago it was exactly."""

GATE_DTYPE = np.dtype(
    [
        ("mean", "f4", (len(VITALS),)),  # of the last minute with readings
        ("minute", "i1", (len(VITALS),)),  # that minute, from the beginning of the open hour; LONG_AGO at the least
        ("run", "u1", (len(VITALS),)),  # how many equal ones in a row; 0: none yet
    ]
)


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What is believable, by metric (arrays in the order of VITALS)."""

    low: Floats  # (M,) smallest plausible minute mean
    high: Floats  # (M,) largest
    max_step: Floats  # (M,) largest change per minute
    flat_minutes: Ints  # (M,) as many equal minutes in a row are a flat line; 1..255


#                 heart  steps   spo2    breath  skin    body    hrv
ADULT_GATE = GateLimits(
    low=np.array([30, 0, 70, 6, 25, 34, 5], np.float32),
    high=np.array([220, 300, 100, 40, 40, 42, 250], np.float32),
    max_step=np.array([60, 1e6, 15, 20, 3, 1, 1e6], np.float32),
    flat_minutes=np.array([30, 255, 180, 120, 240, 255, 60], np.int32),
)
"""The catalogue's soft ranges; a flat line is long where a device rounds coarsely."""


class Gate:
    """Judge minutes of the readings of R patients.

    A minute is *absent* without a reading, *doubted* when all its readings are poor, *not worn* when the
    device says so, *implausible* outside the range, a *jump* when its mean differs from the last minute's
    (at most 5 min before) by more than ``max_step`` for each minute between, and *flat* from the
    ``flat_minutes``-th equal minute in a row on (gaps over 5 min begin a new row). Steps are never flat.
    Units: the catalogue's. Valid: any minutes in order; ``turn`` comes before another hour's. State: 42 bytes a
    patient.

    >>> from detectors.minutes import live_minutes
    >>> from detectors.protocol import blank_hour
    >>> hour = blank_hour(rows=[0], hour_ms=[0], utc_offset_min=[0])
    >>> hour.mean[0, :3, 0], hour.good[0, :3, 0] = [60, 190, 61], 4
    >>> reasons = Gate(ADULT_GATE).judge(np.zeros(1, GATE_DTYPE), live_minutes(hour))
    >>> [REASONS[code] for code in reasons[0, :4, 0]]
    ['usable', 'jump', 'jump', 'absent']
    """

    def __init__(self, limits: GateLimits = ADULT_GATE) -> None:
        self.limits = limits

    @staticmethod
    def turn(state: State, hours: Ints) -> None:
        """Open the hour that lies ``hours`` (R,) after the open one of ``state`` (R,), in place; 0: the same one."""
        if hours.any():
            back = np.minimum(hours, 2)[:, None] * 60
            state["minute"] = np.maximum(state["minute"] - back, LONG_AGO)

    @staticmethod
    def last(state: State, hour: Ints) -> Ints:
        """Return (R, M) the last minutes with readings since 1970, 0 where there is none; ``hour`` the open ones."""
        minute = hour[:, None] * 60 + state["minute"]
        return np.where(state["run"] > 0, minute, 0).astype(np.int32)

    def judge(self, state: State, minutes: Minutes) -> Bytes:
        """Return (R, W, M) codes of minutes of the open hour, and carry ``state`` (R,) of GATE_DTYPE on, in place.

        Minutes that are not live are ABSENT.
        """
        some = (minutes.good > 0) & np.isfinite(minutes.mean) & minutes.live[:, :, None]
        worn = some & ~minutes.not_worn[:, :, None]
        doubted = (minutes.poor > 0) & minutes.live[:, :, None]
        with np.errstate(invalid="ignore"):
            plausible = (minutes.mean >= self.limits.low) & (minutes.mean <= self.limits.high)
            jump, flat = self._changes(state, minutes, worn)
        believed = np.where(jump, JUMP, np.where(flat, FLAT, USABLE).astype(np.uint8))
        without = np.where(some, OFF_BODY, np.where(doubted, DOUBTED, ABSENT).astype(np.uint8))
        return np.where(worn, np.where(plausible, believed, IMPLAUSIBLE), without)

    def _changes(self, state: State, minutes: Minutes, worn: Bools) -> tuple[Bools, Bools]:
        """Return which minutes (R, W, M) are jumps and which are flat, minute by minute, and carry ``state`` on."""
        jump, flat = np.zeros_like(worn), np.zeros_like(worn)
        mean, last, run = (np.asfortranarray(state[name]) for name in ("mean", "minute", "run"))
        steady, of_hour = minutes.low == minutes.high, minutes.minute % 60
        for m in range(worn.shape[1]):
            have = worn[:, m]
            if not have.any():
                continue
            now, minute = minutes.mean[:, m], of_hour[:, m, None]
            age = minute - last
            near = have & (run > 0) & (age <= NEAR_MINUTES)
            jump[:, m] = near & (np.abs(now - mean) > self.limits.max_step * age)
            same = near & steady[:, m] & (now == mean)
            np.copyto(run, np.where(same, np.minimum(run, 254) + 1, 1), where=have)
            flat[:, m] = have & (run >= self.limits.flat_minutes)
            np.copyto(mean, now, where=have)
            np.copyto(last, minute, where=have, casting="unsafe")
        flat[:, :, STEPS] = False
        state["mean"], state["minute"], state["run"] = mean, last, run
        return jump, flat
