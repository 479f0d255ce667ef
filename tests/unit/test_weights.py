"""Weights of days and fast gains: the guideline's number exactly, what confirms it, and what is unknown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.protocol import DAY_MS, HOUR_MS
from detectors.weights import GAIN_DAYS, GAIN_KG, Gain, Weighings, gain

MORNING = 7 * HOUR_MS


def mornings(*kilograms: float | None) -> Weighings:
    """One reading each morning from day 0 on, as a scale sends and the store keeps it; None: not weighed."""
    day = np.flatnonzero([kg is not None for kg in kilograms])
    values = np.array([kg for kg in kilograms if kg is not None], np.float32).astype(np.float64)
    return Weighings.of(day * DAY_MS + MORNING, values)


@pytest.mark.parametrize(
    ("kilograms", "state"),
    [
        ((80.1, 80.1, 82.2, 82.1), "not_risen"),  # exactly 2 kg is not more than 2 kg
        ((80.1, 80.1, 82.2, 82.2), "risen"),
        ((80.1, 80.2, 80.3, 82.2), "unconfirmed"),  # the first reading beyond
        ((80.0, 80.9, 81.8, 82.7, 83.6), "risen"),  # 0.9 a day: from the fourth day on, confirmed on the fifth
        ((80.0, 80.9, 81.8, 82.7), "unconfirmed"),
        ((80.0, None, None, 82.5), "unconfirmed"),
        ((80.0, None, 82.4, 82.5), "risen"),
        ((80.0, 82.5, 82.5, 82.5), "risen"),
        ((80.0, 82.5, 82.5, 82.5, 82.5), "not_risen"),  # it rose more than three days ago: told while it was fast
        ((82.5, 82.5, 80.0, 80.0), "not_risen"),
        ((80.0, 80.0, 83.0, 80.0), "not_risen"),  # somebody else stood on the scale
        ((80.0, None, None, None, 84.0), "unknown"),
        ((80.0, None, None, 83.0, 83.0), "risen"),  # the low day is out of the three before, the first sight is not
        ((80.0, None, None, 83.0, None, None, None, 83.0), "unknown"),
        ((80.0,), "unknown"),
        ((), "unknown"),
    ],
)
def test_more_than_two_kilograms_in_three_days_told_twice(kilograms: tuple[float | None, ...], state: str) -> None:
    assert gain(mornings(*kilograms), len(kilograms) - 1).state == state


def test_a_repeat_of_the_same_weighing_confirms_and_an_evening_does_not() -> None:
    day = np.array([0, 1, 2, 3, 3]) * DAY_MS + MORNING
    kilograms = np.array([80.2, 80.1, 80.0, 82.6, 82.4])
    later = np.array([0, 0, 0, 0, 60_000])
    said = gain(Weighings.of(day + later, kilograms), 3)
    assert (said.state, said.value, said.kilograms, said.from_day) == ("risen", 82.5, 2.5, 2)
    assert gain(Weighings.of(day + 600 * later, kilograms), 3).state == "unconfirmed"  # ten hours later
    copied = Weighings.of(day + later, np.array([80.2, 80.1, 80.0, 82.6, 82.6]))
    assert gain(copied, 3).state == "unconfirmed"  # within a minute the same: it came by two ways
    odd = Weighings.of(day + later, np.array([80.0, 80.1, 80.0, 90.0, 80.2]))
    assert gain(odd, 3).state == "unconfirmed"  # the repeat said otherwise


def test_an_old_weight_says_nothing_of_today() -> None:
    found = mornings(80.0, 80.0, 83.0, 83.0)
    assert [gain(found, last).state for last in (3, 4, 5)] == ["risen", "risen", "unknown"]
    assert gain(found, 5) == Gain("unknown", 3, 83.0)
    assert gain(found, 1).state == "not_risen"  # what came later is not looked at


days = st.dictionaries(st.integers(0, 12), st.lists(st.integers(780, 830), min_size=1, max_size=3), max_size=13)


@given(days, st.integers(0, 12), st.integers(0, 99))
def test_what_is_told_is_in_the_readings_whatever_their_order(
    found: dict[int, list[int]], last: int, seed: int
) -> None:
    t = np.array([d * DAY_MS + MORNING + i * 60_000 for d, v in found.items() for i in range(len(v))], np.int64)
    kg = np.array([value / 10 for values in found.values() for value in values])
    before = t.copy(), kg.copy()
    said = gain(Weighings.of(t, kg), last)
    assert all(np.array_equal(now, then) for now, then in zip((t, kg), before, strict=True))
    mixed = np.random.default_rng(seed).permutation(len(t))
    assert gain(Weighings.of(t[mixed], kg[mixed]), last) == said
    if said.state == "unknown":
        return
    assert said.day is not None
    assert said.from_day is not None
    assert said.kilograms is not None
    assert 0 < said.day - said.from_day <= 2 * GAIN_DAYS
    assert (said.kilograms > GAIN_KG) == (said.state != "not_risen")
    once = {d: middle(values) for d, values in found.items()}
    lows = [v for d, v in once.items() if said.day - GAIN_DAYS <= d < said.day]
    assert said.kilograms == pytest.approx(once[said.day] - once[said.from_day])
    assert said.kilograms >= once[said.day] - min(lows) - 1e-9
    if said.state == "risen":  # at least two readings are that high
        lately = [v for d, values in found.items() if said.day - 3 * GAIN_DAYS <= d <= said.day for v in values]
        assert sum(v / 10 - min(lately) / 10 > GAIN_KG for v in lately) >= 2


def middle(tenths: list[int]) -> float:
    """Of readings a minute apart; the second one may be the first's copy."""
    counted = [tenths[0], *(v for i, v in enumerate(tenths[1:], 1) if i > 1 or v != tenths[0])]
    return float(np.median(np.array(counted))) / 10


def test_weights_of_people_as_they_are_seldom_look_like_a_gain() -> None:
    """Made-up mornings about 80 kg that differ by an SD of 0.6: of 18,000 person-days few read as a confirmed gain."""
    risen = days = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        found = mornings(*np.round(80 + 0.6 * random.normal(size=100), 1).tolist())
        said = [gain(found, last).state for last in range(10, 100)]
        risen, days = risen + said.count("risen"), days + len(said)
    assert risen / days < 0.01
