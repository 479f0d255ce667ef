"""Every rule by its id: the safety limits, the adaptive rules and the values to check."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from detectors.limits import DEFAULT_LIMITS
from detectors.protocol import Rule

RESTING_HEART = Rule("resting_heart_rate_rise", 1, "adaptive", ("medium",), "heart_rate", "Resting heart rate rising")
REST_HEART_HOURS = Rule(
    "heart_rate_unusual_at_rest", 1, "adaptive", ("low",), "heart_rate", "Heart rate unusual at rest"
)
NIGHT_SKIN_RISE = Rule(
    "night_skin_temperature_rise", 1, "adaptive", ("low",), "skin_temperature",
    "Skin temperature at night risen",
)  # fmt: skip
NIGHT_BREATH_RISE = Rule(
    "night_respiratory_rate_rise", 1, "adaptive", ("low",), "respiratory_rate", "Breathing at night faster"
)
ADAPTIVE_RULES: Final = (RESTING_HEART, REST_HEART_HOURS, NIGHT_SKIN_RISE, NIGHT_BREATH_RISE)

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
    {rule.id: rule for rule in (*(limit.about() for limit in DEFAULT_LIMITS), *ADAPTIVE_RULES, *CHECK_VALUE.values())}
)
"""All rules that findings of this package name."""
