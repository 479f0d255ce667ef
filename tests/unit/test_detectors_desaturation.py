"""Repeated falls of oxygen saturation at night: against a plain loop, against noise, and where little is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.explain import patient_sentence, sentence
from detectors.pipeline import Pipeline
from detectors.protocol import HOUR_MS, MINUTE_MS, Finding, State, blank_hour
from tests import night_falls
from tests.unit.people import METRICS, START_MS, local_day

NIGHT = 600  # minutes from 22:00 to 08:00
SPO2 = METRICS["spo2"]
Night = NDArray[np.float64]  # (R, NIGHT) means of minutes, NaN where none


def live(
    state: State, day: int, night: Night, doubted: NDArray[np.bool_] | None = None, cut: int = 60
) -> list[Finding]:
    """Settle the night that ends on ``day`` and close it; each hour in two pieces where ``cut`` says so."""
    pipeline, people = Pipeline(), list(range(len(night)))
    found: list[Finding] = []
    for number in range(10):
        hour = blank_hour(people, [START_MS + (day * 24 - 2 + number) * HOUR_MS] * len(night), [0] * len(night))
        part = night[:, number * 60 : number * 60 + 60]
        hour.mean[:, :, SPO2] = hour.low[:, :, SPO2] = hour.high[:, :, SPO2] = part
        hour.good[:, :, SPO2] = np.isfinite(part)
        if doubted is not None:
            hour.poor[:, :, SPO2] = doubted[:, number * 60 : number * 60 + 60]
        pieces = (0, cut, 60) if 0 < cut < 60 and number % 3 == 2 else (0, 60)
        for first, last in zip(pieces, pieces[1:], strict=False):
            ends = [np.full(len(night), minute, np.int16) for minute in (first, last)]
            found += pipeline.update(state, replace(hour, first=ends[0], last=ends[1]))
    found += pipeline.update(
        state, blank_hour(people, [START_MS + (day * 24 + 10) * HOUR_MS] * len(night), [0] * len(night))
    )
    return [finding for finding in found if finding.rule == "night_desaturations"]


def quiet(people: int, seed: int = 0, sd: float = 0.6, center: float = 96.0) -> Night:
    rng = np.random.default_rng(seed)
    return (center + rng.normal(0, sd, (people, NIGHT))).clip(60, 100).round()


def train(night: Night, every: int, minutes: int, depth: float = 8.0, start: int = 120) -> Night:
    """The same with a fall of a minute every so many, for so many minutes from midnight (or ``start``) on."""
    fallen = night.copy()
    fallen[:, start : start + minutes : every] -= depth
    return fallen


def sparse(night: Night, every: int) -> Night:
    return np.where(np.arange(NIGHT) % every == 0, night, np.nan)


def test_it_is_what_a_plain_loop_over_the_readings_makes_of_them() -> None:
    """Twelve people with trains on some nights, with gaps, noise and readings seldom; hours cut anywhere."""
    rng = np.random.default_rng(7)
    people, nights = 12, 10
    state = Pipeline().new_state(people)
    told: list[Finding] = []
    readings: list[list[tuple[int, int, float]]] = [[] for _ in range(people)]
    for day in range(1, nights + 1):
        night: Night = np.concatenate([_some_night(rng, [1, 1, 1, 2, 5, 9][one % 6]) for one in range(people)])
        minutes = START_MS // MINUTE_MS + day * 1440 - 120
        for one in range(people):
            known = np.flatnonzero(np.isfinite(night[one])).tolist()
            readings[one] += [(minutes + at, local_day(day), float(night[one, at])) for at in known]
        told += live(state, day, night, cut=int(rng.integers(0, 61)))
    assert {finding.change for finding in told} == {"raised", "worsened", "cleared"}
    for one in range(people):
        expected = night_falls.nights(readings[one])
        before = [0, *(n.told for n in expected)]
        changed = [n for was, n in zip(before, expected, strict=False) if was != n.told]
        learned = sum(n.known and not n.told and not was for was, n in zip(before, expected, strict=False))
        assert (state["falls"]["told"][one], state["falls"]["nights"][one]) == (expected[-1].told, learned)
        mine = [finding.evidence for finding in told if finding.row == one]
        assert [evidence["day"] for evidence in mine] == [n.day for n in changed]
        for evidence, n in zip(mine, changed, strict=True):
            assert evidence["rate"] == pytest.approx(n.rate, abs=0.006)
            assert {**evidence, "rate": 0} == {
                **evidence, "rate": 0, "falls": n.falls, "readings": n.readings, "minutes": n.minutes,
                "deepest": n.deepest, "usual_rate": n.usual, "n_days": n.n,
            }  # fmt: skip


def _some_night(rng: np.random.Generator, every: int) -> Night:
    night = quiet(1, int(rng.integers(1 << 30)), float(rng.choice([0.4, 0.4, 1.5])))
    dip = int(rng.choice([0, 0, 0, 0, 2, 3]))
    night = sparse(train(night, dip, 590, float(rng.choice([9.0, 18.0])), start=5) if dip else night, every)
    night[:, rng.random(NIGHT) < 0.1] = np.nan
    return night


def test_a_train_of_falls_is_told_after_one_night_and_ends_after_two_quiet_ones() -> None:
    state = Pipeline().new_state(20)

    def night(day: int) -> Night:  # of half of them every fifth minute is known
        return np.concatenate([quiet(10, day), sparse(quiet(10, day), 5)])

    for day in range(1, 7):
        assert live(state, day, night(day)) == []
    told = live(state, 7, train(night(7), 3, 240))
    assert {(f.row, f.change, f.level) for f in told} == {(row, "raised", 0) for row in range(20)}
    assert live(state, 8, night(8)) == []
    over = live(state, 9, night(9))
    assert {(f.row, f.change) for f in over} == {(row, "cleared") for row in range(20)}


def test_the_deepest_falls_count_although_they_are_jumps() -> None:
    (told,) = live(Pipeline().new_state(1), 1, train(quiet(1), 3, 450, depth=18))
    assert (told.change, told.level) == ("raised", 0)
    assert told.evidence["falls"] == 150
    assert told.evidence["deepest"] == pytest.approx(18, abs=1.5)


def test_somebody_whose_saturation_is_always_low_has_no_fall_in_the_first_night() -> None:
    state = Pipeline().new_state(2)
    assert live(state, 1, np.concatenate([quiet(1, center=88), sparse(quiet(1, 1, center=88), 10)])) == []
    assert not state["falls"]["usual"].any()


def test_the_bounds_of_a_study_hold_from_the_first_night_on() -> None:
    night = np.concatenate([train(quiet(1), every, 480) for every in (5, 3, 2)])
    night[2] = train(quiet(1, 1), 2, NIGHT, start=1)
    found = live(Pipeline().new_state(3), 1, night)
    assert {(f.row, f.change, f.level) for f in found} == {(1, "raised", 0), (2, "raised", 1)}


def test_a_noisy_sensor_shows_no_falls() -> None:
    """White noise of a healthy person and of one who lives lower, every minute and every fifth; quiet nights first."""
    kinds = [(sd, center, every) for sd in (1.2, 2.0, 2.5) for center in (92.0, 97.0) for every in (1, 5)]
    state = Pipeline().new_state(len(kinds) * 20)
    for day in range(1, 7):
        nights = [sparse(quiet(20, 100 * day + i, sd if day > 3 else 0.6, at), every)
                  for i, (sd, at, every) in enumerate(kinds)]  # fmt: skip
        assert live(state, day, np.concatenate(nights)) == []
    assert (state["falls"]["nights"] == 6).all()


def test_where_readings_come_too_seldom_nothing_is_known() -> None:
    state = Pipeline().new_state(3)
    assert len(live(state, 1, train(quiet(3), 3, 480))) == 3
    for day in range(2, 5):
        night = np.concatenate([sparse(quiet(1, day), every) for every in (11, 15, 30)])
        assert live(state, day, night) == []  # no all-clear without data
    assert (state["falls"]["told"] == 1).all()
    assert (state["falls"]["nights"] == 0).all()


def test_a_short_night_is_not_judged() -> None:
    night = train(quiet(5), 2, 480)
    night[:, 235:] = np.nan
    assert live(Pipeline().new_state(5), 1, night) == []


def test_a_minute_in_which_the_device_doubted_a_reading_is_no_fall() -> None:
    fallen = train(quiet(5), 2, 480)
    doubted = fallen < 92
    assert doubted.any()
    assert live(Pipeline().new_state(5), 1, fallen, doubted) == []


def test_a_fall_across_a_gap_and_one_long_fall_are_no_train() -> None:
    night = quiet(5)
    night[:, 200:260] -= 8
    assert live(state := Pipeline().new_state(5), 1, night) == []
    assert (state["falls"]["usual"] <= 20).all()  # one fall in ten hours
    gaps = train(quiet(5), 20, 480)
    gaps[:, np.isin(np.arange(NIGHT) % 20, range(1, 13))] = np.nan
    assert live(state := Pipeline().new_state(5), 1, gaps) == []


def test_one_sentence_tells_a_rate_only_where_there_is_one() -> None:
    each = live(Pipeline().new_state(1), 1, train(quiet(1), 3, 480))[0]
    assert "160 times" in sentence(each.rule, each.evidence)
    assert "16.0 an hour" in sentence(each.rule, each.evidence)
    seldom = live(Pipeline().new_state(1), 1, sparse(train(quiet(1), 3, 480), 5))[0]
    assert "an hour" not in sentence(seldom.rule, seldom.evidence)
    assert patient_sentence(seldom.rule, seldom.evidence).startswith("Your oxygen saturation fell by 4 points or more")
