"""Safety limits against a plain loop written from the documentation, and cut anywhere."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.adult_limits import Limit
from detectors.limit_sets import LimitSet, Standing
from detectors.limits import Limits
from detectors.protocol import LIMIT_METRICS, Bools, Finding, Priority, Readings

SPO2, HEART = LIMIT_METRICS.index("spo2"), LIMIT_METRICS.index("heart_rate")
LIMITS = (
    Limit("low", "L", "spo2", "below", ((90, "medium"), (85, "high")), 92, 120, 120, 60, 200),
    Limit("deep", "D", "spo2", "below", ((80, "high"),), 88, 60, 60, 40, 100, inclusive=True, min_readings=3),
    Limit("fast", "F", "heart_rate", "above", ((130, "low"), (150, "high")), 120, 200, 180, 60, 120,
          at_rest_only=True),
    Limit("cut", "C", "spo2", "below", ((90, "medium"), (85, "high")), 92, 120, 120, 100, 100),
    Limit("cuff", "B", "spo2", "below", ((90, "medium"),), 92, 0, 0, 30, 200),
)  # fmt: skip

one = st.tuples(
    st.integers(0, 2),
    st.sampled_from([SPO2, HEART]),
    st.sampled_from([1, 30, 60, 90, 150, 250]),
    st.sampled_from([79, 80, 84, 85, 88, 90, 91, 92, 97, 119, 120, 125, 130, 131, 150, 151]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([True, True, True, False]),
)
runs = st.lists(st.tuples(one, st.integers(1, 6)), max_size=40).map(
    lambda blocks: [item for item, times in blocks for _ in range(times)]
)


Point = tuple[int, float, bool]
Item = tuple[int, int, int, float, bool, bool]


def build(items: list[Item]) -> Readings:
    clock = {0: 0, 1: 0, 2: 0}
    rows = []
    for row, metric, step, value, good, rest in items:
        clock[row] += step * 1000
        rows.append((row, metric, clock[row], value, good, rest))
    rows.sort(key=lambda r: (r[0], r[2]))
    columns = list(zip(*rows, strict=True)) or [()] * 6
    kinds = (np.intp, np.int16, np.int64, np.float32, np.bool_, np.bool_)
    return Readings(*(np.array(c, k) for c, k in zip(columns, kinds, strict=True)))


def take(readings: Readings, mask: Bools) -> Readings:
    return Readings(*(getattr(readings, name)[mask] for name in Readings.__slots__))


def by_hand(limit: Limit, points: list[Point]) -> list[tuple[str, int, int, int, int]]:
    """(change, start, at, level, n) from the words in Limit's docstring, over the whole list each time."""
    sign = 1 if limit.side == "above" else -1

    def beyond(value: float, level: int) -> bool:
        past = sign * (value - limit.levels[level][0])
        return past > 0 or (limit.inclusive and past == 0)

    def met(level: int) -> Callable[[Point], bool]:
        return lambda point: beyond(point[1], level) and (point[2] or not limit.at_rest_only)

    def first_of_run(last: int, floor: int, holds: Callable[[Point], bool]) -> int:
        first = last
        while first > floor and holds(points[first - 1]):
            if points[first][0] - points[first - 1][0] > limit.longest_gap_s * 1000:
                break
            first -= 1
        return first

    def steps(first: int, last: int) -> list[float]:
        return [(points[i][0] - points[i - 1][0]) / 1000 for i in range(first + 1, last + 1)]

    def lasted(first: int, last: int, level: int) -> bool:
        in_full = level > 0 or limit.levels[0][1] == "high"
        most = limit.longest_gap_s if in_full else max(limit.max_gap_s, limit.persist_s / 2)
        counted = sum(min(step, most) for step in steps(first, last))
        return counted >= limit.persist_s and last - first + 1 >= limit.min_readings

    def back_for_good(first: int, last: int) -> bool:
        long = [step for step in steps(first, last) if step > limit.max_gap_s]
        return sum(steps(first, last)) - sum(long[:1]) >= limit.clear_s and last - first + 1 >= limit.min_readings

    found: list[tuple[str, int, int, int, int]] = []
    floor, level, start = 0, -1, 0
    for i, (t, value, _) in enumerate(points):
        for target in reversed(range(level + 1, len(limit.levels))):
            first = first_of_run(i, floor, met(target))
            if met(target)(points[i]) and lasted(first, i, target):
                start = first_of_run(i, floor, met(0)) if level < 0 else start
                change = "raised" if level < 0 else "worsened"
                found.append((change, points[start][0], t, target, i - first + 1))
                level = target
                break
        if level >= 0 and sign * (value - limit.clear) <= 0:
            first = first_of_run(i, floor, lambda p: sign * (p[1] - limit.clear) <= 0)
            if back_for_good(first, i):
                n = sum(beyond(v, 0) for _, v, _ in points[start : i + 1])
                found.append(("cleared", points[start][0], t, level, n))
                floor, level = i + 1, -1
    return found


@given(runs)
def test_equal_to_the_loop_by_hand(items: list[Item]) -> None:
    readings = build(items)
    limits = Limits(LIMITS)
    found = limits.advance(limits.new_state(3), readings)
    for row in range(3):
        for limit in LIMITS:
            mine = readings.metric == LIMIT_METRICS.index(limit.metric)
            kept = take(readings, mine & (readings.row == row) & readings.good)
            points = list(zip(kept.t_ms.tolist(), kept.value.tolist(), kept.at_rest.tolist(), strict=True))
            got = [
                (f.change, f.start_ms, f.at_ms, f.level, f.evidence["n"])
                for f in found
                if f.row == row and f.rule == limit.rule
            ]
            assert got == by_hand(limit, points)


@given(runs, st.lists(st.integers(0, 12_000), max_size=3))
def test_cut_anywhere(items: list[Item], cuts: list[int]) -> None:
    readings = build(items)
    whole, parts = Limits(LIMITS).new_state(3), Limits(LIMITS).new_state(3)
    limits = Limits(LIMITS)
    expected = limits.advance(whole, readings)
    edges = [-1, *sorted(c * 1000 for c in cuts), 1 << 60]
    found: list[Finding] = []
    for low, high in zip(edges, edges[1:], strict=False):
        found += limits.advance(parts, take(readings, (readings.t_ms > low) & (readings.t_ms <= high)))
    assert found == expected
    assert whole.tobytes() == parts.tobytes()


@given(runs)
def test_evidence_can_be_recomputed_from_the_readings(items: list[Item]) -> None:
    readings = build(items)
    limits = Limits(LIMITS)
    for finding in limits.advance(limits.new_state(3), readings):
        evidence, metric = finding.evidence, LIMIT_METRICS.index(finding.evidence["metric"])
        mask = (readings.row == finding.row) & (readings.metric == metric) & readings.good
        mask &= (readings.t_ms >= evidence["from_ms"]) & (readings.t_ms <= evidence["to_ms"])
        values = readings.value[mask]
        sign = 1 if evidence["side"] == "above" else -1
        past = sign * (values - evidence["threshold"])
        values = values[(past > 0) | ((past == 0) & evidence["inclusive"])]
        assert evidence["n"] == len(values)
        assert evidence["worst"] == sign * max(sign * values)
        times = readings.t_ms[mask][(past > 0) | ((past == 0) & evidence["inclusive"])]
        assert evidence["from_ms"] == times[0]


@given(runs)
def test_nothing_is_told_or_ended_without_the_readings_it_takes(items: list[Item]) -> None:
    """Of all limits: two readings, `persist_s` from the first to the last, and no step of the longest gap's length."""
    readings = build(items)
    limits = Limits(LIMITS)
    for finding in limits.advance(limits.new_state(3), readings):
        evidence = finding.evidence
        limit = next(one for one in LIMITS if one.rule == finding.rule)
        cleared = finding.change == "cleared"
        since = evidence["clear_from_ms"] if cleared else evidence["from_ms"]
        mine = (readings.row == finding.row) & (readings.metric == LIMIT_METRICS.index(limit.metric)) & readings.good
        mine &= (readings.t_ms >= since) & (readings.t_ms <= finding.at_ms)
        steps = np.diff(readings.t_ms[mine]) / 1000
        assert (evidence["clear_n"] if cleared else evidence["n"]) == len(steps) + 1 >= limit.min_readings
        assert (finding.at_ms - since) / 1000 >= (limit.clear_s if cleared else limit.persist_s)
        assert (steps <= limit.longest_gap_s).all()
        if cleared:
            seldom = steps > limit.max_gap_s
            assert seldom.sum() > 1 or steps[~seldom].sum() >= limit.clear_s
        elif limit.levels[finding.level][1] != "high":
            most = max(limit.max_gap_s, limit.persist_s / 2)
            assert np.minimum(steps, most).sum() >= limit.persist_s
            assert evidence.get("seldom", False) == (steps > most).any()


def moved(low: float, fast: float, *, off: frozenset[str] = frozenset()) -> LimitSet:
    """The same limits with two of them moved, or off."""
    low_levels: tuple[tuple[float, Priority], ...] = ((90 + low, "medium"), (85 + low, "high"))
    own = (
        replace(LIMITS[0], levels=low_levels, clear=92 + low), LIMITS[1],
        replace(LIMITS[2], levels=((130 + fast, "low"), (150 + fast, "high")), clear=120 + fast),
        *LIMITS[3:],
    )  # fmt: skip
    return LimitSet(own, off)


SETS = (moved(0, 0), moved(-4, -9), moved(3, 5), moved(0, 0, off=frozenset({"low"})))
timelines = st.dictionaries(
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 12_000), st.sampled_from(SETS)), max_size=5, unique_by=lambda one: one[0]),
)


def standing_of(limits: Limits, own: dict[int, list[tuple[int, LimitSet]]]) -> Standing:
    ordered = {row: sorted(((s * 1000, one) for s, one in line), key=lambda e: e[0]) for row, line in own.items()}
    return Standing(limits.everybody, ordered)


@given(runs, timelines, st.lists(st.integers(0, 12_000), max_size=3))
def test_own_limits_cut_anywhere_and_those_of_others_are_left_alone(
    items: list[Item], own: dict[int, list[tuple[int, LimitSet]]], cuts: list[int]
) -> None:
    readings, limits = build(items), Limits(LIMITS)
    standing = standing_of(limits, own)
    whole, parts = limits.new_state(3), limits.new_state(3)
    expected = limits.advance(whole, readings, standing)
    edges = [-1, *sorted(c * 1000 for c in cuts), 1 << 42]
    found: list[Finding] = []
    for low, high in zip(edges, edges[1:], strict=False):
        found += limits.advance(parts, take(readings, (readings.t_ms > low) & (readings.t_ms <= high)), standing)
    assert found == expected
    assert whole.tobytes() == parts.tobytes()
    alike = limits.advance(limits.new_state(3), readings)
    for row in {0, 1, 2} - own.keys():
        assert [f for f in found if f.row == row] == [f for f in alike if f.row == row]


@given(runs, timelines)
def test_no_own_limit_loses_an_open_episode_or_raises_a_rule_that_is_off(
    items: list[Item], own: dict[int, list[tuple[int, LimitSet]]]
) -> None:
    """What is open ends at the clear threshold of the limit that holds then, on good readings, and only so."""
    readings, limits = build(items), Limits(LIMITS)
    standing, state = standing_of(limits, own), limits.new_state(3)
    open_ones: set[tuple[int, str]] = set()
    for finding in limits.advance(state, readings, standing):
        rule = next(i for i, limit in enumerate(LIMITS) if limit.rule == finding.rule)
        row, at = np.array([finding.row]), np.array([finding.at_ms])
        now = standing.sets[standing.at(row, at)[0]]
        who = (finding.row, finding.rule)
        if finding.change == "cleared":
            assert who in open_ones
            open_ones.remove(who)
            value = readings.value[(readings.row == finding.row) & (readings.t_ms == finding.at_ms)
                                   & (readings.metric == LIMIT_METRICS.index(LIMITS[rule].metric))]  # fmt: skip
            sign = 1 if LIMITS[rule].side == "above" else -1
            assert (sign * value <= sign * now.limits[rule].clear).any()
            assert finding.evidence["clear"] == now.limits[rule].clear
        else:
            assert finding.rule not in now.off
            assert finding.evidence["threshold"] == now.limits[rule].levels[finding.level][0]
            open_ones.add(who)
    assert {(r, LIMITS[i].rule) for r, i in zip(*np.nonzero(state["rules"]["phase"] >= 2), strict=True)} == open_ones
