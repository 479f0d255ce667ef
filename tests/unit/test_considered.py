"""What else could have caused a finding: ruled out where the data exclude it, said where nobody knows."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import considered
from detectors.pipeline import Pipeline
from detectors.protocol import STEPS, Finding
from tests.unit.people import hour_of

RISE = "resting_heart_rate_rise"


def risen(*, steps: bool = True, moved: int = 0) -> Finding:
    """The first rise told of a person who is 9 /min above their normal from the 16th day on."""
    pipeline = Pipeline()
    state = pipeline.new_state(1)
    for number in range(24 * 24):
        day = number // 24
        level = 60 + np.random.default_rng(day).normal(0, 1.2, 1) + 9 * (day >= 16)
        hour = hour_of(number, level, offset=moved if day >= 16 else 0)
        if not steps:
            hour.mean[:, :, STEPS], hour.good[:, :, STEPS] = np.nan, 0
        for finding in pipeline.update(state, hour):
            if finding.rule == RISE and finding.change == "raised":
                return finding
    raise AssertionError


@pytest.mark.parametrize(
    ("story", "differs"),
    [
        ({}, {}),
        ({"steps": False}, {"activity": "unknown"}),
        ({"moved": 540}, {"time_zone": "possible"}),
    ],
)
def test_a_cause_is_ruled_out_only_where_the_data_exclude_it(
    story: dict[str, int], differs: dict[str, considered.Verdict]
) -> None:
    told = risen(**story).evidence["considered"]  # type: ignore[arg-type]
    causes = ("activity", "signal", "device", "time_zone", "wearer")
    assert told == dict.fromkeys(causes, "ruled_out") | differs


def test_a_medicine_is_never_ruled_out() -> None:
    evidence = risen().evidence
    none, one = (considered.with_medication(evidence, recorded)["considered"] for recorded in (False, True))
    assert (none["medication"], one["medication"]) == ("none_recorded", "possible")
    assert considered.in_words({"considered": none})[-1] == ("None recorded", "a medicine or event")
    assert considered.in_words({"considered": one})[-1] == ("Possible", "a medicine or event")
    assert considered.with_medication({}, recorded=True) == {}, "what considers nothing, as a limit, stays as it is"
