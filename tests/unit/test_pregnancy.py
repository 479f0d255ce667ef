"""A pregnancy of made-up people: what its windows hold back, and what they must not.

Their hearts rise by 8 /min from week 10 to 40 and fall back within two weeks of the birth; illnesses are of 5 /min over
three days. Beside what is shipped stand no window at all, and one that is open by 8 /min from the first day on.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np
import pytest

from detectors.baseline import NIGHT_HEART, REST_HEART
from detectors.daily import LIMITS
from detectors.limits import DEFAULT_LIMITS
from detectors.protocol import Bools
from detectors.rules import ADAPTIVE_RULES, RESTING_HEART
from detectors.windows import Window
from evaluation.made_up_days import began_ms, live, people
from evaluation.swaps import ASLEEP_H, REST_H, risen, within
from services.life_events import checked, midnight_ms, standing

PEOPLE, DAYS, FIRST = 150, 400, 3000
BEGAN, BORN = 60, 340
SIZE, ILL = 8, 5
DAY: Final = np.arange(DAYS)
WELL: Final = people(PEOPLE, DAYS, FIRST)
RISEN: Final = SIZE * np.clip((DAY - BEGAN - 70) / 210, 0, 1) * np.clip(1 - (DAY - BORN) / 14, 0, 1)
EARLY, LATE, AFTER = BEGAN + 84, BEGAN + 196, BORN + 35


def shipped() -> list[Window]:
    """Return the windows of a pregnancy that was written down with its birth."""
    first = date(1970, 1, 1)
    days = {kind: first + timedelta(days=began_ms(day) // 86_400_000) for kind, day in
            (("pregnancy_began", BEGAN), ("pregnancy_ended", BORN))}  # fmt: skip
    assert midnight_ms(days["pregnancy_began"]) == began_ms(BEGAN)
    events = standing({kind: checked(kind, None, day, day) for kind, day in days.items()})
    return [window for event in events for window in event.windows]


AT_ONCE: Final = [Window(began_ms(BEGAN), began_ms(BORN), 0, SIZE)]
OPENED: Final = {"none": None, "shipped": shipped(), "at once": AT_ONCE}


def told(opened: str, ill: int | None = None) -> Bools:
    lived = WELL
    for pair, hours in ((NIGHT_HEART, ASLEEP_H), (REST_HEART, REST_H)):
        sick = 0 if ill is None else ILL * risen(DAY - ill, *hours)
        lived = lived.other(pair, lived.values[:, :, pair] + RISEN + sick)
    return live(lived, LIMITS["0.2"], opened=OPENED[opened]).of(RESTING_HEART.id)


@pytest.fixture(scope="module")
def well() -> dict[str, Bools]:
    return {opened: told(opened) for opened in OPENED}


def found(opened: str, day: int) -> float:
    """Return of how many an illness from a day on is told within a week."""
    return float(within(told(opened, day), np.full(PEOPLE, day), 7).mean())


def test_less_is_told_of_who_is_well_and_the_birth_lets_the_usual_follow(well: dict[str, Bools]) -> None:
    pregnant = {opened: said[:, BEGAN:BORN].sum() / PEOPLE / 40 for opened, said in well.items()}
    assert pregnant["at once"] < pregnant["shipped"] < 0.9 * pregnant["none"]


@pytest.mark.parametrize("day", [EARLY, LATE])
def test_an_illness_in_pregnancy_is_found_about_as_often_as_without_a_window(day: int) -> None:
    rates = {opened: found(opened, day) for opened in OPENED}
    assert rates["shipped"] > rates["none"] - 0.08
    assert day != EARLY or rates["at once"] < rates["shipped"] - 0.15, "why it grows"


def test_where_the_profile_says_pregnant_one_rule_of_the_heart_rate_alone_goes_by_the_window() -> None:
    of_heart = [rule for rule in ADAPTIVE_RULES if rule.metric == "heart_rate" and rule.kind == "adaptive"]
    assert [rule.id for rule in of_heart if "pregnant" not in rule.not_for] == ["heart_rate_unusual_at_rest"]
    assert not any("pregnant" in limit.not_for for limit in DEFAULT_LIMITS), "no safety limit knows of it"


def test_an_illness_weeks_after_a_birth_is_found_where_the_fall_was_expected() -> None:
    rates = {opened: found(opened, AFTER) for opened in ("none", "shipped")}
    assert rates["shipped"] > rates["none"] + 0.25
