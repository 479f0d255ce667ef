"""How numbers, durations and instants are written in a sentence, and how a sentence is compared with what SQL found."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TOKEN: Final = re.compile(r"\d+(?:\.\d+)?|\b(?:" + "|".join(MONTHS) + r")\b")


class Shown(NamedTuple):
    """An average that is shown with so many decimals."""

    value: float
    decimals: int


class Apart(NamedTuple):
    """The difference of the averages before and after it, as they are shown; a count may stand between."""

    decimals: int


Expected = list[str | Shown | Apart]


class Untrue(Exception):
    """A sentence says what SQL does not find."""


def compare(tokens: list[str], expected: Expected) -> None:
    """Compare the numbers of a sentence with those SQL found, in order.

    Raises:
        Untrue: one differs, is missing or is not explained.
    """
    if len(tokens) != len(expected):
        msg = f"numbers {tokens}, but SQL explains {expected}"
        raise Untrue(msg)
    for place, (token, one) in enumerate(zip(tokens, expected, strict=True)):
        if isinstance(one, Shown):
            right = decimals(token) == one.decimals and abs(float(token) - one.value) <= 0.5 * 10**-one.decimals + 1e-3
        elif isinstance(one, Apart):
            after = next(i for i in range(place + 1, len(expected)) if isinstance(expected[i], Shown))
            apart = abs(float(tokens[place - 1]) - float(tokens[after]))
            right = token == f"{apart:.{one.decimals}f}"
        else:
            right = token == one
        if not right:
            msg = f"{token} in place {place + 1} of {tokens}, but SQL finds {one} in {expected}"
            raise Untrue(msg)


def compared(value: float, usual: float, decimals: int, text: str) -> Expected:
    """Return the tokens of a value against its usual one.

    Raises:
        Untrue: the sentence names the wrong side.
    """
    shown: Expected = [Shown(value, decimals), Apart(decimals), Shown(usual, decimals)]
    if f"{value:.{decimals}f}" == f"{usual:.{decimals}f}" and ("equal to" in text or "back at" in text):
        del shown[1]
    elif (" above" in text) != (value > usual):
        msg = f"{value} is not on that side of {usual}"
        raise Untrue(msg)
    return shown


def decimals(token: str) -> int:
    return len(token.partition(".")[2])


def plain(value: float) -> str:
    """Return a single reading with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def precise(value: float) -> str:
    """Return a value whose unit is in doubt: three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration(lasted: timedelta) -> list[str]:
    """Return whole minutes, or hours and minutes, rounded down; seconds under two minutes."""
    minutes = lasted // MINUTE
    if minutes < 2:
        return [str(int(lasted.total_seconds()))]
    if minutes < 120:
        return [str(minutes)]
    hours, rest = divmod(minutes, 60)
    return [str(hours), str(rest)] if rest else [str(hours)]


def clock(when: datetime) -> list[str]:
    return [f"{when:%H}", f"{when:%M}"]


def day_and_month(when: date) -> list[str]:
    return [str(when.day), MONTHS[when.month - 1]]


def span(start: datetime, end: datetime, offset: timedelta) -> list[str]:
    """Return two clock times, with their dates where these differ."""
    start, end = start.astimezone(UTC) + offset, end.astimezone(UTC) + offset
    if start.date() == end.date():
        return [*clock(start), *clock(end)]
    return [*day_and_month(start), *clock(start), *day_and_month(end), *clock(end)]


def since(when: datetime, offset: timedelta) -> list[str]:
    """Return a clock time and its date."""
    local = when.astimezone(UTC) + offset
    return [*clock(local), *day_and_month(local)]


def day_of(when: datetime, offset: timedelta) -> date:
    """Return the person's day (10:00 to 10:00, by its end) to which the hour of an instant belongs."""
    return (when.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + offset + timedelta(hours=14)).date()
