"""How many seeds are judged: intervals by hand, and each way of failing named."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from evaluation.seeds import judge, rate, rate_by_seed, share

NAMES = ("desaturation", "tachycardia", "fever", "infection", "late_burst", "device_off", "healthy")


def run(seed: int) -> dict[str, Any]:
    truth = {
        name: {"expected": int(name != "healthy"), "raised": int(name != "healthy"), "false_clinical": 0,
               "false_incidents": 0, "patient_weeks": 3.0, "missing": []}
        for name in NAMES
    }  # fmt: skip
    return {"seed": seed, "truth": truth, "broken": []}


def test_intervals_are_the_exact_ones() -> None:
    assert (round(share(16, 20).low, 3), round(share(16, 20).high, 3)) == (0.563, 0.943)
    assert share(20, 20).high == 1.0
    assert share(0, 20).low == 0.0
    assert (round(rate(3, 30).low, 3), round(rate(3, 30).high, 3)) == (0.021, 0.292)
    clustered = rate_by_seed([0, 0, 6], [10, 10, 10])
    assert clustered.value == 0.2
    assert clustered.low == 0.0
    assert clustered.high > rate(6, 30).high


def test_all_well() -> None:
    figures, wrong = judge([run(seed) for seed in range(20)])
    assert wrong == []
    assert figures["infection"]["raised"] == 20


@pytest.mark.parametrize("name", ["fever", "desaturation", "tachycardia", "late_burst", "device_off"])
def test_one_missed_is_named(name: str) -> None:
    documents = [run(seed) for seed in range(20)]
    documents[3]["truth"][name]["raised"] = 0
    assert any(name in what and "19 of 20" in what for what in judge(documents)[1])


def test_four_infections_may_be_missed_and_not_five() -> None:
    documents = [run(seed) for seed in range(20)]
    for document in documents[:4]:
        document["truth"]["infection"]["raised"] = 0
    assert judge(documents)[1] == []
    documents[4]["truth"]["infection"]["raised"] = 0
    assert "infection" in judge(documents)[1][0]


def test_false_alarms_and_broken_invariants_are_named() -> None:
    documents = [run(seed) for seed in range(20)]
    noisy = copy.deepcopy(documents)
    noisy[0]["truth"]["healthy"]["false_clinical"] = 19
    assert any("healthy" in what for what in judge(noisy)[1])
    noisy[0]["truth"]["healthy"]["false_incidents"] = 4
    figures = judge(noisy)[0]
    assert (figures["well"]["clinical"], figures["well"]["incidents"]) == (19, 4)
    assert figures["healthy"]["false_incident_rate"]["value"] == pytest.approx(4 / 60)
    documents[2]["broken"] = ["the sets differ"]
    assert judge(documents)[1] == ["seed 2: the sets differ"]
