"""What detection costs: every kernel is measured, sums and verdicts are right, and what is not installed is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import costs, kernels, memory
from benchmarks.costs import NAMES, figures, markdown
from benchmarks.memory import Memory
from detectors.early_warning import EARLY_DTYPE
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.weight_gain import WEIGHT_DTYPE
from services.processor.waiting import READING, RUN

SMALL = Memory(total=9_000, row=1_879, pending=5_000, readings=177)
MACHINE = {"cpu": "c", "cpus": 2, "python": "3", "numpy": "2", "load_1m": [0.1, 1.0]}
ABOUT = {"machine": MACHINE, "date": "2026-11-28", "patients": 40, "batch": 20, "racing": 5}


def costing(**us: float) -> dict[str, list[float]]:
    """Samples of every kernel: so many microseconds a patient and call."""
    return {name: [us.get(name, 0.3)] * 4 for name in NAMES}


def test_every_kernel_is_measured_in_every_round_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BATCH", 20), ("BATCHES", 2), ("LEARNED_HOURS", 30)):
        monkeypatch.setattr(kernels, name, value)
    us = kernels.measure(rounds=2)
    assert set(us) == set(NAMES)
    for samples in us.values():
        assert len(samples) == 4
        assert min(samples) > 0


def test_the_vital_path_is_both_looks_of_limits_and_score_the_minute_and_its_share_of_the_closes() -> None:
    us = costing(
        limits=0.15, limits_often=2.7, news2=0.15, news2_often=0.3, minute=1.5, hour_close=18.0, day_close=432.0
    )
    document = figures(us, None, {1: SMALL})
    assert document["paths"]["path"]["median"] == pytest.approx(2 * (0.05 + 0.05) + 0.5 + 0.1 + 0.1)
    assert document["paths"]["path_often"]["median"] == pytest.approx(2 * (0.9 + 0.1) + 0.5 + 0.1 + 0.1)
    assert document["kernels"]["day_close"]["call"]["median"] == 432
    assert not document["kept"]  # the second is above a microsecond
    text = markdown(ABOUT | document)
    assert "| vital path, a reading a metric minute | 0.9 (0.9 to 0.9) µs | < 1 µs | kept |" in text
    assert "| vital path, a heart rate every 5 s | 2.7 (2.7 to 2.7) µs | < 1 µs | **missed** |" in text


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        (SMALL, True),
        (SMALL._replace(total=16_000), True),
        (SMALL._replace(total=16_001), False),
        (SMALL._replace(row=1_900), True),
        (SMALL._replace(row=1_901), False),
    ],
)
def test_an_aim_for_bytes_is_kept_or_missed(one: Memory, kept: bool) -> None:
    document = figures(costing(), None, {1: one})
    assert document["kept"] is kept
    assert (costs.MISSED in markdown(ABOUT | document)) is not kept


def test_libraries_are_shown_with_their_versions_or_said_to_be_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernels, "RIVALS", tmp_path / "python")
    assert kernels.rivals(5) is None
    assert "not installed: left out" in markdown(ABOUT | figures(costing(), None, {1: SMALL}))
    row: dict[str, Any] = {"name": "river x", "stands_for": "a score", "people": 5, "us": [1.0, 2.0, 3.0]}
    beside = {"versions": {"river": "0.26.1"}, "rows": [row]}
    text = markdown(ABOUT | figures(costing(), beside, {1: SMALL}))
    assert "| river x | a score | 5 | 2 (1 to 3) |" in text
    assert "river 0.26.1; n = 3" in text


def test_a_patient_in_memory_is_a_row_a_hot_state_and_the_readings_of_the_open_hour() -> None:
    seldom, often = (memory.measure(rate, people=3, hours=3) for rate in (1, 12))
    kept = (Pipeline.dtype, Limits().dtype, EARLY_DTYPE, WEIGHT_DTYPE)
    assert seldom.row == sum(one.itemsize for one in kept)
    assert seldom.readings == 59 * 3
    assert often.readings == 59 * 14
    assert seldom.pending == 59 * 3 * READING.itemsize + 3 * RUN.itemsize
    assert seldom.rest > 0
    assert often.total - seldom.total == pytest.approx(59 * 11 * READING.itemsize, rel=0.1)
