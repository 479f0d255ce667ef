"""Known events put into people's readings: what, where and how large follows from the seed alone.

FROZEN: this file was fixed before any detector was tuned on it, and what it injects must not change afterwards; a
changed event gets another name. It draws from nothing but SEED, the person's name and the case's name.

An injection changes readings that are there; it never adds any. Whatever a background does not measure cannot be
injected into it, and such a case is left out for that person.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.heard import Streams
from simulators.patients import Patient
from simulators.profile import draw_profile
from simulators.series import DAY_MS, HOUR_MS, MINUTE_MS, Series

SEED: Final = 20_261_128
QUIET_DAYS: Final = 21  # of a person before anything is injected
AFTER_DAYS: Final = 2  # of data after an event's end
ILL_DAYS: Final = (-14, 21)  # about a person's own onset, where nothing is injected

SYNTHETIC_PEOPLE: Final = 24
SYNTHETIC_DAYS: Final = 75
SYNTHETIC_START_MS: Final = 1_760_486_400_000  # a midnight UTC

Kind = Literal["ramp", "hrv", "fever", "desaturation_train", "device_swap", "clock_jump", "several"]


class Case(NamedTuple):
    """One kind of event."""

    kind: Kind
    metric: str  # without it the case cannot be injected
    size: float  # in the metric's unit; hrv: share left; clock_jump: hours ahead; several: as many times SEVERAL
    rise_days: float  # until the full size is reached
    days: float  # from start to end
    starts_h: float  # local hour of the start
    rules: frozenset[str]  # alerts that find it; none: it is a nuisance, and no alert should come


HEART: Final = frozenset({"resting_heart_rate_rise", "heart_rate_unusual_at_rest"})
FEVER: Final = frozenset({"fever"}) | HEART | frozenset({"night_skin_temperature_rise"})
NIGHT: Final = HEART | frozenset(
    {"night_skin_temperature_rise", "night_respiratory_rate_rise", "night_vitals_together"}
)
OXYGEN: Final = frozenset({"spo2_low", "night_desaturations"})
NONE: Final[frozenset[str]] = frozenset()

SEVERAL: Final[Mapping[str, float]] = {
    "heart_rate": 2.5, "respiratory_rate": 0.7, "skin_temperature": 0.4, "spo2": -0.7, "hrv_rmssd": -0.2
}  # fmt: skip
"""What moves together when somebody falls ill, about one SD of a person's days each; of the variability a share."""

CASES: Final[Mapping[str, Case]] = {
    **{
        f"ramp_{size}_bpm_{rise}_d": Case("ramp", "heart_rate", size, rise, rise + 4, 12, HEART)
        for size in (3, 5, 8)
        for rise in (1, 3, 5)
    },
    "hrv_minus_20_percent": Case("hrv", "hrv_rmssd", 0.8, 1, 5, 12, HEART),
    "fever": Case("fever", "body_temperature", 2.2, 0.1, 0.5, 14, FEVER),
    "desaturation_train": Case("desaturation_train", "spo2", -14, 0, 4 / 24, 1, OXYGEN),
    "device_swap": Case("device_swap", "heart_rate", 1.5, 0, 14, 12, NONE),
    "clock_jump": Case("clock_jump", "heart_rate", 3, 0, 2, 12, NONE),
    "several_1_sd_3_d": Case("several", "skin_temperature", 1, 3, 7, 12, NIGHT),
    "several_2_sd_3_d": Case("several", "skin_temperature", 2, 3, 7, 12, NIGHT),
    "step_5_bpm_7_d": Case("ramp", "heart_rate", 5, 0, 7, 12, HEART),
    "step_5_bpm_for_ever": Case("ramp", "heart_rate", 5, 0, 30, 12, HEART),
}
"""Every case; the last two show what a baseline takes up of a week, and how long it takes to learn a new normal."""


class Event(NamedTuple):
    """One case put into one person's readings."""

    case: str
    start_ms: int
    end_ms: int


def background() -> list[tuple[str, Streams, int]]:
    """Return the synthetic people: (name, readings by metric, UTC offset in minutes)."""
    people: list[tuple[str, Streams, int]] = []
    for index in range(1, SYNTHETIC_PEOPLE + 1):
        patient = Patient(draw_profile(SEED, index))
        readings = patient.readings(SYNTHETIC_START_MS, SYNTHETIC_START_MS + SYNTHETIC_DAYS * DAY_MS)
        people.append((f"synthetic-{index:02d}", readings, patient.profile.utc_offset_min))
    return people


def place(name: str, streams: Streams, offset_min: int, case: str, onset: int | None = None) -> Event | None:
    """Return where a case is put into a person's readings; None where there is no room, or no such metric.

    ``onset``: the local day (since 1970) of an illness of their own, which is kept clear of.
    """
    what = CASES[case]
    if what.metric not in streams or not len(streams[what.metric].t_ms):
        return None
    t_ms = streams[what.metric].t_ms + offset_min * MINUTE_MS
    first, last = int(t_ms[0] // DAY_MS) + QUIET_DAYS, int(np.floor(t_ms[-1] / DAY_MS - what.days - AFTER_DAYS))
    days = np.arange(first, last)
    if onset is not None:
        days = days[(days + what.days < onset + ILL_DAYS[0]) | (days > onset + ILL_DAYS[1])]
    if not len(days):
        return None
    day = int(person_rng(name, case).choice(days))
    start_ms = day * DAY_MS + int(what.starts_h * HOUR_MS) - offset_min * MINUTE_MS
    return Event(case, start_ms, start_ms + int(what.days * DAY_MS))


def inject(name: str, streams: Streams, event: Event) -> dict[str, Series]:
    """Return the readings with an event in them; the ones given are left alone."""
    changed = dict(streams)
    _INJECT[CASES[event.case].kind](changed, event, CASES[event.case], person_rng(name, event.case, 1))
    return changed


def person_rng(name: str, case: str, stream: int = 0) -> np.random.Generator:
    """Return the draws of one person and case; ``stream``: 0 where it is put, 1 what is put there."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode()), zlib.crc32(case.encode()), stream])


def _share(t_ms: NDArray[np.int64], event: Event, case: Case) -> NDArray[np.float64]:
    """Return 0..1: how much of the full size is reached at each instant; for ever where the case says so."""
    begun = t_ms >= event.start_ms
    lasting = event.case == "step_5_bpm_for_ever" or case.kind == "device_swap"
    ended = np.zeros(len(t_ms), bool) if lasting else t_ms >= event.end_ms
    rise = np.clip((t_ms - event.start_ms) / max(case.rise_days * DAY_MS, 1), 0, 1)
    return np.where(begun & ~ended, rise, 0.0)


def _add(changed: dict[str, Series], metric: str, amount: Callable[[Series], NDArray[np.float64]], digits: int) -> None:
    if metric in changed:
        stream = changed[metric]
        plus = amount(stream)
        value = np.where(plus != 0, np.round(stream.value + plus, digits), stream.value)
        changed[metric] = stream._replace(value=value.astype(np.float32))


def _ramp(changed: dict[str, Series], event: Event, case: Case, rng: np.random.Generator) -> None:
    # Rates are whole numbers: what lies between is met by rounding at random, so that the mean is right.
    _add(
        changed, "heart_rate", lambda s: np.floor(case.size * _share(s.t_ms, event, case) + rng.random(len(s.t_ms))), 0
    )


def _hrv(changed: dict[str, Series], event: Event, case: Case, rng: np.random.Generator) -> None:
    _add(changed, "hrv_rmssd", lambda s: -(1 - case.size) * s.value * _share(s.t_ms, event, case), 0)


def _fever(changed: dict[str, Series], event: Event, case: Case, rng: np.random.Generator) -> None:
    _add(changed, "body_temperature", lambda s: case.size * _share(s.t_ms, event, case), 2)
    _add(changed, "skin_temperature", lambda s: 0.5 * case.size * _share(s.t_ms, event, case), 2)
    _add(changed, "respiratory_rate", lambda s: 1.0 * case.size * _share(s.t_ms, event, case), 1)
    _add(changed, "heart_rate", lambda s: 7.0 * case.size * _share(s.t_ms, event, case), 0)


def _several(changed: dict[str, Series], event: Event, case: Case, rng: np.random.Generator) -> None:
    """Let several vitals change a little at once; whole numbers are rounded at random, so that the mean is right."""
    for metric, digits in (("heart_rate", 0), ("respiratory_rate", 1), ("skin_temperature", 2), ("spo2", 0)):
        room = 10.0**-digits

        def more(s: Series, metric: str = metric, room: float = room) -> NDArray[np.float64]:
            share = _share(s.t_ms, event, case)
            amount = np.floor(SEVERAL[metric] * case.size * share / room + rng.random(len(s.t_ms))) * room
            return np.where(share > 0, amount, 0.0)

        _add(changed, metric, more, digits)

    def less(s: Series) -> NDArray[np.float64]:
        share = _share(s.t_ms, event, case)
        fallen = np.floor(SEVERAL["hrv_rmssd"] * case.size * share * s.value + rng.random(len(s.t_ms)))
        return np.where(share > 0, fallen, 0.0)

    _add(changed, "hrv_rmssd", less, 0)


def _desaturation_train(changed: dict[str, Series], event: Event, case: Case, rng: np.random.Generator) -> None:
    """Let the saturation dip for a minute in every three, by 6 to 14 points each time."""
    starts = np.arange(event.start_ms, event.end_ms, 3 * MINUTE_MS) + rng.integers(0, 2 * MINUTE_MS)
    depth = rng.uniform(6, -case.size, len(starts))

    def dip(s: Series) -> NDArray[np.float64]:
        which = np.clip(np.searchsorted(starts, s.t_ms, side="right") - 1, 0, None)
        inside = (s.t_ms >= starts[which]) & (s.t_ms < starts[which] + MINUTE_MS)
        return np.where(inside, -depth[which], 0.0)

    _add(changed, "spo2", dip, 0)


def _device_swap(changed: dict[str, Series], event: Event, case: Case, rng: np.random.Generator) -> None:
    """Let another device measure from the start on: 2 % and 1.5 /min higher, with noise of its own."""

    def other(s: Series) -> NDArray[np.float64]:
        return _share(s.t_ms, event, case) * (case.size + 0.02 * s.value + rng.normal(0, 1, len(s.t_ms)))

    _add(changed, "heart_rate", other, 0)


def _clock_jump(changed: dict[str, Series], event: Event, case: Case, rng: np.random.Generator) -> None:
    """Let the device's clock be hours ahead; of an instant that then comes twice the first reading is kept."""
    for metric, s in changed.items():
        ahead = (s.t_ms >= event.start_ms) & (s.t_ms < event.end_ms)
        t_ms = s.t_ms + np.where(ahead, int(case.size * HOUR_MS), 0)
        moved, first = np.unique(t_ms, return_index=True)
        changed[metric] = Series(moved, s.value[first], s.quality[first])


_INJECT: Final[Mapping[Kind, Callable[[dict[str, Series], Event, Case, np.random.Generator], None]]] = {
    "ramp": _ramp,
    "hrv": _hrv,
    "fever": _fever,
    "desaturation_train": _desaturation_train,
    "device_swap": _device_swap,
    "clock_jump": _clock_jump,
    "several": _several,
}
