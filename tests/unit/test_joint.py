"""The alert budget is kept by all adaptive rules together, and a sickness raises no threshold by which it is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import poisson

from detectors.baseline import NIGHT_BREATH, NIGHT_HEART, NIGHT_SKIN, REST_HEART, usual
from detectors.daily import LIMITS
from detectors.hours import REST_Z
from detectors.nights import NIGHT_Z
from detectors.pipeline import Pipeline
from detectors.protocol import Doubles, Finding
from detectors.rise import DETECTOR
from detectors.rules import ADAPTIVE, NEW_NORMAL, RESTING_HEART, SHARE
from evaluation.brief import brief
from evaluation.cells import ALLOWED
from evaluation.joint import Told, alerts_of, incidents, settle
from evaluation.made_up_hours import Bodies, bodies, hours
from evaluation.seeds import rate
from evaluation.tables import sheets

PEOPLE, DAYS = 100, 84
WEEKS = PEOPLE * DAYS / 7


@pytest.fixture(scope="module")
def heard() -> dict[float, Told]:
    return settle((PEOPLE, DAYS), sorted(LIMITS.values()))


@pytest.mark.parametrize("budget", LIMITS)
def test_all_adaptive_rules_together_keep_to_the_budget(heard: dict[float, Told], budget: str) -> None:
    """So few would come of a rate of 1.25 times the budget in one cast of twenty at the most."""
    asked = float(budget) * WEEKS
    together = incidents(heard[LIMITS[budget]])  # type: ignore[index]
    assert together < poisson.ppf(0.05, ALLOWED * asked)
    assert together > asked / 2  # and the budget is used: a rule that says nothing keeps to any


def test_every_other_rule_keeps_to_its_share(heard: dict[float, Told]) -> None:
    for people in heard.values():
        told = [rule for alerts in people for rule, _ in alerts]
        for rule in ADAPTIVE - {RESTING_HEART.id, NEW_NORMAL.id}:
            assert rate(told.count(rule), WEEKS).low < SHARE


def found(rule: str, change: str, day: int, row: int = 0) -> Finding:
    return Finding(row, rule, change, day * 86_400_000, day * 86_400_000 + 1, 0, {})  # type: ignore[arg-type]


def test_findings_become_alerts_and_concurrent_ones_one_incident() -> None:
    told = alerts_of(
        [
            found("a", "raised", 1), found("b", "raised", 2), found("a", "worsened", 2), found("a", "cleared", 3),
            found("b", "cleared", 4), found("a", "raised", 9), found("a", "raised", 9, row=1),
        ],
        2,
    )  # fmt: skip
    assert [[rule for rule, _ in alerts] for alerts in told] == [["a", "b", "a"], ["a"]]
    assert [alert.end_ms is None for _, alert in told[0]] == [False, False, True]
    assert incidents(told) == 3


def thresholds(of: Bodies) -> Doubles:
    """(N, 4) from where on the slow rule's night, the night's skin and breathing and an hour at rest are told."""
    pipeline = Pipeline()
    state = pipeline.new_state(len(of.night))
    for hour in hours(of):
        pipeline.update(state, hour)
    expected = usual(state["baselines"])
    center, spread, doubt = DETECTOR._expected(state["rise"])  # what the rule compares with
    nights = [expected.center[:, pair] + NIGHT_Z * expected.day[:, pair] for pair in (NIGHT_SKIN, NIGHT_BREATH)]
    at_rest = expected.center[:, REST_HEART] + REST_Z * expected.hour[:, REST_HEART]
    return np.stack([center[:, 0] + np.sqrt(spread**2 + doubt)[:, 0], *nights, at_rest], axis=1)


def test_a_sickness_raises_no_threshold_of_an_adaptive_rule() -> None:
    well = bodies(12, 42)
    days = np.arange(42) >= 32  # the last ten nights
    sick = replace(
        well, night=well.night + 12 * days, rest=well.rest + 12 * days, skin=well.skin + 3 * days,
        breath=well.breath + 6 * days,
    )  # fmt: skip
    higher = np.median(thresholds(sick) - thresholds(well), axis=0)
    assert higher[0] < 2.0  # /min, of 12: the slow mean follows by bounded steps, its spread learns nothing
    assert (higher[1:] < [0.3, 0.6, 1.2]).all()  # a tenth of the rise
    assert NIGHT_HEART == 0


def test_the_figures_are_told_as_tables() -> None:
    row = {"rate": 0.09, "ci": [0.08, 0.1]}
    alerts = {
        "resting_heart_rate_rise": {"n": 9, **row, "share_held": None},
        "spo2_drift": {"n": 9, **row, "share_held": False},
    }
    one = {"limit": 4.5, "incidents": 9, **row, "held": True, "looser": {"limit": 4.0, **row}, "alerts": alerts}
    budgets = {"0.1": one, "0.2": one | {"held": False}, "0.3": one}
    document = {"task": "joint", "n": 4, "days": 84, "weeks": 48.0, "share": 0.005, "budgets": budgets}
    together, each = sheets(document)
    assert together.rows[0] == ("≤ 0.1", "4.5", "9", "0.090 (0.080 to 0.100)", "4.0", "0.090 (0.080 to 0.100)")
    assert together.rows[1][3].endswith("*")
    assert each.rows[1][0] == "`spo2_drift`"
    assert each.rows[1][1].endswith("*")
    assert not each.rows[0][1].endswith("*")
    said = brief(document)
    assert "**The budget does not hold at 0.2 for all adaptive rules together**" in said
    assert "the loudest, `spo2_drift`, costs 0.0900" in said
    assert "**The budget holds for" in brief(document | {"budgets": dict.fromkeys(budgets, one)})
