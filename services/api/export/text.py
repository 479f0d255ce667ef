"""How numbers and instants are written so that reading them back gives the stored ones exactly."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.clock import to_datetime
from ingest.frame import GOOD, IMPLAUSIBLE, MOTION, NOT_WORN, POOR_SIGNAL, QUESTIONABLE

QUALITIES: Final = {
    GOOD: "good",
    QUESTIONABLE: "questionable",
    POOR_SIGNAL: "poor signal",
    NOT_WORN: "not worn",
    MOTION: "moving",
    IMPLAUSIBLE: "implausible",
}
FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would calculate instead of showing it


def numbers(value: NDArray[np.float32]) -> list[str]:
    """Return each value as the shortest decimal that is no other float32, as stored.

    >>> numbers(np.array([72, 36.6, 0.1], np.float32))
    ['72', '36.6', '0.1']
    """
    return [str(one).removesuffix(".0") for one in value]


def number(value: float) -> float:
    """Return a stored float32 as the shortest decimal that is no other: 36.6, not 36.599998."""
    return float(str(np.float32(value)))


def local(t_ms: int, zone: tzinfo) -> str:
    """Return an instant as RFC 3339 to the millisecond, with the wearer's offset from UTC at that instant."""
    return at(to_datetime(t_ms), zone)


def at(moment: datetime, zone: tzinfo) -> str:
    """Return an instant as RFC 3339 to the millisecond, with the wearer's offset from UTC at that instant."""
    return moment.astimezone(zone).isoformat(timespec="milliseconds")


def words(text: str | None) -> str:
    """Return free text as a cell that no spreadsheet takes for a formula."""
    text = text or ""
    return f"'{text}" if text.startswith(FORMULAS) else text
