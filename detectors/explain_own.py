"""Sentences about what differs from a person's own normal: nights, hours at rest, drifts, several vitals together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from detectors.baseline import DAYS as BASELINE_DAYS
from detectors.daily import MOST_DAYS
from detectors.desaturation import LEARNED as FALLS_LEARNED
from detectors.desaturation import MEMORY as FALLS_MEMORY
from detectors.devices import NIGHTS as DEVICE_NIGHTS
from detectors.rules import (
    DRIFTS,
    NEW_NORMAL,
    NIGHT_BREATH_RISE,
    NIGHT_FALLS,
    NIGHT_SKIN_RISE,
    NIGHT_TOGETHER,
    REST_HEART_HOURS,
    RESTING_HEART,
    SHIFTS,
    WEARER_IN_DOUBT,
)
from detectors.wording import DECIMALS, NAMES, UNITS, Told, Voice, average, day_of, duration, reading, span


def _against_usual(evidence: Told, voice: Voice, what: str, learned: str) -> str:
    metric = evidence["metric"]
    value, usual = average(metric, evidence["value"]), average(metric, evidence["usual"])
    apart = f"{abs(float(value) - float(usual)):.{DECIMALS[metric]}f}"
    side = "above" if float(value) > float(usual) else "below"
    compared = f"{apart} {side}" if float(apart) else "equal to"
    if evidence.get("change") == "cleared":
        compared = f"back near, {compared}," if float(apart) else "back at"
    unit = UNITS[metric]
    return f"{what} was {value} {unit}, {compared} {voice[0]} usual {usual} {unit} ({learned})"


def _night(name: str) -> Callable[[Told, Voice], str]:
    def tell(evidence: Told, voice: Voice) -> str:
        date = day_of(evidence["day"])
        what = f"{voice[1]}{name} in the night to {date}"
        told = _against_usual(evidence, voice, what, f"median of {evidence['n_days']} nights")
        return told + _again(evidence, "night") + _other_device(evidence, voice)

    return tell


QUIET_Z: Final = -1.0  # a day of so few steps has its part in a rise, and is told


def _rise(evidence: Told, voice: Voice) -> str:
    name, nights = _heart_of(evidence["context"], evidence["day"])
    told = _against_usual(evidence, voice, f"{voice[1]}{name}", f"over {_many(evidence['n_days'], MOST_DAYS, nights)}")
    if evidence.get("change") == "cleared":
        return told + _other_device(evidence, voice)
    if "other_value" in evidence:
        now, usual = (average("heart_rate", evidence[key]) for key in ("other_value", "other_usual"))
        told += f"; {'asleep' if evidence['other_context'] == 'asleep' else 'at rest by day'} {now}, usual {usual}"
    if evidence.get("change") == "worsened":
        told += "; higher again than on the days since it was first told"
    told += "; with fewer steps than usual" if evidence.get("steps_z", 0.0) <= QUIET_Z else ""
    return told + _other_device(evidence, voice)


def _heart_of(context: str, day: int) -> tuple[str, str]:
    """Return what a day's heart rate is called, and what it is compared with; a day is named by its end, at 10:00."""
    if context == "asleep":
        return f"resting heart rate in the night to {day_of(day)}", "nights"
    return f"heart rate at rest by day to the morning of {day_of(day)}", "days"


def _new_normal(evidence: Told, voice: Voice) -> str:
    told = _rise(evidence, voice)
    if evidence.get("change") == "cleared":
        return told
    began = day_of(evidence["since_day"])
    return f"{told}. It has been higher since {began}: is this a new normal?"


def _drift(evidence: Told, voice: Voice) -> str:
    metric, unit, digits = evidence["metric"], UNITS[evidence["metric"]], DECIMALS[evidence["metric"]]
    now, first = (average(metric, evidence[key]) for key in ("value", "usual"))
    apart = f"{abs(float(now) - float(first)):.{digits}f}"
    side = "above" if float(now) > float(first) else "below"
    compared = f"{apart} {side}" if float(apart) else "equal to"
    date = day_of(evidence["day"])
    over = evidence.get("change") == "cleared"
    back = "is back near" if over else "has drifted from"
    return (
        f"{voice[1]}{_ASLEEP[metric]} {back} the first weeks: in the night to {date} it was {now} {unit}, {compared} "
        f"the first {BASELINE_DAYS} nights' {first} {unit}{_other_device(evidence, voice)}"
        f"{'' if over or voice[0] == 'your' else '. Is this a new normal?'}"
    )


def _shift(evidence: Told, voice: Voice) -> str:
    metric = evidence["metric"]
    value, usual = (average(metric, evidence[key]) for key in ("value", "usual"))
    apart, unit = f"{abs(float(value) - float(usual)):.{DECIMALS[metric]}f}", UNITS[metric]
    compared = f"{apart} {'above' if float(value) > float(usual) else 'below'}" if float(apart) else "equal to"
    cleared, drifted = evidence.get("change") == "cleared", "drifted" in evidence
    what = f"has been {evidence['side']} since {day_of(evidence['since_day'])}"
    if drifted:
        what += ", and is told as far from the first weeks now"
    elif cleared:
        what = f"is back near {voice[0]} usual"
    date, by_day = day_of(evidence["day"]), evidence["context"] != "asleep"
    when = f"at rest by day to the morning of {date}" if by_day else f"in the night to {date}"
    whose = "the" if cleared and not drifted else voice[0]
    told = f"{voice[1]}{_ASLEEP[metric]} {what}: {when} it was {value} {unit}, {compared} {whose} usual {usual} {unit}"
    if "other_value" in evidence:
        now, then = (average(metric, evidence[key]) for key in ("other_value", "other_usual"))
        told += f"; {'asleep' if by_day else 'at rest by day'} {now}, usual {then}"
    return f"{told}{_other_device(evidence, voice)}{'' if cleared or voice[0] == 'your' else '. Is this a new normal?'}"


def _other_device(evidence: Told, voice: Voice) -> str:
    """Return that the device changed, when, and what was taken off for it; nothing where that plays no part, e.g.

    >>> night = {"metric": "heart_rate", "value": 67.8, "measured": 70.2, "device_since_day": 20_779}
    >>> _other_device(night | {"device_nights": 9}, ("", "", "the device"))
    '; the device changed in the night to 22 Nov: 2 /min were taken off the 70 /min measured'
    """
    if "measured" not in evidence:
        return ""
    metric, digits = evidence["metric"], DECIMALS[evidence["metric"]]
    value, measured = (average(metric, evidence[key]) for key in ("value", "measured"))
    off = float(measured) - float(value)
    changed = f"; {voice[2]} changed in the night to {day_of(evidence['device_since_day'])}"
    if not off:
        young = evidence["device_nights"] < DEVICE_NIGHTS
        return f"{changed}: how far it differs is still being learned, nothing was taken off" if young else ""
    how = "taken off" if off > 0 else "added to"
    return f"{changed}: {abs(off):.{digits}f} {UNITS[metric]} were {how} the {measured} {UNITS[metric]} measured"


_ASLEEP: Final[Mapping[str, str]] = {
    "heart_rate": "resting heart rate",
    "spo2": "oxygen saturation while asleep",
    "respiratory_rate": "respiratory rate while asleep",
    "hrv_rmssd": "heart rate variability while asleep",
    "skin_temperature": "skin temperature while asleep",
}


def _together(evidence: Told, voice: Voice) -> str:
    date, vitals = day_of(evidence["day"]), _vitals(evidence, voice)
    if evidence.get("change") == "cleared":
        return f"vitals of the night are together back near {voice[0]} usual: in the night to {date} {vitals}"
    return f"vitals of the night to {date} and before are unusual together: {vitals}"


def _vitals(evidence: Told, voice: Voice) -> str:
    each = [_beside_usual(one, voice) for one in evidence["vitals"]]
    return " and ".join(filter(None, (", ".join(each[:-1]), each[-1])))


def _wearer(evidence: Told, voice: Voice) -> str:
    if evidence.get("change") == "cleared":
        began = day_of(evidence["since_day"])
        return f"who wore {voice[2]} since {began} is asked no longer"
    date, vitals = day_of(evidence["day"]), _vitals(evidence, voice)
    ask = (
        "tell your care team if somebody else wore your device, or if you do not feel well"
        if voice[0] == "your"
        else "see how this person is, and ask who wore the device"
    )
    return f"vitals of the night to {date} and before are unusual in a way that few illnesses explain: {vitals}; {ask}"


def _beside_usual(one: Told, voice: Voice) -> str:
    value, usual = (average(one["metric"], one[key]) for key in ("value", "usual"))
    return f"{voice[1]}{_ASLEEP[one['metric']]} {value} {UNITS[one['metric']]} (usual {usual})"


def _falls(evidence: Told, voice: Voice) -> str:
    date, n = day_of(evidence["day"]), evidence["falls"]
    name = f"{voice[1]}{NAMES['spo2']}"
    times = "once" if n == 1 else f"{n} times"
    watched = f"{evidence['readings']} readings over {duration(evidence['minutes'] * 60_000)}"
    told = f"{name} fell by {reading(evidence['fall'])} points or more {times} in the night to {date} ({watched})"
    if evidence["an_hour"]:
        told += f": {evidence['rate']:.1f} an hour"
    if n:
        told += f", at the deepest by {reading(evidence['deepest'])}"
    per = "an hour" if evidence["an_hour"] else "in 60 readings"
    usual = f"{voice[0]} usual is {evidence['usual_rate']:.1f} {per} (over {_many(evidence['n_days'], FALLS_MEMORY)})"
    told += f"; {usual}" if evidence["n_days"] >= FALLS_LEARNED else ""
    return f"{told}; it is the second quieter night in a row" if evidence.get("change") == "cleared" else told


def _many(n: int, most: int, what: str = "nights") -> str:
    return f"{n} {what}" + (" or more" if n >= most else "")


def _rest_hour(evidence: Told, voice: Voice) -> str:
    what = f"{voice[1]}heart rate at rest {span(evidence['from_ms'], evidence['to_ms'], evidence)}"
    return _against_usual(evidence, voice, what, f"median of {evidence['n_days']} days") + _again(evidence, "hour")


def _again(evidence: Told, what: str) -> str:
    return f", for the second {what} in a row" if evidence.get("change") != "cleared" else ""


OWN_NORMAL: Final[Mapping[str, Callable[[Told, Voice], str]]] = {
    RESTING_HEART.id: _rise,
    NEW_NORMAL.id: _new_normal,
    **{rule.id: _drift for rule in DRIFTS},
    **{rule.id: _shift for rule in SHIFTS},
    NIGHT_SKIN_RISE.id: _night("skin temperature while asleep"),
    NIGHT_BREATH_RISE.id: _night("respiratory rate while asleep"),
    NIGHT_FALLS.id: _falls,
    NIGHT_TOGETHER.id: _together,
    WEARER_IN_DOUBT.id: _wearer,
    REST_HEART_HOURS.id: _rest_hour,
}
"""The sentence of each rule against the own normal, by its id."""
