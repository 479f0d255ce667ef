"""Clinical scores over random people: each row by itself, and more knowledge never tells of less."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.scores import SCORES
from detectors.scores.clinical import ClinicalScore
from detectors.scores.observations import MAX_AGE_S, PARAMETERS, Observations

RANGES = {
    "respiratory_rate": (2, 80), "spo2": (50, 100), "supplemental_oxygen": (0, 15), "systolic_pressure": (40, 300),
    "heart_rate": (20, 300), "consciousness": (0, 4), "body_temperature": (25, 45),
}  # fmt: skip
SUMS = [score for score in SCORES if score.key != "shock_index"]

values = st.tuples(*(st.none() | st.floats(*RANGES[key], width=32) for key in PARAMETERS))
ages = st.tuples(*(st.floats(0, 2 * MAX_AGE_S[key]) for key in PARAMETERS))
person = st.tuples(values, ages, st.booleans(), st.tuples(st.sampled_from([False] * 4 + [True]), st.booleans()))
Person = tuple[tuple[float | None, ...], tuple[float, ...], bool, tuple[bool, bool]]


def observed(people: list[Person]) -> Observations:
    value = np.array([one[0] for one in people], np.float64).reshape(len(people), len(PARAMETERS))
    age_s = np.array([one[1] for one in people], np.float64).reshape(value.shape)
    who = np.array([one[3] for one in people], bool).reshape(len(people), 2)
    return Observations(value, age_s, np.array([one[2] for one in people], bool), who)


@given(st.lists(person, max_size=6), st.sampled_from(SCORES))
def test_a_person_is_scored_alike_alone_and_among_others(people: list[Person], score: ClinicalScore) -> None:
    together = score.work_out(observed(people))
    for row, one in enumerate(people):
        alone = score.work_out(observed([one]))
        for name in ("total", "points", "states", "red", "band", "off"):
            np.testing.assert_array_equal(getattr(together, name)[row], getattr(alone, name)[0], name)


@given(person, st.sampled_from(PARAMETERS), st.sampled_from(SUMS))
def test_one_more_value_never_lowers_a_score_nor_takes_a_band_back(one: Person, key: str, score: ClinicalScore) -> None:
    place = PARAMETERS.index(key)
    without = (one[0][:place] + (None,) + one[0][place + 1 :], *one[1:])
    less, more = (score.work_out(observed([each])) for each in (without, one))
    if less.complete[0] or np.isnan(less.total[0]):
        return
    assert more.total[0] >= less.total[0]
    assert more.band[0] >= less.band[0]


@given(person, st.sampled_from(SCORES))
def test_the_lowest_band_is_said_of_nobody_of_whom_something_is_missing(one: Person, score: ClinicalScore) -> None:
    scored = score.work_out(observed([one]))
    if scored.band[0] == 0:
        assert scored.complete[0]
    assert bool(scored.complete[0]) == (scored.known.all() and not any(one[3]))
