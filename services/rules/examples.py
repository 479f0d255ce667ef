"""The worked examples of a rules file: a few readings of somebody, and all that is to be found in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from detectors.protocol import LIMIT_METRICS
from detectors.rules import ADAPTIVE, WEIGHT_GAIN
from detectors.rules import RULES as ALL
from ingest.catalogue import catalogue
from services import adaptive, profile
from services.impossible import ImpossibleError
from services.limits import LIMITS
from services.rules.form import CLEARED, Example, Expected, Reading
from services.rules.trouble import Check, Place, nearest

KEYS: Final = ("name", "profile", "readings", "expect")
TIMES: Final = ("at", "until", "every")
FOUND: Final = ("rule", "at", "level")
NOTHING: Final = "nothing"
BEGINS: Final = datetime(2026, 1, 1, tzinfo=UTC)  # of every example: what a profile dates is dated by it
METRICS: Final = tuple(metric for metric in LIMIT_METRICS if metric != WEIGHT_GAIN.metric)  # that a limit may look at
MAX_READINGS: Final = 10_000  # of one example
_UNIT_S: Final = {"s": 1, "min": 60, "h": 3600}
TIME: Final = rf"\d+(\.\d+)? ?({'|'.join(_UNIT_S)})( \d+(\.\d+)? ?({'|'.join(_UNIT_S)}))*"
UNTESTED: Final = "leave it out: examples test limits only; see on the past what it finds (`keepwell rules dry-run`)"
SAME: Final = "leave it out: its limit is the same for everybody, and examples test those that a file can set"
_WRITE: Final = "write it as the examples in docs/rules.md do"


def seconds(said: object) -> float | None:
    """Return how many seconds a time since the beginning says, None where it is none.

    >>> seconds("5 min"), seconds("1 h 30 min"), seconds("90s"), seconds(5)
    (300.0, 5400.0, 90.0, None)
    """
    if not isinstance(said, str) or not re.fullmatch(TIME, said):
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in re.findall(r"([\d.]+) ?([a-z]+)", said))


def examples_of(check: Check) -> tuple[Example, ...]:
    """Return a file's examples; what is wrong in them is left with ``check``."""
    said = check.document.said.get("examples", [])
    if not isinstance(said, list):
        check.refuse(("examples",), said, "a list of examples", _WRITE)
        return ()
    return tuple(_example(check, i, one) for i, one in enumerate(said))


def _example(check: Check, number: int, said: Any) -> Example:
    place: Place = ("examples", number)
    if not isinstance(said, dict):
        check.refuse(place, said, f"a map with the keys {', '.join(KEYS)}", _WRITE)
        said = {"readings": [], "expect": NOTHING}
    check.keys(place, said, KEYS)
    name = said.get("name", f"example {number + 1}")
    if not isinstance(name, str):
        check.refuse((*place, "name"), name, "what the example shows, in words", _WRITE)
        name = ""
    who = _profile(check, (*place, "profile"), said.get("profile", {}))
    readings = tuple(_readings(check, (*place, "readings"), said.get("readings")))
    expect = tuple(_expect(check, (*place, "expect"), said.get("expect")))
    return Example(name, who, readings, expect, check.document.line(place))


def _profile(check: Check, place: Place, said: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        check.refuse(place, said, "a map as in docs/profile.md", "leave it out for somebody without a profile")
        return {}
    try:
        return profile.plain(profile.checked(said, BEGINS.date()))
    except ImpossibleError as error:
        where = tuple(word for word in error.field.split(".") if word != "profile")
        check.refuse((*place, *where), error.value, error.allowed, "see docs/profile.md for what a profile says")
        return {}


def _readings(check: Check, place: Place, said: Any) -> Iterable[Reading]:
    if not isinstance(said, list):
        check.refuse(place, said, "a list of readings, e.g. [{at: 0 min, spo2: 91}]", _WRITE)
        return
    left = MAX_READINGS
    for i, row in enumerate(said):
        rows = [] if not isinstance(row, dict) else _times(check, (*place, i), row)
        metrics = [] if not isinstance(row, dict) else [key for key in row if key not in TIMES]
        if not metrics:
            check.refuse((*place, i), row, "a time and at least one metric, e.g. {at: 0 min, spo2: 91}", _WRITE)
        left -= len(rows) * len(metrics)
        if left < 0:
            check.refuse(
                (*place, i), ..., f"at most {MAX_READINGS:,} readings in an example", "make the series shorter"
            )
            return
        good = [metric for metric in metrics if _is_metric(check, (*place, i, metric), metric, row[metric])]
        yield from (Reading(at_s, metric, float(row[metric])) for at_s in rows for metric in good)


def _times(check: Check, place: Place, row: dict[str, Any]) -> Sequence[float]:
    """Return the instants of a row: one, or several ``every`` so long ``until`` one that is included."""
    at = _time(check, place, row, "at")
    if at is None or not ("until" in row or "every" in row):
        return [] if at is None else [at]
    until, every = _time(check, place, row, "until"), _time(check, place, row, "every")
    if until is None or every is None:
        return []
    if every <= 0 or until < at or (until - at) / every >= MAX_READINGS:
        allowed = (
            f"a step above 0 s, and an end that is not before the beginning, for {MAX_READINGS:,} readings at most"
        )
        check.refuse((*place, "until"), row["until"], allowed, _WRITE)
        return []
    return [at + n * every for n in range(int((until - at) / every) + 1)]


def _time(check: Check, place: Place, row: dict[str, Any], key: str) -> float | None:
    found = seconds(row.get(key))
    if found is None:
        allowed = "a time since the example begins, with its unit (s, min or h), e.g. 5 min"
        check.refuse((*place, key), row.get(key), allowed, f"write {key} so")
    return found


def _is_metric(check: Check, place: Place, metric: str, value: object) -> bool:
    if metric not in METRICS:
        next_step = SAME if metric == WEIGHT_GAIN.metric else nearest(metric, METRICS)
        check.refuse(place, ..., ", ".join((*TIMES, *METRICS)), next_step)
        return False
    (low, high), unit = catalogue()[metric].hard, catalogue()[metric].unit
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
        check.refuse(place, value, f"{low:g} to {high:g} {unit}", "write a value that a device could have sent")
        return False
    return True


def _expect(check: Check, place: Place, said: Any) -> Iterable[tuple[float, Expected]]:
    if said == NOTHING:
        return
    if not isinstance(said, list) or not said:
        allowed = f"{NOTHING}, or a list of what is found, e.g. [{{rule: spo2_low, at: 5 min, level: medium}}]"
        check.refuse(place, said, allowed, "write everything that is found, in order")
        return
    for i, one in enumerate(said):
        if not isinstance(one, dict):
            check.refuse((*place, i), one, f"a map with the keys {', '.join(FOUND)}", _WRITE)
            continue
        check.keys((*place, i), one, FOUND)
        at, known = _time(check, (*place, i), one, "at"), _is_known(check, (*place, i), one)
        if at is not None and known:
            yield at, Expected(one["rule"], one["at"], one["level"])


def _is_known(check: Check, place: Place, one: dict[str, Any]) -> bool:
    rule, level = one.get("rule"), one.get("level")
    if not isinstance(rule, str) or rule not in LIMITS:
        next_step = UNTESTED if rule in (*adaptive.RULES, *ADAPTIVE) else nearest(str(rule), LIMITS)
        next_step = SAME if rule in ALL and rule not in ADAPTIVE else next_step
        check.refuse((*place, "rule"), rule, ", ".join(LIMITS), next_step)
        return False
    levels = [*(priority for _, priority in LIMITS[rule].levels), CLEARED]
    if level not in levels:
        check.refuse((*place, "level"), level, f"{', '.join(levels)} for {rule}", "write the priority it is found with")
        return False
    return True
