"""What a person was doing in each minute: asleep, at rest, active, or recovering from it.

Source: activity-conditioned resting heart rate (Mishra 2020: no steps for about ten minutes). Deviations:
sleep is a window of local time, not a stage; night work needs a profile. The ten minutes count as recovery, not as
rest, and they are the same after a long walk, though a heart is up for longer then: after exertion at 80 % of capacity
for an hour, at 50 % for half of one, after less not at all (Forjaz et al. 1998, 12 young adults). In people who go
about their day a longer recovery made nothing better (``evaluation.recovery``). It is never told from a fast heart: an
illness would excuse itself.
"""

from __future__ import annotations

import numpy as np

from detectors.minutes import Minutes
from detectors.protocol import ACTIVE, ASLEEP, MINUTE_MS, RECOVERING, REST, STEPS, Bytes, HourSlice, Ints

STILL_MINUTES = 10
"""A person is active in a minute with steps, and recovering in this many minutes after it."""

_STILL, _MOVED = np.array([ASLEEP, REST], np.uint8), np.array([ACTIVE, RECOVERING], np.uint8)

SLEEP_FROM, SLEEP_TO = 22 * 60, 8 * 60
"""Local minutes of the day between which a still person counts as asleep."""

DAY_FROM = 10 * 60
"""A person's day runs from this local minute to the next day's, and carries the date on which it ends."""


def contexts(last_step: Ints, minutes: Minutes) -> Bytes:
    """Return the context of each minute, (R, W), and carry ``last_step`` (R,) on, in place.

    ``active``: steps in this minute; ``recovering``: in one of the 10 before it; else ``asleep`` from 22:00 to 08:00
    local time; else ``rest``. Steps that are unknown count as none, so a person without a step counter has a baseline
    too (a wider one); rules that must know rest ask how many minutes had steps reported. ``last_step`` is
    the last minute with steps. Units: minutes since 1970, steps a minute. Valid: any hour in order.

    >>> from detectors.minutes import live_minutes
    >>> from detectors.protocol import CONTEXTS, blank_hour
    >>> hour = blank_hour(rows=[0], hour_ms=[7 * 3_600_000], utc_offset_min=[30])
    >>> hour.mean[0, 3, STEPS], hour.good[0, 3, STEPS] = 12, 1
    >>> found = contexts(np.zeros(1, np.int32), live_minutes(hour))
    >>> [CONTEXTS[c] for c in found[0, [2, 3, 13, 14, 29, 30]]]
    ['asleep', 'active', 'recovering', 'asleep', 'asleep', 'rest']
    """
    if not minutes.live.size:
        return np.zeros(minutes.live.shape, np.uint8)
    with np.errstate(invalid="ignore"):
        stepped = minutes.live & (minutes.good[:, :, STEPS] > 0) & (minutes.mean[:, :, STEPS] > 0)
    latest = np.maximum.accumulate(np.where(stepped, minutes.minute, 0), axis=1)
    latest = np.maximum(latest, last_step[:, None])
    last_step[:] = latest[:, -1]
    night = (minutes.local >= SLEEP_FROM) | (minutes.local < SLEEP_TO)
    still = minutes.minute - latest > STILL_MINUTES
    return np.where(still, np.where(night, *_STILL), np.where(stepped, *_MOVED))


def local_days(hour: HourSlice) -> Ints:
    """Return (R,) the local day (days since 1970) to which each hour belongs: 10:00 to 10:00, by its end.

    An hour belongs as a whole to the day of its first minute.
    """
    local = (hour.hour_ms // MINUTE_MS).astype(np.int32) + hour.utc_offset_min
    return np.asarray((local + (1440 - DAY_FROM)) // 1440, np.int32)
