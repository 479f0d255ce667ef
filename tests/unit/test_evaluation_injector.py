"""The injector: what it puts where, to the reading; and that it stays as it was frozen."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from evaluation.heard import Streams
from evaluation.injector import CASES, QUIET_DAYS, Event, inject, place
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS, Series

START_MS = 1_760_486_400_000
DAYS = 60


@pytest.fixture(scope="module")
def streams() -> Streams:
    n = DAYS * 1440
    t_ms = START_MS + np.arange(n) * MINUTE_MS
    quality = np.zeros(n, np.uint8)
    values = {"heart_rate": 60, "spo2": 97, "hrv_rmssd": 50, "body_temperature": 36.7, "steps": 0}
    return {metric: Series(t_ms, np.full(n, value, np.float32), quality) for metric, value in values.items()}


def test_a_ramp_rises_over_its_days_holds_and_ends(streams: Streams) -> None:
    event = Event("ramp_8_bpm_3_d", START_MS + 20 * DAY_MS, START_MS + 27 * DAY_MS)
    day = inject("x", streams, event)["heart_rate"].value.reshape(DAYS, 1440).mean(1) - 60
    assert day[:20].max() == 0
    assert day[20:23] == pytest.approx([8 / 6, 4, 40 / 6], abs=0.1)
    assert day[23:27].tolist() == [8] * 4
    assert day[27:].max() == 0
    assert (streams["heart_rate"].value == 60).all()  # what was given is left alone


@pytest.mark.parametrize("case", ["step_5_bpm_for_ever", "device_swap"])
def test_what_stays_stays(streams: Streams, case: str) -> None:
    event = Event(case, START_MS + 20 * DAY_MS, START_MS + 27 * DAY_MS)
    value = inject("x", streams, event)["heart_rate"].value
    assert value[-1440:].mean() > 62
    assert value[: 20 * 1440].max() == 60


def test_the_other_kinds_change_their_own_metrics(streams: Streams) -> None:
    start, end = START_MS + 20 * DAY_MS, START_MS + 21 * DAY_MS
    middle = 20 * 1440 + 1000
    assert (
        inject("x", streams, Event("hrv_minus_20_percent", start, end + 5 * DAY_MS))["hrv_rmssd"].value[
            -39 * 1440 + 1440
        ]
        == 40
    )
    hot = inject("x", streams, Event("fever", start, end))
    assert hot["body_temperature"].value[middle] == pytest.approx(38.9)
    assert hot["heart_rate"].value[middle] == 75
    low = inject("x", streams, Event("desaturation_train", start, start + 4 * HOUR_MS))["spo2"].value
    dips = low[20 * 1440 : 20 * 1440 + 240] < 97
    assert 60 <= dips.sum() <= 100
    assert 83 <= low.min() <= 91
    assert low[20 * 1440 + 245 :].min() == 97


def test_a_clock_that_jumps_loses_no_order(streams: Streams) -> None:
    event = Event("clock_jump", START_MS + 20 * DAY_MS, START_MS + 22 * DAY_MS)
    heart = inject("x", streams, event)["heart_rate"]
    assert (np.diff(heart.t_ms) > 0).all()
    assert len(heart.t_ms) == DAYS * 1440 - 180  # three hours came twice
    assert int(np.diff(heart.t_ms).max()) == 181 * MINUTE_MS


@pytest.mark.parametrize("case", CASES)
def test_where_it_goes_follows_from_the_seed_and_keeps_clear(streams: Streams, case: str) -> None:
    event = place("x", streams, 0, case)
    if event is None:
        assert CASES[case].metric not in streams or CASES[case].days + QUIET_DAYS + 2 > DAYS
        return
    assert event == place("x", streams, 0, case)
    assert event.start_ms >= START_MS + QUIET_DAYS * DAY_MS
    assert event.end_ms <= START_MS + DAYS * DAY_MS
    onset = int(event.start_ms // DAY_MS)
    moved = place("x", streams, 0, case, onset)
    assert moved is None or not -14 <= moved.start_ms // DAY_MS - onset <= 21


def test_nothing_is_injected_where_nothing_is_measured(streams: Streams) -> None:
    assert place("x", {"steps": streams["steps"]}, 0, "fever") is None


def test_several_vitals_move_a_little_together(streams: Streams) -> None:
    start = START_MS + 20 * DAY_MS
    event = Event("several_1_sd_3_d", start, start + 7 * DAY_MS)
    changed = inject("x", every_vital(streams), event)
    moved = {metric: s.value.reshape(DAYS, 1440).mean(1) for metric, s in changed.items()}
    at_full = {metric: round(float(day[23:27].mean() - day[0]), 1) for metric, day in moved.items()}
    assert at_full == {
        "heart_rate": 2.5, "spo2": -0.7, "hrv_rmssd": -10, "respiratory_rate": 0.7, "skin_temperature": 0.4,
        "body_temperature": 0, "steps": 0,
    }  # fmt: skip
    assert moved["heart_rate"][21] - 60 == pytest.approx(1.25, abs=0.1)
    assert {metric: set(np.delete(day, range(20, 27))) for metric, day in moved.items()} == {
        metric: {day[0]} for metric, day in moved.items()
    }


def every_vital(streams: Streams) -> Streams:
    heart = streams["heart_rate"]
    more = {"respiratory_rate": 15, "skin_temperature": 34}
    return {**streams, **{m: heart._replace(value=np.full_like(heart.value, v)) for m, v in more.items()}}


@pytest.mark.parametrize(("several", "frozen"), [(False, "7544d8f1c6801446"), (True, "ce36f5e1acb1e50d")])
def test_the_injector_is_as_it_was_frozen(streams: Streams, several: bool, frozen: str) -> None:
    digest = hashlib.sha256()
    streams = every_vital(streams) if several else streams
    for case in CASES:
        if (CASES[case].kind == "several") != several:
            continue
        event = place("frozen", streams, 60, case)
        assert event is not None
        digest.update(f"{event}".encode())
        for metric, s in sorted(inject("frozen", streams, event).items()):
            digest.update(metric.encode() + s.t_ms.tobytes() + s.value.tobytes())
    assert digest.hexdigest()[:16] == frozen
