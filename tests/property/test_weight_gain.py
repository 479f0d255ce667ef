"""A fast gain of weight is the same however readings are cut, and is what the page works out from whole weeks."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import DAY_MS, MINUTE_MS, Finding, Longs, Readings, Shorts
from detectors.weight_gain import WEIGHT, WeightGain, row_of, run_of
from detectors.weights import ENDS, JUMP, UNIT, Weighings, gain
from tests.sentences.weight import course
from tests.sentences.weight import weighings as weighings_of

PEOPLE, T0 = 2, 20_500 * DAY_MS
AHEAD = np.array([-300, 345], np.int16)  # minutes, of each person
weighings = st.lists(
    st.tuples(
        st.integers(0, PEOPLE - 1), st.integers(0, 20), st.sampled_from([0, 0, 0, 1, 30, 59, 60, 61, 700]),
        st.one_of(st.sampled_from([7900, 8000, 8300, 8700]), st.integers(7900, 8500), st.integers(2000, 12_000)),
    ),
    max_size=40,
)  # fmt: skip


def readings_of(weighed: list[tuple[int, int, int, int]]) -> tuple[Readings, Shorts]:
    """Readings by person and instant, of one instant one."""
    kept = {(row, day, minute): weight for row, day, minute, weight in weighed}
    rows = np.array([key[0] for key in sorted(kept)], np.intp)
    t_ms = np.array([T0 + day * DAY_MS + minute * MINUTE_MS for _, day, minute in sorted(kept)], np.int64)
    value = np.array([kept[key] / UNIT for key in sorted(kept)], np.float32)
    n = len(rows)
    made = Readings(rows, np.full(n, WEIGHT, np.int16), t_ms, value, np.ones(n, bool), np.ones(n, bool))
    return made, AHEAD[rows]


def part(readings: Readings, which: Longs | slice) -> Readings:
    return Readings(*(getattr(readings, field.name)[which] for field in fields(readings)))


def in_order(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: (one.at_ms, one.row))


@settings(deadline=None, max_examples=150)
@given(weighings, st.lists(st.integers(0, 21 * 1440), max_size=8))
def test_any_cut_gives_the_same_and_a_row_holds_all_of_it(
    weighed: list[tuple[int, int, int, int]], cuts: list[int]
) -> None:
    gains, (given_ones, ahead) = WeightGain(), readings_of(weighed)
    whole, parts = gains.new_state(PEOPLE), gains.new_state(PEOPLE)
    expected = gains.advance(whole, given_ones, ahead)
    edges = [0, *(T0 + minute * MINUTE_MS for minute in sorted(cuts)), 1 << 60]
    found = []
    for low, high in zip(edges, edges[1:], strict=False):
        inside = np.flatnonzero((given_ones.t_ms >= low) & (given_ones.t_ms < high))
        found += gains.advance(parts, part(given_ones, inside), ahead[inside])
    assert in_order(found) == in_order(expected)
    assert parts.tobytes() == whole.tobytes()
    assert [row_of(run_of(row)).tobytes() for row in whole] == [row.tobytes() for row in whole]


@settings(deadline=None, max_examples=150)
@given(weighings)
def test_the_first_one_told_is_the_first_that_the_page_calls_risen(weighed: list[tuple[int, int, int, int]]) -> None:
    gains, (given_ones, ahead) = WeightGain(), readings_of(weighed)
    found = gains.advance(gains.new_state(PEOPLE), given_ones, ahead)
    for row in range(PEOPLE):
        mine = part(given_ones, np.flatnonzero(given_ones.row == row))
        local = mine.t_ms + int(AHEAD[row]) * MINUTE_MS
        said = [
            gain(Weighings.of(local[: n + 1], mine.value[: n + 1].astype(np.float64)), int(local[n] // DAY_MS))
            for n in range(len(local))
        ]
        risen = [n for n, one in enumerate(said) if one.state == "risen"]
        told = [one for one in found if (one.row, one.change) == (row, "raised")]
        assert [int(mine.t_ms[n]) for n in risen[:1]] == [one.at_ms for one in told[:1]]
        if risen:
            first, evidence = said[risen[0]], told[0].evidence
            assert (first.value, first.from_value) == (evidence["value"], evidence["base"])
            assert (first.day, first.from_day) == (evidence["day"], evidence["from_day"])
            assert evidence["jump"] == (round((evidence["value"] - evidence["base"]) * UNIT) > JUMP)


@settings(deadline=None, max_examples=200)
@given(weighings)
def test_all_that_is_told_is_what_plain_loops_tell(weighed: list[tuple[int, int, int, int]]) -> None:
    gains, (given_ones, ahead) = WeightGain(), readings_of(weighed)
    found = gains.advance(gains.new_state(PEOPLE), given_ones, ahead)
    for row in range(PEOPLE):
        mine = part(given_ones, np.flatnonzero(given_ones.row == row))
        instants = [datetime.fromtimestamp(t_ms / 1000, UTC) for t_ms in mine.t_ms.tolist()]
        rows = list(zip(instants, mine.value.tolist(), strict=True))
        expected = [
            (one.change, one.newest.readings[-1][0], one.newest.value, one.low.value)
            for one in course(weighings_of(rows, timedelta(minutes=int(AHEAD[row]))))
        ]
        assert expected == [
            (
                one.change if one.change != "cleared" else "near" if one.evidence["near"] else "calm",
                datetime.fromtimestamp(one.at_ms / 1000, UTC), one.evidence["value"], one.evidence["base"],
            )
            for one in found if one.row == row
        ]  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(weighings)
def test_it_ends_only_by_a_weight_near_the_base_or_by_weights_that_do_not_rise(
    weighed: list[tuple[int, int, int, int]],
) -> None:
    gains, (given_ones, ahead) = WeightGain(), readings_of(weighed)
    tops: dict[int, float] = {}
    for one in gains.advance(gains.new_state(PEOPLE), given_ones, ahead):
        if one.change != "cleared":
            tops[one.row] = np.inf if one.evidence["gain"] > 20 else one.evidence["value"] + 0.1
        else:
            top = tops[one.row]
            evidence = one.evidence
            near = round((evidence["value"] - evidence["base"]) * UNIT) <= ENDS
            assert near or evidence["value"] <= top + ENDS / UNIT
            since = given_ones.t_ms[(given_ones.row == one.row) & (given_ones.t_ms > one.start_ms)]
            days = len(np.unique((since[since <= one.at_ms] + int(AHEAD[one.row]) * MINUTE_MS) // DAY_MS))
            assert near if evidence["near"] else days >= evidence["calm"]
