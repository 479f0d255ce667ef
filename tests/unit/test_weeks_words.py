"""What statements about weeks say: every state of every comparison, to the team and to patients."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from detectors.courses import Recovery
from detectors.robust import Estimate
from detectors.trends import Change, ChangeState, Kind
from detectors.wear import Wear
from detectors.weights import Gain
from services.api.weeks import plain, shapes, statements, words
from services.api.weeks.quantities import QUANTITIES
from services.web import own_words, present
from tests.unit.test_own_words import grade

UP = Estimate(3.04, 1.2, 4.9, 0.0001)
FIRST = Change("first_weeks", "higher", 63.1, 60.0, UP, 20_729, 26, 14, 14, 14)
NOTHING = replace(FIRST, state="unknown", change=None, since=None)  # days enough, but their interval is open
BACK = Recovery("back", 60, 71, 61, 0.91, 20_736, 14)
WORN = Wear("falling", 21, 28, 3, 20_740, 15, 22, 8, 14)
HEAVIER = Gain("risen", 20_779, 82.5, 20_776, 80.1)
STATES: tuple[ChangeState, ...] = ("higher", "lower", "no_clear_change", "unknown")
KINDS: tuple[Kind, ...] = ("first_weeks", "four_weeks_before", "eight_weeks", "same_weekdays")


def every_change() -> list[Change]:
    return [
        replace(FIRST, kind=kind, state=state, change=None if state == "unknown" else UP)
        for kind in KINDS
        for state in STATES
    ]


def test_the_team_reads_size_interval_normal_days_and_date() -> None:
    heart = QUANTITIES["resting_heart_rate"]
    assert words.change(heart, FIRST) == (
        "Resting heart rate asleep in the last 4 weeks: 3.0 /min higher than in this person's first weeks (60.0 /min, "
        "14 nights); 99 % interval +1.2 to +4.9, 26 nights; since 3 Oct"
    )
    assert words.change(heart, NOTHING) == (
        "Resting heart rate asleep in the last 4 weeks: not known; 26 nights, to compare with 14, are too few to bound a "
        "difference"
    )
    assert words.change(heart, replace(NOTHING, days=13)).endswith(
        "not known; of the nights needed 13 of 14 are there, to compare with 14 of 14"
    )
    assert (
        words.wear(WORN, heard=True)
        == "Wear is falling: 21 of 28 days with at least 10 h of data, longest gap 3 d from 14 Oct"
    )
    assert words.wearing(WORN) == (
        "8 of 14 days with at least 10 h of data in the last 14 days, 13 of 14 in the 14 before; "
        "half of the days at least 15 h, 22 h before; longest gap 3 d from 14 Oct"
    )
    none = Wear("unknown", 0, 0, 0, None, None, None, 0, 0)
    assert words.wear(none, heard=True) == "Wear in the last 28 days: not known, data were asked for on none of them"
    assert words.wear(none, heard=False) == "Wear in the last 28 days: not known, no heart rate was ever received"
    assert words.recovery(heart, replace(BACK, state="not_back", since=None, share=0.4), 20_720) == (
        "Resting heart rate asleep after the episode of 24 Sep: 40 % of the way back to usual "
        "(usual 60.0, worst 71.0, now 61.0 /min)"
    )


def test_a_fast_gain_of_weight_is_told_with_both_its_days_and_the_unknown_with_why() -> None:
    assert words.gain(HEAVIER) == (
        "Weight 2.4 kg up in 3 days (80.1 kg on 19 Nov, 82.5 kg on 22 Nov); for somebody with heart failure, teams usually "
        "ask to be told of more than 2 kg in 3 days"
    )
    assert "in 1 day (80.1 kg on 21 Nov, 82.5 kg on 22 Nov, one reading so far, not confirmed)" in words.gain(
        replace(HEAVIER, state="unconfirmed", from_day=20_778)
    )
    assert words.gain(replace(HEAVIER, state="not_risen", value=81.0)) == (
        "Weight: no gain of more than 2 kg in 3 days in what came in (80.1 kg on 19 Nov, 81.0 kg on 22 Nov)"
    )
    assert words.gain(Gain("unknown", 20_779, 82.5)) == (
        "Fast gain of weight (more than 2 kg in 3 days): not known; the newest weight (82.5 kg on 22 Nov) is older than 1 d, "
        "or no other in the 3 days before it"
    )
    assert words.gain(Gain("unknown")).endswith("not known, no weight of the weeks looked at")
    assert statements.gain(Gain("unknown", 20_779, 82.5), plain=False)["change"] is None


def novelty(to_bed: int, *, known: int = 24, days: int = 30) -> shapes.Novelty:
    """What a last day says that goes to bed at some hour after 10:00, where all before went at 23:00."""
    at, rates = np.arange(24), []
    for seed in range(days + 1):
        bed = to_bed if seed == days else 13
        rates.append(np.where((at - bed) % 24 < 8, 55, 70) + np.random.default_rng(seed).normal(0, 3, 24))
    rates[-1][known:] = np.nan
    return shapes.judge(np.array(rates), 20_779)


def test_a_course_is_told_with_what_it_was_held_against_where_it_differs_and_what_else_looks_so() -> None:
    told = words.day_shape(novelty(6))
    name = "Course of the heart rate over the 24 h to 10:00 on 22 Nov: "
    assert told.startswith(f"{name}unlike that of any day compared of the 4 weeks before; most at ")
    assert "24 of 24 h known, 28 days compared" in told
    assert told.endswith(". It is near a usual one, 7 h earlier; nights at work and another time zone look so")
    assert words.day_shape(novelty(13)).startswith(f"{name}as far as known like that of ")
    assert words.day_shape(novelty(6, known=15)) == f"{name}not known; 15 of the 16 hours needed are there"
    few = novelty(6, days=6)
    assert words.day_shape(few) == f"{name}not known; 6 of the 7 days needed to compare with are there"
    document = statements.day_shape(few)
    assert document["state"] == "unknown"
    assert {document[name] for name in ("distance", "p", "most_alike", "since", "most_at_hour", "most_by")} == {None}
    document = statements.day_shape(novelty(6))
    assert (document["state"], document["turned_hours"], document["since"]) == ("unlike", -7, "2026-11-22")
    for said in (novelty(6), novelty(13), few):
        assert not re.search(r"\b(normal|stable|steady|unchanged|good|bad|should|must)\b", words.day_shape(said))


def test_a_document_holds_a_difference_with_its_interval_or_none_at_all() -> None:
    told = statements.change("steps", replace(FIRST, state="no_clear_change"), plain=False)
    assert (present.difference(told), present.interval(told)) == ("+3, no clear change", "+1 to +5")
    told = statements.change("steps", NOTHING, plain=False)
    assert [told[name] for name in ("state", "change", "low", "high", "p", "since")] == ["unknown", *[None] * 5]


@pytest.mark.parametrize("voice", [words, plain])
def test_nothing_is_called_normal_or_stable_and_the_unknown_is_said_to_be(voice: object) -> None:
    speak = plain if voice is plain else words
    for quantity in QUANTITIES.values():
        for said in every_change():
            told = speak.change(quantity, said)
            assert not re.search(r"\b(normal|stable|steady|unchanged|good|bad|should|must)\b", told), told
            assert ("not known" in told) == (said.state == "unknown")
            assert ("no clear" in told) == (said.state == "no_clear_change")
    nothing = Recovery("unknown", None, None, None, None, None, 0)
    assert "not known" in speak.recovery(QUANTITIES["steps"], nothing, 20_720)
    nobody = statements.wear(Wear("unknown", 0, 0, 0, None, None, None, 0, 0), heard=False, plain=voice is plain)
    assert "not known" in nobody["sentence"]


def test_patients_read_it_with_eight_years_of_school() -> None:
    said = [plain.change(quantity, one) for quantity in QUANTITIES.values() for one in every_change()]
    heart = QUANTITIES["resting_heart_rate"]
    said += [plain.recovery(heart, replace(BACK, state=state), 20_720) for state in ("back", "not_back", "unknown")]
    said += [plain.gain(replace(HEAVIER, state=state)) for state in ("risen", "unconfirmed", "not_risen")]
    said += [plain.gain(Gain("unknown")), plain.change(QUANTITIES["weight"], FIRST)]
    said += [plain.wear(replace(WORN, state=state)) for state in ("falling", "not_falling")]
    sentences = [part for one in said for part in re.split(r"(?<=[.!?:]) ", one) if len(part.split()) > 2]
    assert grade(sentences) <= 8.0
    assert max(len(sentence.split()) for sentence in sentences) <= 25


def test_a_patient_reads_of_nights_without_a_number() -> None:
    nights, more = QUANTITIES["rest_regularity"], replace(FIRST, kind="four_weeks_before")
    assert plain.change(nights, replace(more, state="lower")) == (
        "Your days and nights were less regular in the last four weeks than in the four weeks before."
    )
    assert plain.change(nights, replace(more, kind="eight_weeks")) == (
        "Your days and nights became more regular over the last eight weeks."
    )
    assert plain.change(nights, replace(more, state="no_clear_change")) == (
        "How regular your days and nights are: we see no clear change in the last four weeks from the four weeks before."
    )
    assert "Regularity of rest (index to 100) in the last 4 weeks: 3 points higher than in" in (
        words.change(nights, more)
    )


def test_a_patients_page_holds_a_few_of_them() -> None:
    changes = [statements.change(key, said, plain=True) for key in QUANTITIES for said in every_change()[::4]]
    document = {
        "changes": changes, "wear": statements.wear(WORN, heard=True, plain=True),
        "recoveries": [statements.recovery("resting_heart_rate", BACK, 20_720, plain=True)],
        "weight_gain": statements.gain(HEAVIER, plain=True),
    }  # fmt: skip
    assert own_words.weeks(document) == [
        "Your weight rose by 2.4 kg from 19 Nov to 22 Nov. Care teams often want to hear of that from people with heart "
        "failure.",
        "Your resting heart rate at night has been in your usual range again since 10 Oct, after what was noticed on 24 Sep.",
        "Your resting heart rate at night was 3 beats a minute higher in the last four weeks than in your first weeks here.",
        "Your step count was 3 steps a day higher in the last seven days than is usual for you on those weekdays.",
        "Your days and nights were more regular in the last four weeks than in the four weeks before.",
        "On 21 of 28 days in the last four weeks enough came in from your device to compare. That is less than in the two "
        "weeks before.",
    ]
    assert own_words.weeks({"changes": [], "wear": None, "recoveries": [], "weight_gain": None}) == []
    quiet = statements.gain(replace(HEAVIER, state="not_risen", value=81.0), plain=True)
    assert own_words.weeks({"changes": [], "wear": None, "recoveries": [], "weight_gain": quiet}) == []
