"""The monitoring states of a patient, and what each of them lets through: one table.

Readings are stored and rollups made in every state. What a state keeps quiet is counted (``suppressed_finding``);
what is still so when the state ends is told then.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from detectors.rules import ADAPTIVE_RULES

Group = Literal["safety", "adaptive", "silence", "device"]
DAY_MS: Final = 86_400_000
MAX_AWAY_MS: Final = 366 * DAY_MS  # a pause ends within this


class Lets(NamedTuple):
    """What a monitoring state lets through, and what it asks of whoever sets it."""

    safety: bool  # absolute limits
    adaptive: bool  # findings against the own baseline
    silence: bool  # nothing received, not worn
    device: bool  # battery, signal, clock
    closes: bool  # open alerts are resolved, by the person who set the state
    end: Literal["needed", "possible", "none"]  # whether it ends by itself, in event time
    reason: bool  # whether it needs a reason


STATES: Final[Mapping[str, Lets]] = MappingProxyType(
    {
        #                    safety adaptive silence device closes  end         reason
        "active":       Lets(True,  True,    True,   True,  False, "none",     False),
        "paused":       Lets(True,  False,   False,  True,  False, "needed",   True),
        "inpatient":    Lets(True,  False,   False,  True,  False, "possible", True),
        "comfort_care": Lets(True,  False,   False,  True,  False, "possible", True),
        "discharged":   Lets(False, False,   False,  False, True,  "none",     True),
        "deceased":     Lets(False, False,   False,  False, True,  "none",     True),
    }
)  # fmt: skip

_GROUP: Final[Mapping[str, Group]] = MappingProxyType(
    {
        **{rule.id: "adaptive" for rule in ADAPTIVE_RULES},
        "device_silent": "silence",
        "not_worn": "silence",
        "battery_low": "device",
        "poor_signal": "device",
        "clock_fault": "device",
    }
)


def group_of(rule: str) -> Group:
    """Return the column of the table a rule belongs to; one that is not named otherwise is about safety.

    >>> group_of("device_silent"), group_of("resting_heart_rate_rise"), group_of("battery_low")
    ('silence', 'adaptive', 'device')
    """
    return _GROUP.get(rule, "safety")


def lets(state: str, rule: str) -> bool:
    """Return whether a finding of ``rule`` is told in a monitoring state.

    >>> lets("paused", "spo2_low"), lets("paused", "resting_heart_rate_rise"), lets("discharged", "spo2_low")
    (True, False, False)
    """
    return bool(getattr(STATES[state], group_of(rule)))


def refusal(state: str, until_ms: int | None, reason: str, effective_ms: int) -> tuple[str, object, str] | None:
    """Return why a monitoring state can't be set so, as (field, value, what is allowed), or None.

    >>> refusal("paused", None, "holiday", 0)
    ('until', None, 'an end, at most 366 days after it begins: a pause ends by itself')
    """
    if state not in STATES:
        return "state", state, ", ".join(STATES)
    row = STATES[state]
    if row.end == "needed" and until_ms is None:
        return "until", None, "an end, at most 366 days after it begins: a pause ends by itself"
    if row.end == "none" and until_ms is not None:
        return "until", until_ms, f"no end: {state} lasts until somebody changes it"
    if until_ms is not None and not effective_ms < until_ms <= effective_ms + MAX_AWAY_MS:
        return "until", until_ms, "after the state begins, and at most 366 days after"
    if row.reason and not reason.strip():
        return "reason", reason, "a reason in words"
    return None
