"""What goes into the detectors and what comes out: arrays in, arrays and findings out.

The state of all patients is one numpy structured array; a row of it ("slot") is a patient. ``Detector``
says what every detector keeps to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Shorts = NDArray[np.int16]
Counts = NDArray[np.uint16]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Rows = NDArray[np.intp]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
State = NDArray[np.void]  # a structured array; its dtype is the detector's

Priority = Literal["low", "medium", "high"]
Change = Literal["raised", "worsened", "cleared"]
Evidence = dict[str, Any]  # plain JSON: str, int, float, list
Condition = Literal[
    "under_16", "pregnant", "paced", "night_work", "no_oxygen_target", "dialysis"
]  # of a person, by the profile

VITALS: Final[tuple[str, ...]] = (
    "heart_rate",
    "steps",
    "spo2",
    "respiratory_rate",
    "skin_temperature",
    "body_temperature",
    "hrv_rmssd",
)
"""The metrics (keys of the catalogue) of the adaptive path, in the order of the arrays' last axis."""

LIMIT_METRICS: Final[tuple[str, ...]] = (
    *VITALS,
    "systolic_pressure",
    "diastolic_pressure",
    "glucose",
    "resting_heart_rate",
    "weight",
)
"""The metrics the safety limits, and the fast gain of weight, may look at; ``Readings.metric`` indexes this."""

HEART_RATE, STEPS = VITALS.index("heart_rate"), VITALS.index("steps")
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000

ASLEEP, REST, ACTIVE, RECOVERING = 0, 1, 2, 3
CONTEXTS: Final[tuple[str, ...]] = ("asleep", "rest", "active", "recovering")
"""Names of the context codes."""

LEARNING, NORMAL, UNUSUAL, UNKNOWN = 0, 1, 2, 3
DATA_STATES: Final[tuple[str, ...]] = ("learning", "normal", "unusual", "unknown")
"""Names of the data state codes. Unknown is never shown or treated as normal."""

NO_CAUSE, NO_DATA, NOT_WORN, POOR_SIGNAL = 0, 1, 2, 3
CAUSES: Final[tuple[str, ...]] = ("", "no_data", "not_worn", "poor_signal")
"""Names of the codes that say why a metric is unknown."""


@dataclass(frozen=True, slots=True)
class HourSlice:
    """Newly settled minutes of one hour of R patients.

    A patient's hours come in increasing order and each at least once with ``last`` = 60; hours without any
    data are left out. Minutes outside ``[first, last)`` are ignored: those before were handed in already.
    """

    rows: Rows  # (R,) unique slots
    hour_ms: Longs  # (R,) start of the hour, Unix ms UTC
    utc_offset_min: Shorts  # (R,) the wearer's local time minus UTC, minutes
    first: Shorts  # (R,) first newly settled minute, 0..59
    last: Shorts  # (R,) minute after the last settled one, first..60
    mean: Floats  # (R, 60, M) mean of the good readings of a minute (steps: their sum), NaN where none
    low: Floats  # (R, 60, M) smallest good reading, NaN where none
    high: Floats  # (R, 60, M) largest good reading, NaN where none
    good: Counts  # (R, 60, M) how many good readings
    poor: Counts  # (R, 60, M) how many questionable or poor-signal readings
    not_worn: Bools  # (R, 60) the device said it was not worn
    device: Bytes  # (R, 60, M) which of the patient's devices measured, from 1 on; 0 where it is not known

    @property
    def closes(self) -> Bools:
        """(R,) whether this slice completes its hour."""
        return np.asarray(self.last == 60)


@dataclass(frozen=True, slots=True)
class Readings:
    """N single readings for the safety limits, sorted by (row, t_ms).

    ``good`` means that the device did not mark the reading as doubtful. A value that is merely outside the
    catalogue's soft range must still count as good here: a systolic pressure of 230 is what a limit is for.
    """

    row: Rows  # (N,) slot
    metric: Shorts  # (N,) index into LIMIT_METRICS
    t_ms: Longs  # (N,) Unix ms UTC
    value: Floats  # (N,) in the catalogue's unit
    good: Bools  # (N,)
    at_rest: Bools  # (N,) activity in the last 10 min was low, or is unknown


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's condition was met, became worse, or ended, with all its evidence."""

    row: int
    rule: str
    change: Change
    start_ms: int  # first instant of the condition's run: the start of the episode
    at_ms: int  # when persistence was fulfilled, the next level reached, or the episode cleared
    level: int  # index into the rule's priorities, 0 = lowest
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said about a rule wherever its findings go; its version is part of an alert's identity."""

    id: str
    version: int
    kind: Literal["safety", "adaptive", "technical"]  # technical: about the device, not the person
    priority: tuple[Priority, ...]  # by level
    metric: str
    title: str
    not_for: tuple[Condition, ...] = ()  # for whom it does not hold: it is off, and says why


def rows_of(state: State, rows: Rows | Bools) -> State:
    """Return a copy of these rows of a state.

    As opaque bytes: numpy copies those at once, a structured row field by field, which takes some twenty times as long.

    >>> state = np.zeros(3, [("n", "u1"), ("mean", "f4")])
    >>> state["n"] = [7, 8, 9]
    >>> rows_of(state, np.array([2, 0]))["n"].tolist()
    [9, 7]
    """
    return np.asarray(_opaque(state)[rows].view(state.dtype))


def put_rows(state: State, rows: Rows, values: State) -> None:
    """Replace these rows of a state by ``values``, in place.

    Raises:
        TypeError: the values are of another dtype; as bytes they would be misread.
    """
    if values.dtype != state.dtype:
        msg = f"rows of {values.dtype.itemsize} bytes can't be put into a state of {state.dtype.itemsize} a row"
        raise TypeError(msg)
    _opaque(state)[rows] = _opaque(values)


def _opaque(state: State) -> State:
    return state.view(np.dtype((np.void, state.dtype.itemsize)))


def blank_hour(
    rows: Sequence[int], hour_ms: Sequence[int], utc_offset_min: Sequence[int], first: int = 0, last: int = 60
) -> HourSlice:
    """Return an hour without any reading for R patients, to be filled in place."""
    n, shape = len(rows), (len(rows), 60, len(VITALS))
    return HourSlice(
        rows=np.array(rows, np.intp),
        hour_ms=np.array(hour_ms, np.int64),
        utc_offset_min=np.array(utc_offset_min, np.int16),
        first=np.full(n, first, np.int16),
        last=np.full(n, last, np.int16),
        mean=np.full(shape, np.nan, np.float32),
        low=np.full(shape, np.nan, np.float32),
        high=np.full(shape, np.nan, np.float32),
        good=np.zeros(shape, np.uint16),
        poor=np.zeros(shape, np.uint16),
        not_worn=np.zeros((n, 60), bool),
        device=np.zeros(shape, np.uint8),
    )


@dataclass(frozen=True, slots=True)
class DayValues:
    """One day each of R people, for a detector of daily values; its ``channels`` names the columns."""

    rows: Rows  # (R,) unique slots
    day: Ints  # (R,) local days since 1970, later than each one's last
    values: Doubles  # (R, C), NaN where unknown


KINDS: Final = (Readings, HourSlice, DayValues)
"""What a detector may take."""

Given = TypeVar("Given", Readings, HourSlice, DayValues)


@runtime_checkable
class Detector(Protocol[Given]):
    """What every detector is, ours and others'; ``registry`` finds them, one behaviour suite judges them all.

    A detector is made without arguments and remembers nothing of anybody: all that it knows of a person is one row of
    a state it is handed, of its own ``dtype``. A row has a fixed size and holds no objects; all zeros know nothing. A
    snapshot is ``state[row].tobytes()``, a restore ``state[row] = np.frombuffer(data, detector.dtype)[0]``: whatever
    instance goes on from there goes on as if nothing had happened.

    Input is never changed. However it is cut into batches, findings and state are the same to the last bit. Somebody
    without data, or without the metric, has no findings. A class says in its docstring its ``Source:``, its ``Units:``,
    for whom it is ``Valid:``, and ``State:`` with the bytes of a row, e.g. "State: 85 bytes".
    """

    takes: type[Given]
    """Which of KINDS ``update`` takes."""

    dtype: np.dtype[np.void]
    """The layout of a person's row."""

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        ...

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        ...

    def update(self, state: State, given: Given) -> list[Finding]:
        """Take what is new of any number of people into their rows, in place; return what changed.

        Of each person, instants come in order. A rule that ``explain`` has no sentence for puts its own into
        ``evidence["sentence"]``; evidence always holds ``metric``, what it is about, and ``change``.
        """
        ...
