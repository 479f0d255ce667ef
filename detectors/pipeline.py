"""The adaptive path: settled minutes in; findings, data states, baseline bands and daily values out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors import devices, shift, together, travel, wearer, windows
from detectors.adult_limits import ADULT_LIMITS, Limit
from detectors.again import AGAIN_DTYPE
from detectors.baseline import BASELINE_DTYPE, PAIR_METRIC, PAIRS
from detectors.choices import NOBODYS, Choices
from detectors.context import contexts, local_days
from detectors.coverage import COVERED, more_minutes
from detectors.daily import LIMITS, Budget, state_dtype
from detectors.days import close_days
from detectors.desaturation import DESATURATION_DTYPE
from detectors.desaturation import add as add_falls
from detectors.drift import WATCHED
from detectors.gate import ADULT_GATE, GATE_DTYPE, Gate, GateLimits
from detectors.hours import close_hours
from detectors.limit_sets import alarm_range
from detectors.minutes import live_minutes
from detectors.persist import PERSIST_DTYPE
from detectors.protocol import HEART_RATE, HOUR_MS, LEARNING, Bools, Finding, HourSlice, Rows, State, put_rows, rows_of
from detectors.score import TAIL_DTYPE
from detectors.settled import Days, Settled, no_days, no_hours
from detectors.sums import DAY_DTYPE, HOUR_DTYPE, AlarmRange, add_minutes

PIPELINE_DTYPE = np.dtype(
    [
        ("open_day", "i4"),  # local day; 0 before the first hour
        ("open_hour", "i4"),  # hours since 1970
        ("last_step", "i4"),
        ("gate", GATE_DTYPE),
        ("hour", HOUR_DTYPE),
        ("day", DAY_DTYPE),
        ("baselines", BASELINE_DTYPE, (len(PAIRS),)),
        ("tails", TAIL_DTYPE, (len(PAIRS),)),  # how far out ordinary days lay
        ("rise_tails", TAIL_DTYPE, (2,)),  # the same of the heart rates asleep and at rest against their slow means
        ("rise", state_dtype()),
        ("again", AGAIN_DTYPE),
        ("standing", "u1"),  # judged nights for which the rise has stood; 255: a new normal? has been asked
        ("drift", "u1"),  # levels told of what drifted from the first fortnight, two bits each
        ("drift_reached", "u1", (len(WATCHED),)),  # distances told or confirmed, in its parts of each unit
        ("drift_nights", "i1", (len(WATCHED),)),
        ("shift", shift.SHIFT_DTYPE),
        ("skin", PERSIST_DTYPE),
        ("breath", PERSIST_DTYPE),
        ("rest", PERSIST_DTYPE),
        ("rest_hour", "u2"),  # hours since 1970, less multiples of 65,536
        ("steps", "u1"),  # what those of the day before were, an index into DATA_STATES
        windows.BEFORE,
        ("falls", DESATURATION_DTYPE),
        *travel.FIELDS,
        ("together", together.TOGETHER_DTYPE),
        ("wearer", wearer.WEARER_DTYPE),
        ("devices", devices.DEVICE_DTYPE, (len(devices.WATCHED),)),
    ]
)
_HEART_PAIRS = np.flatnonzero(PAIR_METRIC == HEART_RATE)


class Pipeline:
    """Gate, context, baselines, scores and rules over all patients, hour slice by hour slice.

    Source: the pipeline recommended by the literature on wearables: gate, context, robust own baseline with
    population-shrunk cold start, robust score, slow CUSUM beside limits that never adapt. Deviations: in each
    stage's module. Units: the catalogue's; instants in Unix ms. Valid: adults who sleep at
    night; each patient's hours in order. State: 1,268 bytes a patient.

    >>> from detectors.protocol import DATA_STATES, blank_hour
    >>> pipeline = Pipeline()
    >>> state = pipeline.new_state(1)
    >>> hour = blank_hour(rows=[0], hour_ms=[1_700_000_000_000 // 3_600_000 * 3_600_000], utc_offset_min=[60])
    >>> hour.mean[0, :, 0], hour.low[0, :, 0], hour.high[0, :, 0], hour.good[0, :, 0] = 61, 60, 62, 12
    >>> settled = pipeline.settle(state, hour)
    >>> DATA_STATES[settled.hours.state[0, 0]], DATA_STATES[settled.hours.state[0, 2]]
    ('learning', 'unknown')
    """

    takes = HourSlice
    dtype = PIPELINE_DTYPE

    def __init__(
        self,
        gate: GateLimits = ADULT_GATE,
        limits: Sequence[Limit] = ADULT_LIMITS,
        *,
        budget: Budget = "0.1",
        guard: bool = True,
    ) -> None:
        """Take the limits, and how many incidents a patient-week all adaptive rules may bring where nobody chose.

        ``guard`` False learns from anomalies too, to show what the guard is worth.
        """
        self.limit = LIMITS[budget]
        self._gate = Gate(gate)
        self._alarm = alarm_range(limits)
        self._guard = guard

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return np.zeros(n, self.dtype)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def update(self, state: State, given: HourSlice) -> list[Finding]:
        """Take newly settled minutes; return the findings alone."""
        return self.settle(state, given).findings

    def settle(
        self, state: State, hour: HourSlice, alarm: AlarmRange | None = None, opened: windows.Windows | None = None,
        chosen: Choices = NOBODYS,
    ) -> Settled:  # fmt: skip
        """Take newly settled minutes of one hour of R patients into their rows, in place.

        ``alarm``: where these patients' safety limits lie, if not where everybody's do. ``opened``: how far whose
        heart rate is expected to change, and when, None: nobody's. ``chosen``: whose budget and bounds of drifts are
        not everybody's; of the others the budget is the pipeline's.

        First the day before is closed where this hour lies past its end (10:00 local), then the minutes are
        added, then the hour is closed where the slice reaches its end. The slice is not changed.
        """
        part = rows_of(state, hour.rows)
        window = None if opened is None else opened.at(hour.rows, hour.hour_ms)
        if window is not None:
            windows.begin(part, window)
        first = part["open_day"] == 0
        findings, days = self._turn_day(part, hour, opened, window, chosen)
        travel.arrive(part, hour, first)
        open_hour = (hour.hour_ms // HOUR_MS).astype(np.int32)
        part["hour"][part["open_hour"] != open_hour] = np.zeros((), HOUR_DTYPE)
        self._gate.turn(part["gate"], open_hour - part["open_hour"])
        part["open_hour"] = open_hour
        minutes = live_minutes(hour)
        last = self._gate.last(part["gate"], open_hour)[:, COVERED]
        code = self._gate.judge(part["gate"], minutes)
        context = contexts(part["last_step"], minutes)
        add_falls(part["falls"], minutes, code, context)
        devices.add(part["devices"], minutes, code, context)
        heard = np.any(part["baselines"]["n"][:, _HEART_PAIRS] > 0, axis=1)
        add_minutes(part["hour"], part["day"], heard, minutes, code, context, alarm or self._alarm,
            more_minutes(last, minutes, code),
        )  # fmt: skip
        states, bands = no_hours()
        closing = np.flatnonzero(hour.closes)
        if len(closing):
            closed = rows_of(part, closing)
            more, states, bands = close_hours(
                closed, take(hour, closing), hour.rows[closing], None if window is None else window.take(closing)
            )
            put_rows(part, closing, closed)
            findings += more
        put_rows(state, hour.rows, part)
        return Settled(findings, states, bands, days)

    def _turn_day(
        self, part: State, hour: HourSlice, opened: windows.Windows | None, window: windows.Expected | None,
        chosen: Choices,
    ) -> tuple[list[Finding], Days]:  # fmt: skip
        """Close the days that are over, and open those in which this hour lies."""
        day = local_days(hour)
        over = np.flatnonzero((part["open_day"] > 0) & (day > part["open_day"]))
        findings: list[Finding] = []
        days = no_days()
        if len(over):
            closed = rows_of(part, over)
            findings, days = close_days(
                closed, take(hour, over), hour.rows[over], self.limit, guard=self._guard, opened=opened, chosen=chosen
            )  # fmt: skip
            windows.end(closed, None if window is None else window.take(over))
            closed["steps"][day[over] - closed["open_day"] > 1] = LEARNING  # nobody knows of the days between
            shift.pass_over(closed, day[over] - closed["open_day"] - 1)
            travel.follow(closed, day[over] - closed["open_day"], hour.utc_offset_min[over])
            put_rows(part, over, closed)
        part["open_day"] = np.maximum(part["open_day"], day)  # travel west never opens a day again
        return findings, days


def take(hour: HourSlice, which: Rows | Bools) -> HourSlice:
    """Return the patients ``which`` of a slice."""
    return HourSlice(*(getattr(hour, name)[which] for name in HourSlice.__slots__))
