"""Times on the wire and in words: RFC 3339 with offset outside, aware datetimes inside."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest.clock import Clock, SystemClock, to_datetime, to_ms
from services.api.problems import invalid


@overload
def rfc3339(moment: datetime) -> str: ...
@overload
def rfc3339(moment: None) -> None: ...
def rfc3339(moment: datetime | None) -> str | None:
    """Return an instant as ``2026-11-22T19:04:05.250Z``, milliseconds always shown; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(field: str, text: str) -> datetime:
    """Return the instant a client wrote.

    Raises:
        Problem: not RFC 3339, or without an offset.
    """
    allowed = "RFC 3339 with an offset, e.g. 2026-11-22T19:00:00Z"
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped + arrives as a space
        to_ms(moment)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(text, field, allowed) from error


def present(clock: Clock) -> datetime:
    """Return the present; the host's while a driven clock has not been told yet."""
    return to_datetime(clock.now_ms() or SystemClock().now_ms())


def age(since: datetime, now: datetime) -> str:
    """Return how long ago in one or two words, e.g. ``just now``, ``3 min``, ``5 h``, ``2 days``."""
    seconds = max(0.0, (now - since).total_seconds())
    if seconds < 45:
        return "just now"
    for unit, size, limit in (("min", 60, 90), ("h", 3600, 36)):
        if seconds < limit * size:
            return f"{max(1, round(seconds / size))} {unit}"
    days = round(seconds / 86400)
    return "1 day" if days == 1 else f"{days} days"


def zone(name: str) -> tzinfo:
    """Return a patient's time zone; UTC, and said so by the abbreviation, where this host does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC
