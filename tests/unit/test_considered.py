"""What else could have caused a finding: ruled out where the data exclude it, said where nobody knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors import considered
from detectors.baseline import LEARNED, REST_HEART
from detectors.devices import WATCHED
from detectors.pipeline import Pipeline
from detectors.protocol import STEPS, Finding
from tests.unit.people import hour_of

RISE = "resting_heart_rate_rise"


def risen(*, steps: str = "always", moved: int = 0, device: int = 1, alone: bool = False) -> Finding:
    """The first rise told of a person who is 9 /min above their normal from the 16th day on.

    ``steps`` reported always, never, or by day; ``device`` 0: nobody knows which; ``alone``: of a heart rate alone.
    """
    pipeline = Pipeline()
    state = pipeline.new_state(1)
    for number in range(24 * 24):
        day = number // 24
        level = 60 + np.random.default_rng(day).normal(0, 1.2, 1) + 9 * (day >= 16)
        hour = hour_of(number, level, offset=moved if day >= 16 else 0)
        hour.device[:] = device
        if alone:
            hour.mean[:, :, 2:], hour.good[:, :, 2:] = np.nan, 0
        if steps == "never" or (steps == "by day" and number % 24 not in range(8, 22)):
            hour.mean[:, :, STEPS], hour.good[:, :, STEPS] = np.nan, 0
        for finding in pipeline.update(state, hour):
            if finding.rule == RISE and finding.change == "raised":
                return finding
    raise AssertionError


@pytest.mark.parametrize(
    ("story", "differs"),
    [
        ({}, {}),
        ({"steps": "never"}, {"activity": "unknown"}),
        ({"steps": "by day"}, {"activity": "unknown"}),
        ({"device": 0}, {"device": "unknown"}),
        ({"alone": True}, {"wearer": "unknown"}),
        ({"moved": 540}, {"time_zone": "possible"}),
    ],
)
def test_a_cause_is_ruled_out_only_where_the_data_exclude_it(
    story: dict[str, Any], differs: dict[str, considered.Verdict]
) -> None:
    told = risen(**story).evidence["considered"]
    causes = ("activity", "signal", "device", "time_zone", "wearer")
    assert told == dict.fromkeys(causes, "ruled_out") | differs


def test_a_medicine_is_never_ruled_out() -> None:
    evidence = risen().evidence
    none, one = (considered.with_medication(evidence, recorded)["considered"] for recorded in (False, True))
    assert (none["medication"], one["medication"]) == ("none_recorded", "possible")
    assert considered.in_words({"considered": none})[-1] == ("None recorded", "a medicine or event")
    assert considered.in_words({"considered": one})[-1] == ("Possible", "a medicine or event")
    assert considered.with_medication({}, recorded=True) == {}, "what considers nothing, as a limit, stays as it is"


def test_nothing_is_ruled_out_that_is_not_looked_at() -> None:
    state, nobody = Pipeline().new_state(1), np.array([False])
    state["devices"]["number"][:, :, 0] = 1
    for metric, device in (("heart_rate", "ruled_out"), ("spo2", "unknown"), ("respiratory_rate", "unknown")):
        told = considered.of_day(state, nobody, 0, {"metric": metric, "context": "asleep"})["considered"]
        assert (told["device"], told["wearer"]) == (device, "unknown"), metric
    state["devices"]["minutes"][:, WATCHED.index(REST_HEART), 1] = 20  # of the open day, by one never heard before
    assert considered.of_hour(state, 0)["considered"]["device"] == "possible"
    state["devices"]["minutes"] = 0
    assert considered.of_hour(state, 0)["considered"] == {
        "activity": "ruled_out", "signal": "ruled_out", "device": "ruled_out", "time_zone": "ruled_out",
        "wearer": "unknown",
    }  # fmt: skip


def test_who_is_ill_in_two_vitals_may_be_somebody_else() -> None:
    state, nobody = Pipeline().new_state(1), np.array([False])
    state["day"]["n"], state["baselines"]["n"] = 400, LEARNED
    night = {"metric": "heart_rate", "context": "asleep"}
    assert considered.of_day(state, nobody, 0, night)["considered"]["wearer"] == "ruled_out"
    state["wearer"]["mean"][0, [0, 3]] = 1  # faster and warmer, after one night of each
    assert considered.of_day(state, nobody, 0, night)["considered"]["wearer"] == "unknown"
