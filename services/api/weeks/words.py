"""Statements about weeks to the care team: how far from whose normal, since when, over how many days, how sure.

Unknown is told with how many days there are and how many are needed, "no clear change" with its interval.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.apart import HOURS, LEAST_HOURS
from detectors.courses import Recovery
from detectors.robust import CONFIDENCE, Estimate
from detectors.shape import LEAST_DAYS
from detectors.trends import SPAN, Change
from detectors.wear import ENOUGH_HOURS, Wear
from detectors.weights import FRESH_DAYS, GAIN_DAYS, GAIN_KG, Gain
from services.api.weeks.quantities import Quantity, date_words, signed
from services.api.weeks.shapes import Novelty

_AGAINST: Final = {
    "first_weeks": ("in the last 4 weeks", "in", "this person's first weeks"),
    "four_weeks_before": ("in the last 4 weeks", "in", "the 4 weeks before"),
    "eight_weeks": ("over the last 8 weeks", "", ""),
    "same_weekdays": ("in the last 7 days", "on", "the same weekdays of the 8 weeks before"),
}


def change(quantity: Quantity, said: Change) -> str:
    """Return a comparison as a sentence."""
    lately, when, earlier = _AGAINST[said.kind]
    name = f"{quantity.title} {lately}"
    if said.change is None and said.enough:
        count = f"{said.days} {quantity.days}, to compare with {said.compared_days}"
        return f"{name}: not known; {count}, are too few to bound a difference"
    if said.change is None:
        now, before = f"{said.days} of {said.days_needed}", f"{said.compared_days} of {said.compared_needed}"
        return f"{name}: not known; of the {quantity.days} needed {now} are there, to compare with {before}"
    if said.kind == "eight_weeks":
        return _slope(quantity, said, said.change, name)
    places = quantity.decimals
    then = f"{earlier} ({said.reference:.{places}f} {quantity.unit}, {said.compared_days} {quantity.days})"
    sure = f"{_interval(said.change, places)}, {said.days} {quantity.days}"
    if said.state == "no_clear_change":
        return f"{name}: no clear change from {then}; {sure}"
    since = f"; since {date_words(said.since)}" if said.kind == "first_weeks" and said.since is not None else ""
    amount = f"{abs(said.change.value):.{places}f} {quantity.unit} {said.state}"
    return f"{name}: {amount} than {when} {then}; {sure}{since}"


def recovery(quantity: Quantity, said: Recovery, start: int) -> str:
    """Return what became of an episode that began on local day ``start`` as a sentence."""
    episode = f"{quantity.title} after the episode of {date_words(start)}"
    if said.state == "unknown" or said.share is None:
        return f"{episode}: not known how far back to this person's usual"
    named = (("usual", said.usual), ("worst", said.worst), ("now", said.now))
    levels = ", ".join(f"{name} {level:.{quantity.decimals}f}" for name, level in named if level is not None)
    if said.state == "back" and said.since is not None:
        back = f"back to usual since {date_words(said.since)}, {said.days} {quantity.days}"
    else:
        back = f"{100 * said.share:.0f} % of the way back to usual"
    return f"{episode}: {back} ({levels} {quantity.unit})"


def wear(said: Wear, *, heard: bool) -> str:
    """Return on how many days there is enough data, the longest gap, and whether wear falls, as a sentence."""
    if not said.expected:
        why = "data were asked for on none of them" if heard else "no heart rate was ever received"
        return f"Wear in the last {SPAN} days: not known, {why}"
    days = f"{said.enough} of {said.expected} days with at least {ENOUGH_HOURS} h of data"
    gap = ""
    if said.gap_since is not None:
        gap = f", longest gap {said.longest_gap} d from {date_words(said.gap_since)}"
    what = {"falling": "Wear is falling", "unknown": "Wear (too few days to say if it falls)"}.get(said.state, "Wear")
    return f"{what}: {days}{gap}"


def wearing(said: Wear) -> str:
    """Return how a fortnight's wear compares with that of the one before, to whoever organises care, as a sentence."""
    half, before = SPAN // 2, (said.enough - said.enough_lately, said.expected - said.expected_lately)
    lately = f"{said.enough_lately} of {said.expected_lately} days with at least {ENOUGH_HOURS} h of data"
    text = f"{lately} in the last {half} days, {before[0]} of {before[1]} in the {half} before"
    if said.hours is not None and said.hours_before and round(said.hours) != round(said.hours_before):
        text += f"; half of the days at least {said.hours:.0f} h, {said.hours_before:.0f} h before"
    if said.gap_since is not None:
        text += f"; longest gap {said.longest_gap} d from {date_words(said.gap_since)}"
    return text


def gain(said: Gain) -> str:
    """Return whether the weight has risen fast as a sentence: from which value of which day to which."""
    bound = f"more than {GAIN_KG:.0f} kg in {GAIN_DAYS} days"
    if said.day is None or said.value is None:
        return f"Fast gain of weight ({bound}): not known, no weight of the weeks looked at"
    newest = f"{said.value:.1f} kg on {date_words(said.day)}"
    if said.from_day is None or said.kilograms is None:
        why = f"older than {FRESH_DAYS - 1} d, or no other in the {GAIN_DAYS} days before it"
        return f"Fast gain of weight ({bound}): not known; the newest weight ({newest}) is {why}"
    days = said.day - said.from_day
    levels = f"{said.from_value:.1f} kg on {date_words(said.from_day)}, {newest}"
    if said.state == "not_risen":
        return f"Weight: no gain of {bound} in what came in ({levels})"
    sure = "" if said.state == "risen" else ", one reading so far, not confirmed"
    risen = f"Weight {said.kilograms:.1f} kg up in {days} {'day' if days == 1 else 'days'} ({levels}{sure})"
    return f"{risen}; for somebody with heart failure, teams usually ask to be told of {bound}"


def day_shape(said: Novelty) -> str:
    """Return how unlike the course of a day was as a sentence: to which days, where most, and what else looks so."""
    course = said.course
    name = f"Course of the heart rate over the 24 h to 10:00 on {date_words(said.day)}"
    hours, days = int(course.hours[0]), int(course.days[0])
    if not np.isfinite(course.p[0]) or said.by is None or said.hour is None:
        if hours < LEAST_HOURS:
            return f"{name}: not known; {hours} of the {LEAST_HOURS} hours needed are there"
        return f"{name}: not known; {days} of the {LEAST_DAYS} days needed to compare with are there"
    sure = f"{hours} of {HOURS} h known, {days} days compared"
    alike = date_words(int(course.nearest[0]))
    if not course.unlike[0]:
        return f"{name}: as far as known like that of {alike}; {sure}"
    since = f", so since {date_words(said.since)}" if said.since is not None and said.since < said.day else ""
    above = "above" if said.by > 0 else "below"
    where = f"most at {said.hour}:00, {abs(said.by):.0f} /min {above} the most alike day ({alike}), levels taken off"
    told = f"{name}: unlike that of any day compared of the 4 weeks before{since}; {where}; p {course.p[0]:.2g}, {sure}"
    if not course.turned[0]:
        return told
    way = "later" if course.turned[0] > 0 else "earlier"
    return (
        f"{told}. It is near a usual one, {abs(course.turned[0])} h {way}; nights at work and another time zone look so"
    )


def _slope(quantity: Quantity, said: Change, slope: Estimate, name: str) -> str:
    places = quantity.decimals + 1
    sure = f"{_interval(slope, places)}, {said.compared_days + said.days} {quantity.days}"
    if said.state == "no_clear_change":
        return f"{name}: no clear rise or fall; {sure}"
    way = "rising" if said.state == "higher" else "falling"
    return f"{name}: {way} by {abs(slope.value):.{places}f} {quantity.unit} a week; {sure}"


def _interval(found: Estimate, places: int) -> str:
    return f"{100 * CONFIDENCE:.0f} % interval {signed(found.low, places)} to {signed(found.high, places)}"
