"""A recording judged without servers: by the processor's own code in memory, from readings to plain sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import numpy as np

from detectors.baseline import LEARNED
from detectors.device_classes import UNKNOWN
from detectors.protocol import Detector
from ingest.catalogue import by_id, catalogue
from ingest.clock import to_datetime, to_ms
from ingest.frame import QUARANTINED
from ingest.normalise import quality_of
from services.cli.evaluate_stream import table_of
from services.cli.replay_beside import Beside
from services.processor.core import HOUR_MS
from services.processor.in_memory import Told, days
from services.processor.records import AlertRow
from simulators.recording import Recording
from simulators.series import Series


class Band(NamedTuple):
    """What is usual of one metric for this person in one hour: an ordinary hour's mean is within 2 spreads."""

    hour_ms: int
    context: str
    center: float
    spread: float
    n_days: int  # clean days behind it; fewer than 5: learning

    @property
    def learned(self) -> bool:
        """Whether enough is known to judge by it."""
        return self.n_days >= LEARNED


class Hour(NamedTuple):
    """One metric's readings of an hour, summed up."""

    hour_ms: int
    n: int
    low: float
    high: float
    mean: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One person's recording and everything that was found in it; maps are by metric."""

    recording: Recording
    readings: dict[str, Series]  # ascending, each instant once, what can't be true left out
    set_aside: dict[str, Series]  # what can't be true
    repeated: int  # readings of an instant that had one already: the first counts
    findings: list[AlertRow]  # in the order in which they were found
    bands: dict[str, list[Band]]
    hours: dict[str, list[Hour]]

    def local(self, ms: int) -> datetime:
        """Return an instant in the wearer's local time."""
        return to_datetime(ms).astimezone(timezone(timedelta(minutes=self.recording.offset_at(ms))))

    def usual(self, metric: str) -> list[Band]:
        """Return the newest band of each context, those with most days first."""
        newest = {band.context: band for band in self.bands.get(metric, [])}
        return sorted(newest.values(), key=lambda band: -band.n_days)


def judge(
    recordings: Sequence[Recording],
    told: Callable[[int, int], None] = lambda *_: None,
    detectors: Sequence[Detector[Any]] = (),
    device_class: str = UNKNOWN,
) -> list[Judged]:
    """Judge everybody's readings side by side; ``told`` hears how many days are done, of how many.

    ``detectors`` look at them beside those that always run; ``device_class`` is that of the devices. A value outside
    the catalogue's hard limits is set aside, as by the gateway: it never becomes a reading.
    """
    people = [_prepared(one) for one in recordings]
    alerts, beside = Told(len(people)), Beside(detectors, recordings)
    tables = [table_of(slot, one.readings) for slot, one in enumerate(people)]
    offsets = [one.recording.offsets or ((0, 0),) for one in people]
    for day in days(tables, offsets, device_class=device_class):
        alerts.take(day.effects)
        alerts.take(beside.take(day))
        for slot, metric, context, at, center, spread, n in day.effects.bands:
            band = Band(to_ms(at), context, center, spread, n)
            people[slot].bands.setdefault(by_id()[metric].key, []).append(band)
        for rows in day.effects.rollups:
            if rows.bucket_s * 1000 == HOUR_MS:
                columns = (rows.patient, rows.metric, rows.t0_ms, rows.n, rows.low, rows.high, rows.mean)
                for slot, metric, *numbers in zip(*(column.tolist() for column in columns), strict=True):
                    people[slot].hours.setdefault(by_id()[metric].key, []).append(Hour(*numbers))
        told(day.number, day.of)
    for slot, one in enumerate(people):
        one.findings.extend(alerts.of(slot))
    return people


def _prepared(recording: Recording) -> Judged:
    readings, set_aside, repeated = {}, {}, 0
    for metric, stream in recording.streams.items():
        codes = quality_of(stream.value, catalogue()[metric], stream.quality.tobytes(), metric)
        quality = np.zeros(len(stream.t_ms), np.uint8) if codes is None else np.frombuffer(codes, np.uint8)
        stream = stream._replace(quality=quality)
        impossible = np.flatnonzero(quality >= QUARANTINED)
        possible = np.flatnonzero(quality < QUARANTINED)
        _, first = np.unique(stream.t_ms[possible], return_index=True)
        repeated += len(possible) - len(first)
        if len(impossible):
            set_aside[metric] = stream.part(impossible)
        if len(first):
            readings[metric] = stream.part(possible[first])
    return Judged(recording, readings, set_aside, repeated, [], {}, {})
