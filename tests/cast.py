"""People with a story, minute by minute: each lives an ordinary life with one thing to be found in it.

The stories hold no chance beyond a fixed seed, so that two runs are handed the very same readings.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.frame import NOT_WORN, POOR_SIGNAL

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
OFFSET_MIN: Final = 60  # everybody's local time less UTC
EVERY: Final = {  # minutes between two readings
    "heart_rate": 1,
    "steps": 1,
    "spo2": 5,
    "respiratory_rate": 5,
    "skin_temperature": 10,
    "body_temperature": 20,
    "battery": 60,
}


@dataclass(frozen=True)
class Strip:
    """Evenly spaced readings of one metric within an hour."""

    metric: str
    t0_ms: int
    step_ms: int
    values: NDArray[np.float32]
    quality: bytes | None


@dataclass(frozen=True)
class Episode:
    """From one local minute to another (counted from local midnight of the first day) something is otherwise."""

    metric: str
    first: int
    last: int
    value: float | None = None  # readings lie about it
    add: float = 0.0
    quality: int = 0
    gone: bool = False  # nothing is sent at all


@dataclass(frozen=True)
class Person:
    """Somebody's key and story."""

    key: str
    episodes: tuple[Episode, ...] = ()


def at(day: int, hour: float) -> int:
    """The local minute of an hour of a day of the story, both counted from 0."""
    return round(day * 1440 + hour * 60)


def cast(days: int) -> list[Person]:
    """People whose stories end calmly after ``days`` (8 at the least) days."""
    ill = days - 4  # the first of the nights of those who fall ill slowly: the baseline knows them by then
    nights = [(at(d - 1, 22), at(d, 8)) for d in range(ill, ill + 3)]
    return [
        Person("spo2", _twice(Episode("spo2", at(1, 3), at(1, 3.5), 87), Episode("spo2", at(1, 3.5), at(1, 4), 82))),
        Person("tachycardia", _twice(Episode("heart_rate", at(2, 15), at(2, 16), 142))),
        Person("bradycardia", _twice(Episode("heart_rate", at(1, 2), at(1, 2.75), 33))),
        Person("fever", _twice(Episode("body_temperature", at(2, 9), at(2, 13), 39.1))),
        Person("breathing", _twice(Episode("respiratory_rate", at(1, 19), at(1, 20.5), 27))),
        Person("infection", tuple(Episode("heart_rate", *night, add=14) for night in nights)),
        Person("skin", tuple(Episode("skin_temperature", *night, add=2.6) for night in nights)),
        Person("nightbreath", tuple(Episode("respiratory_rate", *night, add=5) for night in nights)),
        Person("restless", (Episode("heart_rate", at(days - 2, 13), at(days - 2, 16), add=45),)),
        Person("unworn", tuple(Episode(m, at(3, 19), at(3, 22.5), quality=NOT_WORN) for m in EVERY)),
        Person("poor", (Episode("heart_rate", at(4, 14), at(4, 17), quality=POOR_SIGNAL),)),
        Person("battery", (Episode("battery", at(3, 12), at(3, 18), 9),)),
        Person("silent", tuple(Episode(m, at(4, 11), at(4, 15.5), gone=True) for m in EVERY)),
        Person("steady", (Episode("heart_rate", at(2, 12), at(2, 12) + 2, 320),)),  # impossible: quarantined
        Person("falls", tuple(Episode("spo2", at(5, 22) + k, at(5, 22) + k + 5, add=-9) for k in range(0, 570, 15))),
    ]


def strips(person: Person, start_ms: int, hour: int) -> list[Strip]:
    """What a person's device measured in the ``hour``-th hour from ``start_ms`` (a midnight UTC)."""
    rng = np.random.default_rng([zlib.crc32(person.key.encode()), hour])
    minute = hour * 60 + np.arange(60) + OFFSET_MIN
    made = []
    for metric, step in EVERY.items():
        at_minute = minute[::step]
        values = _ordinary(metric, person, at_minute, rng)
        quality = np.zeros(len(values), np.uint8)
        present = np.ones(len(values), bool)
        for one in person.episodes:
            inside = (at_minute >= one.first) & (at_minute < one.last)
            if one.metric != metric or not inside.any():
                continue
            if one.value is not None:
                values[inside] = one.value + _fine(metric, rng, len(values))[inside]
            values[inside] += one.add
            quality[inside] = one.quality
            present &= ~(inside & one.gone)
        made += _runs(metric, start_ms + hour * HOUR, step * MINUTE, values, quality, present)
    return made


def _twice(*episodes: Episode) -> tuple[Episode, ...]:
    """The same again three days later."""
    return episodes + tuple(
        Episode(e.metric, e.first + 3 * 1440, e.last + 3 * 1440, e.value, e.add, e.quality) for e in episodes
    )


def _ordinary(metric: str, person: Person, minute: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    of_day = minute % 1440
    asleep = (of_day >= 22 * 60) | (of_day < 8 * 60)
    walking = ((of_day >= 11 * 60) & (of_day < 11 * 60 + 30)) | ((of_day >= 17 * 60) & (of_day < 17 * 60 + 20))
    level = np.random.default_rng([zlib.crc32(person.key.encode()), 9, int(minute[0] + 120) // 1440]).normal(0, 0.8)
    middle = {
        "heart_rate": np.where(asleep, 57.0, 71.0) + level + 30.0 * walking,
        "steps": 95.0 * walking,
        "spo2": np.full(len(minute), 96.8),
        "respiratory_rate": np.where(asleep, 14.0, 16.0),
        "skin_temperature": np.where(asleep, 34.2, 32.4),
        "body_temperature": np.full(len(minute), 36.7),
        "battery": 90.0 - of_day / 30,
    }[metric]
    if metric == "steps":
        return np.where(walking, np.round(middle + rng.normal(0, 9, len(minute))), 0.0)
    return np.asarray(middle + _fine(metric, rng, len(minute)))


def _fine(metric: str, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    spread = {"heart_rate": 2.2, "spo2": 0.5, "respiratory_rate": 0.5, "skin_temperature": 0.1}.get(metric, 0.05)
    return np.round(rng.normal(0, spread, n), 2)


def _runs(
    metric: str, t0_ms: int, step_ms: int, values: NDArray[np.float64], quality: NDArray[np.uint8],
    present: NDArray[np.bool_],
) -> list[Strip]:  # fmt: skip
    """Cut at what was not sent."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]])))
    return [
        Strip(
            metric, t0_ms + int(a) * step_ms, step_ms, values[a:b].astype(np.float32),
            quality[a:b].tobytes() if quality[a:b].any() else None,
        )
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]  # fmt: skip
