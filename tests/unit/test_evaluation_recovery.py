"""How long a heart is up after a walk: what is measured of people who are made up, and how candidates are judged."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.context import contexts
from detectors.minutes import live_minutes
from detectors.protocol import ASLEEP, HOUR_MS, MINUTE_MS, REST
from detectors.slices import hours_of
from evaluation.exertion import BEFORE, SINCE, Walked, excess, walked
from evaluation.recovery import CANDIDATES, fast, marked, rises, told
from evaluation.wearers import Wearer
from simulators.series import series

DAYS, FIRST_MS = 26, 20_000 * 24 * HOUR_MS
UP, FADES = 20.0, 15.0  # /min at the end of the walk; minutes


@pytest.fixture(scope="module")
def person() -> Wearer:
    """60 /min by night and 72 by day; an hour's walk at noon, from which the heart comes down slowly."""
    rng = np.random.default_rng(5)
    minute = np.arange(DAYS * 1440)
    clock = minute % 1440
    night, walk = (clock < 8 * 60) | (clock >= 22 * 60), (clock >= 720) & (clock < 780)
    since = np.maximum(clock - 779, 0)
    rate = np.where(night, 60.0, 72.0) + np.where(walk, UP, np.where(since > 0, UP * np.exp(-since / FADES), 0.0))
    rate += rng.normal(0, 1.5, DAYS)[minute // 1440] + rng.normal(0, 1, len(minute))
    t_ms = FIRST_MS + MINUTE_MS * minute
    steps = np.where(walk, 100.0, np.where(clock % 240 == 0, 20.0, 0.0) * ~night)
    return Wearer("made up", {"heart_rate": series(t_ms, rate), "steps": series(t_ms, steps)}, None, "")


def test_a_heart_that_comes_down_slowly_is_measured_to(person: Wearer) -> None:
    after_much = excess([walked(person)])[BEFORE.index(3000)]
    for (mean, _, people, minutes), low, high in zip(after_much, SINCE, SINCE[1:], strict=False):
        if high <= 31:  # later most of the walk lies more than an hour and a half ago
            assert mean == pytest.approx(np.mean(UP * np.exp(-np.arange(low, high) / FADES)), abs=0.7)
            assert (people, minutes) == (1, DAYS * (high - low))
    little = excess([walked(person)])[0]
    assert all(abs(mean) < 1 for mean, _, people, _ in little if people)


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_marked_minute_is_no_rest_and_no_other_becomes_so(person: Wearer, name: str) -> None:
    of = walked(person)
    recovers = CANDIDATES[name](of)
    last, found = np.zeros(1, np.int32), list[int]()
    for hour in hours_of({"steps": (of.minute * MINUTE_MS, marked(of, recovers))}):
        found += contexts(last, live_minutes(hour))[0].tolist()
    still = np.isin(found, (ASLEEP, REST))
    assert (still == ~recovers & (of.since > 10)).all()


def test_ten_minutes_are_what_runs(person: Wearer) -> None:
    end_ms = FIRST_MS + 9 * 24 * HOUR_MS
    streams = {metric: stream.between(FIRST_MS, end_ms) for metric, stream in person.streams.items()}
    part = Wearer("made up", streams, None, "")
    of = walked(part)
    as_it_is = told(part, of, np.zeros(len(of.steps), bool))
    assert told(part, of, CANDIDATES["ten minutes (what runs)"](of)) == as_it_is
    assert told(part, of, CANDIDATES["an hour"](of))["z"] != as_it_is["z"]
    assert len(as_it_is["z"]) == 9 - 5  # less those learned from before any is judged


def test_rises_are_looked_for_without_what_is_left_out(person: Wearer) -> None:
    few, none = (rises([person], CANDIDATES[name]) for name in ("ten minutes (what runs)", "an hour"))
    assert few.keys() == none.keys()
    assert few["at rest by day"]["0.1"]["found"] >= 0


def test_it_is_told_how_long_after_the_last_step_a_limit_at_rest_began(person: Wearer) -> None:
    heart = person.streams["heart_rate"]
    at = (heart.t_ms >= FIRST_MS + 14 * HOUR_MS) & (heart.t_ms < FIRST_MS + 15 * HOUR_MS)
    streams = {**person.streams, "heart_rate": series(heart.t_ms, np.where(at, 150.0, heart.value))}
    racing = Wearer("made up", streams, None, "")
    of: Walked = walked(racing)
    assert list(fast(racing, of)) == [(61, 2900)]
    assert list(fast(person, walked(person))) == []
