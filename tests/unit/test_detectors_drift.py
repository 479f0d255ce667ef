"""What drifts from a person's first weeks: told however slow it is, and not learned beyond the bound unasked."""

import numpy as np
import pytest

from detectors.afresh import start_afresh
from detectors.baseline import LEARNED, NIGHT_BREATH, NIGHT_SPO2, usual
from detectors.drift import MOSTLY
from detectors.explain import patient_sentence, sentence
from detectors.pipeline import Pipeline
from detectors.protocol import VITALS
from tests.unit.people import local_day, nightly_rates

MANY = 20


def test_a_decline_too_slow_for_every_other_rule_is_told_from_the_first_weeks() -> None:
    """A beat in a month: the slow mean follows, and after some months the fortnight is far from the first one."""
    noise = np.random.default_rng(2).normal(60, 2, (600, MANY))
    climb = np.repeat(np.maximum(0, np.arange(600) - 30)[:, None] / 28, MANY, 1)
    told = [finding for finding in nightly_rates(noise + climb) if finding.rule == "heart_rate_drift"]
    assert {finding.row for finding in told if finding.change == "raised"} == set(range(MANY))
    assert len({finding.row for finding in told if finding.change == "worsened"}) > MANY // 2
    for finding in told:
        evidence = finding.evidence
        assert evidence["difference"] == pytest.approx(evidence["value"] - evidence["usual"])
    assert "heart_rate_drift" not in {finding.rule for finding in nightly_rates(noise)}


@pytest.mark.parametrize("fall", [2.5, 3.5, 5, 8])
def test_a_fall_that_stays_is_told_within_weeks_however_large_it_is(fall: float) -> None:
    """No night of it is ever clean, so the fortnight's median does not move: the nights themselves tell."""
    saturation = np.random.default_rng(4).normal(96, 0.4, (80, MANY))
    saturation[40:] -= fall
    found = nightly_rates(saturation, pair=NIGHT_SPO2)
    first = {f.row: f.evidence["day"] - local_day(1) for f in reversed(found) if f.rule == "spo2_drift"}
    assert set(first) == set(range(MANY))
    assert max(first.values()) - 40 < 21
    assert min(first.values()) >= 40


@pytest.mark.parametrize(
    ("pair", "metric", "usual_value", "sd", "a_night", "bound"),
    [(NIGHT_SPO2, "spo2", 96, 0.4, -0.04, -2), (NIGHT_BREATH, "respiratory_rate", 15, 0.5, 0.06, 3)],
)
def test_what_is_asked_about_is_learned_up_to_the_bound_and_beyond_it_once_somebody_said_so(
    pair: int, metric: str, usual_value: float, sd: float, a_night: float, bound: float
) -> None:
    """So slow that each night is clean: first learned as it comes, then held, told, and told again at twice of it."""
    slow = usual_value + a_night * np.clip(np.arange(150) - 30, 0, 75)  # one and a half bounds, and there it stays
    noise = np.random.default_rng(7).normal(0, sd, (150 + 60, MANY))
    state, rule = Pipeline().new_state(MANY), f"{metric}_drift"
    told = [f for f in nightly_rates(slow[:, None] + noise[:150], state, pair=pair) if f.rule == rule]
    assert {(f.row, f.change) for f in told} == {(row, "raised") for row in range(MANY)}
    anchor = state["baselines"]["anchor"][:, pair].copy()
    side = np.sign(bound)
    assert (side * (state["baselines"]["median"][:, pair] - anchor) <= abs(bound)).all()
    start_afresh(state, np.arange(MANY), VITALS.index(metric))
    again = nightly_rates(slow[-1] + noise[150:157], state, 151, pair)
    assert (state["baselines"]["n"][:, pair] >= LEARNED).all()
    assert np.abs(state["baselines"]["median"][:, pair] - slow[-1]).max() < 4 * sd
    again += nightly_rates(slow[-1] + noise[157:180], state, 158, pair)
    assert rule not in {f.rule for f in again}
    more = [f for f in nightly_rates(slow[-1] + bound + noise[180:], state, 181, pair) if f.rule == rule]
    assert {f.row for f in more if f.change == "worsened"} == set(range(MANY))
    assert (side * (state["baselines"]["median"][:, pair] - anchor) <= 2 * abs(bound)).all()
    assert (state["baselines"]["anchor"][:, pair] == anchor).all()


def test_a_new_normal_said_before_the_drift_was_told_is_heeded_and_forgotten_once_it_is_over() -> None:
    saturation = np.random.default_rng(8).normal(96, 0.3, (120, MANY))
    saturation[40:70] -= 2.8
    saturation[100:] -= 2.8
    state = Pipeline().new_state(MANY)
    found = nightly_rates(saturation[:44], state, pair=NIGHT_SPO2)
    mostly = np.flatnonzero(state["drift_nights"][:, 1] >= MOSTLY)
    assert len(mostly) > 0.9 * MANY
    start_afresh(state, np.arange(MANY), VITALS.index("spo2"))
    found += nightly_rates(saturation[44:100], state, 45, NIGHT_SPO2)
    assert not {f.row for f in found if f.rule == "spo2_drift"} & set(mostly.tolist())
    later = nightly_rates(saturation[100:], state, 101, NIGHT_SPO2)
    assert {f.row for f in later if f.rule == "spo2_drift" and f.change == "raised"} == set(range(MANY))


def test_what_is_held_after_a_new_normal_said_too_early_is_asked_about_again() -> None:
    """Said while nothing had drifted yet: no night of what comes is learned, so the nights themselves must tell."""
    saturation = np.random.default_rng(9).normal(96, 0.3, (70, MANY))
    saturation[30:] -= 2.9
    state = Pipeline().new_state(MANY)
    nightly_rates(saturation[:30], state, pair=NIGHT_SPO2)
    start_afresh(state, np.arange(MANY), VITALS.index("spo2"))
    found = nightly_rates(saturation[30:45], state, 31, NIGHT_SPO2)
    told = [f for f in found if f.rule == "spo2_drift"]
    assert {(f.row, f.change) for f in told} == {(row, "raised") for row in range(MANY)}
    assert {(f.evidence["n_days"], f.evidence["median"]) for f in told} == {(0, None)}
    assert sentence("spo2_drift", told[0].evidence).endswith("Is this a new normal?")
    assert "normal" not in patient_sentence("spo2_drift", told[0].evidence), "that is asked of the team"
    start_afresh(state, np.arange(MANY), VITALS.index("spo2"))
    nightly_rates(saturation[45:], state, 46, NIGHT_SPO2)
    assert (state["baselines"]["n"][:, NIGHT_SPO2] >= LEARNED).all()


def test_what_lies_beyond_the_last_level_is_learned_once_it_is_the_new_normal() -> None:
    saturation = np.random.default_rng(10).normal(97, 0.3, (90, MANY))
    saturation[30:] -= 7  # three and a half bounds, as who moves to the mountains
    state = Pipeline().new_state(MANY)
    found = nightly_rates(saturation[:60], state, pair=NIGHT_SPO2)
    assert {f.row for f in found if f.rule == "spo2_drift" and f.change == "worsened"} == set(range(MANY))
    assert np.abs(state["baselines"]["median"][:, NIGHT_SPO2] - 97).max() < 1
    start_afresh(state, np.arange(MANY), VITALS.index("spo2"))
    nightly_rates(saturation[60:], state, 61, NIGHT_SPO2)
    assert np.abs(state["baselines"]["median"][:, NIGHT_SPO2] - 90).max() < 1


def test_what_nothing_asks_about_is_not_learned_because_it_lasts() -> None:
    breaths = np.random.default_rng(5).normal(15, 0.4, (150, MANY))
    breaths[40:] += 2.8
    state = Pipeline().new_state(MANY)
    found = nightly_rates(breaths, state, pair=NIGHT_BREATH)
    risen = [f for f in found if f.rule == "night_respiratory_rate_rise"]
    assert {f.row for f in risen} == set(range(MANY))
    assert {f.change for f in risen} == {"raised"}  # it stands
    assert np.abs(usual(state["baselines"]).center[:, NIGHT_BREATH] - 15).max() < 0.7
