"""Which limits there are, and which thresholds held for a patient when, from docs/detection.md and docs/changes.md.

A run may reach back over a change of its limit: as far as its readings were beyond what held then, and as far as that
was no looser than what came after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple

import psycopg

from tests.sentences.words import MINUTE

BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
FOR_ADULTS: Final = frozenset(
    {"tachycardia_at_rest", "tachycardia_extreme", "bradycardia", "respiratory_rate_high", "respiratory_rate_low",
     "systolic_high", "systolic_low"}
)  # fmt: skip


class LimitRule(NamedTuple):
    """A safety limit as docs/detection.md and its table of adult limits describe it."""

    metric: str
    above: bool
    levels: tuple[float, ...]
    inclusive: bool
    clear: float
    gap: timedelta  # a longer step is told as one between readings in a row
    at_rest: bool = False
    lasting: bool = True  # its sentence tells for how long


def _limit(metric: str, side: str, levels: Iterable[float], clear: float, gap_min: int, **other: bool) -> LimitRule:
    inclusive, at_rest = other.get("inclusive", False), other.get("at_rest", False)
    lasting = other.get("lasting", True)
    return LimitRule(metric, side == "above", tuple(levels), inclusive, clear, gap_min * MINUTE, at_rest, lasting)


LIMITS: Final = {
    "spo2_low": _limit("spo2", "below", (90, 85), 92, 15),
    "tachycardia_at_rest": _limit("heart_rate", "above", (130, 150), 120, 5, at_rest=True),
    "tachycardia_extreme": _limit("heart_rate", "above", (190,), 170, 5),
    "bradycardia": _limit("heart_rate", "below", (38, 32), 42, 5),
    "respiratory_rate_high": _limit("respiratory_rate", "above", (25, 30), 22, 15, inclusive=True, at_rest=True),
    "respiratory_rate_low": _limit("respiratory_rate", "below", (8,), 10, 15, inclusive=True),
    "fever": _limit("body_temperature", "above", (38.5, 39.5), 38, 60, inclusive=True),
    "hypothermia": _limit("body_temperature", "below", (35, 34), 35.5, 60),
    "glucose_low": _limit("glucose", "below", (70, 54), 80, 30),
    "glucose_high": _limit("glucose", "above", (250,), 220, 30),
    "systolic_high": _limit("systolic_pressure", "above", (180,), 170, 30, inclusive=True, lasting=False),
    "systolic_low": _limit("systolic_pressure", "below", (90,), 100, 30, inclusive=True, lasting=False),
    "spo2_high_on_oxygen": _limit("spo2", "above", (95, 97), 92, 15, inclusive=True),
}


class Held(NamedTuple):
    """What of a rule held from an instant on; no levels: it was off."""

    since: datetime
    levels: tuple[float, ...]
    clear: float


def held(connection: psycopg.Connection[Any], patient: int, rule: str) -> list[Held]:
    """Return the numbers of a patient's rule, in the order of time; each from its instant on."""
    changes = connection.execute(
        """SELECT kind, subject, effective_at, payload FROM patient_change
           WHERE patient_id = %s AND kind IN ('profile', 'limits') ORDER BY effective_at, id""",
        [patient],
    ).fetchall()
    marks = {BEGINNING, *(row[2] for row in changes)}
    for _, _, _, payload in changes:
        if payload.get("birth_date"):
            marks.add(_grown_up(payload["birth_date"]))
    return [_at(mark, rule, [row for row in changes if row[2] <= mark]) for mark in sorted(marks)]


def _at(mark: datetime, name: str, changes: Sequence[tuple[Any, ...]]) -> Held:
    latest = {(kind, subject): payload for kind, subject, _, payload in changes}
    profile, usual = latest.get(("profile", ""), {}), LIMITS[name]
    levels = usual.levels
    layers = [latest.get(("limits", "organisation"), {}).get("rules", {}).get(name, {}).get("levels")]
    programmes = [
        payload["rules"][name]["levels"] for (kind, subject), payload in latest.items()
        if kind == "limits" and subject.startswith("programme/") and "levels" in payload.get("rules", {}).get(name, {})
    ]  # fmt: skip
    layers.append([(min if usual.above else max)(pair) for pair in zip(*programmes, strict=True)])
    oxygen = profile.get("oxygen")
    if oxygen and name == "spo2_low":
        layers.append([oxygen["target"][0] - 2, oxygen["target"][0] - 4])
    if oxygen and name == "spo2_high_on_oxygen":
        layers.append([oxygen["target"][1] + 3, oxygen["target"][1] + 5])
    layers.append(latest.get(("limits", "patient"), {}).get("rules", {}).get(name, {}).get("levels"))
    for layer in layers:
        levels = tuple(map(float, layer)) if layer else levels
    clear = usual.clear + levels[0] - usual.levels[0]
    on_oxygen = bool(oxygen and oxygen.get("home") and oxygen["target"][1] <= 92)
    off = (name == "spo2_high_on_oxygen" and not on_oxygen) or (name in FOR_ADULTS and _young(profile, mark))
    return Held(mark, () if off else levels, clear)


def _young(profile: dict[str, Any], mark: datetime) -> bool:
    born = profile.get("birth_date")
    return mark < _grown_up(born) if born else profile.get("age_band") == "under_16"


def _grown_up(born: str) -> datetime:
    day = date.fromisoformat(born)
    return datetime.combine(day.replace(year=day.year + 16), time(), UTC)


def beyond(rule: LimitRule, when: Sequence[Held], level: int, end: datetime) -> str:
    """Return in SQL whether a reading of ``r`` belongs to a run beyond a level that ends at an instant."""
    sign = 1 if rule.above else -1
    when_held = [one for one in when if one.since <= end]
    reach: list[float | None] = [when_held[-1].levels[level]]
    for before, after in reversed(list(pairwise(when_held))):
        now = None if reach[0] is None or not after.levels else after.levels[level]
        then = before.levels[level] if before.levels else None
        if now is not None and then is not None and sign * now > sign * then:
            level = 1 if len(before.levels) > 1 and level == 0 and sign * now <= sign * before.levels[1] else -1
            then = before.levels[1] if level == 1 else None
        reach.insert(0, then if now is not None else None)
    than = (">" if rule.above else "<") + ("=" if rule.inclusive else "")
    return _case(when_held, [None if one is None else f"value {than} {one}::real" for one in reach])


def back(rule: LimitRule, when: Sequence[Held], end: datetime) -> str:
    """Return in SQL whether a reading belongs to a run back at the clear threshold that ends at an instant."""
    sign = 1 if rule.above else -1
    when_held = [one for one in when if one.since <= end]
    reach: list[float | None] = [when_held[-1].clear]
    for before, after in reversed(list(pairwise(when_held))):
        goes_on = reach[0] is not None and sign * (after.clear - before.clear) >= 0
        reach.insert(0, before.clear if goes_on else None)
    than = "<=" if rule.above else ">="
    return _case(when_held, [None if one is None else f"value {than} {one}::real" for one in reach])


def _case(when: Sequence[Held], conditions: Sequence[str | None]) -> str:
    newest_first = reversed(list(zip(when, conditions, strict=True)))
    cases = " ".join(f"WHEN t >= '{one.since.isoformat()}' THEN {said or 'false'}" for one, said in newest_first)
    return f"(CASE {cases} END)"
