"""The file of medicines and events: each with a source, none with a dose, and the page says what the file says."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.explain import patient_sentence, sentence
from detectors.protocol import LIMIT_METRICS
from detectors.wording import UNITS
from services import life_events
from services.expectations import SHIFTED_METRIC, size_on
from services.impossible import ImpossibleError
from services.life_events import MEDICATION, catalogue, checked, standing
from services.processor.change import PatientChange
from services.processor.changes import Changes

PAGE = Path(__file__).parents[2] / "docs" / "windows.md"
DAY = date(2026, 3, 3)
DAY_MS = 86_400_000


def test_every_class_has_a_source_and_the_page_shows_it() -> None:
    page = PAGE.read_text("utf-8")
    for group in ("medication", "event"):
        for key, one in catalogue()[group].items():
            row = next(line for line in page.splitlines() if line.startswith(f"| `{key}`"))
            assert one["source"] in row, key
            assert f"| {one['days']} |" in row or f"| {one['days']}, or until it ended |" in row, key
            for metric in LIMIT_METRICS:
                effect = one.get(metric, {})
                assert ("size" in effect) <= (metric == SHIFTED_METRIC), "detection knows no other window"
                assert f"up to {effect.get('size')} " in row or "size" not in effect, key
                assert f"growing over {effect.get('over')} days" in row or "over" not in effect, key
                assert metric in UNITS or not effect
            assert not {"mg", "dose"} & set(one["title"].split())


def test_only_what_has_a_source_for_its_size_holds_anything_back_unless_somebody_states_one() -> None:
    sized = set()
    for kind in life_events.kinds():
        for medicine in catalogue()["medication"] if kind in MEDICATION else [None]:
            (event,) = standing({"x": checked(kind, medicine, DAY, DAY)})
            entry = catalogue()["event"][kind] if medicine is None else catalogue()["medication"][medicine]
            assert bool(event.windows) == ("size" in entry.get("heart_rate", {})), (kind, medicine)
            sized |= {medicine or kind} if event.windows else set()
    assert sized - set(catalogue()["medication"]) == {"pregnancy_began", "pregnancy_ended"}


@pytest.mark.parametrize(("kind", "fall", "rise"), [
    ("medication_started", -10, 0), ("dose_raised", -10, 0), ("medication_stopped", 0, 10), ("dose_lowered", 0, 10),
])  # fmt: skip
def test_a_stop_and_a_lowered_dose_turn_the_side_round(kind: str, fall: float, rise: float) -> None:
    (event,) = standing({"x": checked(kind, "beta_blocker", DAY, DAY)})
    (window,) = event.windows
    assert (window.fall, window.rise) == (fall, rise)
    assert window.to_ms - window.from_ms == 28 * DAY_MS


def change(number: int, subject: str, day: date, *, withdrawn: bool = False) -> PatientChange:
    payload = checked("medication_stopped", "beta_blocker", day, day) | {"withdrawn": withdrawn}
    return PatientChange(life_events.midnight_ms(day), number, "life_event", subject, payload, None)


def test_the_latest_word_on_an_event_holds_in_whatever_order_it_comes() -> None:
    told = [
        change(1, "a", DAY), change(2, "b", DAY), change(3, "a", date(2026, 2, 1)), change(4, "b", DAY, withdrawn=True),
    ]  # fmt: skip
    for order in (told, told[::-1], told[2:] + told[:2]):
        changes = Changes()
        for one in order:
            changes.add(1, [one])
        assert [row[0] for row in changes.windows[1]] == [life_events.midnight_ms(date(2026, d, 1)) for d in (2, 3)]
        begun = life_events.midnight_ms(date(2026, 2, 1))
        assert [one.day for one in changes.said(1, "heart_rate", begun)] == ["2026-02-01"]
        assert changes.said(1, "heart_rate", begun + 28 * DAY_MS) == []
        assert changes.said(1, "glucose", begun) == []


def test_what_happened_is_said_to_the_care_team_alone_and_as_a_possibility() -> None:
    found = {"metric": "body_temperature", "side": "above", "worst": 39.0, "threshold": 38.5, "inclusive": True,
             "persist_s": 0, "n": 2, "from_ms": 0, "to_ms": 600_000}  # fmt: skip
    (event,) = standing({"x": checked("vaccination", None, DAY, DAY)})
    known = found | {"events": [event.said_of("body_temperature", event.from_ms).evidence()]}
    assert sentence("fever", known) == sentence("fever", found) + " (vaccination on 3 Mar: a rise can come from it)"
    assert patient_sentence("fever", known) == patient_sentence("fever", found)


def test_a_pregnancy_grows_week_by_week_to_its_size_and_its_end_ends_it() -> None:
    told = {"a": checked("pregnancy_began", None, DAY, DAY)}
    (began,) = standing(told)
    rises = [window.rise for window in began.windows]
    assert (len(rises), rises[0], rises[19], rises[-1]) == (40, 0.2, 4.0, 8)
    assert all(one.to_ms == next_one.from_ms for one, next_one in pairwise(began.windows)), "no day is without"
    assert (began.windows[0].from_ms, began.windows[-1].to_ms) == (began.from_ms, began.from_ms + 301 * DAY_MS)
    birth = DAY + timedelta(days=270)
    began, ended = standing(told | {"b": checked("pregnancy_ended", None, birth, birth)})
    assert began.to_ms == began.windows[-1].to_ms == ended.from_ms == life_events.midnight_ms(birth)
    assert [(one.fall, one.rise) for one in ended.windows] == [(-9, 0)], "a rise after a birth is told as ever"
    lost = DAY + timedelta(days=52)
    began, _ = standing(told | {"b": checked("pregnancy_ended", None, lost, lost)})
    assert max(one.rise for one in began.windows) == 1.6
    again = {"c": checked("pregnancy_began", None, lost + timedelta(days=60), lost + timedelta(days=60))}
    assert [len(one.windows) for one in standing(told | {"b": checked("pregnancy_ended", None, lost, lost)} | again)] == [8, 1, 40]  # fmt: skip


def test_what_is_said_beside_an_alert_is_what_is_expected_at_that_time() -> None:
    (began,) = standing({"a": checked("pregnancy_began", None, DAY, DAY)})
    assert began.said_of("heart_rate", began.from_ms + 84 * DAY_MS).evidence() == {
        "day": "2026-03-03", "words": "pregnancy began", "side": "rise", "size": 2.6,
    }  # fmt: skip
    stated = checked("admission", None, DAY, DAY, {SHIFTED_METRIC: {"side": "rise", "size": 6, "days": 10}}, "nurse")
    (event,) = standing({"a": stated})
    evidence = event.said_of("heart_rate", event.from_ms).evidence()
    assert evidence == {"day": "2026-03-03", "words": "admission to hospital", "side": "rise", "size": 6, "by": "nurse"}
    assert event.said_of("spo2", event.from_ms).evidence()["size"] is None
    assert event.said_of("heart_rate", event.from_ms + 10 * DAY_MS).side is None, "what was stated is over"
    (window,) = event.windows
    assert (window.rise, window.to_ms - window.from_ms) == (6, 10 * DAY_MS)


@pytest.mark.parametrize(("event", "medication", "expects", "field", "allowed"), [
    ("admission", None, {SHIFTED_METRIC: {"side": "rise", "size": 10.1}}, "expects.heart_rate.size", "at most 10 /min"),
    ("admission", None, {SHIFTED_METRIC: {"side": "rise", "size": 0}}, "expects.heart_rate.size", "more than 0"),
    ("admission", None, {SHIFTED_METRIC: {"side": "rise", "size": 0.04}}, "expects.heart_rate.size", "at least 0.1"),
    ("admission", None, {SHIFTED_METRIC: {"side": "rise", "size": float("nan")}}, "expects.heart_rate.size", "at most 10"),
    ("admission", None, {SHIFTED_METRIC: {"side": "rise", "size": True}}, "expects.heart_rate.size", "at most 10"),
    ("admission", None, {SHIFTED_METRIC: {"side": "rise", "size": 5, "days": 15}}, "expects.heart_rate.days", "from 1 to 14"),
    ("admission", None, {SHIFTED_METRIC: {"side": "up", "size": 5}}, "expects.heart_rate.side", "fall or rise"),
    ("medication_started", "thyroid_hormone", {SHIFTED_METRIC: {"side": "fall", "size": 5}}, "expects.heart_rate.side", "rise"),
    ("surgery", None, {SHIFTED_METRIC: {"side": "rise", "size": 5}}, "expects.heart_rate", "is what must be told"),
    ("surgery", None, {SHIFTED_METRIC: {"side": "fall", "size": 5}}, "expects.heart_rate", "stated of admission to hospital"),
    ("vaccination", None, {SHIFTED_METRIC: {"side": "rise", "size": 5}}, "expects.heart_rate", "leave it out"),
    ("medication_stopped", "digoxin", {SHIFTED_METRIC: {"side": "fall", "size": 5}}, "expects.heart_rate.side", "rise"),
    ("admission", None, {SHIFTED_METRIC: {"size": 5}}, "expects.heart_rate", "side, size"),
    ("admission", None, {"spo2": {"side": "fall", "size": 5}}, "expects", "heart_rate alone"),
    ("admission", None, [], "expects", "heart_rate alone"),
    ("pregnancy_began", None, {SHIFTED_METRIC: {"side": "rise", "size": 5}}, "expects.heart_rate", "it has the rise of up to 8"),
    ("medication_started", "opioid", {SHIFTED_METRIC: {"side": "rise", "size": 5}}, "expects.heart_rate", "nothing of it"),
])  # fmt: skip
def test_what_cant_be_stated_is_refused_with_what_can(
    event: str, medication: str | None, expects: object, field: str, allowed: str
) -> None:
    with pytest.raises(ImpossibleError) as refused:
        checked(event, medication, DAY, DAY, expects, "nurse")
    assert refused.value.field == field
    assert allowed in refused.value.allowed


def test_of_what_must_be_told_by_its_own_source_nobody_states_anything() -> None:
    for kind, one in catalogue()["event"].items():
        told = any(words in one["source"] for words in ("must be told", "told all the same", "held back"))
        assert told == ("must_be_told" in one), kind
        assert one["title"] not in life_events.of_which().split(", ") or not told
    assert all(
        "heart_rate" not in one or "held back" not in one["source"] for one in catalogue()["medication"].values()
    )
    with pytest.raises(ImpossibleError) as refused:
        checked("admission", None, DAY, DAY, {SHIFTED_METRIC: {"side": "rise"}}, "nurse")
    assert refused.value.value == '{"side": "rise"}', "as it was sent, not as Python has it"


def written(number: int, kind: str, day: int, size: float | None, *, withdrawn: bool) -> PatientChange:
    when = DAY + timedelta(days=day)
    known = kind.startswith("pregnancy") or kind == "surgery"  # of which nobody may state anything
    expects = None if size is None or known else {SHIFTED_METRIC: {"side": "rise", "size": size}}
    payload = checked(kind, None, when, when, expects, "nurse") | {"withdrawn": withdrawn}
    return PatientChange(life_events.midnight_ms(when), number, "life_event", f"s{number % 4}", payload, 7)


KINDS = st.sampled_from(["surgery", "admission", "travel", "pregnancy_began", "pregnancy_ended"])
WRITTEN = st.tuples(KINDS, st.integers(0, 90), st.none() | st.floats(0.1, 10), st.booleans())


@given(st.lists(WRITTEN, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_in_whatever_order_they_are_told_the_same_is_expected_and_said(told: list[Any], chance: Random) -> None:
    changes = [written(n, kind, day, size, withdrawn=gone) for n, (kind, day, size, gone) in enumerate(told)]
    ordered, shuffled = Changes(), Changes()
    ordered.add(1, changes)
    for one in chance.sample(changes, len(changes)):
        shuffled.add(1, [one])
    assert shuffled.windows == ordered.windows
    for day in range(0, 120, 7):
        at_ms = life_events.midnight_ms(DAY) + day * DAY_MS
        said = ordered.said(1, SHIFTED_METRIC, at_ms)
        assert shuffled.said(1, SHIFTED_METRIC, at_ms) == said
        room = [row[1:] for row in ordered.windows.get(1, []) if row[0] <= at_ms][-1:]
        most = max((event.size or 0 for event in said if event.side == "rise"), default=0)
        assert most <= (room[0][1] if room else 0), "nothing is said to be expected that is not"


@given(st.integers(1, 10), st.integers(1, 400), st.integers(0, 500))
def test_what_grows_never_shrinks_and_ends_at_its_size(size: int, over: int, day: int) -> None:
    effect = {"side": "rise", "size": size, "over": over}
    now, later = size_on(effect, day), size_on(effect, day + 7)
    assert now is not None
    assert later is not None
    assert 0 < now <= later <= size
    assert size_on(effect, over) == size
