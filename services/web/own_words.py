"""What a patient reads about themself, or a proxy about somebody: short plain sentences, and unknown is never usual."""

from __future__ import annotations

from datetime import date, datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

from services.api import words
from services.web import present


class Voice(NamedTuple):
    """How the one who is looked after is spoken of."""

    you: str
    your: str
    are: str  # you are, they are


OWN: Final = Voice("you", "your", "are")
OTHER: Final = Voice("them", "their", "are")

PLAIN_NAMES: Final = {
    "spo2": "Oxygen in the blood",
    "respiratory_rate": "Breathing rate",
    "systolic_pressure": "Blood pressure, upper value",
    "diastolic_pressure": "Blood pressure, lower value",
    "hrv_rmssd": "Change between heartbeats (RMSSD)",
    "hrv_sdnn": "Change between heartbeats (SDNN)",
    "rr_interval": "Time between heartbeats",
    "sleep_stage": "Sleep",
}
WEEKS: Final = (
    ("resting_heart_rate", "first_weeks"),
    ("steps", "same_weekdays"),
    ("rest_regularity", "four_weeks_before"),
)
WITHOUT_NUMBER: Final = ("sleep_stage",)  # a code, not a measure
UNKNOWN: Final = {
    "no_data": "Not known: nothing has come in since {since}.",
    "not_worn": "Not known: the device has not been worn since {since}.",
    "poor_signal": "Not known: the signal has been too weak since {since}.",
}
STEPS: Final = {
    "unusual": "{your} last whole day was unusual for {you}. This is not a diagnosis.",
    "normal": "{your} last whole day was in the usual range for what we received.",
}
NOT_WATCHED: Final = {
    "paused": "Watching is paused. New readings are kept. Only values that may be dangerous are told to the care team.",
    "inpatient": "The care team has noted a stay in hospital. The hospital watches, not Keepwell.",
    "comfort_care": "Care is now aimed at comfort. Fewer things are watched.",
    "discharged": "Keepwell has stopped watching.",
    "deceased": "Keepwell has stopped watching.",
}


def name(metric: dict[str, Any]) -> str:
    """Return what a metric is called."""
    return PLAIN_NAMES.get(metric["key"], str(metric["title"]))


def state(entry: dict[str, Any], zone: str, now: datetime, voice: Voice) -> str:
    """Return how a metric is, as one or two sentences; what is not known is said to be, with its cause."""
    if entry["state"] == "unknown":
        since = present.local(entry["since"], zone, now)
        return UNKNOWN.get(entry["cause"] or "", UNKNOWN["no_data"]).format(since=since)
    if entry["metric"]["key"] == "steps" and entry["state"] != "learning":
        return STEPS[entry["state"]].format(your=voice.your.capitalize(), you=voice.you)
    if entry["state"] == "unusual":
        return f"Unusual for {voice.you} right now. This is not a diagnosis."
    if entry["state"] == "learning" and entry.get("too_seldom"):
        return f"At night the device measures too seldom, or is worn too short, to learn what is usual for {voice.you}."
    if entry["state"] == "learning" and entry["metric"]["key"] not in words.HAS_USUAL:
        return f"We got it. We don't compare it with what is usual for {voice.you}."
    if entry["state"] == "learning":
        return f"We are still learning what is usual for {voice.you}."
    return f"In {voice.your} usual range for what we received."


def heard(entry: dict[str, Any], now: datetime) -> str:
    """Return when the last value came, and which."""
    if entry["at"] is None or entry["value"] is None:
        return "Never heard."
    last = f"Last heard {present.ago(entry['at'], now)}"
    if entry["metric"]["key"] in WITHOUT_NUMBER:
        return f"{last}."
    return (
        f"{last}: {words.number(entry['value'], entry['metric']['decimals'])} {entry['metric']['unit_words']}".strip()
    )


def overall(metrics: list[dict[str, Any]], voice: Voice) -> str:
    """Return all of it in one sentence, which never says more than is known."""
    states = [entry["state"] for entry in metrics]
    learning = any(
        one["state"] == "learning" and one["metric"]["key"] in words.HAS_USUAL and not one.get("too_seldom")
        for one in metrics
    )
    if not states:
        return "Nothing has come in yet. Wear the device and keep it charged; the first values show up here."
    steps = any(one["state"] == "unusual" and one["metric"]["key"] == "steps" for one in metrics)
    unusual, unknown = states.count("unusual") - steps, states.count("unknown")
    parts = []
    if unusual:
        parts.append(f"{_things(unusual)} unusual for {voice.you} right now.")
    if steps:
        parts.append(f"The steps of {voice.your} last whole day were unusual for {voice.you}.")
    if unknown:
        parts.append(f"{_things(unknown)} not known right now.")
    if not parts and learning:
        return f"Keepwell is still learning what is usual for {voice.you}."
    if not parts and "normal" not in states:
        return f"Values have come in. They are not compared with what is usual for {voice.you}."
    if not parts and "learning" in states:
        return f"What we can compare is in {voice.your} usual range."
    if not parts:
        return f"What we received is in {voice.your} usual range."
    return " ".join(parts)


def _things(count: int) -> str:
    return "One thing is" if count == 1 else f"{count} things are"


def weeks(document: dict[str, Any]) -> list[str]:
    """Return the few sentences about weeks that a patient's page has room for."""
    changes = {(one["quantity"], one["kind"]): one["sentence"] for one in document["changes"]}
    gain = document["weight_gain"]
    said = [gain["sentence"]] if gain and gain["state"] in ("risen", "unconfirmed") else []
    said += [one["sentence"] for one in document["recoveries"]]
    said += [changes[which] for which in WEEKS if which in changes]
    return said + ([document["wear"]["sentence"]] if document["wear"] else [])


def by_day(items: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return accesses by day, the newest first, each day with its name; what the patient did themself is last of it."""
    days = [(day, list(rows)) for day, rows in groupby(items, key=lambda item: item["day"])]
    return [(long_day(day), sorted(rows, key=lambda item: item["role"] == "patient")) for day, rows in days]


def long_day(text: str) -> str:
    """Return a day in words: ``Sunday 22 November 2026``."""
    day = date.fromisoformat(text)
    return f"{day:%A} {day.day} {day:%B %Y}"
