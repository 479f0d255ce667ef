"""What can happen to a synthetic body or its sensor, as changes of its minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simulators.physiology import Minutes
from simulators.profile import Profile
from simulators.series import DAY_MS, MINUTE_MS

Kind = Literal["infection", "desaturation", "fever", "tachycardia", "not_worn", "poor_signal", "low_battery"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that happens from ``start_ms`` to ``end_ms`` (Unix ms UTC).

    ``size`` is, by kind: infection: rise of the nightly heart rate (/min); desaturation: the SpO2 reached
    (%); fever: the body temperature reached (Cel); tachycardia: the heart rate (/min); low_battery: charge
    left (%).
    """

    kind: Kind
    start_ms: int
    end_ms: int
    size: float = 0.0


def apply_effects(minutes: Minutes, effects: tuple[Effect, ...], profile: Profile, day: int) -> None:
    """Change a day in place by all effects that touch it; each draws from a stream of its own."""
    for number, effect in enumerate(effects):
        if effect.start_ms < minutes.t_ms[-1] + MINUTE_MS and effect.end_ms > minutes.t_ms[0]:
            rng = np.random.default_rng([profile.seed, profile.index, day, 3, number])
            _APPLY[effect.kind](minutes, effect, rng)


def _during(minutes: Minutes, effect: Effect) -> NDArray[np.bool_]:
    return (minutes.t_ms >= effect.start_ms) & (minutes.t_ms < effect.end_ms)


def _share(minutes: Minutes, effect: Effect, rise_ms: float, fall_ms: float) -> NDArray[np.float64]:
    """Return 0..1: rising over ``rise_ms`` from the start, falling over ``fall_ms`` before the end."""
    rising = (minutes.t_ms - effect.start_ms) / rise_ms
    falling = (effect.end_ms - minutes.t_ms) / fall_ms
    return np.minimum(rising, falling).clip(0.0, 1.0)


def _wear(minutes: Minutes, during: NDArray[np.bool_]) -> None:
    minutes.worn |= during
    minutes.charging &= ~during


def _infection(minutes: Minutes, effect: Effect, rng: np.random.Generator) -> None:
    share = _share(minutes, effect, 2.5 * DAY_MS, 1.5 * DAY_MS)
    minutes.rate += effect.size * share
    minutes.breaths += 0.22 * effect.size * share
    minutes.skin += 0.09 * effect.size * share
    minutes.core += np.minimum(0.1 * effect.size, 1.0) * share
    minutes.rmssd *= 1 - 0.3 * share
    minutes.steps = np.where(rng.random(len(share)) < 0.5 * share, 0.0, minutes.steps)
    _wear(minutes, minutes.asleep & (share > 0))


def _desaturation(minutes: Minutes, effect: Effect, rng: np.random.Generator) -> None:
    during = _during(minutes, effect)
    minutes.saturation[during] = effect.size + rng.normal(0, 0.4, int(during.sum()))
    minutes.rate[during] += 8
    minutes.asleep |= during
    minutes.steps[during] = 0
    _wear(minutes, during)


def _fever(minutes: Minutes, effect: Effect, rng: np.random.Generator) -> None:
    share = _share(minutes, effect, 75 * MINUTE_MS, 150 * MINUTE_MS)
    rise = (effect.size - minutes.core) * share
    minutes.core += rise
    minutes.rate += 7.0 * rise
    minutes.breaths += 1.0 * rise
    minutes.skin += 0.5 * rise
    minutes.steps = np.where(share > 0.3, 0.0, minutes.steps)
    _wear(minutes, share > 0)


def _tachycardia(minutes: Minutes, effect: Effect, rng: np.random.Generator) -> None:
    quiet = (minutes.t_ms >= effect.start_ms - 30 * MINUTE_MS) & (minutes.t_ms < effect.end_ms + 10 * MINUTE_MS)
    during = _during(minutes, effect)
    minutes.steps[quiet] = 0
    minutes.rate[quiet] = np.minimum(minutes.rate[quiet], 105)
    minutes.rate[during] = effect.size + rng.normal(0, 2.0, int(during.sum()))
    _wear(minutes, quiet)


def _not_worn(minutes: Minutes, effect: Effect, rng: np.random.Generator) -> None:
    minutes.worn &= ~_during(minutes, effect)


def _poor_signal(minutes: Minutes, effect: Effect, rng: np.random.Generator) -> None:
    during = _during(minutes, effect)
    minutes.poor |= during
    _wear(minutes, during)


def _low_battery(minutes: Minutes, effect: Effect, rng: np.random.Generator) -> None:
    during = _during(minutes, effect)
    minutes.battery[during] = effect.size
    _wear(minutes, during & minutes.charging)


_APPLY: Final[Mapping[Kind, Callable[[Minutes, Effect, np.random.Generator], None]]] = {
    "infection": _infection,
    "desaturation": _desaturation,
    "fever": _fever,
    "tachycardia": _tachycardia,
    "not_worn": _not_worn,
    "poor_signal": _poor_signal,
    "low_battery": _low_battery,
}
