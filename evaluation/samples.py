"""Is every accepted waveform sample kept, once? The devices' books against the database, series by series.

Written from the documented formats alone, as `evaluation.checker`; it shares no code with what it checks. A re-send may
cut a waveform anywhere, and a door quantises floats to 16 bits of each block's range, so samples are compared by
instant (less than half a step apart, a millisecond at the most) and by value (half a quantisation step).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray

ROUNDED_US: Final = 1_000
UNITS: Final = {("uV", "mV"): 0.001, ("m/s2", "g"): 1 / 9.80665}
SLACK: Final = 1.01  # of half a step, for float32

Series = tuple[str, int]  # device key, metric number


class Samples(NamedTuple):
    """N samples of one series; all of shape (N,). ``half``: half a quantisation step, ``within_us``: of one instant."""

    t_us: NDArray[np.int64]
    value: NDArray[np.float64]
    half: NDArray[np.float64]
    within_us: NDArray[np.int64]

    def of(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Samples:
        """Return some of them."""
        return Samples(self.t_us[which], self.value[which], self.half[which], self.within_us[which])

    @property
    def n(self) -> int:
        """Return how many."""
        return len(self.t_us)


def problems(
    sent: Iterable[tuple[str, list[Any]]], connection: psycopg.Connection[Any], erased: set[str], only: set[str] | None
) -> tuple[int, list[str]]:
    """Compare accepted waveform blocks with the database; return how many samples were accepted, and what is wrong.

    Args:
        sent: (device key, block) of accepted frames; block: metric, unit, t0_ms, step_us, dtype, values, offsets,
            quality, scale, offset.
        connection: sees every row.
        erased: devices of erased patients: their samples may be missing.
        only: the devices to look at; None: all.
    """
    metrics = {
        key: (number, unit)
        for number, key, unit in connection.execute("SELECT id, key, unit FROM metric WHERE kind = 'waveform'")
    }
    accepted = _grouped(_sent(sent, metrics))
    stored = _grouped(_stored(connection))
    beside = _grouped(_beside(connection))
    wrong: list[str] = []
    for series in sorted({*accepted, *stored, *beside}):
        if only is not None and series[0] not in only:
            continue
        mine, kept, conflicts = (group.get(series, _NONE) for group in (accepted, stored, beside))
        name = f"{series[0]} metric {series[1]}"
        every = _joined([kept, conflicts])
        if series[0] not in erased:
            _say(wrong, name, "accepted but nowhere kept", mine.of(~_matched(mine, every)))
        _say(wrong, name, "kept but never accepted", every.of(~_matched(every, mine)))
        close = np.diff(kept.t_us) < np.minimum(kept.within_us[1:], kept.within_us[:-1])
        _say(wrong, name, "stored more than once", kept.of(np.flatnonzero(close) + 1))
    return sum(group.n for group in accepted.values()), wrong


def _say(wrong: list[str], name: str, what: str, found: Samples) -> None:
    if found.n:
        shown = "; ".join(f"{found.t_us[i]} µs {found.value[i]:g}" for i in range(min(3, found.n)))
        wrong.append(f"{found.n} samples of {name} {what}, e.g. {shown}")


def _matched(these: Samples, others: Samples) -> NDArray[np.bool_]:
    """Tell for each sample whether one of the others stands at its instant with its value; ``others`` is sorted."""
    hit = np.zeros(these.n, bool)
    if not others.n:
        return hit
    first = np.searchsorted(others.t_us, these.t_us - these.within_us, "right")
    stop = np.searchsorted(others.t_us, these.t_us + these.within_us, "left")
    for ahead in range(int((stop - first).max(initial=0))):  # a few: what stands at one instant
        place = np.minimum(first + ahead, others.n - 1)
        near = np.abs(others.value[place] - these.value) <= np.maximum(these.half, others.half[place]) * SLACK
        hit |= (first + ahead < stop) & near
    return hit


_NONE: Final = Samples(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.int64))


def _joined(parts: list[Samples]) -> Samples:
    if not parts:
        return _NONE
    whole = Samples(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return whole.of(np.argsort(whole.t_us, kind="stable"))


def _grouped(parts: Iterator[tuple[Series, Samples]]) -> dict[Series, Samples]:
    groups: dict[Series, list[Samples]] = defaultdict(list)
    for series, part in parts:
        groups[series].append(part)
    return {series: _joined(group) for series, group in groups.items()}


def _part(t0_us: int, step_us: int, value: NDArray[np.float64], half: float) -> Samples:
    n = len(value)
    within = min(ROUNDED_US, max(step_us // 2, 1))
    return Samples(
        t0_us + np.arange(n, dtype=np.int64) * step_us, value, np.full(n, abs(half)), np.full(n, within, np.int64)
    )


def _sent(
    sent: Iterable[tuple[str, list[Any]]], metrics: dict[str, tuple[int, str]]
) -> Iterator[tuple[Series, Samples]]:
    for device, (metric, unit, t0_ms, step_us, dtype, data, offsets, _, scale, offset) in sent:
        number, kept = metrics[metric]
        raw = np.frombuffer(data, {"f4": "<f4", "i2": "<i2"}[dtype]).astype(np.float64)
        value = raw * scale + offset if dtype == "i2" else raw
        factor = 1.0 if unit == kept else UNITS[unit, kept]
        if offsets is not None:  # even, or the door refused it
            at = np.frombuffer(offsets, "<i4")
            t0_ms, step_us = t0_ms + int(at[0]), int(at[1] - at[0]) * 1000 if len(at) > 1 else 0
        half = abs(scale) / 2 if dtype == "i2" else 0.0
        yield (device, number), _part(t0_ms * 1000, step_us, value * factor, half * factor)


def _stored(connection: psycopg.Connection[Any]) -> Iterator[tuple[Series, Samples]]:
    with connection.cursor(name="samples", binary=True) as cursor:
        cursor.itersize = 2000
        for key, metric, t0_us, step_us, scale, offset, sample in cursor.execute(
            """SELECT d.key, w.metric_id, (extract(epoch FROM w.t0) * 1000000)::bigint, w.step_us, w.scale, w."offset",
                      array_send(w.sample)
               FROM waveform_block w JOIN device d ON d.id = w.device_id"""
        ):
            raw = np.frombuffer(sample, np.dtype([("length", ">i4"), ("value", ">i2")]), offset=20)["value"]
            yield (key, metric), _part(int(t0_us), step_us, raw.astype(np.float64) * scale + offset, scale / 2)


def _beside(connection: psycopg.Connection[Any]) -> Iterator[tuple[Series, Samples]]:
    """Yield what is kept without being stored: conflicts one by one, and the blocks of readable dead records."""
    for key, metric, t_us, value in connection.execute(
        """SELECT d.key, c.metric_id, (extract(epoch FROM c.t) * 1000000)::bigint, c.value
           FROM reading_conflict c JOIN device d ON d.id = c.device_id JOIN metric m ON m.id = c.metric_id
           WHERE m.kind = 'waveform'"""
    ):
        yield (key, metric), _part(t_us, 2 * ROUNDED_US, np.array([value], np.float64), abs(value) * 1e-6)
    keys: dict[int, str] = dict(connection.execute("SELECT id, key FROM device").fetchall())
    waveforms = {row[0] for row in connection.execute("SELECT id FROM metric WHERE kind = 'waveform'")}
    for (record,) in connection.execute("SELECT record FROM dead_letter"):
        try:
            stamped = msgspec.msgpack.decode(record)
            device, blocks = keys[stamped[4]], stamped[10]
        except (msgspec.DecodeError, TypeError, KeyError, IndexError):
            continue  # never a frame
        for metric, t0_ms, step_us, _, data, _, _, scale, offset in blocks:
            if metric in waveforms:
                value = np.frombuffer(data, "<i2").astype(np.float64) * scale + offset
                yield (device, metric), _part(t0_ms * 1000, step_us, value, scale / 2)
