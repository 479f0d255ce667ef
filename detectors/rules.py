"""Every rule by its id: the safety limits and the adaptive rules."""

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

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {rule.id: rule for rule in (*(limit.about() for limit in DEFAULT_LIMITS), *ADAPTIVE_RULES)}
)
"""All rules that findings of this package name."""
