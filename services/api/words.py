"""Codes in plain words, the same on every screen. Unknown is never worded as normal."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from detectors.baseline import PAIRS
from detectors.rules import RULES
from ingest.catalogue import by_id, catalogue
from services.api.times import age

PRIORITIES: Final = ("high", "medium", "low")
STATES: Final = ("unknown", "unusual", "learning", "normal")  # the worst first
STATE_WORDS: Final = {
    "unknown": "unknown",
    "unusual": "unusual",
    "learning": "learning",
    "normal": "in usual range",
}
RECEIVED: Final = "received"  # nothing is known of what is usual, and not for want of days
STEPS_WORDS: Final = {
    "unusual": "last whole day unusual",
    "learning": RECEIVED,
    "normal": "last whole day in usual range",
}
HAS_USUAL: Final = frozenset(pair.metric for pair in PAIRS)
"""The metrics whose hours are compared with the person's own usual."""
NOT_JUDGED: Final = {"resting_heart_rate": "the device's own figure: a trend, not judged"}
CAUSE_WORDS: Final = {"no_data": "no data", "not_worn": "not worn", "poor_signal": "poor signal"}
CONTEXT_WORDS: Final = {"asleep": "asleep", "rest": "at rest", "active": "active", "any": "any time"}
UNIT_WORDS: Final = {
    "/min": "/min",
    "Cel": "°C",
    "mm[Hg]": "mmHg",
    "{steps}": "steps",
    "{stage}": "",
    "{acvpu}": "",
    "{worn}": "",
    "1": "",
}
NOT_INDIVIDUALISED: Final = (
    "Limits not individualised: general adult limits apply until a clinician sets this person's own."
)
NOT_INDIVIDUALISED_PLAIN: Final = "The general limits for adults hold: none were set for you."


def rule_title(rule: str) -> str:
    """Return a rule's name for people."""
    known = RULES.get(rule)
    return known.title if known else rule.replace("_", " ").capitalize()


def unit(ucum: str) -> str:
    """Return a UCUM unit as people write it."""
    return UNIT_WORDS.get(ucum, ucum)


def metric(metric_id: int) -> dict[str, Any]:
    """Return what a client needs to know of a metric to show its values."""
    entry = by_id()[metric_id]
    return {
        "key": entry.key,
        "title": entry.title,
        "unit": entry.unit,
        "unit_words": unit(entry.unit),
        "decimals": entry.decimals,
    }


def unit_of(key: str) -> str:
    """Return the unit of a metric's key, as people write it."""
    return unit(catalogue()[key].unit)


def metric_id(key: object) -> int | None:
    """Return the number of a vital sign's key, None when it is not one."""
    entry = catalogue().get(str(key))
    return entry.id if entry is not None and entry.kind == "vital" else None


def number(value: float | None, decimals: int) -> str:
    """Return a value with its metric's decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.{decimals}f}"


def state_words(state: str, key: str | None, cause: str | None = None) -> str:
    """Return a metric's data state in a word or two; steps are judged by whole days, some metrics not at all."""
    if state == "unknown":
        return f"unknown: {CAUSE_WORDS.get(cause or '', 'no data')}"
    if key == "steps":
        return STEPS_WORDS[state]
    return RECEIVED if state == "learning" and key and key not in HAS_USUAL else STATE_WORDS[state]


def beside_state(entry: dict[str, Any]) -> str:
    """Return what else is to be said of a metric's data state: that it is not judged, or measured too seldom."""
    too_seldom = entry.get("too_seldom")
    if too_seldom:
        return (
            "measured too seldom, or worn too short, for a night: "
            f"needs {too_seldom['needs_minutes']} minutes, had {too_seldom['readings']} readings"
        )
    return NOT_JUDGED.get(entry["metric"]["key"], "")


def no_alert(
    state: str | None, cause: str | None, title: str, since: datetime | None, now: datetime, known: int = 0,
    key: str | None = None,
) -> str:  # fmt: skip
    """Return the sentence of a patient without an open alert, from the worst metric's data state.

    ``known`` is how many other metrics are not unknown, ``key`` the worst one's.
    """
    if state is None or since is None:
        return "Nothing received yet"
    long = age(since, now)
    ago = long if long == "just now" else f"for {long}"
    if state == "unknown":
        others = f"; {known} other metric{'s' if known > 1 else ''} known" if known else ""
        return f"{title} unknown {ago}: {CAUSE_WORDS.get(cause or '', 'no data')}{others}"
    if state == "unusual" and key == "steps":
        return "Steps of the last whole day unusual for this person; no alert"
    if state == "unusual":
        return f"{title} unusual for this person {ago}; no alert"
    if state == "learning" and key and key not in HAS_USUAL:
        return f"{title} received, not compared with this person's own usual"
    if state == "learning":
        return "Learning what is usual for this person"
    return "In the usual range for what was received"
