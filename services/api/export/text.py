"""How numbers and instants are written so that reading them back gives the stored ones exactly."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
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
    different, which = np.unique(value, return_inverse=True)  # a heart beats at some hundred rates
    texts = [str(one).removesuffix(".0") for one in different]
    return [texts[i] for i in which.tolist()]


def number(value: float) -> float:
    """Return a stored float32 as the shortest decimal that is no other: 36.6, not 36.599998."""
    return float(str(np.float32(value)))


def local(t_ms: int, zone: tzinfo) -> str:
    """Return an instant as RFC 3339 to the millisecond, with the wearer's offset from UTC at that instant."""
    return at(to_datetime(t_ms), zone)


def locals_(t_ms: NDArray[np.int64], zone: tzinfo) -> list[str]:
    """Return the instants of a block, an hour at the most and in order, as `local` does one by one."""
    first, last = (to_datetime(int(one)).astimezone(zone) for one in (t_ms[0], t_ms[-1]))
    offset = first.utcoffset()
    if offset is None or offset != last.utcoffset():  # the clocks change in between
        return [local(one, zone) for one in t_ms.tolist()]
    suffix = first.isoformat(timespec="milliseconds")[len("2026-11-22T19:04:05.000") :]
    shifted = (t_ms + offset // timedelta(milliseconds=1)).astype("datetime64[ms]")
    return [f"{text}{suffix}" for text in np.datetime_as_string(shifted, unit="ms").tolist()]


def at(moment: datetime, zone: tzinfo) -> str:
    """Return an instant as RFC 3339 to the millisecond, with the wearer's offset from UTC at that instant."""
    return moment.astimezone(zone).isoformat(timespec="milliseconds")


def words(text: str | None) -> str:
    """Return free text as a cell that no spreadsheet takes for a formula."""
    text = text or ""
    return f"'{text}" if text.startswith(FORMULAS) else text
