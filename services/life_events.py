"""Medicines begun, ended, raised or lowered, and what else happened to somebody: what changes what is measured.

``life_events.toml`` says what each may do, with its source; where no source gives a size, whoever writes it down may
state one. What is recorded carries its effects along, so that a later version of the file changes nothing that was
recorded, and a replay finds what was found. Never doses.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from detectors.protocol import DAY_MS, LIMIT_METRICS
from detectors.windows import Window
from ingest.clock import to_datetime, to_ms
from services import expectations
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


class Said(NamedTuple):
    """An event as it is said beside an alert."""

    day: str  # ISO date
    words: str  # "a beta blocker was stopped"
    side: str | None  # which way the metric may go by it
    size: float | None  # how far at that time, where that is known
    by: str | None = None  # the role of whoever stated it; None: the catalogue says it

    def evidence(self) -> dict[str, Any]:
        """Return it as an alert's evidence holds it."""
        return {name: value for name, value in self._asdict().items() if name != "by" or value is not None}


class LifeEvent(NamedTuple):
    """One event of one person that stands."""

    from_ms: int
    to_ms: int
    day: str
    words: str
    effects: Mapping[str, expectations.Effect]  # by metric

    @property
    def windows(self) -> list[Window]:
        """Return the windows it opens, none where it only says something."""
        return [*expectations.windows(self.effects.get(expectations.SHIFTED_METRIC, {}), self.from_ms, self.to_ms)]

    def said_of(self, metric: str, at_ms: int) -> Said:
        """Return what it says at an instant beside an alert of a metric it bears on."""
        effect = self.effects[metric]
        size = expectations.size_on(effect, (at_ms - self.from_ms) // DAY_MS)
        if "size" in effect and size is None:  # what was stated is over, the event is not
            return Said(self.day, self.words, None, None)
        return Said(self.day, self.words, effect.get("side"), size, effect.get("by"))


@cache
def catalogue() -> dict[str, Any]:
    """Return what the file says."""
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        return tomllib.load(file)


def kinds() -> list[str]:
    """Return every kind of event."""
    return [*MEDICATION, *catalogue()["event"]]


def of_which() -> str:
    """Return of what somebody may state a size of the heart rate, in words: of what has none."""
    every = (*catalogue()["event"].values(), *catalogue()["medication"].values())
    bear = [one for one in every if expectations.SHIFTED_METRIC in one and "must_be_told" not in one]
    return ", ".join(one["title"] for one in bear if "size" not in one[expectations.SHIFTED_METRIC])


def checked(
    event: str, medication: str | None, day: date, today: date, expects: object = None, role: str = ""
) -> dict[str, Any]:
    """Return an event as it is stored and sent; ``expects`` is what somebody in a ``role`` states of it, if anything.

    >>> checked("medication_stopped", "beta_blocker", date(2026, 3, 3), date(2026, 3, 4))["effects"]
    {'heart_rate': {'side': 'rise', 'size': 10}}

    Raises:
        ImpossibleError: no such event or class, a class where none belongs, a day too far off, what can't be stated.
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
    if expects is not None:
        why_not = f"{entry['must_be_told']}; it can be stated of {of_which()}" if "must_be_told" in entry else ""
        effects = expectations.stated(expects, effects, entry["days"], role, why_not)
    words = MEDICATION[event].format(entry["title"]) if event in MEDICATION else entry["title"]
    named = {"medication": medication} if medication is not None else {}
    ends = {"ends": entry["ends"]} if "ends" in entry else {}
    return {
        "event": event, **named, **ends, "day": day.isoformat(), "days": entry["days"], "words": words,
        "effects": effects, "catalogue": catalogue()["version"], "withdrawn": False,
    }  # fmt: skip


def standing(payloads: Mapping[str, Mapping[str, Any]]) -> list[LifeEvent]:
    """Return the events that were not withdrawn, in an order of their own; ``payloads``: event's key → its latest."""
    found, told = [], [one for _, one in sorted(payloads.items()) if not one["withdrawn"]]
    for one in told:
        begins, ends = date.fromisoformat(one["day"]), after(one, told)
        found.append(LifeEvent(midnight_ms(begins), midnight_ms(ends), one["day"], one["words"], one["effects"]))
    return sorted(found, key=lambda event: (event.from_ms, event.words, event.to_ms))


def after(one: Mapping[str, Any], told: Iterable[Mapping[str, Any]]) -> date:
    """Return the first day on which an event stands no more; of those ``told`` another may end it sooner.

    >>> began = checked("pregnancy_began", None, date(2026, 3, 3), date(2026, 3, 3))
    >>> ended = checked("pregnancy_ended", None, date(2026, 11, 20), date(2026, 11, 20))
    >>> after(began, []), after(began, [ended, began])
    (datetime.date(2026, 12, 29), datetime.date(2026, 11, 20))
    """
    begins = date.fromisoformat(one["day"])
    ends = [date.fromisoformat(other["day"]) for other in told if other.get("ends") == one["event"]]
    return min([begins + timedelta(days=one["days"]), *(day for day in ends if day >= begins)])


def bearing_on(events: Sequence[LifeEvent], metric: str | None, at_ms: int) -> list[Said]:
    """Return what stands at an instant and bears on a metric, the oldest of the latest few first, each once."""
    begun = [one for one in events if one.from_ms <= at_ms < one.to_ms]
    said = [one.said_of(metric, at_ms) for one in begun if metric is not None and metric in one.effects]
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
