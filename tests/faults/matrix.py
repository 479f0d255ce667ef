"""The rows: what each breaks, how, and what must hold; every module of rows adds its own here."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from services.settings import Settings
    from tests.faults.load import Story
    from tests.faults.trial import Trial

MODULES: Final = ("processors", "broker", "database", "network", "content", "host", "change")
Act = Callable[["Trial"], Awaitable[None]]
Change = Callable[["Settings"], "Settings"]
Tell = Callable[["Story"], "Story"]
Prepare = Callable[["Trial", "Settings"], AbstractAsyncContextManager[None]]


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
    proxied: frozenset[str] = frozenset()  # of kafka, postgres, mosquitto, gateway, api
    processors: int = 1  # that it needs; it has more where a run is given more
    alone: bool = False  # means one processor, whatever a run is given
    slower: float = 1.0  # how much slower than in other rows the load is sent: the fault takes that long
    moment: tuple[float, float] = (0.2, 0.5)  # between which shares of the accepted frames the fault begins
    change: Change | None = None  # of what the processes are told
    tell: Tell | None = None  # another story of the same seed, with the same settled alerts
    play: Act | None = None  # sends the load, where its own pace is not wanted
    prepare: Prepare | None = None  # around the row, once its database is made
    same_stream: bool = True  # False: the watcher may have seen more than the database holds now


ROWS: Final[dict[int, Row]] = {}


def row(
    number: int, name: str, *, how: str, figure: str, proxied: tuple[str, ...] = (), **more: Any
) -> Callable[[Act], Act]:
    """Add a row whose act is the decorated function; ``more`` are the other fields of `Row`."""

    def add(act: Act) -> Act:
        assert number not in ROWS, f"row {number} is there twice"
        ROWS[number] = Row(number, name, how, figure, act, frozenset(proxied), **more)
        return act

    return add


def all_rows() -> list[Row]:
    """Return every row in the order of its number."""
    for name in MODULES:
        importlib.import_module(f"tests.faults.{name}")
    return [ROWS[number] for number in sorted(ROWS)]
