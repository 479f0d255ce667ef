"""Injected events: what counts as found, to the instant; biases by hand; and one event through the processor's code."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluation.heard import Alert, Heard, Nights, Streams
from evaluation.injected import Subject, contamination, first_alert, relearning, summary
from evaluation.injector import CASES, HEART, Event, inject, place
from evaluation.rivals import EVERY, FORTNIGHT, SLOW, as_loud, begins
from services.cli.evaluate_stream import process
from simulators.patients import Patient
from simulators.profile import draw_profile
from simulators.series import DAY_MS

START_MS = 1_760_486_400_000
EVENT = Event("ramp_8_bpm_1_d", 10 * DAY_MS, 15 * DAY_MS)


def alert(found_ms: int, rule: str = "resting_heart_rate_rise", kind: str = "clinical") -> Alert:
    return Alert(rule, "clinical" if kind == "clinical" else "technical", found_ms - DAY_MS, found_ms, None)


def nights(value: list[float], first: int = 0, center: float = 60.0) -> Nights:
    n = len(value)
    whole = np.full(n, 20, np.int32)
    return Nights(np.arange(first, first + n, dtype=np.int32), np.array(value), np.full(n, center), np.ones(n), whole,
                  np.zeros(n), np.ones(n, bool))  # fmt: skip


@pytest.mark.parametrize(
    ("found_ms", "delay"),
    [(10 * DAY_MS, None), (10 * DAY_MS + 1, 0.0), (16 * DAY_MS, 6.0), (16 * DAY_MS + 1, None)],
)
def test_an_event_is_found_after_its_start_and_up_to_a_day_after_its_end(found_ms: int, delay: float | None) -> None:
    found = first_alert([alert(found_ms)], EVENT, HEART)
    assert found == (None if delay is None else pytest.approx(delay, abs=1e-6))


def test_only_an_alert_of_its_rules_finds_an_event_and_any_clinical_one_spoils_a_nuisance() -> None:
    other = [alert(12 * DAY_MS, "spo2_low")]
    assert first_alert(other, EVENT, HEART) is None
    assert first_alert(other, EVENT, frozenset()) == 2.0
    assert first_alert([alert(12 * DAY_MS, "battery_low", "technical")], EVENT, frozenset()) is None


def test_a_missed_event_counts_as_found_never() -> None:
    row = summary([1.0, 2.0, 3.0, None], [None, 1.0, None, None])
    assert (row["found"], row["n"], row["without_the_event"]) == (3, 4, 1)
    assert (row["delay_median"], row["delay_p90"]) == (3.0, None)
    assert summary([None, None], [None, None])["delay_median"] is None


def test_the_other_rules_are_never_louder() -> None:
    rng = np.random.default_rng(3)
    some = [nights((60 + rng.normal(0, 2, 80)).tolist()) for _ in range(4)]
    for episodes in (0, 3, 9):
        for name, rule in as_loud(some, episodes).items():
            assert sum(int(begins(rule(one.day, one.value)).sum()) for one in some) <= episodes, name
            assert name in EVERY


def test_bias_and_relearning_are_the_difference_the_event_makes() -> None:
    quiet = [60.0] * 60
    risen = quiet.copy()
    risen[20:27] = [65.0] * 7
    event, one = Event("step_5_bpm_7_d", 20 * DAY_MS, 27 * DAY_MS), Subject("x", {}, 0, None)
    hours = np.zeros(0, np.int64)
    before, after = Heard([], nights(quiet), hours), Heard([], nights(risen), hours)
    found = contamination([event], [one], [before], [after])
    assert found["after_1_d"]["ewma_0.05"]["median"] == pytest.approx(5 * (1 - 0.95**7) * 0.95, abs=0.01)
    assert 0 < found["after_1_d"][SLOW]["median"] < 1
    assert found["after_1_d"][FORTNIGHT]["median"] == 0
    lasting = Heard([], nights([60.0] * 20 + [65.0] * 40), hours)
    learned = relearning([event], [one], [before], [lasting])
    assert learned["median_28"] == {"n": 1, "learned": 1, "days_median_of_learned": 15.0}
    assert learned[FORTNIGHT]["learned"] == 0


def test_an_event_goes_through_the_processors_own_code() -> None:
    patient = Patient(draw_profile(3, 1))
    streams: Streams = patient.readings(START_MS, START_MS + 36 * DAY_MS)
    offset = patient.profile.utc_offset_min
    event = place("p", streams, offset, "ramp_8_bpm_1_d")
    assert event is not None
    injected = inject("p", streams, event)
    plain, changed, other = process(
        [streams, injected, injected], [offset] * 3, swapped_ms=[None, None, event.start_ms]
    )
    assert first_alert(changed.alerts, event, CASES[event.case].rules) is not None
    before = plain.nights.day < (event.start_ms + offset * 60_000) // DAY_MS
    assert before.sum() >= 20
    assert np.array_equal(
        plain.nights.z[before], changed.nights.z[: before.sum()], equal_nan=True
    )  # nothing leaks back
    assert json.dumps(summary([1.0], [None]))
    told, with_another = (first_alert(one.alerts, event, CASES[event.case].rules) for one in (changed, other))
    assert told is not None
    assert with_another is None or with_another > told, "what begins with another device is told later, if at all"
    assert other.nights.spread.max() > 1.3 * changed.nights.spread[before.sum() :].max(), "and less is sure of it"
