"""Settled minutes to the adaptive path: hour slices for the detectors, rollups and bands for the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors import measured_by
from detectors.protocol import CAUSES, CONTEXTS, DATA_STATES, VITALS, Evidence, HourSlice, blank_hour
from detectors.rules import REST_HEART_HOURS
from detectors.settled import Settled
from detectors.slices import fill
from ingest.catalogue import by_id, catalogue
from ingest.clock import to_datetime
from ingest.frame import GOOD, MOTION, NOT_WORN
from services.processor import sources
from services.processor.applying import Applier
from services.processor.core import HOUR_MS, LATE, Core
from services.processor.episodes import Engine
from services.processor.hot import Hot
from services.processor.readings import Table, group_starts
from services.processor.records import Effects, RollupRows
from services.processor.watermark import offset_at

MINUTE_MS: Final = 60_000
NO_DATA_CODE: Final = 3 * 4 + 1  # unknown, no_data
EPOCH: Final = date(1970, 1, 1)
MOST_DEVICES: Final = 255  # of a patient told apart
FAST: Final = 90  # readings an hour: more get minute buckets too
WEAR: Final = catalogue()["wear"].id
_COLUMN: Final = np.full(max(by_id()) + 1, -1, np.int16)
for _place, _key in enumerate(VITALS):
    _COLUMN[catalogue()[_key].id] = _place
_METRIC: Final = np.array([catalogue()[key].id for key in VITALS], np.int16)


def settle(
    core: Core, engine: Engine, effects: Effects, work: Table, slots: list[int]
) -> tuple[list[HourSlice], Table]:
    """Hand every newly settled minute to the detectors, hour after hour.

    Args:
        core: the state, advanced in place.
        engine: takes the findings.
        effects: takes bands, daily values, data states and rollups.
        work: unsettled and new readings of the touched patients; those marked LATE count in rollups only.
        slots: the touched patients; each is fed from where it stood (``core.fed``) to its watermark.

    Returns:
        the slices and the settled readings of those hours in time, for the technical rules.
    """
    moved = {slot: core.fed[slot] for slot in slots if core.hot[slot].settled_ms > core.fed[slot]}
    if not moved:
        return [], Table.empty()
    inside = _inside(core, work, moved)
    segments = _segments(core, inside, moved)
    in_time = inside[inside.frame != LATE]
    source = in_time[sources.preferred(in_time)]
    bounds, heard = segments.bounds(source), segments.bounds(in_time)
    slices = []
    applier = Applier(core, engine, moved)
    standing = core.standing({slot: slot for slot in moved})
    opened = core.windows({slot: slot for slot in moved})
    choices = core.choices(moved)
    for rank in range(int(segments.rank.max(initial=-1)) + 1):
        chosen = np.flatnonzero(segments.rank == rank)
        hour = _slice(core, source, bounds, segments, chosen)
        slices.append(hour)
        first_ms = _first_instants(in_time, heard, chosen)
        applier.before(hour.rows, hour.hour_ms)
        alarm = None if standing is None else standing.alarm(hour.rows, hour.hour_ms)
        _take(core, engine, effects, core.pipeline.settle(core.state, hour, alarm, opened, choices), hour, first_ms)
    applier.rest()
    for slot in moved:
        core.fed[slot] = core.hot[slot].settled_ms
    effects.rollups += rollups(core, inside, segments)
    return slices, in_time


class _Segments:
    """One row for each (patient, hour) with newly settled minutes, ordered by patient, then hour."""

    def __init__(
        self, slot: NDArray[np.intp], hour_ms: NDArray[np.int64], first: NDArray[np.int16], last: NDArray[np.int16]
    ) -> None:
        self.slot, self.hour_ms, self.first, self.last = slot, hour_ms, first, last
        starts = group_starts(slot)
        self.rank = np.arange(len(slot)) - np.repeat(starts, np.diff(np.append(starts, len(slot))))

    def bounds(self, table: Table) -> NDArray[np.intp]:
        """Return where each segment's readings begin and end in a table sorted by (slot, t), shape (S, 2)."""
        place = table.slot.astype(np.int64) << 43 | table.t_ms
        begin = self.slot.astype(np.int64) << 43 | self.hour_ms
        return np.searchsorted(place, np.stack([begin, begin + HOUR_MS], axis=1))


def _inside(core: Core, work: Table, moved: dict[int, int]) -> Table:
    """Return the readings of the hours that are touched, up to the new marks, by slot, instant, metric and device."""
    low = np.full(len(core.hot), np.iinfo(np.int64).max)
    high = np.zeros(len(core.hot), np.int64)
    for slot, mark in moved.items():
        low[slot], high[slot] = mark // HOUR_MS * HOUR_MS, core.hot[slot].settled_ms
    kept = work[(work.t_ms >= low[work.slot]) & (work.t_ms < high[work.slot])]
    return kept.sorted(kept.slot, kept.t_ms, kept.metric, kept.device)


def _segments(core: Core, inside: Table, moved: dict[int, int]) -> _Segments:
    """Return the hours with data; an hour without any is left out wherever a watermark happened to stop."""
    pairs = np.unique(np.stack([inside.slot, inside.t_ms // HOUR_MS * HOUR_MS], axis=1), axis=0)
    slot, hour = pairs[:, 0].astype(np.intp), pairs[:, 1].astype(np.int64)
    mark = np.array([moved[s] for s in slot.tolist()], np.int64)
    reach = np.array([core.hot[s].settled_ms for s in slot.tolist()], np.int64)
    first = np.clip((mark - hour) // MINUTE_MS, 0, 60).astype(np.int16)
    last = np.clip((reach - hour) // MINUTE_MS, 0, 60).astype(np.int16)
    new = last > first
    return _Segments(slot[new], hour[new], first[new], last[new])


def _slice(
    core: Core, table: Table, bounds: NDArray[np.intp], segments: _Segments, chosen: NDArray[np.intp]
) -> HourSlice:
    """Return the chosen segments, one a patient at the most; ``bounds`` are theirs in ``table``."""
    slots, hours = segments.slot[chosen], segments.hour_ms[chosen]
    starts, lengths = bounds[chosen, 0], bounds[chosen, 1] - bounds[chosen, 0]
    here = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    row = np.repeat(np.arange(len(chosen)), lengths)
    minute = ((table.t_ms[here] - hours[row]) // MINUTE_MS).astype(np.intp)
    metric, value, quality = table.metric[here], table.value[here], table.quality[here]
    column = _COLUMN[metric]
    vital = column >= 0
    good = vital & ((quality == GOOD) | (quality == MOTION))
    offsets = [offset_at(core.hot[s], ms) for s, ms in zip(slots.tolist(), hours.tolist(), strict=True)]
    hour = replace(
        blank_hour(slots.tolist(), hours.tolist(), offsets), first=segments.first[chosen], last=segments.last[chosen]
    )
    off = (quality == NOT_WORN) | ((metric == WEAR) & (value == 0))
    hour.not_worn[row[off], minute[off]] = True
    numbers = _numbers([core.hot[slot] for slot in slots.tolist()], row[good], minute[good], table.device[here][good])
    hour.device[row[good], minute[good], column[good]] = numbers  # one each: its minute's source
    fill(hour, row, minute, column, value, good, vital & ~good & (quality != NOT_WORN))
    return hour


def _numbers(
    hots: list[Hot], row: NDArray[np.intp], minute: NDArray[np.intp], device: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """Return each reading's device as its patient's own number, from 1 on, in the order in which each first measured.

    ``row`` (N,) indexes ``hots``, of one row ascending by instant. What is new is noted in ``hots``. The numbers follow
    from what is settled alone, however the stream is cut; devices first heard in one minute go by their enrolment.
    """
    pairs, first, which = np.unique(row.astype(np.int64) << 32 | device, return_index=True, return_inverse=True)
    owner, own = pairs >> 32, pairs & 0xFFFFFFFF
    numbers = np.zeros(len(pairs), np.uint8)
    for place in np.lexsort((own, minute[first], owner)).tolist():
        known, one = hots[int(owner[place])].devices, int(own[place])
        if one not in known:
            known.append(one)
        numbers[place] = min(known.index(one) + 1, MOST_DEVICES)
    return numbers[which]


def _with_devices(evidence: Evidence, known: list[int]) -> Evidence:
    """Return evidence that names devices themselves, in place of the patient's own numbers; 0: which is not told."""
    told = dict(evidence)
    if "devices" in told:
        told["devices"] = [known[n - 1] if n < measured_by.MOST and n <= len(known) else 0 for n in told["devices"]]
    if "vitals" in told:
        told["vitals"] = [_with_devices(one, known) for one in told["vitals"]]
    return told


def _first_instants(in_time: Table, bounds: NDArray[np.intp], chosen: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the first reading's instant of each chosen segment, shape (R,); each has one."""
    if not len(in_time):
        return np.zeros(len(chosen), np.int64)  # nothing but late readings
    return np.asarray(in_time.t_ms[np.minimum(bounds[chosen, 0], len(in_time) - 1)])


def _take(
    core: Core, engine: Engine, effects: Effects, settled: Settled, hour: HourSlice, first_ms: NDArray[np.int64]
) -> None:
    """Take what a slice gave. What a day's end shows is revealed by the first reading after it, ``first_ms`` (R,).

    Of whoever is being learned anew only the states are taken, which say so, and no baseline is kept: what memory knows
    is too young.
    """
    anew = [slot for slot in hour.rows.tolist() if core.hot[slot].anew_ms is not None]
    settled = settled.only_states(anew) if anew else settled
    began = dict(zip(hour.rows.tolist(), first_ms.tolist(), strict=True))
    for finding in settled.findings:
        mark_ms = finding.at_ms - 1 if finding.rule == REST_HEART_HOURS.id else began[finding.row]
        revealed = engine.revealed(finding.row, mark_ms)
        hot = core.hot[finding.row]
        finding = replace(finding, evidence=_with_devices(finding.evidence, hot.devices))
        engine.settled(hot, int(core.patient_of[finding.row]), finding, revealed)
    for slot, hour_ms in zip(hour.rows[hour.closes].tolist(), hour.hour_ms[hour.closes].tolist(), strict=True):
        core.hot[slot].closed_ms = hour_ms + HOUR_MS
        if slot not in anew:
            effects.closed[slot] = (hour_ms + HOUR_MS, core.state[slot].tobytes())
    _take_states(core, effects, settled)
    _take_bands(core, effects, settled)


def _take_states(core: Core, effects: Effects, settled: Settled) -> None:
    hours = settled.hours
    for place, slot in enumerate(hours.row.tolist()):
        hot, patient_id = core.hot[slot], int(core.patient_of[slot])
        for column, metric in enumerate(_METRIC.tolist()):
            if metric not in hot.newest:
                continue
            code = int(hours.state[place, column]) * 4 + int(hours.cause[place, column])
            if code == NO_DATA_CODE and _expected_later(hot, metric, int(hours.hour_ms[place]) + HOUR_MS):
                continue  # measured at night only: what it was stands until it is overdue
            if hot.states.get(metric) != code:
                hot.states[metric] = code
                effects.states.append(
                    state_row(hot.organisation_id, patient_id, metric, code, int(hours.hour_ms[place]) + HOUR_MS)
                )


def _expected_later(hot: Hot, metric: int, at_ms: int) -> bool:
    return at_ms - hot.good.get(metric, 0) < by_id()[metric].expected_every_h * HOUR_MS


def state_row(organisation_id: int, patient_id: int, metric: int, code: int, since_ms: int) -> tuple[object, ...]:
    """Return a ``metric_state`` row for a data state code (state * 4 + cause)."""
    return organisation_id, patient_id, metric, DATA_STATES[code // 4], CAUSES[code % 4] or None, to_datetime(since_ms)


def _take_bands(core: Core, effects: Effects, settled: Settled) -> None:
    b = settled.bands
    for row, hour_ms, metric, context, center, spread, n in zip(
        b.row.tolist(), b.hour_ms.tolist(), b.metric.tolist(), b.context.tolist(), b.center.tolist(), b.spread.tolist(),
        b.n_days.tolist(), strict=True,
    ):  # fmt: skip
        effects.bands.append(
            (
                int(core.patient_of[row]),
                int(_METRIC[metric]),
                CONTEXTS[context],
                to_datetime(hour_ms),
                center,
                spread,
                n,
            )
        )
    d = settled.days
    for place in range(len(d.row)):
        effects.days.append(
            (
                int(core.patient_of[d.row[place]]), int(_METRIC[d.metric[place]]), CONTEXTS[d.context[place]],
                EPOCH + timedelta(days=int(d.local_day[place])), float(d.value[place]), int(d.minutes[place]),
                float(d.center[place]), float(d.spread[place]), int(d.n_days[place]), float(d.z[place]),
                None if np.isnan(d.cusum[place]) else float(d.cusum[place]), bool(d.used_for_baseline[place]),
            )
        )  # fmt: skip


def rollups(core: Core, inside: Table, segments: _Segments) -> list[RollupRows]:
    """Return the buckets of the hours that closed."""
    closed = segments.last == 60
    marks = set(zip(segments.slot[closed].tolist(), segments.hour_ms[closed].tolist(), strict=True))
    if not marks:
        return []
    hour = inside.t_ms // HOUR_MS * HOUR_MS
    keys = np.array([slot * (1 << 43) + ms for slot, ms in marks], np.int64)
    return hour_and_minute_buckets(core, inside[np.isin(inside.slot.astype(np.int64) * (1 << 43) + hour, keys)])


def hour_and_minute_buckets(core: Core, table: Table) -> list[RollupRows]:
    """Return the hour buckets of whole hours of readings, and minute buckets where a metric is fast.

    Each is made of the readings of its minutes' preferred sources, and names every device that has some.
    """
    table = table[table.quality != NOT_WORN]
    chosen = sources.preferred(table)
    hours = buckets(core, table, chosen, 3600)
    fast = hours.n > FAST
    if not fast.any():
        return [hours]
    quick = np.isin(
        _hour_of(core.patient_of[table.slot], table.metric, table.t_ms),
        _hour_of(hours.patient[fast], hours.metric[fast], hours.t0_ms[fast]),
    )
    return [hours, buckets(core, table[quick], chosen[quick], 60)]


def _hour_of(patient: NDArray[np.int32], metric: NDArray[np.int16], t_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each (patient, metric, hour)."""
    return np.asarray((patient.astype(np.int64) * 1000 + metric) << 22 | t_ms // HOUR_MS)


def buckets(core: Core, every: Table, chosen: NDArray[np.bool_], bucket_s: int) -> RollupRows:
    """Return count, extremes, mean and 10 % and 90 % quantiles (nearest rank) of each bucket's chosen readings."""
    table = every[chosen]
    bucket = table.t_ms // (bucket_s * 1000) * (bucket_s * 1000)
    order = np.lexsort((table.value, bucket, table.metric, table.slot))
    slot, metric, bucket, value = table.slot[order], table.metric[order], bucket[order], table.value[order]
    starts = group_starts(slot, metric, bucket)
    n = np.diff(np.append(starts, len(value)))
    total = np.add.reduceat(value.astype(np.float64), starts) if len(starts) else np.empty(0)
    return RollupRows(
        patient=core.patient_of[slot[starts]],
        metric=metric[starts],
        bucket_s=bucket_s,
        t0_ms=bucket[starts],
        n=n.astype(np.int32),
        low=value[starts],
        high=value[starts + n - 1],
        mean=total / np.maximum(n, 1),
        q10=value[starts + (n - 1) // 10],
        q90=value[starts + (n - 1) * 9 // 10],
        devices=sources.of_buckets(every, chosen, bucket_s * 1000),
    )
