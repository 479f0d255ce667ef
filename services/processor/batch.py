"""What happens to a batch of records, from bytes to effects. Knows no Kafka and no Faust.

    records → readings → new, duplicate, conflict → watermarks → safety limits and NEWS2 → settled minutes → effects

The caller runs this inside one transaction, writes the effects in it and commits. If anything fails, the state in
memory is dropped and loaded again, so a batch has either happened entirely or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ingest.frame import NOT_WORN, StampedFrame
from services.processor import (
    applying,
    check_value,
    correcting,
    dedupe,
    erasing,
    fates,
    hearing,
    intake,
    marking,
    placing,
    safety,
    scoring,
    settle,
    watermark,
    waveforms,
)
from services.processor.core import HOUR_MS, LATE, Core
from services.processor.episodes import Engine
from services.processor.late import judge_late
from services.processor.lateness import Receipts
from services.processor.readings import Table
from services.processor.records import Effects, Record
from services.processor.technical import ALL_RULES, Technical
from services.settings_sections import ProcessorSettings
from services.store.reader import Reader, Span

INJECTED_BUG: Final = os.environ.get("KEEPWELL_INJECT_BUG", "")  # drop | double | learn-anomaly: so that checks fail


@dataclass(frozen=True, slots=True)
class Bounds:
    """The time bounds of the settings, in milliseconds."""

    reordering_ms: int
    skew_ms: int
    silence_ms: int
    history_ms: int

    @classmethod
    def of(cls, chosen: ProcessorSettings) -> Self:
        """Return the bounds that the settings choose."""
        seconds = (chosen.reordering_bound_s, chosen.clock_skew_s, chosen.silence_s, chosen.history_after_s)
        return cls(*(each * 1000 for each in seconds))


async def process_batch(
    records: list[Record],
    core: Core,
    reader: Reader,
    bounds: Bounds,
    now_ms: int,
    overdue: Mapping[int, int] = MappingProxyType({}),
) -> Effects:
    """Return everything the batch changes; ``core`` is advanced in place.

    Args:
        records: of the owned partitions, each partition's in order.
        core: the state of all patients of those partitions.
        reader: reads in the transaction the effects will be written in.
        bounds: time bounds.
        now_ms: the clock's present.
        overdue: slots whose gaps are waited for no longer → the deadline that has passed; only without records.
    """
    effects = Effects(recorded_ms=now_ms)
    for record in records:
        effects.positions[record.topic, record.partition] = record.offset + 1
    taken = intake.take_in(records)
    await erasing.take_out(core, reader, taken, effects)
    await placing.place_patients(core, reader, taken, effects, records)
    effects.touched = {core.slot_of[frame.patient_id] for frame in taken.frames}
    await placing.know_devices(core, reader, taken.frames, effects.control, effects.touched | overdue.keys())
    effects.touched |= applying.take_in(core, effects.control) | overdue.keys()

    readings, effects.quarantined = intake.split_quarantined(taken.readings)
    verdict = await _sort_out(core, reader, effects, readings, [frame.revision for frame in taken.frames])
    stored = _injected(verdict.stored)
    effects.stored, effects.conflicts = stored, verdict.conflict
    _remember_last(core, stored)
    rewritten = effects.corrections.rewritten
    correcting.patch(core, rewritten)
    reader = correcting.Overlay.over(reader, core, rewritten)
    behind = correcting.behind(core, rewritten)
    sampled = await _sort_out_waveforms(core, reader, effects, taken)

    receipts = Receipts(bounds.history_ms)
    engine = Engine(ALL_RULES, effects, now_ms, core.changes, receipts)
    technical = Technical(core, engine, bounds.silence_ms, bounds.skew_ms)
    before = _judged_before(core, effects.touched)
    offsets = [frame.utc_offset_min for frame in taken.frames]
    received = [frame.received_ms for frame in taken.frames]
    await check_value.ask(core, engine, reader, effects.quarantined, stored, offsets, received)
    _give_up_gaps(core, receipts, overdue, bounds)
    late_safety, late_minutes = _advance_watermarks(core, technical, receipts, taken.frames, stored, bounds)
    found = fates.of_frames(taken, verdict, sampled, effects.quarantined, stored[late_safety | late_minutes])
    effects.fates = found + effects.fates  # in the order of the frames first: readings name theirs by its place
    marking.note_dirty(core, stored, late_safety | late_minutes, late_minutes)
    marking.note_corrected(core, rewritten[behind])
    marking.note_overtaken(core, stored)

    slots = sorted(effects.touched)
    await check_value.settle(core, engine, reader, effects.quarantined, stored, slots)
    hearing.hear_again(core, engine, effects, stored[~late_safety])
    fresh = replace(stored, frame=np.where(late_minutes, LATE, -1).astype(np.int32))
    work = Table.concatenate([core.waiting(slots), fresh])
    new = np.zeros(len(work), bool)
    new[len(work) - len(fresh) :] = late_safety
    safety.judge(core, engine, work[~new & (work.quality != NOT_WORN)], before, slots)
    scoring.judge(core, engine, work, slots)
    await judge_late(core, engine, reader, Table.concatenate([stored[late_safety], rewritten[behind]]), stored)
    slices, settled = settle.settle(core, engine, effects, work, slots)
    for hour in slices:
        technical.minutes(hour)
    technical.settled(settled)
    for slot in slots:
        engine.pass_all_on(slot, core.hot[slot], int(core.patient_of[slot]))
        engine.tell_the_live(slot, core.hot[slot], int(core.patient_of[slot]))
    await _find_words(reader, effects, engine.unspoken)
    await _recompute_buckets(core, reader, effects, Table.concatenate([stored[late_minutes], rewritten]))
    core.trim(slots, work)
    _last_values(core, effects, Table.concatenate([stored, rewritten]))
    return effects


async def _sort_out(
    core: Core, reader: Reader, effects: Effects, readings: Table, revisions: list[int]
) -> dedupe.Verdict:
    table = dedupe.by_series(readings)
    series = dedupe.series_of(table)
    wanted = {}
    for index, one in enumerate(series):
        last = core.hot[one.slot].last_stored.get(f"{one.metric}:{one.device}")
        if last is not None and table.t_ms[one.start] <= last:
            span = Span(int(core.patient_of[one.slot]), one.metric, one.device, int(table.t_ms[one.start]), last)
            wanted[index] = span._replace(to_ms=min(last, int(table.t_ms[one.stop - 1])))
    found = await reader.readings(list(wanted.values())) if wanted else []
    known = dict(zip(wanted, found, strict=True))
    versions = await reader.versions(list(wanted.values())) if wanted else correcting.NO_VERSIONS
    if not (any(revisions) or versions.revisions or versions.superseded):
        return dedupe.sort_out(table, series, known)
    codes = dedupe.codes(table, series, known)
    revision = np.array(revisions, np.int64)[table.frame]
    verdict, effects.corrections = correcting.decide(core, table, codes, revision, series, known, versions)
    return verdict


async def _sort_out_waveforms(core: Core, reader: Reader, effects: Effects, taken: intake.Intake) -> waveforms.Verdict:
    """Compare the samples with what is stored; ``last_stored`` holds a waveform's newest instant as a vital's."""
    places = {wave.key: core.hot[core.slot_of[wave.patient_id]].last_stored for _, wave in taken.waveforms}
    last_us = {key: (last[name] + 1) * 1000 for key, last in places.items() if (name := f"{key[1]}:{key[2]}") in last}
    verdict = await waveforms.sort_out(taken.waveforms, last_us, reader)
    effects.waveforms, effects.sample_conflicts = verdict.stored, verdict.conflicts
    for wave in verdict.stored:
        name, last = f"{wave.metric_id}:{wave.device_id}", places[wave.key]
        last[name] = max(last.get(name, 0), wave.last_us // 1000)
    return verdict


def _injected(stored: Table) -> Table:
    """Break what is stored on purpose, so that the checks of a demo can be seen to fail."""
    if INJECTED_BUG == "drop" and len(stored) > 1:
        return stored[1:]
    if INJECTED_BUG == "double" and len(stored):
        twin = stored[-1:]
        return Table.concatenate([stored, replace(twin, t_ms=twin.t_ms + 1)])
    return stored


def _remember_last(core: Core, stored: Table) -> None:
    for one in dedupe.series_of(stored):
        last = core.hot[one.slot].last_stored
        key = f"{one.metric}:{one.device}"
        last[key] = max(last.get(key, 0), int(stored.t_ms[one.stop - 1]))


def _judged_before(core: Core, touched: set[int]) -> dict[tuple[int, int], int]:
    return {(slot, metric): mark for slot in touched for metric, mark in core.hot[slot].judged.items()}


def _advance_watermarks(
    core: Core, technical: Technical, receipts: Receipts, frames: list[StampedFrame], stored: Table, bounds: Bounds
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Take the frames in one by one; return which stored readings are late for the limits, and for the minutes."""
    spans = watermark.spans_by_frame(stored.frame, stored.metric, stored.t_ms)
    safety_mark: dict[tuple[int, int], int] = {}
    minute_mark = np.zeros(len(frames), np.int64)
    for index, frame in enumerate(frames):
        slot = core.slot_of[frame.patient_id]
        hot = core.hot[slot]
        watermark.expire(hot, frame.received_ms, bounds.reordering_ms)
        mine = spans.get(index, [])
        technical.frame(slot, frame, min((first for _, first, _ in mine), default=None))
        for metric, _, _ in mine:
            safety_mark[index, metric] = watermark.judged_to(hot, metric)
        minute_mark[index] = hot.settled_ms
        known = receipts.before(slot, hot, frame.received_ms)
        watermark.advance(hot, frame, mine, bounds.reordering_ms)
        if known is not None:
            receipts.note(slot, hot, frame.received_ms, known)
        core.fed[slot] = core.fed[slot] or hot.closed_ms
    pairs = stored.frame.astype(np.int64) * 1000 + stored.metric
    unique, inverse = np.unique(pairs, return_inverse=True)
    marks = np.array([safety_mark[int(pair) // 1000, int(pair) % 1000] for pair in unique], np.int64)
    if not len(stored):
        return np.zeros(0, bool), np.zeros(0, bool)
    return stored.t_ms < marks[inverse], stored.t_ms < minute_mark[stored.frame]


def _give_up_gaps(core: Core, receipts: Receipts, overdue: Mapping[int, int], bounds: Bounds) -> None:
    """Let the clock end the wait for frames that do not come, as a later frame would."""
    for slot, deadline_ms in overdue.items():
        hot = core.hot[slot]
        known = receipts.before(slot, hot, deadline_ms)
        watermark.expire(hot, deadline_ms, bounds.reordering_ms)
        if known is not None:
            receipts.note(slot, hot, deadline_ms, known)


async def _find_words(reader: Reader, effects: Effects, unspoken: list[int]) -> None:
    """Give events of alerts of earlier batches, told only now, the sentence of their alert."""
    if unspoken:
        sentences = await reader.sentences([effects.events[place].alert_id for place in unspoken])
        for place in unspoken:
            event = effects.events[place]
            effects.events[place] = event._replace(sentence=sentences.get(event.alert_id, ""))


async def _recompute_buckets(core: Core, reader: Reader, effects: Effects, late: Table) -> None:
    """Replace the hour and minute buckets into which late readings fell."""
    hours = late.t_ms // HOUR_MS
    for slot, metric, hour in np.unique(np.stack([late.slot, late.metric, hours], axis=1), axis=0).tolist():
        if (hour + 1) * HOUR_MS > core.hot[slot].settled_ms:
            continue  # still open: its bucket is made when it closes, late readings included
        span = Span(int(core.patient_of[slot]), metric, None, hour * HOUR_MS, (hour + 1) * HOUR_MS - 1)
        kept = (await reader.readings([span]))[0]
        kept.slot[:] = slot
        new = effects.stored
        mine = new[(new.slot == slot) & (new.metric == metric) & (new.t_ms // HOUR_MS == hour)]
        effects.rollups += settle.hour_and_minute_buckets(core, Table.concatenate([kept, mine]))


def _last_values(core: Core, effects: Effects, stored: Table) -> None:
    good = stored[stored.quality != NOT_WORN]
    table = good.sorted(good.slot, good.metric, good.t_ms)
    if not len(table):
        return
    ends = np.flatnonzero(
        np.append((table.slot[1:] != table.slot[:-1]) | (table.metric[1:] != table.metric[:-1]), True)
    )
    effects.last_values = list(
        zip(
            core.patient_of[table.slot[ends]].tolist(), table.metric[ends].tolist(), table.value[ends].tolist(),
            table.t_ms[ends].tolist(), strict=True,
        )
    )  # fmt: skip
