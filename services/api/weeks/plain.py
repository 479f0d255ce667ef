"""Statements about weeks to the patient, in short sentences: what was measured against their own days.

No diagnosis and no advice; a proxy's page says whom "you" means.
"""

from __future__ import annotations

from typing import Final

from detectors.courses import Recovery
from detectors.trends import Change
from detectors.wear import Wear
from detectors.weights import Gain
from services.api.weeks.quantities import Quantity, date_words

_AGAINST: Final = {
    "first_weeks": ("in the last four weeks", "in your first weeks here", "your first weeks here"),
    "four_weeks_before": ("in the last four weeks", "in the four weeks before", "the four weeks before"),
    "same_weekdays": (
        "in the last seven days",
        "is usual for you on those weekdays",
        "what is usual for you on those weekdays",
    ),
}


def change(quantity: Quantity, said: Change) -> str:
    """Return a comparison as a sentence."""
    name = _upper(quantity)
    if said.change is None:
        return f"{name}: not known yet. Too few {quantity.days} have come in to compare."
    if not quantity.plain_unit and said.state != "no_clear_change":
        return _manner(said)
    amount = f"{_amount(abs(said.change.value), quantity)} {quantity.plain_unit}"
    if said.kind == "eight_weeks":
        if said.state == "no_clear_change":
            return f"{name}: we see no clear rise or fall over the last eight weeks."
        went = "went up" if said.state == "higher" else "went down"
        return f"{name} {went} by about {amount} each week over the last eight weeks."
    lately, than, different_from = _AGAINST[said.kind]
    if said.state == "no_clear_change":
        return f"{name}: we see no clear change {lately} from {different_from}."
    return f"{name} was {amount} {said.state} {lately} than {than}."


def _manner(said: Change) -> str:
    """Return a change of how regular days and nights are: an index of it would tell a patient nothing."""
    how = "more regular" if said.state == "higher" else "less regular"
    if said.kind == "eight_weeks":
        return f"Your days and nights became {how} over the last eight weeks."
    lately, than, _ = _AGAINST[said.kind]
    return f"Your days and nights were {how} {lately} than {than}."


def recovery(quantity: Quantity, said: Recovery, start: int) -> str:
    """Return what became of an episode that began on local day ``start`` as a sentence."""
    name, after = _upper(quantity), f"after what was noticed on {date_words(start)}"
    if said.state == "unknown" or said.share is None:
        return f"{name} {after}: not known yet. Too few {quantity.days} have come in."
    if said.state == "back" and said.since is not None:
        return f"{name} has been in your usual range again since {date_words(said.since)}, {after}."
    return f"{name} is about {100 * said.share:.0f} % of the way back to your usual, {after}."


def wear(said: Wear) -> str:
    """Return on how many days enough came in as a sentence or two."""
    if not said.expected:
        return "How much you wear your device is not known yet."
    fall = " That is less than in the two weeks before." if said.state == "falling" else ""
    count = f"On {said.enough} of {said.expected} days in the last four weeks"
    return f"{count} enough came in from your device to compare.{fall}"


def gain(said: Gain) -> str:
    """Return whether the weight has risen fast as a sentence or two."""
    if said.day is None or said.from_day is None or said.kilograms is None:
        return "Your weight: not known. Too few values have come in to tell if it rose fast."
    if said.state == "not_risen":
        return f"Your weight: no fast gain in what came in, to {date_words(said.day)}."
    days = f"from {date_words(said.from_day)} to {date_words(said.day)}"
    risen = f"Your weight rose by {said.kilograms:.1f} kg {days}."
    if said.state == "unconfirmed":
        return f"{risen} So far one value shows it."
    return f"{risen} Care teams often want to hear of that from people with heart failure."


def _upper(quantity: Quantity) -> str:
    return quantity.plain[0].upper() + quantity.plain[1:]


def _amount(value: float, quantity: Quantity) -> str:
    """Return a whole number, or one with a decimal where the whole one would say nothing."""
    return f"{value:,.0f}" if value >= 1 and quantity.plain_unit not in ("°C", "kg") else f"{value:.1f}"
