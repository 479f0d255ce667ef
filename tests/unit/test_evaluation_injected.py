"""Injected events: what counts as found, to the instant; biases by hand; and one event through the processor's code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from evaluation.ahead import ahead_of, behind
from evaluation.brief import brief
from evaluation.heard import Alert, Heard, Nights, Streams
from evaluation.injected import BUDGET, NAMED, SHIPPED, Subject, evaluate, first_alert, summary, without_events
from evaluation.injector import CASES, HEART, Event, inject, place
from evaluation.rivals import EVERY, FORTNIGHT, SLOW, as_loud, begins
from evaluation.tables import sheets
from evaluation.taken_up import contamination, relearning
from services.cli.evaluate_stream import process
from simulators.patients import Patient
from simulators.profile import draw_profile
from simulators.series import DAY_MS

START_MS = 1_760_486_400_000
EVENT = Event("ramp_8_bpm_1_d", 10 * DAY_MS, 15 * DAY_MS)


def alert(found_ms: int, rule: str = "resting_heart_rate_rise", kind: str = "clinical") -> Alert:
    return Alert(rule, "clinical" if kind == "clinical" else "technical", found_ms - DAY_MS, found_ms, None)


def nights(value: list[float], first: int = 0, center: float = 60.0) -> Nights:
    n = len(value)
    whole = np.full(n, 20, np.int32)
    return Nights(np.arange(first, first + n, dtype=np.int32), np.array(value), np.full(n, center), np.ones(n), whole,
                  np.zeros(n), np.ones(n, bool))  # fmt: skip


@pytest.mark.parametrize(
    ("found_ms", "delay"),
    [(10 * DAY_MS, None), (10 * DAY_MS + 1, 0.0), (16 * DAY_MS, 6.0), (16 * DAY_MS + 1, None)],
)
def test_an_event_is_found_after_its_start_and_up_to_a_day_after_its_end(found_ms: int, delay: float | None) -> None:
    found = first_alert([alert(found_ms)], EVENT, HEART)
    assert found == (None if delay is None else pytest.approx(delay, abs=1e-6))


def test_only_an_alert_of_its_rules_finds_an_event_and_any_clinical_one_spoils_a_nuisance() -> None:
    other = [alert(12 * DAY_MS, "spo2_low")]
    assert first_alert(other, EVENT, HEART) is None
    assert first_alert(other, EVENT, frozenset()) == 2.0
    assert first_alert([alert(12 * DAY_MS, "battery_low", "technical")], EVENT, frozenset()) is None


def test_a_missed_event_counts_as_found_never() -> None:
    row = summary([1.0, 2.0, 3.0, None], [None, 1.0, None, None])
    assert (row["found"], row["n"], row["without_the_event"]) == (3, 4, 1)
    assert (row["delay_median"], row["delay_p90"]) == (3.0, None)
    assert summary([None, None], [None, None])["delay_median"] is None


def test_the_other_rules_are_never_louder() -> None:
    rng = np.random.default_rng(3)
    some = [nights((60 + rng.normal(0, 2, 80)).tolist()) for _ in range(4)]
    for episodes in (0, 3, 9):
        for name, rule in as_loud(some, episodes).items():
            assert sum(int(begins(rule(one.day, one.value)).sum()) for one in some) <= episodes, name
            assert name in EVERY


def test_bias_and_relearning_are_the_difference_the_event_makes() -> None:
    quiet = [60.0] * 60
    risen = quiet.copy()
    risen[20:27] = [65.0] * 7
    event = Event("step_5_bpm_7_d", 20 * DAY_MS, 27 * DAY_MS)
    hours = np.zeros(0, np.int64)
    before, after = Heard([], nights(quiet), hours), Heard([], nights(risen), hours)
    found = contamination([event], [0], [before], [after])
    assert found["after_1_d"]["ewma_0.05"]["median"] == pytest.approx(5 * (1 - 0.95**7) * 0.95, abs=0.01)
    assert 0 < found["after_1_d"][SLOW]["median"] < 1
    assert found["after_1_d"][FORTNIGHT]["median"] == 0
    questions = [alert(day * DAY_MS, "resting_heart_rate_new_normal") for day in (19, 36, 50)]
    lasting = Heard(questions, nights([60.0] * 20 + [65.0] * 40), hours)
    learned = relearning([event], [0], [before], [lasting])
    assert learned["asked"] == {"n": 1, "asked": 1, "days_median": 16.0, "anyway": 0}  # the first is of before
    assert learned["median_28"] == {"n": 1, "learned": 1, "days_median_of_learned": 15.0}
    assert learned[FORTNIGHT]["learned"] == 0


def test_who_is_ahead_is_who_finds_more_of_an_event_and_tells_less_of_a_nuisance() -> None:
    told, nothing = [1.0] * 12, [None] * 12
    half = [*[1.0] * 6, *[None] * 6]
    assert ahead_of(told, nothing, half, nothing, wanted=True)["points"] == 50
    assert ahead_of(told, told, half, nothing, wanted=True)["points"] == -50  # all of ours come without the event too
    nuisance = ahead_of(told, nothing, half, nothing, wanted=False)
    assert nuisance["points"] == -50
    assert nuisance["ci"][1] < 0


def test_a_cell_is_worse_only_where_the_whole_interval_says_so() -> None:
    def cell(**ci: list[float]) -> dict[str, Any]:
        return {"n": 24, "ahead": {name: {"points": sum(ends) / 2, "ci": ends} for name, ends in ci.items()}}

    good = {"made_up": {"cases": {"ramp": cell(z=[-41.7, 0.0], ewma=[4.0, 30.0])}}}
    assert behind(good) == {"cells": 1, "comparisons": 2, "ahead": 1, "rows": [], "attained": True}
    bad = behind({**good, "real": {"cases": {"fever": cell(z=[-50.0, -12.5], ewma=[-1.0, 1.0])}}})
    assert (bad["cells"], bad["comparisons"], bad["attained"]) == (2, 4, False)
    assert [(one["background"], one["case"], one["rule"]) for one in bad["rows"]] == [("real", "fever", "z")]


def test_what_is_told_without_events_is_told_apart_by_illness_and_by_nights() -> None:
    here = nights([60.0] * 70)  # local days 0 to 69
    told = [alert(day * DAY_MS + DAY_MS // 2) for day in (5, 33, 90)]  # well, ill, on a day without a night
    told[0] = told[0]._replace(worse_ms=(8 * DAY_MS,))
    told.append(alert(9 * DAY_MS, "spo2_low"))
    found = without_events([Subject("x", {}, 0, 40)], [Heard(told, here, np.zeros(0, np.int64))])
    assert {key: found[key] for key in ("weeks", "episodes", "further", "ill", "by_day")} == {
        "weeks": 10, "episodes": 4, "further": 1, "ill": 1, "by_day": 1,
    }  # fmt: skip
    assert found["rate"]["value"] == 0.4
    assert found["rate_well"]["value"] == pytest.approx(2 / (34 / 7), abs=1e-4)  # 36 of 70 days are near the illness


def test_every_case_is_judged_at_one_budget_and_the_named_one_at_the_shipped_one_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patient = Patient(draw_profile(3, 1))
    streams: Streams = patient.readings(START_MS, START_MS + 50 * DAY_MS)
    monkeypatch.setattr("evaluation.injected.background", lambda: [("p", streams, 0), ("q", streams, 0)])
    asked: list[tuple[str, bool]] = []

    def of(budget: str) -> Any:
        def said(people: Any, offsets: Any, told: Any, *, swapped_ms: Any = None) -> list[Heard]:
            asked.append((budget, swapped_ms is None))
            first = START_MS // DAY_MS
            value = 60 + np.random.default_rng(1).normal(0, 2, 50)
            told_ms = [(first + day) * DAY_MS for day in range(20, 50, 4 if budget == BUDGET else 12)]
            return [
                Heard([alert(ms) for ms in told_ms], nights(value.tolist(), first), np.zeros(0, np.int64))
                for _ in people
            ]

        return said

    document = evaluate(None, {BUDGET: of(BUDGET), SHIPPED: of(SHIPPED)})
    assert asked.count((SHIPPED, True)) == asked.count((SHIPPED, False)) == 1
    assert (document["budget"], document["named"]) == (BUDGET, NAMED) == ("0.2", "ramp_5_bpm_3_d")
    one = document["backgrounds"]["synthetic"]
    assert list(one["named_at"]) == [SHIPPED]
    assert set(one["named_at"][SHIPPED]["case"]) == set(one["cases"][NAMED])
    assert one["named_at"][SHIPPED]["rate"]["value"] < one["rate"]["value"]
    text = "".join(sheet.markdown() for sheet in sheets(document))
    assert "| rule | points more, 0.1 | points more, 0.2 |" in text
    assert f"**That is more than the {BUDGET} asked for.**" in text
    assert f"at {SHIPPED} it finds" in brief(document)
    assert document["behind"]["comparisons"] == len(EVERY) * len(one["cases"])
    assert json.loads(json.dumps(document)) == document


def test_an_event_goes_through_the_processors_own_code() -> None:
    patient = Patient(draw_profile(3, 1))
    streams: Streams = patient.readings(START_MS, START_MS + 36 * DAY_MS)
    offset = patient.profile.utc_offset_min
    event = place("p", streams, offset, "ramp_8_bpm_1_d")
    assert event is not None
    injected = inject("p", streams, event)
    plain, changed, other = process(
        [streams, injected, injected], [offset] * 3, swapped_ms=[None, None, event.start_ms]
    )
    assert first_alert(changed.alerts, event, CASES[event.case].rules) is not None
    before = plain.nights.day < (event.start_ms + offset * 60_000) // DAY_MS
    assert before.sum() >= 20
    assert np.array_equal(
        plain.nights.z[before], changed.nights.z[: before.sum()], equal_nan=True
    )  # nothing leaks back
    assert json.dumps(summary([1.0], [None]))
    told, with_another = (first_alert(one.alerts, event, CASES[event.case].rules) for one in (changed, other))
    assert told is not None
    assert with_another is None or with_another > told, "what begins with another device is told later, if at all"
    assert other.nights.spread.max() > 1.3 * changed.nights.spread[before.sum() :].max(), "and less is sure of it"
