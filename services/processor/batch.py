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

from ingest.frame import GOOD, IMPLAUSIBLE, MOTION, NOT_WORN, StampedFrame
from services.processor import (
    applying,
    check_value,
    correcting,
    dedupe,
    erasing,
    intake,
    safety,
    scoring,
    settle,
    watermark,
    waveforms,
)
from services.processor.core import HOUR_MS, LATE, Core
from services.processor.episodes import Engine
from services.processor.hot import MAX_LATE, Hot, devices_of, mark_dirty
from services.processor.late import judge_late
from services.processor.lateness import Receipts
from services.processor.readings import Table
from services.processor.records import ControlRecord, DeadRecord, Effects, FrameFate, Record
from services.processor.technical import ALL_RULES, Technical
from services.reasons import DeadReason
from services.settings_sections import ProcessorSettings
from services.store.reader import Reader, Span

INJECTED_BUG: Final = os.environ.get("KEEPWELL_INJECT_BUG", "")  # drop | double | learn-anomaly: so that checks fail

GOOD_QUALITIES: Final = (GOOD, MOTION, IMPLAUSIBLE)  # what counts as hearing of a metric


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
    await _place_patients(core, reader, taken, effects, records)
    effects.touched = {core.slot_of[frame.patient_id] for frame in taken.frames}
    await _know_devices(core, reader, taken.frames, effects.control, effects.touched | overdue.keys())
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
    fates = _fates(taken, verdict, sampled, effects.quarantined, stored[late_safety | late_minutes])
    effects.fates = fates + effects.fates  # in the order of the frames first: readings name theirs by its place
    _note_dirty(core, stored, late_safety | late_minutes, late_minutes)
    _note_corrected(core, rewritten[behind])
    _note_overtaken(core, stored)

    slots = sorted(effects.touched)
    await check_value.settle(core, engine, reader, effects.quarantined, stored, slots)
    _hear_again(core, engine, effects, stored[~late_safety])
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


async def _place_patients(
    core: Core, reader: Reader, taken: intake.Intake, effects: Effects, records: list[Record]
) -> None:
    """Give every patient a slot; a frame of an unknown patient is dead."""
    unseen = sorted({frame.patient_id for frame in taken.frames} - core.slot_of.keys() - core.erased)
    if unseen:
        organisations = await reader.organisations(unseen)
        for patient_id, organisation_id in organisations.items():
            core.place(patient_id, Hot(organisation_id=organisation_id))
        for patient_id, changes in (await reader.changes(list(organisations))).items():
            core.changes.add(patient_id, changes)
        missing = set(unseen) - organisations.keys()
        if missing:
            core.erased |= await reader.erased(sorted(missing))
            _bury(taken, effects, records, missing - core.erased)
    effects.fates += erasing.fates_of(core, taken)
    taken.readings.slot[:] = [core.slot_of[patient_id] for patient_id in taken.readings.slot.tolist()]


async def _know_devices(
    core: Core, reader: Reader, frames: list[StampedFrame], control: list[ControlRecord], slots: set[int]
) -> None:
    """Learn the keys of the devices that measured, and of those that ever did whose findings may come up now."""
    told = {core.slot_of.get(record.message.patient_id) for record in control} - {None}
    new = {slot for slot in slots | told if slot is not None} - core.named
    devices = {frame.device_id for frame in frames}
    devices |= {device for slot in new for device in devices_of(core.hot[slot])}
    unknown = sorted(devices - core.device_keys.keys())
    if unknown:
        core.device_keys.update(await reader.device_keys(unknown))
    core.named |= new


def _bury(taken: intake.Intake, effects: Effects, records: list[Record], missing: set[int]) -> None:
    by_key = {b"%d" % patient_id for patient_id in missing}
    effects.dead += [
        DeadRecord(record, DeadReason.UNKNOWN_PATIENT, f"patient {record.key!r} is not enrolled")
        for record in records
        if record.key in by_key
    ]
    intake.leave_out(taken, missing)


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


def _fates(
    taken: intake.Intake, verdict: dedupe.Verdict, sampled: waveforms.Verdict, quarantined: Table, late: Table
) -> list[FrameFate]:
    n = len(taken.frames)

    def count(table: Table) -> list[int]:
        counts: list[int] = np.bincount(table.frame, minlength=n).tolist()
        return counts

    samples = [sampled.counts.get(index, (0, 0, 0)) for index in range(n)]
    first = np.full(n, np.iinfo(np.int64).max)
    last = np.full(n, -1)
    np.minimum.at(first, taken.readings.frame, taken.readings.t_ms)
    np.maximum.at(last, taken.readings.frame, taken.readings.t_ms)
    columns = zip(
        taken.frames, count(verdict.stored), count(verdict.duplicate), count(verdict.conflict), count(quarantined),
        count(late), count(verdict.corrected), samples, first.tolist(), last.tolist(), strict=True,
    )  # fmt: skip
    return [
        FrameFate(
            f.frame_id, f.organisation_id, f.patient_id, f.device_id, f.received_ms, stored + counted[0],
            duplicate + counted[1], conflict + counted[2], bad, behind, None if t_last < 0 else t_first,
            None if t_last < 0 else t_last, corrected=corrected,
        )
        for f, stored, duplicate, conflict, bad, behind, corrected, counted, t_first, t_last in columns
    ]  # fmt: skip


def _note_dirty(core: Core, stored: Table, behind: NDArray[np.bool_], late_minutes: NDArray[np.bool_]) -> None:
    """Mark whose readings came late; those ``late_minutes`` stay out of their minute until the rebuild."""
    dirty, late = stored[behind], stored[late_minutes]
    for slot in np.unique(dirty.slot).tolist():
        hot = core.hot[slot]
        mine = dirty.t_ms[dirty.slot == slot]
        mark_dirty(hot, int(mine.min()), len(mine))
    for slot in np.unique(late.slot).tolist():
        hot = core.hot[slot]
        needed = core.needed_from(hot)
        mine = late[(late.slot == slot) & (late.t_ms >= needed)]
        for metric in hot.late.keys() | set(mine.metric.tolist()):
            instants = {t for t in hot.late.get(metric, []) if t >= needed}
            instants |= set(mine.t_ms[mine.metric == metric].tolist())
            hot.late[metric] = sorted(instants)[-MAX_LATE:]


def _note_corrected(core: Core, behind: Table) -> None:
    """A corrected value that the detectors have seen otherwise is late data."""
    for slot, t_ms in zip(behind.slot.tolist(), behind.t_ms.tolist(), strict=True):
        mark_dirty(core.hot[slot], t_ms)


def _note_overtaken(core: Core, stored: Table) -> None:
    """Data from before an end of the monitoring that the clock has carried out already: what they show came first."""
    for slot in np.unique(stored.slot).tolist():
        hot = core.hot[slot]
        if hot.ended_ms:
            mine = stored.t_ms[(stored.slot == slot) & (stored.t_ms < hot.ended_ms)]
            if len(mine):
                mark_dirty(hot, int(mine.min()), len(mine))


async def _find_words(reader: Reader, effects: Effects, unspoken: list[int]) -> None:
    """Give events of alerts of earlier batches, told only now, the sentence of their alert."""
    if unspoken:
        sentences = await reader.sentences([effects.events[place].alert_id for place in unspoken])
        for place in unspoken:
            event = effects.events[place]
            effects.events[place] = event._replace(sentence=sentences.get(event.alert_id, ""))


def _hear_again(core: Core, engine: Engine, effects: Effects, stored: Table) -> None:
    """Good data flow again: open alerts are known again, quiet metrics are no longer "no data".

    What they are is known when their hour closes; until then they are learning, never the state of long ago.
    """
    good = stored[np.isin(stored.quality, GOOD_QUALITIES)]
    for slot in np.unique(stored.slot).tolist():
        hot, patient_id = core.hot[slot], int(core.patient_of[slot])
        mine = good[good.slot == slot]
        for metric in np.unique(mine.metric).tolist():
            hot.good[metric] = max(hot.good.get(metric, 0), int(mine.t_ms[mine.metric == metric].max()))
        heard = set(np.unique(mine.metric).tolist())
        for episode in hot.episodes:
            if episode.unknown_since_ms is not None and episode.metric_id in heard:
                engine.known(hot, patient_id, episode, hot.good[episode.metric_id])
        for metric in heard & set(hot.silent):
            hot.silent.remove(metric)
            hot.states[metric] = 0
            effects.states.append(settle.state_row(hot.organisation_id, patient_id, metric, 0, hot.good[metric]))
        for metric in heard:
            if hot.states.get(metric, settle.NO_DATA_CODE) != settle.NO_DATA_CODE:
                continue
            hot.states[metric] = 0
            effects.states.append(settle.state_row(hot.organisation_id, patient_id, metric, 0, hot.good[metric]))


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
