"""Synthetic patients: who they are, what happens to them, and what their devices measure.

Readings are a pure function of (seed, patient, day): any span can be asked for, in any pieces, and gives the
same readings.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.frame import POOR_SIGNAL, DeviceStatus
from simulators.effects import Effect, apply_effects
from simulators.physiology import MINUTES, Minutes, day_of, draw_day
from simulators.profile import Profile
from simulators.series import MINUTE_MS, Readings, Series, series

DAYS_CACHED: Final = 3
DROPOUT: Final = 0.015  # share of minutes in which a wrist sensor finds no pulse
_EVERY_5 = np.arange(MINUTES) % 5 == 0
_EVERY_10 = np.arange(MINUTES) % 10 == 0
_EVERY_30 = np.arange(MINUTES) % 30 == 0


class Patient:
    """One synthetic patient with what happens to them.

    >>> from simulators.profile import draw_profile
    >>> patient = Patient(draw_profile(seed=1, index=7))
    >>> hour = patient.readings(1_760_000_000_000, 1_760_003_600_000)
    >>> 50 < len(hour["heart_rate"].t_ms) <= 60
    True
    """

    def __init__(self, profile: Profile, effects: tuple[Effect, ...] = ()) -> None:
        self.profile = profile
        self.effects = effects
        self._days: OrderedDict[int, tuple[Minutes, Readings]] = OrderedDict()

    @property
    def key(self) -> str:
        """The patient's key in the demo, e.g. ``p07``."""
        return f"p{self.profile.index:02d}"

    def readings(self, from_ms: int, to_ms: int) -> Readings:
        """Return what was measured with ``from_ms`` <= t < ``to_ms``, by metric; empty ones are left out."""
        days = [self._day(day)[1] for day in self._days_of(from_ms, to_ms)]
        found = {}
        for metric in days[0]:
            parts = [part for day in days if len((part := day[metric].between(from_ms, to_ms)).t_ms)]
            if parts:
                found[metric] = Series.joined(parts)
        return found

    def spot_rate(self, t_ms: int) -> int:
        """Return the heart rate a wearer reads off at ``t_ms``."""
        minutes, _ = self._day(day_of(self.profile, t_ms))
        return round(float(minutes.rate[int(t_ms - minutes.t_ms[0]) // MINUTE_MS]))

    def status(self, t_ms: int) -> DeviceStatus:
        """Return what the watch says of itself at ``t_ms``."""
        minutes, _ = self._day(day_of(self.profile, t_ms))
        at = int(np.clip((t_ms - minutes.t_ms[0]) // MINUTE_MS, 0, MINUTES - 1))
        return DeviceStatus(
            battery_percent=round(float(minutes.battery[at]), 1),
            charging=bool(minutes.charging[at]),
            worn=bool(minutes.worn[at]),
        )

    def add(self, effect: Effect) -> None:
        """Let something happen from now on (live)."""
        self.effects = (*self.effects, effect)
        self._days.clear()

    def _days_of(self, from_ms: int, to_ms: int) -> range:
        return range(day_of(self.profile, from_ms), day_of(self.profile, to_ms - 1) + 1)

    def _day(self, day: int) -> tuple[Minutes, Readings]:
        if day not in self._days:
            minutes = draw_day(self.profile, day)
            apply_effects(minutes, self.effects, self.profile, day)
            self._days[day] = (minutes, _measure(self.profile, minutes, day))
            if len(self._days) > DAYS_CACHED:
                self._days.popitem(last=False)
        self._days.move_to_end(day)
        return self._days[day]


def _measure(profile: Profile, minutes: Minutes, day: int) -> Readings:
    """Return what the devices make of a day; each metric has a cadence of its own."""
    rng = np.random.default_rng([profile.seed, profile.index, day, 2])
    chance = rng.random((4, MINUTES))
    noise = rng.standard_normal((6, MINUTES))
    at = minutes.t_ms + profile.phase_ms
    if profile.jitter_ms:
        room = np.minimum(profile.jitter_ms, 59_000 - profile.phase_ms)
        at = at + (rng.random(MINUTES) * max(room, 0)).astype(np.int64)
    asleep, worn = minutes.asleep, minutes.worn
    still = np.convolve(minutes.steps, np.ones(15))[:MINUTES] == 0
    sensed = worn & (chance[0] > DROPOUT)
    poor = minutes.poor
    rate = np.where(poor, minutes.rate + 25 * noise[0], minutes.rate + 0.8 * noise[0]).clip(35, 218)

    def sampled(which: NDArray[np.bool_], value: NDArray[np.float64], decimals: int) -> Series:
        quality = np.where(poor[which], POOR_SIGNAL, 0).astype(np.uint8)
        return series(at[which], np.round(value[which], decimals), quality)

    spot = _EVERY_5 & worn & (asleep | (chance[1] < 0.05))
    breathing = worn & still & np.where(asleep, _EVERY_5, _EVERY_10)
    night = worn & asleep & _EVERY_5
    readings = {
        "heart_rate": sampled(sensed, rate, 0),
        "steps": sampled(worn, minutes.steps, 0),
        "spo2": sampled(spot, (minutes.saturation + 0.5 * noise[1]).clip(60, 100), 0),
        "respiratory_rate": sampled(breathing, minutes.breaths + 0.4 * noise[2], 1),
        "hrv_rmssd": sampled(night, (minutes.rmssd + 2 * noise[3]).clip(6, 240), 0),
        "skin_temperature": sampled(night, minutes.skin + 0.05 * noise[4], 2),
        "wear": series(at[_EVERY_10], worn[_EVERY_10].astype(np.float64)),
        "battery": series(at[_EVERY_30], np.round(minutes.battery[_EVERY_30])),
    }
    if profile.patch:
        warm = worn & _EVERY_5
        readings["body_temperature"] = series(at[warm], np.round(minutes.core + 0.03 * noise[5], 2)[warm])
    return readings
