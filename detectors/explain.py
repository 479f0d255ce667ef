"""One plain sentence for a finding, to the care team and to the patient.

Never a diagnosis: what was measured, for how long, and how far from what. Every number comes from the
evidence alone, as ``wording`` shows it; differences are between the numbers as shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from detectors import device_classes
from detectors.explain_own import OWN_NORMAL
from detectors.explain_scores import news2
from detectors.explain_weight import weight_gain
from detectors.limits import DEFAULT_LIMITS
from detectors.rules import CHECK_VALUE, NEWS2_HIGH, WEIGHT_GAIN
from detectors.wording import NAMES, UNITS, Told, Voice, date_of, day_of, duration, precise, reading, since, span


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
    abroad = f" (in another time zone since {day_of(zone)})" if zone is not None else ""
    return abroad + "".join(f" ({_event(one, evidence)})" for one in evidence.get("events", ()))


def _event(one: Told, evidence: Told) -> str:
    told = f"{one['words']} on {date_of(datetime.fromisoformat(one['day']))}"
    size = f" of up to {reading(one['size'])} {UNITS[evidence['metric']]}" if one["size"] is not None else ""
    if one["side"] is None:
        return told
    return f"{told}: a {one['side']}{size} can come from it{_stated(one.get('by'))}"


def _stated(by: str | None) -> str:
    """Return whose word a size is, where no source gives it, e.g.

    >>> _stated("nurse"), _stated(None)
    (', as stated by a nurse', '')
    """
    if by is None:
        return ""
    return ", as stated at the command line" if by == "command_line" else f", as stated by a {by}"


def _limit(evidence: Told, voice: Voice) -> str:
    metric, above = evidence["metric"], evidence["side"] == "above"
    name, unit = voice[1] + NAMES[metric], UNITS[metric]
    worst, threshold = reading(evidence["worst"]), reading(evidence["threshold"])
    if evidence.get("change") == "cleared":
        clear = f"{reading(evidence['clear'])} {unit} or {'less' if above else 'more'}"
        lasted = evidence["to_ms"] > evidence["clear_from_ms"]
        within = _within(evidence, evidence["clear_from_ms"], evidence["clear_n"], lasting=lasted)
        return f"{name} has been {clear}{within}; it had been as {'high' if above else 'low'} as {worst} {unit}"
    bound = f"{'above' if above else 'below'} {threshold} {unit}"
    if evidence["inclusive"]:
        bound = f"at {threshold} {unit} or {'more' if above else 'less'}"
    rest = " at rest" if evidence.get("at_rest_only") else ""
    moved, kept = "rose" if above else "fell", "was" if evidence.get("seldom") else "stayed"
    within = _within(evidence, evidence["from_ms"], evidence["n"], lasting=bool(evidence["persist_s"]))
    return f"{name} {moved} to {worst} {unit} and {kept} {bound}{rest}{within}{_doubt(evidence, voice)}"


def _within(evidence: Told, from_ms: int, n: int, *, lasting: bool) -> str:
    """Return for how long, over how many readings; where nobody knows what was between them, that they are a row.

    >>> _within({"to_ms": 21_600_000, "seldom": True}, 0, 2, lasting=True)
    ' in 2 readings in a row, 6 h apart (from 00:00 to 06:00)'
    >>> _within({"to_ms": 21_600_000, "seldom": True}, 0, 3, lasting=True)
    ' in 3 readings in a row over 6 h (from 00:00 to 06:00)'
    """
    when, lasted = span(from_ms, evidence["to_ms"], evidence), duration(evidence["to_ms"] - from_ms)
    if evidence.get("seldom"):
        return f" in {n} readings in a row{f', {lasted} apart' if n == 2 else f' over {lasted}'} ({when})"
    return f"{f' for {lasted}' if lasting else ''} ({_readings(n)} {when})"


def _doubt(evidence: Told, voice: Voice) -> str:
    """Return that a finding is within what its devices may be off by, to the care team, where it is, e.g.

    >>> watch = device_classes.told("watch-7", "wrist_optical", "heart_rate", "reading")
    >>> mild = {"metric": "heart_rate", "worst": 138.0, "threshold": 130.0, "step": 0, "devices": [watch]}
    >>> _doubt(mild, ("this person's", "", "the device"))
    '; no further beyond than a wrist sensor may be off by (15 /min)'

    Nothing is said so of the worse level: beyond the milder one it is in any case.
    """
    if voice[0] == "your" or evidence.get("step", 0) > 0:
        return ""
    apart = round(abs(float(reading(evidence["worst"])) - float(reading(evidence["threshold"]))), 1)
    found = device_classes.within(evidence.get("devices", ()), evidence["worst"], apart)
    if found is None:
        return ""
    device_class, off = found
    unit = UNITS[evidence["metric"]]
    return f"; no further beyond than {device_classes.with_article(device_class)} may be off by ({reading(off)} {unit})"


def _readings(n: int) -> str:
    return f"{n} reading" if n == 1 else f"{n} readings"


def _device_silent(evidence: Told, voice: Voice) -> str:
    limit = duration(int(evidence["limit_s"]) * 1000)
    last = since(evidence["last_ms"], evidence)
    return f"nothing has been received from {evidence['device']} {last}, longer than the {limit} allowed"


def _poor_signal(evidence: Told, voice: Voice) -> str:
    when = since(evidence["from_ms"], evidence)
    if "to_ms" in evidence:
        when = span(evidence["from_ms"], evidence["to_ms"], evidence)
    percent = f"{100 * evidence['share']:.0f} %"
    return f"{percent} of {voice[1]}{NAMES[evidence['metric']]} readings {when} could not be trusted"


def _clock_fault(evidence: Told, voice: Voice) -> str:
    skew = int(evidence["skew_s"])
    return f"{voice[2]}'s clock is {duration(abs(skew) * 1000)} {'ahead' if skew > 0 else 'behind'}"


_UNIT_NAMES: Final[Mapping[str, str]] = {"Cel": "°C", "[degF]": "°F", "mm[Hg]": "mmHg", "1": "a fraction"}


def _check_value(evidence: Told, voice: Voice) -> str:
    metric = evidence["metric"]
    name, unit = voice[1] + NAMES[metric], UNITS[metric]
    device, when = evidence["device"], since(evidence["at_ms"], evidence).removeprefix("since ")
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


_SENTENCES: Final[Mapping[str, Callable[[Told, Voice], str]]] = {
    **{limit.rule: _limit for limit in DEFAULT_LIMITS},
    NEWS2_HIGH.id: news2,
    WEIGHT_GAIN.id: weight_gain,
    **OWN_NORMAL,
    **{rule.id: _check_value for rule in CHECK_VALUE.values()},
    "device_silent": _device_silent,
    "not_worn": lambda evidence, voice: f"{voice[2]} has not been worn {since(evidence['from_ms'], evidence)}",
    "poor_signal": _poor_signal,
    "battery_low": lambda evidence, voice: f"{voice[2]}'s battery is at {evidence['percent']:.0f} %",
    "clock_fault": _clock_fault,
}
