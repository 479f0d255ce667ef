"""What weeks of a patient's days come to: statements made on read; nothing is stored, and nothing alerts.

A night counts to the day it ends on; steps, weight, regularity and wear go by the patient's calendar days that are
over. What consent or a grant does not open is left out and named, never said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from detectors import trends
from detectors.baseline import NIGHT_BREATH, NIGHT_HEART, PAIRS
from detectors.courses import recovery
from detectors.day_shape import DAY_SHAPE
from detectors.robust import CONFIDENCE
from detectors.rules import NIGHT_BREATH_RISE, RESTING_HEART, WHY_OFF
from detectors.trends import SPAN, Change, Daily
from detectors.wear import wear
from detectors.weights import gain
from ingest.clock import to_ms
from services import profile
from services.api import individual, patients, withheld
from services.api.patients import Patient
from services.api.query import every
from services.api.scope import Scope
from services.api.times import rfc3339, zone
from services.api.weeks import days as stored
from services.api.weeks import shapes, statements
from services.api.weeks.days import Days
from services.api.weeks.quantities import QUANTITIES, day_of, iso

NIGHT_OVER: Final = timedelta(hours=14)  # a day of nights ends at 10:00 and carries the date on which it does
LOOKED_BACK: Final = timedelta(days=2 * SPAN)  # an episode that began earlier is no longer followed
FOLLOWED: Final = {
    RESTING_HEART.id: ("resting_heart_rate", NIGHT_HEART),
    NIGHT_BREATH_RISE.id: ("respiratory_rate", NIGHT_BREATH),
}
VITALS: Final = frozenset({"vitals"})
NEEDS: Final[Mapping[str, frozenset[str]]] = {
    key: VITALS | {"activity"} for key in ("steps", "rest_regularity")
}  # the heart rate tells whether it was worn
GAIN_OFF: Final = {
    "quantity": "weight", "title": "Fast gain of weight", "reason": WHY_OFF["dialysis"],
}  # fmt: skip
SHAPE_OFF: Final = {"quantity": "day_shape", "title": "Course of the day"}
CALENDAR: Final = ("weight", "steps", "rest_regularity", "wear")


async def document(scope: Scope, patient: Patient, now: datetime) -> dict[str, Any]:
    """Return every statement about a patient's weeks, as far as the scope's person may see what it is made of."""
    here = now.astimezone(zone(patient.time_zone))
    today, night = day_of(here), day_of(here + NIGHT_OVER) - 1  # the last that is over
    lasts = {key: today - 1 if key in CALENDAR else night for key in QUANTITIES}
    shut = await _shut(scope, patient)
    days = await stored.read(scope.connection, patient, here, today)
    who = (await individual.read(scope.connection, patient.id, now)).profile
    off, conditions = _off(who, now), profile.conditions(who, to_ms(now))
    shapeless = "; ".join(WHY_OFF[c] for c in DAY_SHAPE.not_for if c in conditions)
    closed = shapeless or VITALS & shut or scope.plain  # for the team alone
    novelty = None if closed else await shapes.read(scope.connection, patient, here, night)
    shown = {key: daily for key, daily in days.of.items() if key not in off and not NEEDS.get(key, VITALS) & shut}
    whole = {
        "patient": patient.brief(),
        "time_zone": patient.time_zone,
        "to": iso(night),
        "calendar_to": iso(today - 1),
        "confidence": CONFIDENCE,
        "changes": [
            statements.change(key, said, plain=scope.plain)
            for key, daily in shown.items()
            for said in _changes(key, daily, lasts[key])
        ],
        "recoveries": await _recoveries(scope, patient, shown, here) if scope.sees("alert") else [],
        "wear": _wear(shown, days, lasts["wear"], plain=scope.plain),
        "weight_gain": None if who and who.dialysis else _gain(shown, days, today, plain=scope.plain),
        "day_shape": None if novelty is None else statements.day_shape(novelty),
        "off": [
            *({"quantity": key, "title": QUANTITIES[key].title, "reason": why} for key, why in off.items()),
            *([GAIN_OFF] if who and who.dialysis else []),
            *([SHAPE_OFF | {"reason": shapeless}] if shapeless else []),
        ],
        "not_shown": sorted(shut),
    }
    return scope.show("weeks", whole)


async def _shut(scope: Scope, patient: Patient) -> frozenset[str]:
    """Return the classes of data behind these statements that are not open to the scope's person."""
    behind = VITALS | {"activity"}
    if "readings" not in await patients.opened(scope, patient):
        return behind
    return behind & set(await withheld.classes(scope, patient.id))


def _off(one: profile.Profile | None, now: datetime) -> dict[str, str]:
    """Return the quantities that say nothing of a patient with this profile, each with why."""
    who = profile.conditions(one, to_ms(now))
    reasons = {key: [WHY_OFF[c] for c in quantity.not_for if c in who] for key, quantity in QUANTITIES.items()}
    return {key: "; ".join(found) for key, found in reasons.items() if found}


def _changes(key: str, daily: Daily, last: int) -> list[Change]:
    asked = [trends.against_first_weeks, trends.against_four_weeks_before, trends.over_eight_weeks]
    return [compare(daily, last) for compare in asked + [trends.against_weekdays] * (key == "steps")]


def _wear(shown: Mapping[str, Daily], days: Days, last: int, *, plain: bool) -> dict[str, Any] | None:
    if "wear" not in shown:
        return None
    return statements.wear(wear(shown["wear"], days.expected, last), heard=days.heard, plain=plain)


def _gain(shown: Mapping[str, Daily], days: Days, today: int, *, plain: bool) -> dict[str, Any] | None:
    """Return whether the weight has risen fast, today's first weighing included: it is over when it has come."""
    return statements.gain(gain(days.weighings, today), plain=plain) if len(shown.get("weight", ())) else None


async def _recoveries(
    scope: Scope, patient: Patient, shown: Mapping[str, Daily], here: datetime
) -> list[dict[str, Any]]:
    """Return what became of the latest episode of each rule on nights that are shown."""
    followed = {rule: which for rule, which in FOLLOWED.items() if which[0] in shown}
    rows = await every(
        scope.connection,
        """SELECT DISTINCT ON (rule) id, rule, started_at, resolved_at FROM alert
           WHERE patient_id = %s AND rule = ANY(%s) AND state <> 'withdrawn' AND revised_by IS NULL AND started_at > %s
           ORDER BY rule, started_at DESC""",
        [patient.id, list(followed), here - LOOKED_BACK],
    )
    made = []
    for row in rows:
        key, pair = followed[row["rule"]]
        start = _night(row["started_at"], here)
        end = None if row["resolved_at"] is None else _night(row["resolved_at"], here)
        said = recovery(shown[key], start, end, day_of(here), PAIRS[pair].floor)
        link = {"alert": f"/v1/alerts/{row['id']}", "started_at": rfc3339(row["started_at"])}
        made.append(statements.recovery(key, said, start, plain=scope.plain) | link)
    return made


def _night(at: datetime, here: datetime) -> int:
    """Return the day of nights an instant belongs to; its last one still does."""
    return day_of(at.astimezone(here.tzinfo) + NIGHT_OVER - timedelta(milliseconds=1))
