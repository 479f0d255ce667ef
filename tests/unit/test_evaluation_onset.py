"""The onset task: windows to the day, budgets and mixtures by hand, causality, and what it says of a wrong folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from detectors.daily import LIMITS
from detectors.pipeline import Pipeline
from detectors.protocol import DAY_MS, HOUR_MS, Bools, Doubles, blank_hour
from evaluation import daily, nightly, onset
from evaluation.brief import brief
from evaluation.budgets import Rates, beside, budget_rows, resampled
from evaluation.days import CHANNELS, COLUMNS, NotEvaluable, Person, read_person
from evaluation.nested import folds, nested
from evaluation.references import REFERENCES
from evaluation.windows import Counts, control_windows, count, count_person, eligible
from services.cli.main import create_app

DAILY = Path(__file__).parents[3] / "shared" / "data" / "onset_daily"
EVERY_DAY = np.arange(-60, 60, dtype=np.int32)


def active_on(*days: int) -> Bools:
    return np.isin(EVERY_DAY, days)[None, :]


def a_person(seed: int, n: int = 80, first: int = -50) -> Person:
    rng = np.random.default_rng(seed)
    day = np.sort(rng.choice(np.arange(first, first + n + 10), n, replace=False))
    value = np.stack([rng.normal(70, 3, n), rng.normal(8, 1, n), rng.normal(0.2, 0.02, n), rng.normal(7, 1, n),
                      rng.normal(6000, 1500, n)], axis=1)  # fmt: skip
    return Person(f"p{seed}", day, value, "")


def write_person(folder: Path, person: Person) -> None:
    lines = ["Day, " + ", ".join([*COLUMNS.values(), "Data source"]) + " "]
    lines += [
        ", ".join([str(d), *(f"{v:.6f}" for v in row), "made up"])
        for d, row in zip(person.day, person.value, strict=True)
    ]
    (folder / f"{person.name}_results.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(6):
        write_person(tmp_path, a_person(seed))
    return tmp_path


@pytest.mark.parametrize(
    ("day", "found", "began"), [(-8, 0, 0), (-7, 1, 1), (0, 1, 1), (1, 0, 0)], ids=["-8", "-7", "0", "1"]
)
def test_the_window_before_the_onset_is_eight_days(day: int, found: int, began: int) -> None:
    counts, _, _ = count_person(EVERY_DAY, active_on(day))
    assert (counts[0, 0], counts[2, 0]) == (found, began)


def test_an_alert_that_goes_on_into_a_window_is_active_there_and_has_not_begun_there() -> None:
    counts, _, _ = count_person(EVERY_DAY, active_on(-8, -7, -6))
    assert (counts[0, 0], counts[2, 0]) == (1, 0)


@pytest.mark.parametrize(("day", "n"), [(-47, 0), (-46, 1), (-22, 1), (-21, 0), (35, 0), (36, 1)])
def test_episodes_count_where_a_person_is_healthy_and_known_for_14_days(day: int, n: int) -> None:
    counts, _, weeks = count_person(EVERY_DAY, active_on(day))
    assert counts[4, 0] == n
    assert weeks == (25 + 24) / 7


@pytest.mark.parametrize(("day", "n"), [(-46, 1), (-31, 1), (-30, 1), (-23, 1), (-22, 0), (36, 1), (59, 1)])
def test_control_windows_lie_side_by_side_and_never_near_the_onset(day: int, n: int) -> None:
    counts, windows, _ = count_person(EVERY_DAY, active_on(day))
    assert (windows, counts[1, 0]) == (6, n)


def test_a_control_window_needs_five_valid_days() -> None:
    early = np.arange(-60, -46)  # the 14 that warm up
    assert control_windows(np.array([*early, -46, -45, -44, -43, -39])) == [(-46, -39)]
    assert control_windows(np.array([*early, -46, -45, -44, -43, -38])) == []


def test_who_is_eligible() -> None:
    before, near = list(range(-28, -14)), [-14, -9, -5, -1, 0]
    assert eligible(np.array(before + near))
    assert not eligible(np.array(before[1:] + near))
    assert not eligible(np.array(before + near[1:]))
    assert not eligible(np.array([*before, *near[:4], 1]))  # the day after does not count


def two_people() -> Counts:
    """At thresholds 1, 2, 3: 4, 2, 0 episodes in 10 weeks; found 2, 1, 0 of 2; control 3, 1, 0 of 4 windows."""
    hit, flagged = np.array([[1.0, 1], [1, 0], [0, 0]]), np.array([[2.0, 1], [1, 0], [0, 0]])
    return Counts(
        hit, flagged, hit, flagged, np.array([[2.0, 2], [2, 0], [0, 0]]), np.array([2.0, 2]), np.array([5.0, 5])
    )


def test_a_budget_takes_the_least_strict_threshold_within_it() -> None:
    rows = budget_rows(Rates.of(two_people(), resampled(2, 10)), np.array([1.0, 2, 3]))
    assert [rows[b]["threshold"] for b in ("0.1", "0.2", "0.3")] == [3.0, 2.0, 2.0]
    assert (rows["0.2"]["rate"], rows["0.2"]["sensitivity"], rows["0.2"]["control"]) == (0.2, 0.5, 0.25)
    assert rows["0.2"]["lift"] == 25.0


def test_a_rule_that_is_always_on_never_stands_for_a_small_budget() -> None:
    counts = two_people()
    silent = np.array([[0.0, 0], [2, 2], [2, 0], [0, 0]])  # always on: it never begins
    hit, flagged = (np.concatenate([np.full((1, 2), n), a]) for n, a in ((1.0, counts.hit), (2.0, counts.flagged)))
    grown = Counts(hit, flagged, hit, flagged, silent, counts.windows, counts.weeks)
    rows = budget_rows(Rates.of(grown, resampled(2, 10)), np.array([0.0, 1, 2, 3]))
    assert rows["0.3"]["threshold"] == 2.0


def test_rules_are_compared_where_they_cost_the_same() -> None:
    theirs = Rates.of(two_people(), resampled(2, 10))
    ours = np.array([[0.9] * 11, [0.5] * 11, [0.9] * 11, [0.5] * 11, [0.3] * 11])
    found = beside(ours, theirs)
    # at 0.3 a week, half way between 0.2 and 0.4: found (0.5 + 1) / 2, control (0.25 + 0.75) / 2
    assert found["at_rate"]["lift_difference"] == pytest.approx((0.4 - (0.75 - 0.5)) * 100)
    # at 0.5 of the windows, half way as well
    assert found["at_control"]["lift_difference"] == pytest.approx((0.4 - (0.75 - 0.5)) * 100)
    assert found["at_rate"]["reached"]
    assert not beside(np.array([[0.9] * 11, [0.9] * 11, [0.9] * 11, [0.9] * 11, [0.3] * 11]), theirs)["at_control"][
        "reached"
    ]


def test_the_fixed_rule_speaks_on_the_second_night_at_4_bpm() -> None:
    value: Doubles = np.full(20, 60.0)
    value[15:17] = 64.0
    value[18] = 70.0
    active = REFERENCES["fixed_4bpm_2_nights"].active(np.arange(20, dtype=np.int32), value)
    at = int(np.argmin(np.abs(REFERENCES["fixed_4bpm_2_nights"].thresholds - 4)))
    assert np.flatnonzero(active[at]).tolist() == [16]


def paths_of(person: Person) -> list[Bools]:
    every = [reference.active(person.day, person.value[:, 0]) for reference in REFERENCES.values()]
    every.append(daily.paths([person])[0])
    return [*every, nightly.replay([person])[0].active[None, :]]


@given(st.integers(0, 1000), st.integers(1, 79))
@settings(max_examples=6, deadline=None)
def test_what_is_said_of_a_day_never_depends_on_later_days(seed: int, cut: int) -> None:
    person = a_person(seed)
    short = Person(person.name, person.day[:cut], person.value[:cut], "")
    for whole, part in zip(paths_of(person), paths_of(short), strict=True):
        assert np.array_equal(whole[:, :cut], part)


@given(st.permutations(range(5)))
@settings(max_examples=2, deadline=None)
def test_the_order_of_the_people_changes_nothing(order: list[int]) -> None:
    people = [a_person(seed, 40) for seed in range(5)]
    shuffled = [people[i] for i in order]
    for a, b in zip(nightly.replay(people), [nightly.replay(shuffled)[order.index(i)] for i in range(5)], strict=True):
        assert np.array_equal(a.active, b.active)
        assert np.array_equal(a.z, b.z)
    one, other = (
        count([(p.day, REFERENCES["cusum_k0.5"].active(p.day, p.value[:, 0])) for p in which])
        for which in (people, shuffled)
    )
    assert np.array_equal(one.episodes.sum(1), other.episodes.sum(1))


def test_daily_values_go_through_the_very_code_of_the_processor() -> None:
    """The same nights, minute by minute through the whole pipeline and as daily values: the same scores."""
    value: Doubles = np.round(np.random.default_rng(5).normal(60, 2, 40) + np.where(np.arange(40) > 30, 5, 0), 3)
    pipeline = Pipeline()
    state, z, active = pipeline.new_state(1), [], []
    for i, rate in enumerate([*value, 60.0]):
        for local_hour in range(3):
            hour = blank_hour([0], [(nightly.FIRST_DAY + i) * DAY_MS + local_hour * HOUR_MS], [0])
            hour.mean[:, :, 0], hour.low[:, :, 0], hour.high[:, :, 0], hour.good[:, :, 0] = (
                rate,
                rate - 0.5,
                rate + 0.5,
                4,
            )
            days = pipeline.settle(state, hour).days
            if len(days.z):
                z.append(float(days.z[0]))
                active.append(bool(state["rise"]["active"][0]))
    told = np.full((40, len(CHANNELS)), np.nan)
    told[:, nightly.BASAL] = value
    said = nightly.replay([Person("p", np.arange(40, dtype=np.int32), told, "")])[0]
    assert np.allclose(z, said.z, atol=1e-4)
    assert active == said.active.tolist()
    assert said.active.any()


SHAPE = {"rate", "sensitivity", "control", "lift", "lift_ci", "started"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Person], dict[str, Any], dict[str, Any]]:
    """Six people; their document as it is by default, and with a choice inside the fold."""
    folder = tmp_path_factory.mktemp("six")
    for seed in range(6):
        write_person(folder, a_person(seed))
    return (
        onset.chosen_people(folder)[0],
        onset.evaluate(folder, resamples=20),
        onset.evaluate(folder, nested_cv=True, resamples=20),
    )


def test_the_document_has_the_shape_that_was_asked_for(judged: tuple[Any, dict[str, Any], dict[str, Any]]) -> None:
    for document in judged[1:]:
        assert document["n"] == 6
        assert set(document["references"]) == set(REFERENCES) == set(document["beside"])
        for points in (document["budgets"], document["processor"], *document["references"].values()):
            assert list(points) == ["0.1", "0.2", "0.3"]
            for row in points.values():
                assert set(row) >= SHAPE
                assert set(row["started"]) >= {"sensitivity", "control", "lift", "lift_ci"}
                assert row["lift"] == pytest.approx(100 * (row["sensitivity"] - row["control"]), abs=0.02)
                assert row["lift_ci"][0] <= row["lift_ci"][1]
        for rules in document["beside"].values():
            assert set(rules) == {"processor", document["detector"]}
            for points in rules.values():
                assert [set(row) for row in points.values()] == [{"at_rate", "at_control"}] * 3
        assert json.loads(json.dumps(document)) == document


def test_what_runs_is_judged_with_the_limits_it_is_shipped_with(
    judged: tuple[list[Person], dict[str, Any], dict[str, Any]],
) -> None:
    """Whoever the people are: none is chosen by them, with or without folds beside it."""
    people, document, nested_cv = judged
    assert document["budgets"] == document["processor"] == nested_cv["processor"] != nested_cv["budgets"]
    for budget, limit in LIMITS.items():
        row = document["budgets"][budget]
        counts = count([(one.day, one.active[None, :]) for one in nightly.replay(people, limit)])
        assert row["threshold"] == limit
        assert row["rate"] == pytest.approx(counts.episodes.sum() / counts.weeks.sum(), abs=1e-4)
        assert row["sensitivity"] == pytest.approx(counts.hit.mean(), abs=1e-4)
    assert document["budgets"]["0.3"]["rate"] > document["budgets"]["0.1"]["rate"]
    assert all(points["0.1"]["rate"] <= 0.1 for points in document["references"].values())


def ahead(points: float, low: float) -> dict[str, dict[str, Any]]:
    return {at: {"lift_difference": points, "ci": [low, 30.0]} for at in ("at_rate", "at_control")}


def test_the_sentences_follow_the_control_share_and_say_what_is_not_shown(
    judged: tuple[Any, dict[str, Any], dict[str, Any]],
) -> None:
    document = json.loads(json.dumps(judged[1]))
    for name, rules in document["beside"].items():  # ahead of all, clearly of one only, by 4 to 20 points
        points = 4.0 if name == "ewma_z" else 20.0
        rules["processor"] = dict.fromkeys(("0.1", "0.2", "0.3"), ahead(points, 1.0 if name == "cusum_k1.0" else -1.0))
    said = brief(document)
    assert "**Better than every published rule is not shown.**" in said
    assert "4.0 (-1.0 to 30.0; `ewma_z`)" in said
    assert "excludes 0 beside `cusum_k1.0` at 0.1, 0.2 and 0.3 alone" in said
    assert "**not reached**" in said
    for rules in document["beside"].values():
        rules["processor"]["0.2"] = ahead(12.0, 1.0)
    said = brief(document)
    assert "**Better than every published rule is shown at 0.2.**" in said
    assert "**reached at 0.2**" in said
    document["processor"]["0.1"]["started"]["lift"] = -200.0
    assert f"at 0.1 less than `{next(iter(REFERENCES))}` (" in brief(document)


def test_a_choice_inside_the_fold_judges_everybody_once_and_says_what_was_tried(
    judged: tuple[Any, dict[str, Any], dict[str, Any]],
) -> None:
    document = judged[2]
    assert document["configurations_tried"] == len(daily.CONFIGURATIONS) > 1
    assert sum(document["chosen"].values()) == 6  # six people, a fold each
    assert document["budgets"]["0.2"]["rate"] >= 0


def test_what_is_chosen_for_a_fold_never_looks_at_it() -> None:
    """Nobody is ill and one rule is loud only where it is judged: whoever saw that would avoid it."""
    n, t = 10, 3
    quiet, loud = np.zeros((t, n)), np.zeros((t, n))
    windows, weeks = np.full(n, 4.0), np.full(n, 10.0)
    found = np.tile(np.linspace(1, 0, t)[:, None], (1, n))
    good = Counts(found, quiet, found, quiet, quiet, windows, weeks)
    bad = Counts(quiet, quiet + 4, quiet, quiet + 4, loud, windows, weeks)
    chosen = nested({"good": good, "bad": bad})
    assert chosen.chosen == {"good": 10}
    for out in folds(n):
        changed = good.hit.copy()
        changed[:, out] = 0  # what the fold shows cannot change what is chosen for it
        again = nested({"good": Counts(changed, quiet, changed, quiet, quiet, windows, weeks), "bad": bad})
        assert again.counts[0.2].episodes[:, out].tolist() == chosen.counts[0.2].episodes[:, out].tolist()


def test_a_second_run_gives_the_same_document(folder: Path) -> None:
    assert onset.evaluate(folder, resamples=50) == onset.evaluate(folder, resamples=50)


def test_rows_in_disorder_twice_or_empty_are_mended_and_counted(tmp_path: Path) -> None:
    person = Person("x", np.array([3, 1, 1, 2]), np.full((4, 5), 60.0), "")
    write_person(tmp_path, person)
    path = tmp_path / "x_results.csv"
    path.write_text(path.read_text() + "4, , , , , , made up\n")
    read = read_person(path)
    assert (read.day.tolist(), read.dropped, read.group) == ([1, 2, 3], 2, "made up")


@pytest.mark.parametrize(
    ("text", "names"),
    [("Day,Weight\n1,2\n", "no column 'Constant Vertical Shift in HR'"), ("", "line 1"), ("\x00\xff", "expected is")],
)
def test_a_wrong_file_is_named_with_what_is_expected(tmp_path: Path, text: str, names: str) -> None:
    (tmp_path / "x_results.csv").write_text(text, "latin-1")
    with pytest.raises(NotEvaluable, match="x_results.csv") as refused:
        onset.evaluate(tmp_path)
    assert names in str(refused.value)
    assert "Day 0 is the onset" in str(refused.value)


def test_a_line_that_is_no_number_is_named(tmp_path: Path) -> None:
    write_person(tmp_path, a_person(1))
    path = tmp_path / "p1_results.csv"
    path.write_text(path.read_text() + "x, 1, 1, 1, 1, 1, made up\n")
    with pytest.raises(NotEvaluable, match="line 82: 'x' is no number"):
        read_person(path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["weather"], "task 'weather' is not known; there are onset, injected, exchanged, calibration"),
        (["onset"], "onset needs --data"),
        (["onset", "--data", "/nowhere"], "--data /nowhere is no folder"),
        (["onset", "--data", str(Path(__file__).parent)], "holds no ID_results.csv; expected is a folder with one"),
    ],
)
def test_a_wrong_call_ends_with_one_plain_sentence(words: list[str], says: str) -> None:
    done = CliRunner().invoke(create_app("evaluate"), ["evaluate", *words])
    assert done.exit_code == 2
    assert says in done.output


def test_the_command_writes_what_it_tells(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "onset.json"
    done = CliRunner().invoke(create_app("evaluate"), ["evaluate", "onset", "--data", str(folder), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "6 people (0 more are not eligible)" in done.output
    assert json.loads(out.read_text())["task"] == "onset"


@pytest.mark.skipif(not DAILY.exists(), reason=f"the daily parameters are not at {DAILY}")
def test_on_the_real_people_38_are_eligible_and_the_shipped_rate_is_what_it_is() -> None:
    document = onset.evaluate(DAILY, resamples=20)
    assert (document["n"], document["not_eligible"]) == (38, 34)
    assert [round(document["budgets"][b]["rate"], 2) for b in ("0.1", "0.2", "0.3")] == [0.09, 0.18, 0.26]
    assert document["references"]["cusum_k0.5"]["0.2"]["control"] > 0.1
