"""A pregnancy's window ends where the profile tells that it is over, as by the event, in whatever order it is told."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.life_events import after, checked, midnight_ms, standing
from services.processor import individual
from services.processor.change import PatientChange
from services.processor.changes import Changes
from services.profile import conditions

DAY = date(2026, 3, 3)


def at(day: int) -> int:
    return midnight_ms(DAY + timedelta(days=day))


def event(number: int, kind: str, day: int) -> PatientChange:
    when = DAY + timedelta(days=day)
    return PatientChange(at(day), number, "life_event", f"s{number}", checked(kind, None, when, when), 7)


def profile(number: int, effective: int, span: tuple[int, int] | None) -> PatientChange:
    """A version of the profile from a day on, with a pregnancy from a first to a last day, or none."""
    days = [(DAY + timedelta(days=day)).isoformat() for day in span or ()]
    payload = {"pregnancy": dict(zip(("from", "to"), days, strict=True))} if days else {}
    return PatientChange(at(effective), number, "profile", "", payload, 7)


BEGAN = event(1, "pregnancy_began", 0)


@pytest.mark.parametrize(
    ("profiles", "ends"),
    [
        ([], 301),
        ([profile(2, 30, (0, 280))], 281),  # its last day, foreseen
        ([profile(2, 30, (0, 280)), profile(3, 60, (0, 55))], 60),  # written down later: in force from then on
        ([profile(2, 30, (0, 280)), profile(3, 50, (0, 55))], 56),
        ([profile(2, 30, (0, 280)), profile(3, 60, None)], 60),
        ([profile(2, 30, None)], 301),  # which never told of it
        ([profile(2, -300, (-400, -130)), profile(3, 10, (-400, -130))], 301),  # of the one before
        ([profile(2, 30, (0, 280)), profile(3, 60, (0, 55)), profile(4, 70, (0, 280))], 60),
        ([profile(2, 30, (0, 280)), profile(3, 30, None)], 301),  # put right from the very instant on
        ([profile(2, 30, (0, 280)), event(3, "pregnancy_ended", 52)], 52),
    ],
)
def test_it_ends_where_the_profile_says_so(profiles: list[PatientChange], ends: int) -> None:
    changes = Changes()
    changes.add(1, [*profiles, BEGAN])
    assert max(mark for mark, _, rise in changes.windows[1] if rise) < at(ends)
    assert (at(ends), 0) in [(mark, rise) for mark, _, rise in changes.windows[1]]
    said = {day: [one.words for one in changes.said(1, "heart_rate", at(day))] for day in (ends - 1, ends)}
    assert ["pregnancy began" in words for words in said.values()] == [True, False]


def test_who_has_no_event_gets_no_window_and_without_a_profile_nothing_changes() -> None:
    changes = Changes()
    changes.add(1, [profile(2, 30, (0, 55))])
    assert changes.windows == {}


def test_an_end_that_was_recorded_before_ends_were_kept_ends_what_came_after_that_alone() -> None:
    birth = DAY + timedelta(days=270)
    ended = {k: v for k, v in checked("pregnancy_ended", None, birth, birth).items() if k != "ends"} | {"catalogue": 1}
    began = checked("pregnancy_began", None, DAY, DAY)
    assert after(began, [ended]) == birth
    old = began | {"catalogue": 1, "effects": {"heart_rate": {"side": "rise"}}}
    assert after(old, [ended]) == DAY + timedelta(days=301), "what was recorded keeps its own"
    (kept,) = standing({"a": old}, individual.pregnancies_over([profile(2, 30, (0, 55))]))
    assert kept.to_ms == at(301)
    surgery = checked("surgery", None, birth, birth) | {"catalogue": 1}
    assert after(began, [surgery]) == DAY + timedelta(days=301)


PROFILES = st.tuples(st.integers(-50, 330), st.none() | st.tuples(st.integers(-40, 60), st.integers(0, 300)))
EVENTS = st.tuples(st.sampled_from(["pregnancy_began", "pregnancy_ended"]), st.integers(0, 320))


@given(st.lists(PROFILES, max_size=5), st.lists(EVENTS, max_size=3), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_whatever_the_order_the_same_is_expected_and_nothing_once_the_profile_says_it_is_over(
    profiles: list[Any], events: list[Any], chance: Random
) -> None:
    said = [profile(n, day, span and (span[0], span[0] + span[1])) for n, (day, span) in enumerate(profiles)]
    happened = [event(10 + n, kind, day) for n, (kind, day) in enumerate(events)]
    ordered, shuffled = Changes(), Changes()
    ordered.add(1, [*said, *happened])
    for one in chance.sample([*said, *happened], len(said) + len(happened)):
        shuffled.add(1, [one])
    assert shuffled.windows == ordered.windows
    said.sort()
    begun = {at(day) for kind, day in events if kind == "pregnancy_began"}
    pregnant = ["pregnant" in holds(said, day) for day in range(-50, 340)]
    for end in [day for day, (before, now) in enumerate(pairwise(pregnant), -49) if before and not now]:
        room = [rise for mark, _, rise in ordered.windows.get(1, []) if mark <= at(end)][-1:]
        assert not any(room) or at(end) in begun


def holds(said: list[PatientChange], day: int) -> frozenset[Any]:
    return conditions(individual.profile_at(said, at(day)), at(day))
