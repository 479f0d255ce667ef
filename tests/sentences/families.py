"""Which module recomputes the sentences of a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.sentences import check_value, device, falls, life_events, limits, news2, own_days, slow, weight
from tests.sentences.limits_held import LIMITS
from tests.sentences.patient import Patient, Told
from tests.sentences.words import Expected, Untrue

RECOMPUTED: Final[dict[str, Callable[[Patient, Told], Expected]]] = {
    **dict.fromkeys(LIMITS, limits.expected),
    "news2_high": news2.expected,
    "weight_gain": weight.expected,
    **dict.fromkeys(own_days.USUAL_NIGHT, own_days.night),
    "heart_rate_unusual_at_rest": own_days.hour,
    **dict.fromkeys(own_days.SEVERAL, own_days.several),
    **dict.fromkeys(slow.DRIFT, slow.drift),
    **dict.fromkeys(slow.SHIFT, slow.shift),
    **dict.fromkeys(slow.RISE, slow.rise),
    "night_desaturations": falls.expected,
    **{f"check_value_{metric}": check_value.expected for metric in check_value.CONFUSED},
    "not_worn": device.not_worn,
    "poor_signal": device.poor_signal,
    "battery_low": device.battery_low,
    "device_silent": device.silent,
}


def expected(patient: Patient, told: Told) -> Expected:
    """Return the tokens a sentence must have.

    Raises:
        Untrue: SQL finds nothing of what it says.
    """
    if told.rule not in RECOMPUTED:
        msg = "no way to recompute this rule; add one"
        raise Untrue(msg)
    tokens = RECOMPUTED[told.rule](patient, told)
    return [*tokens, *life_events.happened(patient, told)] if told.to_team else tokens
