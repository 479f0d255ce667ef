"""What the adaptive path has to say about closed hours and days: columns to store, findings to raise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self

import numpy as np

from detectors.protocol import CONTEXTS, VITALS, Bools, Bytes, Doubles, Finding, Ints, Longs, Rows, Shorts


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length; indexing a table takes rows of every column."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def take(self, which: Bools | Rows) -> Self:
        """Return the rows ``which`` as a table of the same kind."""
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def join(cls, tables: Sequence[Self]) -> Self:
        """Return the rows of at least one table, one after the other."""
        columns: list[Any] = [[getattr(table, field.name) for table in tables] for field in fields(cls)]
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True, slots=True)
class HourStates(Table):
    """H closed hours and what is known of each of the M vitals."""

    row: Rows  # (H,)
    hour_ms: Longs  # (H,)
    minutes: Bytes  # (H, C) minutes with a usable vital, by context
    state: Bytes  # (H, M) index into DATA_STATES
    cause: Bytes  # (H, M) index into CAUSES


@dataclass(frozen=True, slots=True)
class Bands(Table):
    """B own-baseline bands of closed hours: an ordinary hour's mean lies within 2 spreads of the center."""

    row: Rows  # (B,)
    hour_ms: Longs  # (B,)
    metric: Shorts  # (B,) index into VITALS
    context: Bytes  # (B,) index into CONTEXTS: what most of the hour's minutes were
    center: Doubles  # (B,)
    spread: Doubles  # (B,) one SD, doubt about a young baseline included
    n_days: Ints  # (B,) clean days behind it


@dataclass(frozen=True, slots=True)
class Days(Table):
    """D closed daily values as measured, each with the baseline as it was before this day, put for their device."""

    row: Rows  # (D,)
    local_day: Ints  # (D,) days since 1970: 10:00 to 10:00 local, by its end
    metric: Shorts  # (D,) index into VITALS
    context: Bytes  # (D,) index into CONTEXTS
    value: Doubles  # (D,) mean of the usable minute means
    minutes: Ints  # (D,) how many
    center: Doubles  # (D,)
    spread: Doubles  # (D,) one SD of a day's value, doubt included
    n_days: Ints  # (D,)
    z: Doubles  # (D,)
    p: Doubles  # (D,) two-sided
    cusum: Doubles  # (D,) the sum after this day for heart rate asleep, at rest where there was no night, else NaN
    used_for_baseline: Bools  # (D,)


@dataclass(frozen=True, slots=True)
class Settled:
    """What ``Pipeline.settle`` returns."""

    findings: list[Finding]
    hours: HourStates
    bands: Bands
    days: Days

    def only_states(self, rows: Sequence[int]) -> Settled:
        """Return what is of other rows, and of these rows nothing but the states of their hours."""
        return Settled(
            [finding for finding in self.findings if finding.row not in rows],
            self.hours,
            self.bands.take(~np.isin(self.bands.row, rows)),
            self.days.take(~np.isin(self.days.row, rows)),
        )


@cache
def no_days() -> Days:
    """Return a table of no days: always the same one, for most slices have none."""
    kinds = (np.intp, "i4", "i2", "u1", "f8", "i4", "f8", "f8", "i4", "f8", "f8", "f8", "?")
    return Days(*(np.zeros(0, kind) for kind in kinds))


@cache
def no_hours() -> tuple[HourStates, Bands]:
    """Return tables of no hours and no bands: always the same ones."""
    states = [np.zeros((0, width), np.uint8) for width in (len(CONTEXTS), len(VITALS), len(VITALS))]
    bands = [np.zeros(0, kind) for kind in (np.intp, "i8", "i2", "u1", "f8", "f8", "i4")]
    return HourStates(np.zeros(0, np.intp), np.zeros(0, np.int64), *states), Bands(*bands)
