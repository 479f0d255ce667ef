"""Calibration, subgroups and the anomaly benchmark on tiny cases with known answers; what they say of a wrong folder."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from evaluation import calibration, nab, p_values, subgroups
from evaluation.budgets import BUDGETS, resampled
from evaluation.calibration import coverage, limit_within, masked
from evaluation.cells import ENOUGH, by_age, criterion
from evaluation.days import NotEvaluable, Person
from evaluation.first_days import held
from evaluation.made_up import nights
from evaluation.nightly import Nights
from evaluation.page import PAGE, filled
from evaluation.sheet import between
from evaluation.tables import clear_gaps
from evaluation.windows import count
from services.cli.evaluate_stream import process
from services.cli.main import create_app
from tests.unit.test_evaluation_onset import a_person, write_person

STANDARD = nab.PROFILES["standard"]


def evaluate(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(create_app("evaluate"), ["evaluate", *words])
    return done.exit_code, done.output


def test_rates_are_counted_by_age_of_the_baseline_and_exact() -> None:
    active = np.zeros((1, 70), bool)
    active[0, [13, 14, 60]] = [True, True, True]  # the 14th and 15th day are one episode; the 61st another
    rows = by_age([active], [np.ones(70, bool)], [0], 0.1)
    assert {name: row["events"] for name, row in rows.items()} == {
        "1 to 14": 1, "15 to 28": 0, "29 to 56": 0, "57 on": 1, "all": 2,
    }  # fmt: skip
    assert rows["1 to 14"]["weeks"] == 2
    assert rows["1 to 14"]["lower"] == pytest.approx(-math.log(0.95) / 2, abs=1e-3)  # one-sided: one in two weeks
    assert rows["15 to 28"]["upper"] == pytest.approx(-math.log(0.025) / 2, abs=1e-3)  # none in two weeks
    assert rows["57 on"]["expected"] == 0.2
    assert rows["all"]["ci"] == [pytest.approx(0.2422 / 10, abs=1e-3), pytest.approx(7.2247 / 10, abs=1e-3)]


def test_a_cell_is_held_where_its_interval_reaches_below_what_is_allowed_and_shown_where_all_of_it_does() -> None:
    def rows(every: int) -> dict[str, dict[str, Any]]:
        active = np.zeros((1, 700), bool)
        active[0, ::every] = True
        return by_age([active], [np.ones(700, bool)], [0], 1.0)

    held = {every: [rows(every)["57 on"][name] for name in ("held", "shown")] for every in (3, 6, 8)}
    assert held == {3: [False, False], 6: [True, False], 8: [True, True]}  # 2.3, 1.2 and 0.9 a week; 1.25 are allowed
    missing = {"0.0": {"processor": {"1.0": {"asked": 1.0, "ages": rows(3)}}}}
    found = criterion(missing, "processor")
    assert (found["cells"], found["held"], found["shown"], found["enough"]) == (4, 3, 0, 1)
    assert found["not_held"] == ["1.0 a week, days 57 on, 0 % missing"]


def test_a_limit_keeps_to_the_budget() -> None:
    assert limit_within(np.array([0.0, 9, 4, 2, 0]), 10, 0.3) == 3  # the first is always on: it never begins
    assert limit_within(np.array([9.0, 8]), 10, 0.1) == 1


def test_coverage_is_a_share_of_healthy_judged_days_and_has_a_width() -> None:
    z = np.array([0.0] * 18 + [1.95, 1.97] + [9.0] * 5)
    well = np.array([True] * 20 + [False] * 5)
    found = coverage([(z, np.full(25, 2.0), np.full(25, 14, np.int32))], [well])
    assert found["share"]["median"] == 0.95
    assert found["width"]["median"] == pytest.approx(4 * 1.96, abs=0.01)
    assert coverage([(z[:13], np.ones(13), np.full(13, 14, np.int32))], [well[:13]])["n"] == 0


def test_first_days_are_counted_by_a_persons_valid_day_learned_or_not() -> None:
    z = np.array([2.5, 0.0, 0.0, 3.0, 1.9, np.nan, 0.0])
    spread = np.array([9.0, 4, 3, 3, 3, 3, 2])
    well = np.array([True, True, False, True, True, True, True])
    found = held([(z, spread), (z * 0, spread)], [well, well], resamples=200)
    assert {day: (one["n"], one["share"]) for day, one in found.items()} == {
        "1": (2, 0.5), "2": (2, 1.0), "3 to 5": (4, 0.75), "6 to 14": (2, 1.0), "15 to 28": (0, None),
    }  # fmt: skip
    assert found["1"]["ci"] == [0.0, 1.0]
    assert found["1"]["width"] == pytest.approx(36 * 0.98, abs=0.01)


def test_a_mask_follows_from_the_seed_and_takes_its_share() -> None:
    person = a_person(1)
    half = masked(person, 0.5)
    assert 25 <= len(half.day) <= 55
    assert np.array_equal(half.day, masked(person, 0.5).day)
    assert np.array_equal(masked(person, 0.0).day, person.day)


def test_a_gap_is_to_everybody_else_and_small_cells_are_hidden() -> None:
    day = np.arange(-60, 60, dtype=np.int32)
    loud, quiet = np.isin(day, [-30, -28, 40, -3])[None, :], np.zeros((1, 120), bool)
    groups = ["a"] * 6 + ["b"] * 6 + ["c"] * 2
    people = [Person(str(i), day, np.zeros((120, 5)), group) for i, group in enumerate(groups)]
    counts = count([(day, loud if group == "a" else quiet) for group in groups])
    found = subgroups.gaps(people, counts, resampled(14, 200))
    assert found["a"]["rate"] == round(3 / 7, 4)  # three episodes in 49 healthy days
    assert found["a"]["rate_gap"] == found["a"]["rate"]
    assert found["b"]["lift_gap"] < 0 < found["a"]["lift"]
    assert found["c"] == {"n": None, "suppressed": "fewer than 5 people in the group or outside it"}
    assert clear_gaps({"rules": {"0.1": found}}).startswith("4 gaps of 4 have an interval that excludes 0 (a, alerts")
    assert clear_gaps({"rules": {"0.1": {"c": found["c"]}}}) == "None of 0 gaps has an interval that excludes 0."


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """One file of 1,000 rows; its window is rows 500 to 599, where the value jumps."""
    rng = np.random.default_rng(1)
    value = rng.normal(10, 1, 1000)
    value[505:560] += 15
    start = datetime(2026, 1, 1)  # noqa: DTZ001 - the benchmark's times have no zone
    moments = [start + timedelta(minutes=5 * i) for i in range(1000)]
    (tmp_path / "data" / "made").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    lines = [f"{moment},{one:.4f}" for moment, one in zip(moments, value, strict=True)]
    (tmp_path / "data" / "made" / "up.csv").write_text("timestamp,value\n" + "\n".join(lines) + "\n")
    edges = [f"{moments[500]}.000000", f"{moments[599]}.000000"]
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps({"made/up.csv": [edges]}))
    return tmp_path


def fired(*rows: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(np.arange(1000), rows)


@pytest.mark.parametrize(
    ("rows", "score"),
    [
        ((), -1.0),  # the window is missed
        ((500,), 1.0),  # its left edge: all there is to earn
        ((599,), (2 / (1 + math.exp(-0.05)) - 1) / (2 / (1 + math.exp(-5)) - 1)),  # its right edge: next to nothing
        ((500, 550, 599), 1.0),  # only the first counts
        ((499,), -1.0 - 0.11),  # the row before it: no window is behind
        ((600,), -1.0 + 0.11 * (2 / (1 + math.exp(5 / 99)) - 1)),  # the row after it: hardly false
        ((999,), -1.0 - 0.11),  # more than three windows behind
        ((149,), -1.0),  # not judged
        ((150,), -1.0 - 0.11),
    ],
)
def test_the_benchmarks_score_at_each_edge(benchmark: Path, rows: tuple[int, ...], score: float) -> None:
    file = nab.read(benchmark)[0]
    assert (file.windows, file.unjudged) == ([(500, 599)], 150)
    assert nab.score(file, fired(*rows), STANDARD) == pytest.approx(score, abs=1e-3)


def test_the_benchmark_from_silence_to_perfect(benchmark: Path) -> None:
    files = nab.read(benchmark)
    for profile in nab.PROFILES.values():
        assert nab.normalised(files, [fired()], profile) == 0
        assert nab.normalised(files, [fired(500)], profile) == pytest.approx(100)
    document = nab.evaluate(benchmark)
    assert document["profiles"]["standard"]["score"] > 90
    assert set(document["profiles"]) == set(nab.PROFILES)


def test_what_is_detected_never_depends_on_later_rows(benchmark: Path) -> None:
    file = nab.read(benchmark)[0]
    whole = nab.detections([file])[0]
    # a file is brought to its units by the rows that are not judged: 150 of 1,000 rows, whatever comes after them
    again = nab.detections([nab.File(file.name, np.concatenate([file.value[:520], np.full(480, 10.0)]), [])])[0]
    assert np.array_equal(whole[:, :520], again[:, :520])
    assert whole[:, :520].any()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(6):
        write_person(tmp_path, a_person(seed))
    return tmp_path


def test_p_values_are_judged_by_others_reference_and_by_the_days_before() -> None:
    rng = np.random.default_rng(3)
    people, days = 40, 120
    nothing, n_days = np.zeros(days), np.full(days, 14, np.int32)
    wild = 1.2 * rng.standard_t(5, (people, days))  # heavier than what Student's t of 18 degrees says
    said = [
        Nights(np.arange(days, dtype=np.int32), nothing, nothing > 0, z, nothing, nothing + 1, n_days, nothing > 0)
        for z in wild
    ]
    found = p_values.evaluate(said, [np.ones(days, bool)] * people, held_out=True)
    everybody = found["nothing suspected before"]
    assert everybody["n"] == people * days
    assert everybody["student"]["0.05"]["share"] > 0.1
    assert everybody["told"]["0.05"]["share"] == pytest.approx(0.05, abs=0.015)  # between two bounds, so not quite
    assert everybody["told"]["0.01"]["share"] < 0.02 < everybody["student"]["0.01"]["share"] / 1.5
    assert sum(everybody["told"]["histogram"]) == pytest.approx(1, abs=0.01)
    assert found["days 57 on"]["n"] == people * 64
    one = said[0]
    risen = Nights(
        one.day,
        nothing + 9 * (one.day == 50),
        one.day == 60,
        *(getattr(one, name) for name in ("z", "center", "spread", "n_days", "worse")),
    )
    assert np.flatnonzero(~p_values.unsuspected(risen)).tolist() == [51, 61]  # the days after: not by what they are


def test_of_the_made_up_people_forty_alerts_are_expected_in_every_cell() -> None:
    people = nights(*calibration.MADE_UP)
    for share in calibration.MISSING:
        kept = [masked(person, share) for person in people]
        silent = [np.zeros((1, len(person.day)), bool) for person in kept]
        rows = by_age(silent, [path[0] | True for path in silent], [0] * len(kept), min(BUDGETS))
        assert min(cell["expected"] for cell in rows.values()) >= ENOUGH


def test_the_commands_write_what_they_tell(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MADE_UP", (4, 130))
    out = tmp_path_factory.mktemp("out") / "c.json"
    code, said = evaluate("calibration", "--data", str(folder), "--json", str(out))
    assert code == 0, said
    document = json.loads(out.read_text())
    assert set(document["missing"]) == {"0.0", "0.1", "0.25", "0.5"} == set(document["made_up"]["missing"])
    assert document["missing"]["0.0"]["processor"]["0.1"]["asked"] == 0.1
    assert document["made_up"]["n"] == 4
    assert document["made_up"]["criterion"]["processor"]["cells"] == 48
    assert "4 made-up people of 130 days" in said
    width = document["missing"]["0.0"]["coverage"]["every day"]["width"]
    assert between(width["median"], [width["p10"], width["p90"]]) in filled(
        PAGE.read_text("utf-8"), {"calibration": document}
    )
    code, said = evaluate("subgroups", "--data", str(folder))
    assert code == 0, said
    assert "fewer than 5" in said  # six people, all of one group: nobody is outside it


def test_a_benchmark_is_told(benchmark: Path) -> None:
    code, said = evaluate("nab", "--data", str(benchmark))
    assert code == 0, said
    assert "reward_low_FP_rate" in said
    assert "with a setting made for this benchmark and not the one that runs" in " ".join(said.split())


@pytest.mark.parametrize(
    ("task", "says"),
    [("nab", "holds no labels/combined_windows.json; expected is a checkout of the benchmark"), ("calibration", "expected is a folder"), ("subgroups", "expected is a folder"),
     ("injected", "holds no PERSON_hr.csv.zip")],
)  # fmt: skip
def test_a_wrong_folder_is_named_with_what_is_expected(tmp_path: Path, task: str, says: str) -> None:
    code, said = evaluate(task, "--data", str(tmp_path))
    assert code == 2
    assert says in said


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("labels/combined_windows.json", "[1]", "combined_windows.json can't be read as a JSON object"),
        ("labels/combined_windows.json", '{"made/no.csv": []}', "made/no.csv is not there, though"),
        ("labels/combined_windows.json", '{"made/up.csv": [["2026-01-01 00:00:01", "x"]]}', "are not at its rows"),
        ("data/made/up.csv", "when,what\n1,2\n", "up.csv can't be read as CSV with a time and a number in each row"),
        ("data/made/up.csv", "timestamp,value\n", "up.csv holds no rows"),
    ],
)
def test_a_wrong_benchmark_is_told_without_the_systems_words(benchmark: Path, file: str, text: str, says: str) -> None:
    (benchmark / file).write_text(text)
    with pytest.raises(NotEvaluable) as refused:
        nab.evaluate(benchmark)
    assert says in str(refused.value)
    assert "Errno" not in str(refused.value)
    assert str(refused.value).endswith("`git clone https://github.com/numenta/NAB` and give its folder")


def test_people_without_a_group_are_no_subgroups(tmp_path: Path) -> None:
    person = a_person(1)
    write_person(tmp_path, person)
    path = tmp_path / "p1_results.csv"
    path.write_text(path.read_text().replace("made up", ""))
    with pytest.raises(NotEvaluable, match="names no groups"):
        subgroups.evaluate(tmp_path)


def test_nobody_with_a_valid_day_is_said(tmp_path: Path) -> None:
    write_person(tmp_path, Person("x", np.zeros(0, np.int32), np.zeros((0, 5)), ""))
    with pytest.raises(NotEvaluable, match="nobody with a valid day"):
        calibration.evaluate(tmp_path, process)


def test_the_page_holds_its_markers_and_keeps_what_is_around_them() -> None:
    document = {"task": "nab", "data": "x", "n": 1, "windows": 1, "limits_tried": 12,
                "profiles": {"standard": {"score": 50.0, "limit": 4.0}}}  # fmt: skip
    page = "a\n<!-- nab: made by `make evaluate` -->\nold\n<!-- end of nab -->\nb\n"
    new = filled(page, {"nab": document})
    assert new.startswith("a\n<!-- nab")
    assert new.endswith("<!-- end of nab -->\nb\n")
    assert "| standard | 50.0 | 4 |" in new
    assert "old" not in new
    assert filled(new, {"nab": document}) == new
    with pytest.raises(ValueError, match="markers of onset"):
        filled(page, {"onset": document})
    text = PAGE.read_text("utf-8")
    tasks = ("onset", "injected", "hearts", "calibration", "joint", "subgroups")
    for name in ("onset_raw", "swaps", "variability", "shifts", *tasks, *(f"{task} in short" for task in tasks)):
        assert f"<!-- {name}: made by `make evaluate` -->" in text
