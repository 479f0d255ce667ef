"""The document of statements about weeks, as the OpenAPI document describes it; see `services.api.documents`."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from services.api.documents import Brief, strict

Quantity = Literal[
    "resting_heart_rate",
    "hrv_rmssd",
    "respiratory_rate",
    "body_temperature",
    "weight",
    "steps",
    "rest_regularity",
    "wear",
]


@strict
class Change(TypedDict):
    """How a quantity differs from the person's own days; the difference is null where the state is unknown.

    So it is with fewer days than are needed, and where as many leave an end of the interval open. Of ``eight_weeks``
    the change and its interval are a week.
    """

    quantity: Quantity
    title: str
    unit: str
    decimals: int
    kind: Literal["first_weeks", "four_weeks_before", "eight_weeks", "same_weekdays"]
    state: Literal["higher", "lower", "no_clear_change", "unknown"]
    value: float | None
    reference: float | None
    change: float | None
    low: float | None
    high: float | None
    p: float | None
    since: str | None
    days: int
    days_needed: int
    compared_days: int
    compared_needed: int
    sentence: str


@strict
class Recovery(TypedDict):
    """How far a quantity has come back from an episode, and since when every known day is usual again."""

    quantity: Quantity
    title: str
    unit: str
    decimals: int
    alert: str
    started_at: str
    state: Literal["back", "not_back", "unknown"]
    usual: float | None
    worst: float | None
    now: float | None
    share: float | None
    since: str | None
    days: int
    sentence: str


@strict
class Wear(TypedDict):
    """On how many of the last 28 days, as far as data were asked for, there are enough hours of them."""

    state: Literal["falling", "not_falling", "unknown"]
    days_with_enough: int
    days_expected: int
    hours_needed: int
    longest_gap_days: int
    gap_since: str | None
    hours: float | None
    hours_before: float | None
    sentence: str


@strict
class WeightGain(TypedDict):
    """Whether the newest weight lies more than the bound above the lowest of the days before it, in kg.

    Of the unconfirmed one reading alone tells; the unknown has no change.
    """

    state: Literal["risen", "unconfirmed", "not_risen", "unknown"]
    bound: float
    within_days: int
    day: str | None
    value: float | None
    from_day: str | None
    from_value: float | None
    change: float | None
    sentence: str


@strict
class DayShape(TypedDict):
    """How unlike the heart rate's course over the last day was to that of each of the 28 before it.

    The distance is in the days' own mean deviations, ``p`` how often an ordinary day of this person lies so far;
    ``turned_hours`` by how many hours later it is a usual course. The unknown has none of them.
    """

    state: Literal["unlike", "not_unlike", "unknown"]
    day: str
    hours: int
    hours_needed: int
    days: int
    days_needed: int
    distance: float | None
    p: float | None
    most_alike: str | None
    since: str | None
    most_at_hour: int | None
    most_by: float | None
    turned_hours: int | None
    sentence: str


@strict
class Off(TypedDict):
    """A quantity that says nothing of somebody with this profile, and why."""

    quantity: Quantity | Literal["day_shape"]
    title: str
    reason: str


@strict
class Weeks(TypedDict, total=False):
    """Statements about a patient's weeks; classes of data that are not open to whoever asks are named.

    ``to`` is the day on which the last night that is over ended, ``calendar_to`` the last whole day of steps, weight,
    regularity and wear. A fast gain of weight is looked for up to the present day; null where nobody was ever weighed.
    The course of the day is told to the team alone, null where it is off or not shown.
    """

    patient: Brief
    time_zone: str
    to: str
    calendar_to: str
    confidence: float
    changes: list[Change]
    recoveries: list[Recovery]
    wear: Wear | None
    weight_gain: WeightGain | None
    day_shape: DayShape | None
    off: list[Off]
    not_shown: list[str]


@strict
class Wearing(TypedDict):
    """One patient of whom less comes than before; the days are their own, over, and such on which data were asked for.

    ``falling`` as the statement on their page says it; ``stopped``: no day of the last fortnight had enough, and half
    of them or more had nothing at all.
    """

    patient: Brief
    time_zone: str
    state: Literal["falling", "stopped"]
    hours_needed: int
    days_with_enough: int
    days_expected: int
    days_with_enough_before: int
    days_expected_before: int
    longest_gap_days: int
    gap_since: str | None
    last_heard: str | None
    sentence: str


@strict
class WearingList(TypedDict):
    """Whose wear is falling among the ``patients`` whom one's teams look after, without the discharged and the dead.

    Of ``never_heard`` no heart rate ever came, of ``unknown`` there are too few days to say: of them is not known
    whether they wear it less. ``not_asked``: paused, in hospital or in comfort care now. Counts are of the patients
    that were looked at; ``not_looked_at`` come later by id: ``note`` says so, and ``next`` goes on with them.
    """

    at: str
    patients: int
    never_heard: int
    unknown: int
    stopped: int
    falling: int
    not_asked: int
    not_looked_at: int
    note: str | None
    items: list[Wearing]
    next: str | None
    withheld_by_consent: NotRequired[int]
