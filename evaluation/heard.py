"""What the processor said of people's readings: the shape in which it is judged, whoever drives the processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from detectors.protocol import Bools, Doubles, Ints, Longs
from simulators.series import Series

Streams = Mapping[str, Series]  # one person's readings by metric, ascending, each instant once


class Alert(NamedTuple):
    """One alert; instants in Unix ms UTC."""

    rule: str
    kind: Literal["clinical", "technical"]
    start_ms: int  # the first instant of what it is about
    found_ms: int  # the event time at which it was told
    end_ms: int | None  # None: still open when the data end
    worse_ms: tuple[int, ...] = ()  # when it was told to have become worse


@dataclass(frozen=True, slots=True)
class Nights:
    """D judged nights of heart rate asleep, each against the baseline as it was before."""

    day: Ints  # (D,) local days since 1970
    value: Doubles  # (D,) /min
    center: Doubles  # (D,)
    spread: Doubles  # (D,)
    n_days: Ints  # (D,) clean days behind the baseline
    z: Doubles  # (D,)
    learned: Bools  # (D,) whether the baseline took the night in


@dataclass(frozen=True, slots=True)
class Heard:
    """Everything that was said of one person."""

    alerts: list[Alert]
    nights: Nights
    hours: Longs  # (H,) hours with data that were judged, Unix ms UTC


class Processor(Protocol):
    """What drives the processor's code."""

    def __call__(
        self, people: Sequence[Streams], offsets_min: Sequence[int], told: Callable[[int, int], None], /,
        *, swapped_ms: Sequence[int | None] | None = None,
    ) -> list[Heard]:  # fmt: skip
        """Return what was said of each person.

        ``offsets_min`` from UTC a person, ``told(days done, days)``, ``swapped_ms`` the instant from which on another
        device measures a person, None: one device throughout.
        """
        ...
