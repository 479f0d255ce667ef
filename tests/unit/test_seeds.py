"""How many seeds are judged: intervals by hand, and each way of failing named."""

from __future__ import annotations

import doctest

from evaluation import seeds
from evaluation.seeds import Tally, rate_interval, share_interval, verdict


def good() -> dict[str, Tally]:
    names = ("desaturation", "tachycardia", "fever", "infection", "late_burst", "device_off", "healthy")
    return {name: Tally(expected=20, raised=20, patient_weeks=60) for name in names}


def test_intervals_are_the_exact_ones() -> None:
    assert doctest.testmod(seeds).failed == 0
    assert share_interval(20, 20)[1] == 1.0
    assert rate_interval(0, 10)[0] == 0.0
    assert abs(rate_interval(0, 10)[1] - 0.3689) < 1e-3


def test_all_well() -> None:
    assert verdict(good(), []) == []


def test_each_failing_is_named() -> None:
    for change, word in (
        ({"fever": Tally(20, 19, missing=["seed 1 p15: fever"])}, "fever"),
        ({"infection": Tally(20, 15)}, "infection"),
        ({"healthy": Tally(false_clinical=19, patient_weeks=60)}, "healthy"),
        ({"device_off": Tally(20, 20, false_clinical=1)}, "device_off"),
        ({"late_burst": Tally(20, 19)}, "late_burst"),
    ):
        (what,) = verdict(good() | change, [])
        assert word in what
    assert verdict(good(), ["seed 3: the sets differ"]) == ["seed 3: the sets differ"]
