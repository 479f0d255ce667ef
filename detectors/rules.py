"""Every rule by its id: the safety limits, NEWS2, the gain of weight, the adaptive rules and the values to check."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from detectors.limits import DEFAULT_LIMITS
from detectors.protocol import Condition, Rule

RESTING_HEART = Rule(
    "resting_heart_rate_rise", 5, "adaptive", ("low", "medium"), "heart_rate", "Resting heart rate rising",
    ("pregnant", "paced", "night_work"),
)  # fmt: skip
NEW_NORMAL = Rule(
    "resting_heart_rate_new_normal", 3, "adaptive", ("low",), "heart_rate", "Resting heart rate: a new normal?",
    ("pregnant", "paced", "night_work"),
)  # fmt: skip
REST_HEART_HOURS = Rule(
    "heart_rate_unusual_at_rest", 4, "adaptive", ("low",), "heart_rate", "Heart rate unusual at rest", ("paced",)
)
NIGHT_SKIN_RISE = Rule(
    "night_skin_temperature_rise", 3, "adaptive", ("low",), "skin_temperature",
    "Skin temperature at night risen", ("night_work",),
)  # fmt: skip
NIGHT_BREATH_RISE = Rule(
    "night_respiratory_rate_rise", 4, "adaptive", ("low",), "respiratory_rate", "Breathing at night faster",
    ("night_work",),
)  # fmt: skip
NIGHT_FALLS = Rule(
    "night_desaturations", 2, "adaptive", ("low", "medium"), "spo2", "Repeated falls of oxygen saturation at night",
    ("night_work",),
)  # fmt: skip
NIGHT_TOGETHER = Rule(
    "night_vitals_together", 3, "adaptive", ("low",), "heart_rate", "Several vitals at night somewhat unusual",
    ("pregnant", "paced", "night_work"),
)  # fmt: skip
WEARER_IN_DOUBT = Rule(
    "wearer_in_doubt", 3, "technical", ("low",), "heart_rate", "Worn by somebody else?", ("night_work",)
)
_ASLEEP: Final[tuple[Condition, ...]] = ("night_work",)
_HEART: Final[tuple[Condition, ...]] = ("pregnant", "paced", "night_work")


def _drift(metric: str, title: str, not_for: tuple[Condition, ...]) -> Rule:
    return Rule(
        f"{metric}_drift", 4, "adaptive", ("low", "medium"), metric, f"{title}: far from the first weeks", not_for
    )


DRIFTS: Final = (
    _drift("heart_rate", "Resting heart rate", _HEART),
    _drift("spo2", "Oxygen saturation at night", _ASLEEP),
    _drift("respiratory_rate", "Breathing at night", _ASLEEP),
    _drift("hrv_rmssd", "Heart rate variability at night", _HEART),
)
"""In the order of ``drift.WATCHED``."""
SHIFTS: Final = (
    Rule("heart_rate_shift", 1, "adaptive", ("low",), "heart_rate", "Resting heart rate lower for a while", _HEART),
    Rule("spo2_shift", 1, "adaptive", ("low",), "spo2", "Oxygen saturation at night lower for a while", _ASLEEP),
    Rule(
        "respiratory_rate_shift", 1, "adaptive", ("low",), "respiratory_rate",
        "Breathing at night faster for a while", _ASLEEP,
    ),
)  # fmt: skip
"""In the order of ``shift.WATCHED``."""
ADAPTIVE_RULES: Final = (
    *DRIFTS, *SHIFTS, RESTING_HEART, NEW_NORMAL, REST_HEART_HOURS, NIGHT_SKIN_RISE, NIGHT_BREATH_RISE, NIGHT_FALLS,
    NIGHT_TOGETHER, WEARER_IN_DOUBT,
)  # fmt: skip
SHARE: Final = 0.005
"""Alert episodes of healthy people, a patient-week, that each adaptive rule but the slow one may cost at its
thresholds, which are the same at every budget: a twentieth of the smallest one. The slow rule, and the question that
may follow in the same incident, get what is left (``daily.LIMITS``)."""
ADAPTIVE: Final = frozenset(rule.id for rule in ADAPTIVE_RULES)

NEWS2_HIGH: Final = Rule(
    "news2_high", 1, "safety", ("medium", "high"), "heart_rate", "Several vitals together: NEWS2 of 5 or more",
    ("under_16", "pregnant"),
)  # fmt: skip
"""It is about several vitals, and goes by the heart rate where something asks for one."""

WEIGHT_GAIN: Final = Rule(
    "weight_gain", 2, "safety", ("medium", "high"), "weight", "Fast gain of weight", ("dialysis",)
)
"""The second level: another one on top of one that is told."""

# A value that can't be true as sent, would be plausible in another unit, and dangerous if it were true.
CHECK_VALUE: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        metric: Rule(
            f"check_value_{metric}", 1, "safety", ("low",), metric, f"Check this value: {metric.replace('_', ' ')}"
        )
        for metric in ("heart_rate", "spo2", "body_temperature", "systolic_pressure", "glucose")
    }
)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        rule.id: rule
        for rule in (
            *(limit.about() for limit in DEFAULT_LIMITS),
            NEWS2_HIGH,
            WEIGHT_GAIN,
            *ADAPTIVE_RULES,
            *CHECK_VALUE.values(),
        )
    }  # fmt: skip
)
"""All rules that findings of this package name."""

WHY_OFF: Final[Mapping[Condition, str]] = MappingProxyType(
    {
        "under_16": "its numbers are for people of 16 and over",
        "pregnant": "heart rate, breathing and blood pressure are others in pregnancy by themselves",
        "paced": "a pacemaker sets the heart rate at rest",
        "night_work": "sleep is judged from 22:00 to 08:00, and this person works at night",
        "no_oxygen_target": "it is for people on home oxygen with a target up to 92 %",
        "dialysis": "the weight rises between dialyses by itself",
    }
)
"""Why a rule does not hold for whom it names in ``not_for``."""
