"""History beside live records: as much as a live record may wait for."""

from __future__ import annotations

import random
import statistics

import pytest

from services.processor.pace import ALONE_S, BESIDE_S, BETWEEN_S, LIVE_LATELY_S, PILED_S, SMALLEST, Pace

LARGEST = 2000


def told(fixed_s: float, each_s: float, rate: float, turns: int = 300) -> tuple[Pace, float, float]:
    """Run turns of live records at a rate with history; return the pace, the added seconds, and records of history."""
    chance, pace, now, added, taken = random.Random(1), Pace(LARGEST, 0.0), 10.0, 0.0, 0
    for _ in range(turns):
        live = max(1, round(rate * 0.05 * chance.uniform(0.5, 1.5)))
        history = pace.allows(now, live, 0)
        took = (fixed_s + each_s * (live + history)) * chance.uniform(0.9, 1.1)
        pace.took(now, now + took, live, history)
        now += took
        added, taken = each_s * history, taken + history
    return pace, added, taken


def streamed(
    fixed_s: float, each_s: float, rate: float, *, history: bool, seconds: float = 60.0
) -> tuple[float, float]:
    """Run a stream on a machine with noise and stalls; return p99 of what live records wait, and history a second."""
    chance, pace, now, taken, old, waits = random.Random(3), Pace(LARGEST, 0.0), 0.0, 0, 0, []
    while now < seconds:
        now = max(now, (taken + 1) / rate)
        live = int(now * rate) - taken
        beside = pace.allows(now, live, live) if history else 0
        noise = chance.lognormvariate(-0.125, 0.5) * (8 if chance.random() < 0.01 else 1)
        took = (fixed_s + each_s * (live + beside)) * noise
        pace.took(now, now + took, live, beside)
        now += took
        waits += [now - (number + 1) / rate for number in range(taken, taken + live)]
        taken, old = taken + live, old + beside
    return statistics.quantiles(waits, n=100)[98], old / now


@pytest.mark.parametrize(
    ("fixed", "each", "rate"),
    [(0.008, 0.0005, 250), (0.015, 0.001, 250), (0.03, 0.001, 250), (0.06, 0.002, 250), (0.03, 0.001, 10)],
)
def test_live_records_wait_at_most_twice_as_long_on_a_noisy_machine(fixed: float, each: float, rate: float) -> None:
    without, _ = streamed(fixed, each, rate, history=False)
    beside, history_a_second = streamed(fixed, each, rate, history=True)
    assert beside <= 2 * without
    assert history_a_second >= 20


@pytest.mark.parametrize("fixed", [0.005, 0.02, 0.3])
@pytest.mark.parametrize("each", [0.0003, 0.001, 0.003])
def test_history_adds_what_a_live_record_may_wait_for(fixed: float, each: float) -> None:
    pace, added, taken = told(fixed, each, rate=250)
    assert added <= 1.7 * max(BESIDE_S, fixed / 2)
    assert taken > SMALLEST * 300
    assert sum(pace.cost_s()) > 0


def test_the_bounds_hold_whatever_it_costs() -> None:
    assert told(0.0, 0.5, rate=1)[0].allows(1e6, 1, 0) == SMALLEST
    assert told(0.0, 1e-7, rate=1)[0].allows(1e6, 1, 0) == LARGEST


def test_history_rests_while_live_records_pile_up_but_never_stands_still() -> None:
    pace = Pace(LARGEST, 0.0)
    pace.took(0.0, 0.01, 20, 20)
    assert pace.allows(0.1, 100, 1000) == 0
    assert pace.allows(0.01 + PILED_S, 100, 1000) > 0
    pace.took(1.1, 1.2, 500, 20)
    assert pace.allows(1.3, 500, 400) > 0, "fewer wait than were just taken in"
    assert pace.allows(1.3, 0, 0) == 0, "it would stand in front of the next live record"
    assert pace.allows(1.2 + BETWEEN_S, 0, 0) > 0


def test_alone_it_takes_more() -> None:
    pace = Pace(LARGEST, 0.0)
    beside = pace.allows(1.0, 1, 0)
    assert pace.allows(1.0 + LIVE_LATELY_S, 0, 0) == pytest.approx(beside * ALONE_S / BESIDE_S, rel=0.01)
