"""The rules of consent: the last word stands, whatever order rows are read in; age to the day; nobody decides who may not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.consent import (
    CLASSES,
    Decision,
    Wanted,
    after,
    check,
    check_rules,
    minor_until,
    standing,
    withheld,
)
from services.impossible import ImpossibleError

NOW = datetime(2026, 11, 22, 19, tzinfo=UTC)
HOURS = st.integers(-50, 50).map(lambda hours: NOW + timedelta(hours=hours))
ABOUT = st.one_of(st.none(), st.frozensets(st.sampled_from(CLASSES), min_size=1))
SAID = st.sampled_from(["given", "refused", "withdrawn"])


@st.composite
def histories(draw: st.DrawFn) -> list[Decision]:
    said = draw(st.lists(st.tuples(ABOUT, SAID, HOURS, st.one_of(st.none(), HOURS)), max_size=8))
    return [Decision(i, *one) for i, one in enumerate(said)]


def told(history: Sequence[Decision], data_class: str, at: datetime) -> Decision | None:
    """The same, told as a story: each word replaces the one before, once it takes effect."""
    stands = None
    for one in sorted(history, key=lambda one: one.id):
        if one.effective_at <= at and (one.classes is None or data_class in one.classes):
            stands = one
    return stands


@given(histories(), HOURS, st.randoms())
def test_the_last_word_in_effect_stands_in_whatever_order_it_is_read(
    history: list[Decision], at: datetime, random: Any
) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)
    for name in CLASSES:
        assert standing(shuffled, name, at) == told(history, name, at)


@given(histories(), HOURS, ABOUT)
def test_after_a_withdrawal_nothing_of_it_is_used_and_an_earlier_permission_to_come_does_not_bring_it_back(
    history: list[Decision], at: datetime, about: frozenset[str] | None
) -> None:
    history.append(Decision(len(history), about, "withdrawn", at))
    for later in (at, at + timedelta(days=9)):
        gone = withheld(history, "research", "consent", later)
        assert gone >= (about or frozenset(CLASSES))
        assert withheld(history, "family", "other", later) >= (about or frozenset(CLASSES))
        assert withheld(history, "care", "other", later) == frozenset()


@given(histories(), ABOUT, SAID)
def test_what_is_withheld_next_follows_from_what_is_withheld_now(
    history: list[Decision], about: frozenset[str] | None, said: str
) -> None:
    before = withheld(history, "care", "consent", NOW)
    whole = [*history, Decision(len(history), about, said, NOW)]
    assert withheld(whole, "care", "consent", NOW) == after(before, about, said)


@given(HOURS, st.one_of(st.none(), HOURS), HOURS)
def test_what_was_given_for_a_time_ends_at_that_instant(begins: datetime, ends: datetime | None, at: datetime) -> None:
    one = Decision(1, None, "given", begins, ends)
    assert one.holds(at) == (begins <= at and (ends is None or at < ends))


@given(st.dates(date(1990, 1, 1), date(2020, 12, 31)), st.integers(13, 21))
def test_somebody_decides_from_the_first_instant_of_their_birthday(born: date, age: int) -> None:
    until = minor_until({"birth_date": born.isoformat()}, age)
    assert until is not None
    leap_born, day = (born.month, born.day) == (2, 29), until.date()
    assert until.time() == time(0)
    assert (day.year, day.month, day.day) == (born.year + age, born.month, born.day) or (
        leap_born and (day.month, day.day) == (3, 1)
    )
    for relation, instant, may in (
        ("guardian", until - timedelta(milliseconds=1), True), ("self", until - timedelta(milliseconds=1), False),
        ("guardian", until, False), ("self", until, True), ("representative", until, True),
    ):  # fmt: skip
        wanted = Wanted("care", "given", relation, "Grete", "signed", document="words")
        if may:
            check(wanted, instant, {"birth_date": born.isoformat()}, age)
        else:
            with pytest.raises(ImpossibleError, match="relation"):
                check(wanted, instant, {"birth_date": born.isoformat()}, age)


@pytest.mark.parametrize(
    ("facts", "age", "young"),
    [({}, 16, False), ({"age_band": "under_16"}, 16, True), ({"age_band": "under_16"}, 18, True),
     ({"age_band": "under_16"}, 14, False), ({"age_band": "16_to_64"}, 18, False)],
)  # fmt: skip
def test_a_band_says_somebody_is_too_young_only_where_it_can(facts: dict[str, str], age: int, young: bool) -> None:
    assert (minor_until(facts, age) is not None) == young
    guardian = Wanted("care", "given", "guardian", "Grete", "signed", document="words")
    if young:
        check(guardian, NOW, facts, age)
    else:
        with pytest.raises(ImpossibleError, match="self or representative"):
            check(guardian, NOW, facts, age)


GOOD = Wanted("care", "given", "self", "", "signed on paper", document="words")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"purpose": "sale"}, "purpose"), ({"said": "maybe"}, "decision"), ({"relation": "neighbour"}, "relation"),
        ({"classes": []}, "data_classes"), ({"classes": ["heart"]}, "data_classes"), ({"form": " "}, "form"),
        ({"form": "x" * 201}, "form"), ({"reason": "x" * 1001}, "reason"), ({"document": ""}, "document"),
        ({"relation": "representative", "decided_by": " "}, "decided_by"),
        ({"effective_at": NOW - timedelta(minutes=6)}, "effective_at"),
        ({"effective_at": NOW + timedelta(days=367)}, "effective_at"),
        ({"expires_at": NOW}, "expires_at"), ({"said": "withdrawn", "expires_at": NOW + timedelta(1)}, "expires_at"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_with_its_field(wrong: dict[str, Any], field: str) -> None:
    check(GOOD, NOW, {}, 16)
    with pytest.raises(ImpossibleError) as refused:
        check(GOOD._replace(**wrong), NOW, {}, 16)
    assert refused.value.field == field
    assert refused.value.allowed


def test_rules_name_known_purposes_and_grounds() -> None:
    assert check_rules({"care": "consent"}, 14)["research"] == "consent"
    for basis, age in (({"care": "treatment"}, 16), ({"sale": "other"}, 16), ({}, 12), ({}, 22)):
        with pytest.raises(ImpossibleError):
            check_rules(basis, age)
