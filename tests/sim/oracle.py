"""What must come of the accepted frames, worked out by plain loops that share no code with the system.

Readings are (device, metric number, instant in ms, value as float32 gives it back); the limits are written down here
from `docs/detection.md`, for the few metrics the simulated devices measure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.sim.stories import MINUTE, Row, Sent

METRIC_IDS: Final = {"heart_rate": 1, "steps": 3, "spo2": 4, "body_temperature": 6, "battery": 16}
HARD: Final = {"heart_rate": (20.0, 300.0), "spo2": (30.0, 100.0)}  # outside: impossible, never a reading
REST_WINDOW_MS, REST_STEPS = 10 * MINUTE, 50


class Rule(NamedTuple):
    """A safety limit: beyond a level for so long, over at least two readings.

    Towards the medium level a step longer than ``gap_ms`` counts as that long; towards the end the first of them does
    not count at all. One longer than ``LONGEST_MS`` begins anew.
    """

    metric: str
    sign: int  # +1 above, -1 below
    inclusive: bool
    levels: tuple[tuple[float, str], ...]
    clear: float
    persist_ms: int
    clear_ms: int
    gap_ms: int
    rest_only: bool = False


LONGEST_MS: Final = 36 * 60 * MINUTE
RULES: Final = {
    "spo2_low": Rule("spo2", -1, False, ((90, "medium"), (85, "high")), 92, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE),
    "tachycardia_at_rest": Rule(
        "heart_rate", 1, False, ((130, "medium"), (150, "high")), 120, 10 * MINUTE, 10 * MINUTE, 5 * MINUTE, True
    ),
    "fever": Rule(
        "body_temperature", 1, True, ((38.5, "medium"), (39.5, "high")), 38.0, 10 * MINUTE, 30 * MINUTE, 60 * MINUTE
    ),
}


@dataclass(frozen=True)
class Expected:
    """One episode: what must be found in the readings."""

    rule: str
    start_ms: int
    found_ms: int
    priority: str
    resolved_ms: int | None


def episodes(readings: Iterable[Row]) -> list[Expected]:
    """Return the episodes of one patient's readings, in any order, by rule and start."""
    by_metric: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for metric, t_ms, value in readings:
        by_metric[metric].append((t_ms, value))
    steps = sorted(by_metric.get("steps", []))
    found = []
    for name, rule in RULES.items():
        points = [(t, v, _at_rest(steps, t)) for t, v in sorted(by_metric.get(rule.metric, []))]
        found += _walk(name, rule, points)
    return sorted(found, key=lambda one: (one.rule, one.start_ms))


def _at_rest(steps: list[tuple[int, float]], t_ms: int) -> bool:
    return sum(count for t, count in steps if t_ms - REST_WINDOW_MS <= t <= t_ms) < REST_STEPS


def _walk(name: str, rule: Rule, points: list[tuple[int, float, bool]]) -> list[Expected]:
    """Look at each reading with everything before it, as a person with the table in hand would."""

    def beyond(point: tuple[int, float, bool], level: int) -> bool:
        past = rule.sign * (point[1] - rule.levels[level][0])
        return (past > 0 or (rule.inclusive and past == 0)) and (point[2] or not rule.rest_only)

    def run_from(last: int, floor: int, level: int | None) -> int:
        """Return where the run that ends at ``last`` began; level None: the run back below the clear threshold."""
        first = last
        while first > floor:
            before = points[first - 1]
            holds = rule.sign * (before[1] - rule.clear) <= 0 if level is None else beyond(before, level)
            if not holds or points[first][0] - before[0] > LONGEST_MS:
                break
            first -= 1
        return first

    def steps(first: int, last: int) -> list[int]:
        return [points[i][0] - points[i - 1][0] for i in range(first + 1, last + 1)]

    found: list[Expected] = []
    open_: Expected | None = None
    level, floor = -1, 0
    for i, point in enumerate(points):
        for target in range(len(rule.levels) - 1, level, -1):
            first = run_from(i, floor, target)
            most = LONGEST_MS if rule.levels[target][1] == "high" else max(rule.gap_ms, rule.persist_ms // 2)
            if beyond(point, target) and i > first and sum(min(s, most) for s in steps(first, i)) >= rule.persist_ms:
                start = points[run_from(i, floor, 0)][0] if open_ is None else open_.start_ms
                at = point[0] if open_ is None else open_.found_ms
                open_ = Expected(name, start, at, rule.levels[target][1], None)
                level = target
                break
        if open_ is not None and rule.sign * (point[1] - rule.clear) <= 0:
            first = run_from(i, floor, None)
            gap = next((step for step in steps(first, i) if step > rule.gap_ms), 0)
            if i > first and point[0] - points[first][0] - gap >= rule.clear_ms:
                found.append(Expected(name, open_.start_ms, open_.found_ms, open_.priority, point[0]))
                open_, level, floor = None, -1, i + 1
    return found + ([open_] if open_ is not None else [])


def possible(row: Row) -> bool:
    """Tell whether a value can be a reading at all."""
    low, high = HARD.get(row[0], (-1e9, 1e9))
    return low <= row[2] <= high


def readings_of(frames: Iterable[Sent]) -> set[Row]:
    """Return the distinct readings of frames."""
    return {row for frame in frames for row in frame.rows}
