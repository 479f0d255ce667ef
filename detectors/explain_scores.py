"""Sentences about NEWS2: what it came to, for how long, and of what; to the patient without the score itself."""

from __future__ import annotations

from typing import Final

from detectors.early_runs import BRIEF_S
from detectors.scores.observations import CONSCIOUSNESS, HOUR_S
from detectors.wording import NAMES, UNITS, Told, Voice, duration, reading, span

_NAMES: Final = {**NAMES, "consciousness": "consciousness", "supplemental_oxygen": "air or oxygen"}


def news2(evidence: Told, voice: Voice) -> str:
    """Return what an early warning, or its end, says, e.g.

    >>> told = {"metric": "spo2", "points": 3, "value": 91.0, "at_ms": 0, "age_s": 60}
    >>> news2({"total": 6, "known": 1, "of": 7, "threshold": 5, "from_ms": 0, "to_ms": 900_000, "spo2_scale": 1,
    ...        "parameters": [told]}, ("", "", ""))
    'NEWS2 came to at least 6 points (1 of 7 parameters known) and was 5 or more for 15 min, never lower for as long \
as 5 min (from 00:00 to 00:15): oxygen saturation 91 % (3)'
    """
    to_patient = bool(voice[1])
    lasted = duration(evidence["to_ms"] - evidence["from_ms"])
    when = span(evidence["from_ms"], evidence["to_ms"], evidence)
    if evidence.get("change") == "cleared":
        if to_patient:
            return f"your measurements together have been less unusual for {lasted} ({when})"
        return (
            f"NEWS2, with what became too old as it was last, has been below {evidence['threshold']} for {lasted} "
            f"({when}); it had been as high as {evidence['worst']}"
        )
    scoring = [one for one in evidence["parameters"] if one["points"]]
    if to_patient:
        values = ", ".join(map(_value, scoring))
        return f"several of your measurements at rest were unusual together for {lasted} ({when}): {values}"
    known, of = evidence["known"], evidence["of"]
    total = f"{'at least ' if known < of else ''}{evidence['total']} points ({known} of {of} parameters known)"
    made_of = ", ".join(f"{_value(one)}{_age(one)} ({one['points']})" for one in scoring)
    scale = ", oxygen saturation on scale 2" if evidence["spo2_scale"] == 2 else ""
    missing = [_NAMES[one["metric"]] for one in evidence["parameters"] if one["points"] is None]
    unknown = f"; not known: {', '.join(missing)}" if missing else ""
    return (
        f"NEWS2 came to {total} and was {evidence['threshold']} or more for {lasted}, never lower for as long as "
        f"{duration(BRIEF_S * 1000)} ({when}): {made_of}{scale}{unknown}"
    )


def _value(one: Told) -> str:
    if one["metric"] == "consciousness":
        return f"consciousness: {CONSCIOUSNESS[int(one['value'])]}"
    if one["metric"] == "supplemental_oxygen":
        return "on oxygen at home" if one["at_ms"] is None else f"on oxygen, {reading(one['value'])} L/min"
    return f"{_NAMES[one['metric']]} {reading(one['value'])} {UNITS[one['metric']]}"


def _age(one: Told) -> str:
    """Return how old a value is that is older than a pulse may be."""
    return f", {duration(one['age_s'] * 1000)} old" if (one["age_s"] or 0) > HOUR_S else ""
