"""One plain sentence for a finding, to the care team and to the patient.

Never a diagnosis: what was measured, for how long, and how far from what. Every number comes from the
evidence alone: single readings as ``reading`` shows them, averages by ``DECIMALS``, differences between the
numbers as shown, minutes rounded down, times in the wearer's local time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from detectors.baseline import DAYS as BASELINE_DAYS
from detectors.daily import MOST_DAYS
from detectors.desaturation import LEARNED as FALLS_LEARNED
from detectors.desaturation import MEMORY as FALLS_MEMORY
from detectors.devices import NIGHTS as DEVICE_NIGHTS
from detectors.limits import DEFAULT_LIMITS
from detectors.rules import (
    CHECK_VALUE,
    DRIFTS,
    NEW_NORMAL,
    NIGHT_BREATH_RISE,
    NIGHT_FALLS,
    NIGHT_SKIN_RISE,
    NIGHT_TOGETHER,
    REST_HEART_HOURS,
    RESTING_HEART,
    WEARER_IN_DOUBT,
)

NAMES: Final[Mapping[str, str]] = {
    "heart_rate": "heart rate",
    "resting_heart_rate": "resting heart rate",
    "steps": "steps",
    "spo2": "oxygen saturation",
    "respiratory_rate": "respiratory rate",
    "skin_temperature": "skin temperature",
    "body_temperature": "body temperature",
    "hrv_rmssd": "heart rate variability",
    "systolic_pressure": "systolic blood pressure",
    "diastolic_pressure": "diastolic blood pressure",
    "glucose": "glucose",
}
UNITS: Final[Mapping[str, str]] = {
    "heart_rate": "/min",
    "resting_heart_rate": "/min",
    "steps": "steps",
    "spo2": "%",
    "respiratory_rate": "/min",
    "skin_temperature": "°C",
    "body_temperature": "°C",
    "hrv_rmssd": "ms",
    "systolic_pressure": "mmHg",
    "diastolic_pressure": "mmHg",
    "glucose": "mg/dL",
}
DECIMALS: Final[Mapping[str, int]] = {
    "heart_rate": 0,
    "resting_heart_rate": 0,
    "steps": 0,
    "spo2": 1,
    "respiratory_rate": 1,
    "skin_temperature": 1,
    "body_temperature": 1,
    "hrv_rmssd": 0,
    "systolic_pressure": 0,
    "diastolic_pressure": 0,
    "glucose": 0,
}
"""Decimals of averages (and of the usual value they are compared with)."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Told = Mapping[str, Any]


def sentence(rule_id: str, evidence: Told) -> str:
    """Return what a finding says to the care team, e.g.

    >>> sentence("resting_heart_rate_rise", {"metric": "heart_rate", "context": "asleep", "value": 68.2,
    ...          "usual": 61.0, "n_days": 40, "day": 20_779})
    "Resting heart rate in the night to 22 Nov was 68 /min, 7 above this person's usual 61 /min \
(over 40 nights)"

    What happened to the person meanwhile is said behind it (``events`` of the evidence), and that they are in another
    time zone: not to the patient, whom it might tell that all is explained.

    Raises ValueError for a rule that has no sentence.
    """
    return _told(rule_id, evidence, ("this person's", "", "the device")) + _happened(evidence)


def patient_sentence(rule_id: str, evidence: Told) -> str:
    """Return the same for the patient: "your", and only ever "unusual for you".

    >>> patient_sentence("battery_low", {"percent": 12.0})
    "Your device's battery is at 12 %"
    """
    return _told(rule_id, evidence, ("your", "your ", "your device"))


Voice = tuple[str, str, str]  # whose usual, whose metric, whose device


def _told(rule_id: str, evidence: Told, voice: Voice) -> str:
    if rule_id not in _SENTENCES:
        msg = f"no sentence for rule {rule_id!r}; known are {', '.join(sorted(_SENTENCES))}: add one to explain"
        raise ValueError(msg)
    text = _SENTENCES[rule_id](evidence, voice)
    return text[0].upper() + text[1:]


def _happened(evidence: Told) -> str:
    """Return what is known that may bear on a finding, e.g.

    >>> stopped = {"day": "2026-03-03", "words": "a beta blocker was stopped", "side": "rise", "size": 10}
    >>> _happened({"metric": "heart_rate", "events": [stopped]})
    ' (a beta blocker was stopped on 3 Mar: a rise of up to 10 /min can come from it)'
    >>> _happened({"metric": "heart_rate", "zone_since_day": 20_524})
    ' (in another time zone since 12 Mar)'
    """
    if evidence.get("change") == "cleared":
        return ""
    zone = evidence.get("zone_since_day")
    abroad = f" (in another time zone since {_date(_EPOCH + timedelta(days=zone))})" if zone is not None else ""
    return abroad + "".join(f" ({_event(one, evidence)})" for one in evidence.get("events", ()))


def _event(one: Told, evidence: Told) -> str:
    told = f"{one['words']} on {_date(datetime.fromisoformat(one['day']))}"
    size = f" of up to {reading(one['size'])} {UNITS[evidence['metric']]}" if one["size"] is not None else ""
    return f"{told}: a {one['side']}{size} can come from it" if one["side"] is not None else told


def reading(value: float) -> str:
    """Return a single reading with at most one decimal.

    >>> reading(84.0), reading(38.70)
    ('84', '38.7')
    """
    return f"{value:.1f}".removesuffix(".0")


def average(metric: str, value: float) -> str:
    """Return an average with the metric's decimals."""
    return f"{value:.{DECIMALS[metric]}f}"


def duration(ms: int) -> str:
    """Return whole minutes (seconds under two minutes), rounded down.

    >>> duration(765_000), duration(7_800_000), duration(45_000)
    ('12 min', '2 h 10 min', '45 s')
    """
    minutes = ms // 60_000
    if minutes < 2:
        return f"{ms // 1000} s"
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def _local(ms: int, evidence: Told) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms, minutes=evidence.get("utc_offset_min", 0))


def _date(when: datetime) -> str:
    return f"{when.day} {_MONTHS[when.month - 1]}"


def _span(from_ms: int, to_ms: int, evidence: Told) -> str:
    start, end = _local(from_ms, evidence), _local(to_ms, evidence)
    if start.date() == end.date():
        return f"from {start:%H:%M} to {end:%H:%M}"
    return f"from {_date(start)} {start:%H:%M} to {_date(end)} {end:%H:%M}"


def _since(ms: int, evidence: Told) -> str:
    when = _local(ms, evidence)
    return f"since {when:%H:%M} on {_date(when)}"


def _limit(evidence: Told, voice: Voice) -> str:
    metric, above = evidence["metric"], evidence["side"] == "above"
    name, unit = voice[1] + NAMES[metric], UNITS[metric]
    worst, threshold = reading(evidence["worst"]), reading(evidence["threshold"])
    if evidence.get("change") == "cleared":
        clear_from, to = evidence["clear_from_ms"], evidence["to_ms"]
        lasted = f" for {duration(to - clear_from)}" if to > clear_from else ""
        return (
            f"{name} has been {reading(evidence['clear'])} {unit} or {'less' if above else 'more'}{lasted} "
            f"({_readings(evidence['clear_n'])} {_span(clear_from, to, evidence)}); "
            f"it had been as {'high' if above else 'low'} as {worst} {unit}"
        )
    bound = f"{'above' if above else 'below'} {threshold} {unit}"
    if evidence["inclusive"]:
        bound = f"at {threshold} {unit} or {'more' if above else 'less'}"
    rest = " at rest" if evidence.get("at_rest_only") else ""
    lasted = f" for {duration(evidence['to_ms'] - evidence['from_ms'])}" if evidence["persist_s"] else ""
    readings = f"{_readings(evidence['n'])} {_span(evidence['from_ms'], evidence['to_ms'], evidence)}"
    moved = "rose" if above else "fell"
    return f"{name} {moved} to {worst} {unit} and stayed {bound}{rest}{lasted} ({readings})"


def _readings(n: int) -> str:
    return f"{n} reading" if n == 1 else f"{n} readings"


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
        date = _date(_EPOCH + timedelta(days=evidence["day"]))
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
        return f"resting heart rate in the night to {_date(_EPOCH + timedelta(days=day))}", "nights"
    return f"heart rate at rest by day to the morning of {_date(_EPOCH + timedelta(days=day))}", "days"


def _new_normal(evidence: Told, voice: Voice) -> str:
    told = _rise(evidence, voice)
    if evidence.get("change") == "cleared":
        return told
    since = _date(_EPOCH + timedelta(days=evidence["since_day"]))
    return f"{told}. It has been higher since {since}: is this a new normal?"


def _drift(evidence: Told, voice: Voice) -> str:
    metric, unit, digits = evidence["metric"], UNITS[evidence["metric"]], DECIMALS[evidence["metric"]]
    now, first = (average(metric, evidence[key]) for key in ("value", "usual"))
    apart = f"{abs(float(now) - float(first)):.{digits}f}"
    side = "above" if float(now) > float(first) else "below"
    compared = f"{apart} {side}" if float(apart) else "equal to"
    date = _date(_EPOCH + timedelta(days=evidence["day"]))
    back = "is back near" if evidence.get("change") == "cleared" else "has drifted from"
    return (
        f"{voice[1]}{_ASLEEP[metric]} {back} the first weeks: in the night to {date} it was {now} {unit}, {compared} "
        f"the first {BASELINE_DAYS} nights' {first} {unit}"
    ) + _other_device(evidence, voice)


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
    changed = f"; {voice[2]} changed in the night to {_date(_EPOCH + timedelta(days=evidence['device_since_day']))}"
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
    date, vitals = _date(_EPOCH + timedelta(days=evidence["day"])), _vitals(evidence, voice)
    if evidence.get("change") == "cleared":
        return f"vitals of the night are together back near {voice[0]} usual: in the night to {date} {vitals}"
    return f"vitals of the night to {date} and before are unusual together: {vitals}"


def _vitals(evidence: Told, voice: Voice) -> str:
    each = [_beside_usual(one, voice) for one in evidence["vitals"]]
    return " and ".join(filter(None, (", ".join(each[:-1]), each[-1])))


def _wearer(evidence: Told, voice: Voice) -> str:
    if evidence.get("change") == "cleared":
        since = _date(_EPOCH + timedelta(days=evidence["since_day"]))
        return f"who wore {voice[2]} since {since} is asked no longer"
    date, vitals = _date(_EPOCH + timedelta(days=evidence["day"])), _vitals(evidence, voice)
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
    date, n = _date(_EPOCH + timedelta(days=evidence["day"])), evidence["falls"]
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
    what = f"{voice[1]}heart rate at rest {_span(evidence['from_ms'], evidence['to_ms'], evidence)}"
    return _against_usual(evidence, voice, what, f"median of {evidence['n_days']} days") + _again(evidence, "hour")


def _again(evidence: Told, what: str) -> str:
    return f", for the second {what} in a row" if evidence.get("change") != "cleared" else ""


def _device_silent(evidence: Told, voice: Voice) -> str:
    limit = duration(int(evidence["limit_s"]) * 1000)
    since = _since(evidence["last_ms"], evidence)
    return f"nothing has been received from {evidence['device']} {since}, longer than the {limit} allowed"


def _poor_signal(evidence: Told, voice: Voice) -> str:
    when = _since(evidence["from_ms"], evidence)
    if "to_ms" in evidence:
        when = _span(evidence["from_ms"], evidence["to_ms"], evidence)
    percent = f"{100 * evidence['share']:.0f} %"
    return f"{percent} of {voice[1]}{NAMES[evidence['metric']]} readings {when} could not be trusted"


def _clock_fault(evidence: Told, voice: Voice) -> str:
    skew = int(evidence["skew_s"])
    return f"{voice[2]}'s clock is {duration(abs(skew) * 1000)} {'ahead' if skew > 0 else 'behind'}"


_UNIT_NAMES: Final[Mapping[str, str]] = {"Cel": "°C", "[degF]": "°F", "mm[Hg]": "mmHg", "1": "a fraction"}


def _check_value(evidence: Told, voice: Voice) -> str:
    metric = evidence["metric"]
    name, unit = voice[1] + NAMES[metric], UNITS[metric]
    device, when = evidence["device"], _since(evidence["at_ms"], evidence).removeprefix("since ")
    if evidence.get("change") == "cleared":
        return f"{name} is in a possible range again: {precise(evidence['value'])} {unit} from {device} at {when}"
    sent = _with_unit(evidence["value"], evidence["unit"])
    other = _UNIT_NAMES.get(evidence["other_unit"], evidence["other_unit"])
    return (
        f"check this value: {name} came as {sent} from {device} at {when}, which can't be true; read in {other} it "
        f"would be {precise(evidence['otherwise'])} {unit}. It was set aside, not converted"
    )


def _with_unit(value: float, unit: str) -> str:
    return f"{precise(value)} (a fraction)" if unit == "1" else f"{precise(value)} {_UNIT_NAMES.get(unit, unit)}"


def precise(value: float) -> str:
    """Return a value whose unit is in doubt, with three digits at least.

    >>> precise(0.97), precise(5.5), precise(98.6), precise(1783.5)
    ('0.97', '5.5', '98.6', '1784')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_SENTENCES: Final[Mapping[str, Callable[[Told, Voice], str]]] = {
    **{limit.rule: _limit for limit in DEFAULT_LIMITS},
    RESTING_HEART.id: _rise,
    NEW_NORMAL.id: _new_normal,
    **{rule.id: _drift for rule in DRIFTS},
    NIGHT_SKIN_RISE.id: _night("skin temperature while asleep"),
    NIGHT_BREATH_RISE.id: _night("respiratory rate while asleep"),
    NIGHT_FALLS.id: _falls,
    NIGHT_TOGETHER.id: _together,
    WEARER_IN_DOUBT.id: _wearer,
    REST_HEART_HOURS.id: _rest_hour,
    **{rule.id: _check_value for rule in CHECK_VALUE.values()},
    "device_silent": _device_silent,
    "not_worn": lambda evidence, voice: f"{voice[2]} has not been worn {_since(evidence['from_ms'], evidence)}",
    "poor_signal": _poor_signal,
    "battery_low": lambda evidence, voice: f"{voice[2]}'s battery is at {evidence['percent']:.0f} %",
    "clock_fault": _clock_fault,
}
