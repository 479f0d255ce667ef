"""The rows: what each breaks, how, and what must hold; every module of rows adds its own here."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.faults.trial import Trial

MODULES: Final = ("processors", "broker", "database", "network", "content", "host", "change")
Act = Callable[["Trial"], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """One row of the fault matrix.

    ``act`` is called at the seeded moment and returns when the fault is over; what it finds wrong it says with
    `Trial.require`, what it measures with `Trial.read`. What every row must hold is checked after it.
    """

    number: int
    name: str
    how: str  # how it is injected
    figure: str  # the figure to publish
    act: Act
    proxied: frozenset[str] = field(default_factory=frozenset)  # of kafka, postgres, mosquitto, gateway, api
    processors: int = 1
    moment: tuple[float, float] = (0.2, 0.5)  # between which shares of the accepted frames the fault begins
    compares_alerts: bool = True  # with the offline run


ROWS: Final[dict[int, Row]] = {}


def row(
    number: int, name: str, *, how: str, figure: str, proxied: tuple[str, ...] = (), processors: int = 1,
    moment: tuple[float, float] = (0.2, 0.5), compares_alerts: bool = True,
) -> Callable[[Act], Act]:  # fmt: skip
    """Add a row whose act is the decorated function."""

    def add(act: Act) -> Act:
        assert number not in ROWS, f"row {number} is there twice"
        ROWS[number] = Row(number, name, how, figure, act, frozenset(proxied), processors, moment, compares_alerts)
        return act

    return add


def all_rows() -> list[Row]:
    """Return every row in the order of its number."""
    for name in MODULES:
        importlib.import_module(f"tests.faults.{name}")
    return [ROWS[number] for number in sorted(ROWS)]
