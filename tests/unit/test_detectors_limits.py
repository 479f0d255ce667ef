"""Safety limits: exact boundaries, hysteresis, gaps, levels, evidence."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.adult_limits import Limit
from detectors.limits import DEFAULT_LIMITS, Limits
from detectors.protocol import LIMIT_METRICS, Finding, Readings

MINUTE = 60_000
LOW = Limit(
    "low", "Low", "spo2", "below", ((90, "medium"), (85, "high")), clear=92, persist_s=300, clear_s=600,
    max_gap_s=900,
)  # fmt: skip


Points = Sequence[tuple[int, float]]
Flags = bool | NDArray[np.bool_]


def readings(points: Points, metric: str = "spo2", good: Flags = True, at_rest: Flags = True, row: int = 0) -> Readings:
    n = len(points)
    return Readings(
        row=np.full(n, row, np.intp),
        metric=np.full(n, LIMIT_METRICS.index(metric), np.int16),
        t_ms=np.array([t for t, _ in points], np.int64),
        value=np.array([v for _, v in points], np.float32),
        good=np.broadcast_to(good, n).copy(),
        at_rest=np.broadcast_to(at_rest, n).copy(),
    )


def run(points: Points, limit: Limit = LOW, good: Flags = True, at_rest: Flags = True) -> list[Finding]:
    limits = Limits([limit])
    batch = readings(points, limit.metric, good, at_rest)
    return limits.advance(limits.new_state(1), batch)


def every_minute(values: Sequence[float]) -> list[tuple[int, float]]:
    return [(i * MINUTE, v) for i, v in enumerate(values)]


def test_raised_exactly_when_persistence_is_reached() -> None:
    assert run([(0, 88), (299_999, 88)]) == []
    (finding,) = run([(0, 88), (300_000, 87), (310_000, 88)])
    assert (finding.change, finding.start_ms, finding.at_ms, finding.level) == ("raised", 0, 300_000, 0)
    assert finding.evidence["n"] == 2
    assert finding.evidence["worst"] == 87


@pytest.mark.parametrize(("inclusive", "expected"), [(True, 1), (False, 0)])
def test_the_threshold_itself(inclusive: bool, expected: int) -> None:
    limit = Limit(
        "x", "X", "body_temperature", "above", ((38.5, "medium"),), clear=38, persist_s=300, clear_s=600,
        max_gap_s=900, inclusive=inclusive,
    )  # fmt: skip
    assert len(run([(0, 38.5), (300_000, 38.5)], limit)) == expected
    just_past = float(np.nextafter(np.float32(38.5), np.float32(99)))
    assert len(run([(0, just_past), (300_000, just_past)], limit)) == 1


def test_one_reading_on_the_healthy_side_ends_the_run() -> None:
    assert run(every_minute([88, 88, 88, 90, 88, 88, 88, 88])) == []


def test_a_longer_step_than_the_longest_gap_restarts_a_pending_run_but_exactly_that_does_not() -> None:
    limit = replace(LOW, longest_gap_s=900)
    assert [f.at_ms for f in run([(0, 88), (900_000, 88)], limit)] == [900_000]
    assert run([(0, 88), (900_001, 88)], limit) == []
    (finding,) = run([(0, 88), (900_001, 88), (1_300_000, 88)], limit)
    assert finding.start_ms == 900_001


def test_what_nobody_saw_counts_as_the_longest_step_of_readings_that_follow_each_other() -> None:
    """A device often heard, and a gap: two spikes hours apart are no ten minutes of it, two and a half are."""
    limit = replace(LOW, levels=((90, "medium"),), persist_s=600, max_gap_s=300)
    spikes = [(0, 88.0), (5000, 88.0), (7_200_000, 88.0), (7_205_000, 88.0)]
    assert run(spikes, limit) == []
    assert run([*spikes, (7_494_999, 88)], limit) == []
    (finding,) = run([*spikes, (7_495_000, 88)], limit)  # 5 s, 300 s of the gap, 295 s
    assert (finding.start_ms, finding.at_ms, finding.evidence["n"]) == (0, 7_495_000, 5)
    assert finding.evidence["seldom"] is True
    high = replace(limit, levels=((90, "high"),))
    assert [f.at_ms for f in run(spikes, high)] == [7_200_000]


def test_readings_whose_steps_vary_about_the_longest_one_that_counts_are_told_and_end() -> None:
    fast = next(limit for limit in DEFAULT_LIMITS if limit.rule == "tachycardia_at_rest")
    steps = (0, 298, 304, 297, 303, 299, 302, 296, 305)
    at = np.cumsum(steps).tolist()
    beyond, good = [(t * 1000, 140.0) for t in at], [((at[-1] + 300 + t) * 1000, 70.0) for t in at]
    raised, cleared = run(beyond + good, fast)
    assert (raised.change, raised.evidence["n"]) == ("raised", 4)
    assert (cleared.change, cleared.evidence["clear_n"]) == ("cleared", 5)


def test_an_own_persistence_takes_no_more_than_three_seldom_readings() -> None:
    fast = next(limit for limit in DEFAULT_LIMITS if limit.rule == "tachycardia_at_rest")
    hourly = [(i * 60 * MINUTE, 140.0) for i in range(3)]
    assert run(hourly[:2], replace(fast, persist_s=1800)) == []
    assert [f.at_ms for f in run(hourly, replace(fast, persist_s=1800))] == [120 * MINUTE]


def test_poor_readings_neither_raise_nor_break() -> None:
    good = np.array([True, False, True])
    (finding,) = run([(0, 88), (100_000, 99), (300_000, 88)], good=good)
    assert finding.evidence["n"] == 2
    assert run([(0, 50), (300_000, 50)], good=False) == []


def test_min_readings() -> None:
    limit = Limit(
        "bp", "BP", "systolic_pressure", "above", ((180, "medium"),), clear=170, persist_s=0, clear_s=0,
        max_gap_s=43_200, inclusive=True,
    )  # fmt: skip
    assert run([(0, 200)], limit) == []
    assert len(run([(0, 180), (1000, 180)], limit)) == 1


def test_worse_level_at_once_or_later() -> None:
    (raised,) = run(every_minute([84] * 6))
    assert (raised.level, raised.evidence["threshold"]) == (1, 85)
    raised, worse = run(every_minute([88] * 6 + [84, 83, 84, 84, 84, 84, 84]))
    assert (raised.level, worse.change, worse.level) == (0, "worsened", 1)
    assert worse.start_ms == 0
    assert worse.at_ms == 11 * MINUTE
    assert worse.evidence["from_ms"] == 6 * MINUTE
    assert (worse.evidence["n"], worse.evidence["worst"]) == (6, 83)


def test_cleared_only_beyond_the_clear_threshold_for_long_enough() -> None:
    low = every_minute([88] * 6)
    not_yet = [(t + 6 * MINUTE, 91.0) for t, _ in every_minute([0] * 60)]
    assert [f.change for f in run(low + not_yet)] == ["raised"]
    findings = run(low + [(t + 6 * MINUTE, 92.0) for t, _ in every_minute([0] * 11)])
    assert [f.change for f in findings] == ["raised", "cleared"]
    assert findings[1].at_ms == 16 * MINUTE
    assert findings[1].evidence["clear_from_ms"] == 6 * MINUTE
    assert findings[1].evidence["clear_n"] == 11
    assert findings[1].evidence["n"] == 6


def test_a_gap_alone_never_clears() -> None:
    """What nobody saw does not count, unless it is the second time in a row: then readings come seldom."""
    low, good = every_minute([88] * 6), [(6 * MINUTE, 97.0), (600 * MINUTE, 97.0)]
    assert [f.change for f in run([*low, *good, (610 * MINUTE - 1, 97)])] == ["raised"]
    assert [f.change for f in run([*low, *good, (610 * MINUTE, 97)])] == ["raised", "cleared"]
    assert [f.change for f in run([*low, *good, (1200 * MINUTE, 97)])] == ["raised", "cleared"]


def test_re_armed_after_clearing() -> None:
    once = [88] * 6 + [95] * 12
    findings = run(every_minute(once + once))
    assert [f.change for f in findings] == ["raised", "cleared"] * 2
    assert findings[2].start_ms == 18 * MINUTE


def test_at_rest_only() -> None:
    fast = next(limit for limit in DEFAULT_LIMITS if limit.rule == "tachycardia_at_rest")
    assert run(every_minute([160] * 30), fast, at_rest=False) == []
    (finding,) = run(every_minute([160] * 30), fast)
    assert finding.level == 1
    rest = np.ones(12, bool)
    rest[5] = False
    assert run(every_minute([160] * 12), fast, at_rest=rest) == []


def test_state_is_all_zero_when_nothing_is_open() -> None:
    limits = Limits()
    state = limits.new_state(1)
    limits.advance(state, readings(every_minute([88, 97])))
    assert state.tobytes() == bytes(limits.dtype.itemsize)


def test_rows_are_independent_and_the_copy_can_be_renumbered() -> None:
    limits = Limits([LOW])
    state = limits.new_state(4)
    both = [readings(every_minute([84] * 6), row=row) for row in (1, 3)]
    joined = Readings(*(np.concatenate([getattr(b, name) for b in both]) for name in Readings.__slots__))
    part = state[[1, 3]].copy()
    moved = Readings(np.repeat([0, 1], 6), *(getattr(joined, name) for name in Readings.__slots__[1:]))
    assert [f.row for f in limits.advance(part, moved)] == [0, 1]
    assert not state.tobytes().strip(b"\0")
    assert [f.row for f in limits.advance(state, joined)] == [1, 3]
    assert state[3] == part[1]


@pytest.mark.parametrize(
    "change", [{"metric": "sodium"}, {"levels": ()}, {"clear": 80}, {"levels": ((85, "high"), (90, "low"))}]
)
def test_a_contradictory_limit_is_refused(change: dict[str, Any]) -> None:
    fields = {name: getattr(LOW, name) for name in LOW.__slots__} | change
    with pytest.raises(ValueError, match="limit low"):
        Limit(**fields)


def test_two_limits_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="share a rule id"):
        Limits([LOW, LOW])


def test_quiet_batches_are_cheap() -> None:
    limits = Limits()
    n, per = 500, 60
    state = limits.new_state(n)
    batch = Readings(
        row=np.repeat(np.arange(n), per),
        metric=np.tile(np.array([0, 2, 3], np.int16), n * per // 3),
        t_ms=np.tile(np.arange(per) * MINUTE, n).astype(np.int64),
        value=np.tile(np.array([70, 97, 16], np.float32), n * per // 3),
        good=np.ones(n * per, bool),
        at_rest=np.ones(n * per, bool),
    )
    best = min(_timed(lambda: limits.advance(state, batch)) for _ in range(7))
    assert best < 0.02


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.parametrize(("place", "stored"), [(0, 12 * 46), (1, 13 * 44)])
def test_a_state_that_a_former_version_kept_goes_on(place: int, stored: int) -> None:
    limits = Limits()
    state = limits.new_state(1)
    limits.advance(state, readings(every_minute([84] * 6)))
    former = former_state(limits, place, state)
    assert len(former) == stored, "as it is stored"
    restored = np.array([limits.restore_former(former)])
    assert restored.tobytes() == state.tobytes()
    calm = readings(calm_from(6))
    assert [f.change for f in limits.advance(restored, calm)] == ["cleared"]
    on_the_way = limits.new_state(1)
    limits.advance(on_the_way, readings([*every_minute([84] * 6), (6 * MINUTE, 97.0), (7 * MINUTE, 97.0)]))
    restored = np.array([limits.restore_former(former_state(limits, place, on_the_way))])
    assert [f.change for f in limits.advance(restored, readings(calm_from(8)[:10]))] == [], "ten minutes of its own"
    assert [f.change for f in limits.advance(restored, readings(calm_from(18)[:1]))] == ["cleared"]


def calm_from(minute: int) -> list[tuple[int, float]]:
    return [(t + minute * MINUTE, 97.0) for t, _ in every_minute([0] * 11)]


def former_state(limits: Limits, place: int, state: NDArray[np.void]) -> bytes:
    """The bytes a former version would have kept: it held first values where now the unseen time is."""
    former = np.zeros(1, limits.former_dtypes[place])
    for name in set(former["rules"].dtype.names or ()) & set(state["rules"].dtype.names or ()):
        former["rules"][name][0] = state["rules"][name][0, : former["rules"].shape[1]]
    former["rules"]["first"] = former["rules"]["run_first"] = 84.0
    return former.tobytes()


def test_rules_keep_their_places_in_kept_states() -> None:
    assert [limit.rule for limit in DEFAULT_LIMITS] == [
        "spo2_low", "tachycardia_at_rest", "tachycardia_extreme", "bradycardia", "respiratory_rate_high",
        "respiratory_rate_low", "fever", "hypothermia", "glucose_low", "glucose_high", "systolic_high", "systolic_low",
        "spo2_high_on_oxygen",
    ]  # fmt: skip


SPO2 = next(limit for limit in DEFAULT_LIMITS if limit.rule == "spo2_low")


@pytest.mark.parametrize(("every_s", "readings_needed"), [(60, 6), (300, 2), (905, 2), (1805, 2)])
@pytest.mark.parametrize(("value", "level"), [(88.0, 0), (84.0, 1)])
def test_low_oxygen_is_told_at_one_good_repeat_however_seldom_the_device_measures(
    every_s: int, readings_needed: int, value: float, level: int
) -> None:
    """A quarter-hourly or half-hourly device is a few seconds late; within five minutes a repeat is no second look."""
    points = [(i * every_s * 1000, value) for i in range(readings_needed)]
    assert run(points[:-1], SPO2) == []
    (finding,) = run(points, SPO2)
    assert (finding.level, finding.at_ms) == (level, points[-1][0])
    healthy = [(points[-1][0] + i * every_s * 1000, 95.0) for i in range(1, 13)]
    assert [one.change for one in run(points + healthy, SPO2)] == ["raised", "cleared"]


def test_two_good_readings_with_a_gap_between_them_end_nothing_where_readings_come_every_minute() -> None:
    low = [(i * MINUTE, 84.0) for i in range(6)]
    back = 6 * MINUTE
    unseen = [(back, 92.0), (back + 39 * MINUTE, 92.0)]
    assert [one.change for one in run(low + unseen, SPO2)] == ["raised"]
    minutes = [(back + (39 + i) * MINUTE, 92.0) for i in range(1, 11)]
    assert [one.change for one in run(low + unseen + minutes[:-1], SPO2)] == ["raised"]
    cleared = run(low + unseen + minutes, SPO2)[-1]
    assert (cleared.change, cleared.at_ms) == ("cleared", minutes[-1][0])  # ten minutes of good ones after the gap
    assert (cleared.evidence["clear_from_ms"], cleared.evidence["seldom"]) == (back, True)


def test_three_good_readings_in_a_row_end_it_where_they_come_every_half_hour() -> None:
    step = 1805 * 1000
    low, good = [(0, 84.0), (step, 84.0)], [(i * step, 95.0) for i in range(2, 5)]
    assert [one.change for one in run(low + good[:-1], SPO2)] == ["raised"]
    assert run(low + good, SPO2)[-1].change == "cleared"


def test_too_much_oxygen_is_told_by_a_device_that_measures_every_half_hour() -> None:
    limit = next(one for one in DEFAULT_LIMITS if one.rule == "spo2_high_on_oxygen")
    (finding,) = run([(0, 98.0), (1805 * 1000, 98.0)], replace(limit, rule="as if a profile called for it"))
    assert (finding.change, finding.level) == ("raised", 1)


@pytest.mark.parametrize("every_s", [60, 300, 905, 1805])
def test_low_oxygen_is_not_told_of_one_reading_of_one_that_was_doubted_or_of_one_taken_back(every_s: int) -> None:
    step = every_s * 1000
    assert run([(0, 60.0), (step, 95.0), (2 * step, 60.0)], SPO2) == []
    doubted = np.array([True, False])
    assert run([(0, 60.0), (step, 60.0)], SPO2, good=doubted) == []


# Each limit with an emergency, an ordinary value, and as how long a step counts at most towards the level that is told.
EMERGENCIES = {
    "spo2_low": (70, 96, None), "tachycardia_at_rest": (175, 70, None), "tachycardia_extreme": (210, 70, None),
    "bradycardia": (28, 60, None), "respiratory_rate_high": (34, 15, None), "respiratory_rate_low": (5, 15, None),
    "fever": (40.5, 36.8, None), "hypothermia": (33, 36.8, None), "glucose_low": (38, 100, None),
    "glucose_high": (400, 120, 1800), "systolic_high": (205, 130, None), "systolic_low": (75, 120, None),
    "spo2_high_on_oxygen": (99, 90, None),
}  # fmt: skip
CADENCES = (5, 60, 299, 300, 301, 360, 600, 900, 901, 1200, 1800, 2700, 3600, 3601, 7200, 14_400, 28_800, 46_800, 86_400,
            129_600)  # fmt: skip
WATCHED = [replace(limit, rule=f"{limit.rule} of everybody") for limit in DEFAULT_LIMITS]
by_rule = pytest.mark.parametrize(
    ("rule", "limit"), list(zip(EMERGENCIES, WATCHED, strict=True)), ids=list(EMERGENCIES)
)


def every(seconds: int, values: Sequence[float], since: int = 0) -> list[tuple[int, float]]:
    return [((since + i) * seconds * 1000, value) for i, value in enumerate(values)]


@by_rule
def test_an_emergency_is_told_however_seldom_a_device_measures(rule: str, limit: Limit) -> None:
    """At the first reading by which it has lasted: the second where readings come seldom, of high glucose the third."""
    beyond, ordinary, most = EMERGENCIES[rule]
    for step in CADENCES:
        needed = max(-(-limit.persist_s // min(step, most or step)) + 1, 2)
        assert needed <= (2 if most is None else 3) or step <= max(limit.max_gap_s, limit.persist_s)
        severe = every(step, [beyond] * needed)
        assert run(severe[:-1], limit) == [], f"every {step} s, not before"
        (told,) = run(severe, limit)
        assert (told.change, told.level, told.start_ms) == ("raised", len(limit.levels) - 1, 0), f"every {step} s"
        between = every(step, [*[beyond] * (needed - 1), ordinary, *[beyond] * (needed - 1)])
        assert run(between, limit) == [], f"every {step} s, an ordinary value between ends the run"


@by_rule
def test_what_is_told_ends_however_seldom_a_device_measures(rule: str, limit: Limit) -> None:
    """After ``clear_s`` of good readings, the first step too long not counted: the third in a row at the soonest, of a cuff the second."""
    beyond, ordinary, _ = EMERGENCIES[rule]
    told = every(60, [beyond] * (limit.persist_s // 60 + 2))
    for step in CADENCES:
        least = max(-(-limit.clear_s // step) + 1 + (step > limit.max_gap_s and limit.clear_s > 0), 2)
        good = [(t + told[-1][0], value) for t, value in every(step, [ordinary] * least, since=1)]
        assert [f.change for f in run(told + good[:-1], limit)] == ["raised"], f"every {step} s, not before"
        assert [f.change for f in run(told + good, limit)] == ["raised", "cleared"], f"every {step} s"


@by_rule
def test_what_comes_more_seldom_than_the_longest_gap_is_neither_told_nor_ended(rule: str, limit: Limit) -> None:
    beyond, ordinary, _ = EMERGENCIES[rule]
    assert run([(t + i, v) for i, (t, v) in enumerate(every(limit.longest_gap_s, [beyond] * 9))], limit) == []
    told = every(60, [beyond] * (limit.persist_s // 60 + 2))
    good = [
        (t + told[-1][0] + i + 1, v) for i, (t, v) in enumerate(every(limit.longest_gap_s, [ordinary] * 9, since=1))
    ]
    assert [f.change for f in run(told + good, limit)] == ["raised"]
