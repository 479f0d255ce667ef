"""What can befall a patient or a device in a simulation, drawn from a seed, with its known truth.

A scenario says which alerts must be raised and where in event time, and which counts must not stay zero. A
clinical alert that is neither expected nor allowed there is a false one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from simulators.effects import Effect
from simulators.link import Trouble
from simulators.physiology import day_of, day_start_ms
from simulators.profile import Profile, draw_profile
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS

# Rules that compare a person with themselves; whoever is really ill may well trip several.
ADAPTIVE: Final = frozenset(
    {
        "resting_heart_rate_rise",
        "resting_heart_rate_new_normal",
        "heart_rate_unusual_at_rest",
        "night_skin_temperature_rise",
        "night_respiratory_rate_rise",
        "night_vitals_together",
        "heart_rate_shift",
        "spo2_shift",
        "respiratory_rate_shift",
    }
)
UNUSUAL_HEART: Final = frozenset({"heart_rate_unusual_at_rest"})
SEVERAL: Final = frozenset({"news2_high"})  # whoever is ill may have points for several vitals

Count = Literal["rejected", "duplicate", "quarantined"]


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that must be raised: found in event time within ``from_ms``..``to_ms`` (Unix ms UTC)."""

    rule: str
    kind: Literal["clinical", "technical"]
    from_ms: int
    to_ms: int
    late: bool = False  # whether it must be a late finding


@dataclass(frozen=True, slots=True)
class Scenario:
    """One patient's story."""

    name: str
    profile: Profile
    effects: tuple[Effect, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    expected: tuple[Expected, ...] = ()
    allowed: frozenset[str] = field(default_factory=frozenset)  # clinical rules that are no false alert here
    counts: frozenset[Count] = field(default_factory=frozenset)  # what must not be zero for this patient

    @property
    def patient(self) -> str:
        """The patient's key."""
        return f"p{self.profile.index:02d}"


@dataclass(frozen=True, slots=True)
class Span:
    """The simulated time, Unix ms UTC."""

    start_ms: int
    end_ms: int

    @property
    def days(self) -> float:
        """Its length."""
        return (self.end_ms - self.start_ms) / DAY_MS


_Draw = Callable[[Profile, Span, np.random.Generator], Scenario]


def draw(name: str, seed: int, index: int, span: Span) -> Scenario:
    """Return scenario ``name`` for patient ``index``, its onset, size and cadence drawn from the seed.

    Raises:
        KeyError: no scenario of that name; the text names the known ones.
    """
    if name not in SCENARIOS:
        msg = f"no scenario {name!r}; known: {', '.join(SCENARIOS)}"
        raise KeyError(msg)
    profile = draw_profile(seed, index, patch=True if name in ("fever", "wrong_unit") else None)
    rng = np.random.default_rng([seed, index, 0x5CE4])
    return replace(SCENARIOS[name](profile, span, rng), name=name)


def cast(seed: int, span: Span, patients: int = 18, quiet: int = 7) -> list[Scenario]:
    """Return the stories of ``patients`` patients, ``p01`` first: each scenario once, the rest healthy.

    Patient ``quiet`` is healthy and wears no temperature patch, so that a fever can be added live.
    """
    rng = np.random.default_rng([seed, 0xCA57])
    names = [name for name in SCENARIOS if name != "healthy"]
    if patients <= len(names):
        msg = f"{patients} patients are too few; {len(names) + 1} are needed to show every scenario"
        raise ValueError(msg)
    names += ["healthy"] * (patients - 1 - len(names))
    shuffled = [names[i] for i in rng.permutation(len(names))]
    shuffled.insert(quiet - 1, "healthy")
    stories = [draw(name, seed, index, span) for index, name in enumerate(shuffled, start=1)]
    stories[quiet - 1] = replace(stories[quiet - 1], profile=draw_profile(seed, quiet, patch=False))
    return stories


def at_once(name: str, now_ms: int) -> Effect | Trouble:
    """Return what begins at ``now_ms`` when a scenario is asked for while a simulation is live.

    Raises:
        KeyError: the scenario can't begin at once; the text names those that can.
    """
    if name not in AT_ONCE:
        msg = f"{name!r} cannot begin at once; these can: {', '.join(AT_ONCE)}"
        raise KeyError(msg)
    what, kind, minutes, size = AT_ONCE[name]
    made: Effect | Trouble = what(kind, now_ms, now_ms + minutes * MINUTE_MS, size)
    return made


def _healthy(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    return Scenario("healthy", profile)


def _infection(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    days = float(rng.uniform(5, 9))
    start = span.start_ms + int(span.days * rng.uniform(0.62, 0.70) * DAY_MS)
    end = start + int(days * DAY_MS)
    rise = float(rng.uniform(6, 12))
    expected = Expected("resting_heart_rate_rise", "clinical", start, end + DAY_MS)
    return Scenario(
        "infection",
        profile,
        effects=(Effect("infection", start, end, rise),),
        expected=(expected,),
        allowed=ADAPTIVE | SEVERAL,
    )


def _desaturation(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    night = day_of(profile, span.start_ms) + int(rng.integers(2, max(3, int(span.days) - 2)))
    start = _at(profile, night, profile.bedtime + rng.uniform(75, profile.sleep - 120))
    end = start + int(rng.uniform(17, 40) * MINUTE_MS)
    return Scenario(
        "desaturation",
        profile,
        effects=(Effect("desaturation", start, end, float(rng.uniform(80, 86))),),
        expected=(_clinical("spo2_low", start, end),),
        allowed=frozenset({"spo2_low"}) | UNUSUAL_HEART | SEVERAL,
    )


def _fever(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    start = _some_time(span, rng)
    end = start + int(rng.uniform(8, 20) * HOUR_MS)
    return Scenario(
        "fever",
        profile,
        effects=(Effect("fever", start, end, float(rng.uniform(38.9, 40.0))),),
        expected=(_clinical("fever", start, end),),
        allowed=frozenset({"fever"}) | ADAPTIVE | SEVERAL,
    )


def _tachycardia(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    effect = _racing(profile, span, rng)
    return Scenario(
        "tachycardia",
        profile,
        effects=(effect,),
        expected=(_clinical("tachycardia_at_rest", effect.start_ms, effect.end_ms),),
        allowed=frozenset({"tachycardia_at_rest"}) | UNUSUAL_HEART | SEVERAL,
    )


def _late_burst(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    effect = _racing(profile, span, rng)
    offline = Trouble(
        "held",
        effect.start_ms - int(rng.uniform(1, 3) * HOUR_MS),
        effect.end_ms + int(rng.uniform(3, 6) * HOUR_MS),
    )
    # Its readings count as late only where the live frames were first; history may overtake them on a loaded machine.
    late = Expected("tachycardia_at_rest", "clinical", effect.start_ms, effect.end_ms, late=True)
    return Scenario(
        "late_burst",
        profile,
        effects=(effect,),
        troubles=(offline,),
        expected=(late,),
        allowed=frozenset({"tachycardia_at_rest"}) | UNUSUAL_HEART | SEVERAL,
    )


def _device_off(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    start = _some_time(span, rng)
    end = start + int(rng.uniform(5, 14) * HOUR_MS)
    silent = Expected("device_silent", "technical", start - 2 * HOUR_MS, end + 2 * HOUR_MS)
    return Scenario("device_off", profile, troubles=(Trouble("off", start, end),), expected=(silent,))


def _sensor(name: Literal["not_worn", "poor_signal", "low_battery"], rule: str, low_h: float, high_h: float) -> _Draw:
    def story(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
        start = _some_time(span, rng)
        end = start + int(rng.uniform(low_h, high_h) * HOUR_MS)
        effect = Effect(name, start, end, float(rng.integers(3, 9)))
        expected = Expected(rule, "technical", start - HOUR_MS, end + 2 * HOUR_MS)
        return Scenario(name, profile, effects=(effect,), expected=(expected,))

    return story


def _trouble(
    name: Literal["resent", "swapped", "malformed"],
    count: Count | None,
    low_h: float,
    high_h: float,
) -> _Draw:
    def story(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
        start = _some_time(span, rng) // HOUR_MS * HOUR_MS
        end = start + int(rng.uniform(low_h, high_h) * HOUR_MS)
        counts: frozenset[Count] = frozenset() if count is None else frozenset({count})
        return Scenario(name, profile, troubles=(Trouble(name, start, end),), counts=counts)

    return story


def _wrong_unit(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    start = _some_time(span, rng) // HOUR_MS * HOUR_MS
    end = start + int(rng.uniform(6, 24) * HOUR_MS)
    asked = Expected("check_value_body_temperature", "clinical", start - HOUR_MS, end + HOUR_MS)
    return Scenario(
        "wrong_unit",
        profile,
        troubles=(Trouble("fahrenheit", start, end),),
        expected=(asked,),
        allowed=frozenset({asked.rule}),
        counts=frozenset({"quarantined"}),
    )


def _clock_skew(profile: Profile, span: Span, rng: np.random.Generator) -> Scenario:
    start = _some_time(span, rng) // HOUR_MS * HOUR_MS
    end = start + int(rng.uniform(24, 48) * HOUR_MS)
    ahead_ms = float(rng.uniform(8, 20) * MINUTE_MS)
    fault = Expected("clock_fault", "technical", start - HOUR_MS, end + 6 * HOUR_MS)
    return Scenario(
        "clock_skew",
        profile,
        troubles=(Trouble("skewed", start, end, ahead_ms),),
        expected=(fault,),
    )


def _racing(profile: Profile, span: Span, rng: np.random.Generator) -> Effect:
    day = day_of(profile, span.start_ms) + int(rng.integers(2, max(3, int(span.days) - 2)))
    start = _at(profile, day, rng.uniform(1.0, 6.0) * 60)
    end = start + int(rng.uniform(20, 60) * MINUTE_MS)
    return Effect("tachycardia", start, end, float(rng.uniform(145, 175)))


def _clinical(rule: str, start_ms: int, end_ms: int) -> Expected:
    return Expected(rule, "clinical", start_ms - 5 * MINUTE_MS, end_ms + 5 * MINUTE_MS)


def _some_time(span: Span, rng: np.random.Generator) -> int:
    return span.start_ms + int(span.days * rng.uniform(0.1, 0.8) * DAY_MS)


def _at(profile: Profile, day: int, minutes_after_noon: float) -> int:
    return day_start_ms(profile, day) + int(minutes_after_noon) * MINUTE_MS


# scenario → what it is made of, its kind there, minutes and size, when it is to begin now
AT_ONCE: Final[Mapping[str, tuple[Callable[..., Effect | Trouble], str, int, float]]] = {
    "fever": (Effect, "fever", 240, 39.4),
    "desaturation": (Effect, "desaturation", 40, 83.0),
    "tachycardia": (Effect, "tachycardia", 45, 162.0),
    "not_worn": (Effect, "not_worn", 240, 0.0),
    "poor_signal": (Effect, "poor_signal", 180, 0.0),
    "low_battery": (Effect, "low_battery", 120, 6.0),
    "device_off": (Trouble, "off", 300, 0.0),
    "late_burst": (Trouble, "held", 20, 0.0),
    "duplicates": (Trouble, "resent", 60, 0.0),
    "clock_skew": (Trouble, "skewed", 60, 12.0 * MINUTE_MS),
    "wrong_unit": (Trouble, "fahrenheit", 60, 0.0),
    "malformed": (Trouble, "malformed", 5, 0.0),
}

SCENARIOS: Final[Mapping[str, _Draw]] = {
    "healthy": _healthy,
    "infection": _infection,
    "desaturation": _desaturation,
    "fever": _fever,
    "tachycardia": _tachycardia,
    "device_off": _device_off,
    "not_worn": _sensor("not_worn", "not_worn", 8, 16),
    "poor_signal": _sensor("poor_signal", "poor_signal", 4, 8),
    "low_battery": _sensor("low_battery", "battery_low", 6, 18),
    "late_burst": _late_burst,
    "duplicates": _trouble("resent", "duplicate", 24, 72),
    "out_of_order": _trouble("swapped", None, 3, 8),
    "clock_skew": _clock_skew,
    "wrong_unit": _wrong_unit,
    "malformed": _trouble("malformed", "rejected", 6, 24),
}
