"""Medicines begun, ended, raised or lowered, and what else happened to somebody: what changes what is measured.

``life_events.toml`` says what each may do, with its source. What is recorded carries its effects along, so that a later
version of the file changes nothing that was recorded, and a replay finds what was found. Never doses.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from detectors.protocol import LIMIT_METRICS
from detectors.windows import Window
from ingest.clock import to_datetime, to_ms
from services.impossible import impossible

MEDICATION: Final[Mapping[str, str]] = {
    "medication_started": "{} was started",
    "medication_stopped": "{} was stopped",
    "dose_raised": "the dose of {} was raised",
    "dose_lowered": "the dose of {} was lowered",
}
TURNED: Final = ("medication_stopped", "dose_lowered")
OTHER: Final = {"fall": "rise", "rise": "fall"}
OLDEST: Final = timedelta(days=366)  # an event that is older says nothing about today
NEWEST: Final = timedelta(days=31)  # so long ahead an operation or a journey is known
REACH: Final = timedelta(days=31)  # so far back what was found is found anew
MOST_SAID: Final = 3  # beside an alert
SHIFTS: Final = "heart_rate"  # the metric whose windows detection knows


class Said(NamedTuple):
    """An event as it is said beside an alert."""

    day: str  # ISO date
    words: str  # "a beta blocker was stopped"
    side: str | None  # which way the metric may go by it
    size: float | None  # how far, where that is known


class LifeEvent(NamedTuple):
    """One event of one person that stands."""

    from_ms: int
    to_ms: int
    day: str
    words: str
    effects: Mapping[str, Mapping[str, Any]]  # metric → side and size, either may be missing

    @property
    def window(self) -> Window | None:
        """Return the window it opens, None where it only says something."""
        effect = self.effects.get(SHIFTS, {})
        if "size" not in effect:
            return None
        fall, rise = (float(effect["size"]) * (effect["side"] == side) for side in ("fall", "rise"))
        return Window(self.from_ms, self.to_ms, 0 - fall, rise)

    def said_of(self, metric: str) -> Said:
        """Return what it says beside an alert of a metric it bears on."""
        effect = self.effects[metric]
        return Said(self.day, self.words, effect.get("side"), effect.get("size"))


@cache
def catalogue() -> dict[str, Any]:
    """Return what the file says."""
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        return tomllib.load(file)


def kinds() -> list[str]:
    """Return every kind of event."""
    return [*MEDICATION, *catalogue()["event"]]


def checked(event: str, medication: str | None, day: date, today: date) -> dict[str, Any]:
    """Return an event as it is stored and sent.

    >>> checked("medication_stopped", "beta_blocker", date(2026, 3, 3), date(2026, 3, 4))["effects"]
    {'heart_rate': {'side': 'rise', 'size': 10}}

    Raises:
        ImpossibleError: no such event or class, a class where none belongs, a day too far off.
    """
    if event not in kinds():
        raise impossible(event, "event", ", ".join(kinds()))
    classes = catalogue()["medication"]
    if event in MEDICATION and medication not in classes:
        raise impossible(medication, "medication", f"a class of medicine: {', '.join(classes)}")
    if event not in MEDICATION and medication is not None:
        raise impossible(medication, "medication", f"none with {event}; leave it out")
    if not today - OLDEST <= day <= today + NEWEST:
        allowed = f"{OLDEST.days} days before today to {NEWEST.days} after, {today - OLDEST} to {today + NEWEST}"
        raise impossible(day.isoformat(), "day", allowed)
    entry = classes[medication] if event in MEDICATION else catalogue()["event"][event]
    effects = {metric: dict(entry[metric]) for metric in LIMIT_METRICS if metric in entry}
    if event in TURNED:
        effects = {metric: effect | {"side": OTHER[effect["side"]]} for metric, effect in effects.items()}
    words = MEDICATION[event].format(entry["title"]) if event in MEDICATION else entry["title"]
    named = {"medication": medication} if medication is not None else {}
    return {
        "event": event, **named, "day": day.isoformat(), "days": entry["days"], "words": words, "effects": effects,
        "catalogue": catalogue()["version"], "withdrawn": False,
    }  # fmt: skip


def standing(payloads: Mapping[str, Mapping[str, Any]]) -> list[LifeEvent]:
    """Return the events that were not withdrawn, in an order of their own; ``payloads``: event's key → its latest."""
    found = []
    for _, one in sorted(payloads.items()):
        if not one["withdrawn"]:
            begins = date.fromisoformat(one["day"])
            ends = begins + timedelta(days=one["days"])
            found.append(LifeEvent(midnight_ms(begins), midnight_ms(ends), one["day"], one["words"], one["effects"]))
    return sorted(found, key=lambda event: (event.from_ms, event.words, event.to_ms))


def bearing_on(events: Sequence[LifeEvent], metric: str | None, at_ms: int) -> list[Said]:
    """Return what stands at an instant and bears on a metric, the oldest of the latest few first, each once."""
    begun = [one for one in events if one.from_ms <= at_ms < one.to_ms]
    said = [one.said_of(metric) for one in begun if metric is not None and metric in one.effects]
    return list(dict.fromkeys(said))[-MOST_SAID:]


def takes_effect(now: datetime, *payloads: Mapping[str, Any]) -> datetime:
    """Return from when on an event, or one that is put right, changes what was found.

    From where it begins, or began before it was put right; of longer ago than ``REACH`` only as far back as that.
    """
    begins = min(midnight_ms(date.fromisoformat(one["day"])) for one in payloads)
    return max(to_datetime(begins), now - REACH)


def midnight_ms(day: date) -> int:
    """Return where a day begins, in UTC as the profile's days do."""
    return to_ms(datetime.combine(day, time(), UTC))
