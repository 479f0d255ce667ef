"""Writes one batch's effects: every table of the transaction that makes them true together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.clock import to_datetime
from ingest.partition import record_key
from services import topics
from services.processor.hot import HotRow
from services.processor.readings import Table
from services.processor.records import Effects, FrameFate, RollupRows
from services.reasons import QUARANTINE_OF, QuarantineReason
from services.store import alerts, blocks, copy, correct, erasure, fence, kept
from services.store.reader import from_us

_DO_NOTHING: Final = "ON CONFLICT DO NOTHING"
_ROLLUP_COLUMNS: Final = "patient_id, metric_id, bucket_s, t0, n, low, high, mean, q10, q90, devices"
_REPLACE_ROLLUP: Final = """ON CONFLICT (patient_id, metric_id, bucket_s, t0) DO UPDATE SET
    (n, low, high, mean, q10, q90, devices) =
    (excluded.n, excluded.low, excluded.high, excluded.mean, excluded.q10, excluded.q90, excluded.devices)"""
# The UTC days of the hours just staged, recomputed from their hours. The quantiles of a day are the count-weighted
# means of its hours' quantiles: an approximation, for drawing only.
_DAYS_FROM_HOURS: Final = f"""
    INSERT INTO rollup AS t ({_ROLLUP_COLUMNS})
    SELECT r.patient_id, r.metric_id, 86400, d.day, sum(r.n), min(r.low), max(r.high), sum(r.mean * r.n) / sum(r.n),
           sum(r.q10 * r.n) / sum(r.n), sum(r.q90 * r.n) / sum(r.n),
           CASE WHEN max(cardinality(r.devices)) = 1 AND min(r.devices[1]) = max(r.devices[1])
                THEN ARRAY[min(r.devices[1])]
                ELSE (SELECT array_agg(s.device ORDER BY s.n DESC, s.device)
                      FROM (SELECT u.device, sum(CASE WHEN u.place = 1 THEN h.n ELSE 0 END) AS n
                            FROM rollup h CROSS JOIN LATERAL unnest(h.devices) WITH ORDINALITY AS u (device, place)
                            WHERE h.patient_id = r.patient_id AND h.metric_id = r.metric_id AND h.bucket_s = 3600
                              AND h.t0 >= d.day AND h.t0 < d.day + interval '1 day'
                            GROUP BY u.device) AS s) END
    FROM (SELECT DISTINCT patient_id, metric_id, date_trunc('day', t0, 'UTC') AS day FROM stage_rollup) AS d
    JOIN rollup r ON r.patient_id = d.patient_id AND r.metric_id = d.metric_id AND r.bucket_s = 3600
                 AND r.t0 >= d.day AND r.t0 < d.day + interval '1 day'
    GROUP BY r.patient_id, r.metric_id, d.day
    {_REPLACE_ROLLUP}"""


async def write(
    connection: psycopg.AsyncConnection, effects: Effects, hot: list[HotRow], patient_of: NDArray[np.int32]
) -> None:
    """Write everything; the caller holds the fence and commits.

    Raises:
        psycopg.Error: nothing of the batch is written.
    """
    now = to_datetime(effects.recorded_ms)
    await erasure.erase(connection, effects.erased, now)
    await _blocks(connection, effects.stored, patient_of)
    await _measured(connection, effects, patient_of)
    await correct.write(connection, effects.corrections, [fate.frame_id for fate in effects.fates], patient_of)
    for remade in effects.remade:
        await kept.replace(connection, remade)
    await _found(connection, effects)
    await alerts.write(connection, effects.alerts, effects.changes, effects.revisions, effects.events, now)
    await _outbox(connection, effects, {row.patient_id: row.partition for row in hot})
    await _states(connection, hot)
    await fence.move(connection, effects.positions)
    if effects.events:
        await connection.execute("NOTIFY keepwell_alert")


async def _blocks(connection: psycopg.AsyncConnection, stored: Table, patient_of: NDArray[np.int32]) -> None:
    parts = blocks.copy_rows(stored, patient_of)
    if parts:
        await _merge_binary(connection, "reading_block", blocks.COLUMNS, parts, _DO_NOTHING)


async def _measured(connection: psycopg.AsyncConnection, effects: Effects, patient_of: NDArray[np.int32]) -> None:
    names = [fate.frame_id for fate in effects.fates]
    await merge_rows(
        connection,
        "reading_conflict",
        ["patient_id", "metric_id", "device_id", "t", "value", "frame_id"],
        [(*key, names[frame]) for key, _, frame in _singles(effects.conflicts, patient_of)],
        _DO_NOTHING,
    )
    await merge_rows(
        connection,
        "quarantined_reading",
        ["patient_id", "metric_id", "device_id", "t", "value", "reason", "frame_id"],
        [
            (*key, QUARANTINE_OF.get(quality, QuarantineReason.OUT_OF_RANGE).value, names[frame])
            for key, quality, frame in _singles(effects.quarantined, patient_of)
        ],
        _DO_NOTHING,
    )
    await _waveforms(connection, effects, names)
    now = to_datetime(effects.recorded_ms)
    await merge_rows(
        connection,
        "frame_log",
        [
            "frame_id", "organisation_id", "patient_id", "device_id", "received_at", "processed_at", "deliveries",
            "stored", "duplicate", "conflict", "quarantined", "late", "t_first", "t_last", "erased", "corrected",
        ],
        [
            (
                f.frame_id, f.organisation_id, f.patient_id, f.device_id, to_datetime(f.received_ms), now, f.deliveries,
                f.stored, f.duplicate, f.conflict, f.quarantined, f.late, _time(f.t_first_ms), _time(f.t_last_ms),
                f.erased, f.corrected,
            )
            for f in merged_fates(effects.fates)
        ],
        """ON CONFLICT (frame_id) DO UPDATE SET
           (deliveries, stored, duplicate, conflict, quarantined, late, erased, corrected) =
           (t.deliveries + excluded.deliveries, t.stored + excluded.stored, t.duplicate + excluded.duplicate,
            t.conflict + excluded.conflict, t.quarantined + excluded.quarantined, t.late + excluded.late,
            t.erased + excluded.erased, t.corrected + excluded.corrected)""",
    )  # fmt: skip
    await merge_rows(
        connection,
        "dead_letter",
        ["topic", "partition", "record_offset", "reason", "detail", "record_key", "record", "recorded_at"],
        [
            (
                d.record.topic,
                d.record.partition,
                d.record.offset,
                d.reason.value,
                d.detail,
                d.record.key,
                d.record.value,
                now,
            )
            for d in effects.dead
        ],
        _DO_NOTHING,
    )
    await merge_rows(
        connection,
        "control_event",
        ["topic", "partition", "record_offset", "patient_id", "kind", "effective_at", "payload", "change_id", "subject",
         "version", "person_id"],
        [
            (c.record.topic, c.record.partition, c.record.offset, c.message.patient_id, c.message.kind,
             to_datetime(c.message.effective_ms), json.dumps(c.message.payload), c.message.change_id,
             c.message.subject, c.message.version, c.message.person_id)
            for c in effects.control
        ],
        _DO_NOTHING,
    )  # fmt: skip


async def _waveforms(connection: psycopg.AsyncConnection, effects: Effects, names: list[str]) -> None:
    await merge_rows(
        connection,
        "waveform_block",
        ["patient_id", "metric_id", "device_id", "t0", "step_us", "scale", '"offset"', "sample", "quality"],
        [
            (*w.key, from_us(w.t0_us), w.step_us, w.scale, w.offset, w.sample.tolist(),
             None if w.quality is None else w.quality.tolist())
            for w in effects.waveforms
        ],
        "",  # every sample was compared: a block already there is an error, never dropped in silence
    )  # fmt: skip
    await merge_rows(
        connection,
        "reading_conflict",
        ["patient_id", "metric_id", "device_id", "t", "value", "frame_id"],
        [
            (c.patient_id, c.metric_id, c.device_id, from_us(c.t_us), c.value, names[c.frame])
            for c in effects.sample_conflicts
        ],
        _DO_NOTHING,
    )


def _singles(rows: Table, patient_of: NDArray[np.int32]) -> Iterator[tuple[tuple[Any, ...], int, int]]:
    """Yield ((patient, metric, device, instant, value), quality, frame) of readings kept one by one."""
    columns = (rows.slot, rows.metric, rows.device, rows.t_ms, rows.value, rows.quality, rows.frame)
    for slot, metric, device, t_ms, value, quality, frame in zip(*(c.tolist() for c in columns), strict=True):
        yield (int(patient_of[slot]), metric, device, to_datetime(t_ms), value), quality, frame


async def _found(connection: psycopg.AsyncConnection, effects: Effects) -> None:
    for rollup in effects.rollups:  # one by one: a late recomputation may replace a bucket of this batch
        if len(rollup.patient):
            await _merge_binary(connection, "rollup", _ROLLUP_COLUMNS, _rollup_rows(rollup), _REPLACE_ROLLUP)
            if rollup.bucket_s == 3600:
                await connection.execute(_DAYS_FROM_HOURS.encode())
            await connection.execute("TRUNCATE stage_rollup")
    await merge_rows(
        connection,
        "baseline_band",
        ["patient_id", "metric_id", "context", "t0", "center", "spread", "days"],
        effects.bands,
        _DO_NOTHING,
    )
    await merge_rows(
        connection,
        "daily_value",
        [
            "patient_id",
            "metric_id",
            "context",
            "day",
            "value",
            "minutes",
            "center",
            "spread",
            "days",
            "z",
            "cusum",
            "used",
        ],
        effects.days,
        _DO_NOTHING,
    )
    await merge_rows(
        connection, "metric_state", ["organisation_id", "patient_id", "metric_id", "state", "cause", "since"],
        {(row[1], row[2]): row for row in effects.states}.values(),  # the last one of a batch counts
        """ON CONFLICT (patient_id, metric_id) DO UPDATE SET
           (state, cause, since) = (excluded.state, excluded.cause, excluded.since)""",
    )  # fmt: skip
    if effects.last_values:
        patient, metric, value, t_ms = zip(*effects.last_values, strict=True)
        await connection.execute(
            """UPDATE metric_state s SET last_value = v.value, last_at = v.t
               FROM unnest(%s::int[], %s::smallint[], %s::real[], %s::timestamptz[])
                    AS v (patient_id, metric_id, value, t)
               WHERE (s.patient_id, s.metric_id) = (v.patient_id, v.metric_id)
                 AND (s.last_at IS NULL OR s.last_at <= v.t)""",
            [list(patient), list(metric), list(value), [to_datetime(t) for t in t_ms]],
        )
    await merge_rows(
        connection,
        "suppressed_finding",
        ["organisation_id", "patient_id", "rule", "started_at", "found_at", "priority", "monitoring", "sentence",
         "recorded_at"],
        [
            (s.organisation_id, s.patient_id, s.rule, to_datetime(s.start_ms), to_datetime(s.at_ms), s.priority,
             s.monitoring, s.sentence, to_datetime(effects.recorded_ms))
            for s in effects.suppressed
        ],
        _DO_NOTHING,
    )  # fmt: skip
    await merge_rows(
        connection, "silence_judgement", ["patient_id", "last_reading_at", "judged_at"],
        [(patient, to_datetime(last), to_datetime(effects.recorded_ms)) for patient, last in effects.silences],
        _DO_NOTHING,
    )  # fmt: skip


def merged_fates(fates: list[FrameFate]) -> list[FrameFate]:
    """Return one fate a frame: a frame that came twice in a batch counts what became of each delivery."""
    merged: dict[str, FrameFate] = {}
    for fate in fates:
        first = merged.get(fate.frame_id)
        merged[fate.frame_id] = (
            fate
            if first is None
            else first._replace(
                deliveries=first.deliveries + 1,
                stored=first.stored + fate.stored,
                duplicate=first.duplicate + fate.duplicate,
                conflict=first.conflict + fate.conflict,
                quarantined=first.quarantined + fate.quarantined,
                late=first.late + fate.late,
                erased=first.erased + fate.erased,
                corrected=first.corrected + fate.corrected,
            )
        )
    return list(merged.values())


def _rollup_rows(r: RollupRows) -> list[bytes]:
    """Return COPY rows, those with equally many devices together: an array's length is part of a row's layout."""
    count = np.count_nonzero(r.devices, axis=1)
    return [_rollup_part(r, np.flatnonzero(count == n), int(n)) for n in np.unique(count)]


def _rollup_part(r: RollupRows, rows: NDArray[np.intp], devices: int) -> bytes:
    return copy.rows(
        [
            ("i4", r.patient[rows]), ("i2", r.metric[rows]), ("i4", np.full(len(rows), r.bucket_s)),
            ("ts", r.t0_ms[rows]), ("i4", r.n[rows]), ("f4", r.low[rows]), ("f4", r.high[rows]), ("f8", r.mean[rows]),
            ("f4", r.q10[rows]), ("f4", r.q90[rows]), ("i4[]", r.devices[rows, :devices]),
        ]
    )  # fmt: skip


async def _outbox(connection: psycopg.AsyncConnection, effects: Effects, partition_of: dict[int, int]) -> None:
    now = to_datetime(effects.recorded_ms)
    rows = [
        (partition_of[event.patient_id], topics.ALERTS, record_key(event.patient_id), alerts.record(event), now)
        for event in effects.events
    ]
    rows += [
        (d.record.partition, topics.DEAD, d.record.key or b"", alerts.dead_record(d), now)
        for d in effects.dead
    ]  # fmt: skip
    await merge_rows(connection, "outbox", ["partition", "topic", "record_key", "record", "created_at"], rows, "")


async def _states(connection: psycopg.AsyncConnection, hot: list[HotRow]) -> None:
    await merge_rows(
        connection,
        "patient_state",
        ["patient_id", "partition", "hot", "settled_to", "dirty_since"],
        [(h.patient_id, h.partition, h.hot, to_datetime(h.settled_ms), _time(h.dirty_ms)) for h in hot],
        """ON CONFLICT (patient_id) DO UPDATE SET (partition, hot, settled_to, dirty_since) =
           (excluded.partition, excluded.hot, excluded.settled_to, excluded.dirty_since)""",
    )
    await merge_rows(
        connection,
        "patient_baseline",
        ["patient_id", "state", "layout"],
        [(h.patient_id, h.baseline, h.layout) for h in hot if h.baseline is not None],
        "ON CONFLICT (patient_id) DO UPDATE SET (state, layout) = (excluded.state, excluded.layout)",
    )
    await merge_rows(
        connection,
        "baseline_checkpoint",
        ["patient_id", "day", "hot", "state", "layout"],
        [(h.patient_id, kept.day_of(h.checkpoint_day), h.hot, h.baseline, h.layout) for h in hot if h.checkpoint_day],
        _DO_NOTHING,
    )
    await kept.thin_out(connection, {h.patient_id: kept.day_of(h.checkpoint_day) for h in hot if h.checkpoint_day})


def _time(ms: int | None) -> Any:
    return None if ms is None else to_datetime(ms)


async def merge_rows(
    connection: psycopg.AsyncConnection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    conflict: str,
) -> None:
    """COPY ``rows`` beside ``table`` and insert them with ``conflict`` deciding on rows already there."""
    rows = list(rows)
    if not rows:
        return
    names = ", ".join(columns)
    await _stage(connection, table, names)
    async with connection.cursor().copy(f"COPY stage_{table} ({names}) FROM STDIN".encode()) as sink:
        for row in rows:
            await sink.write_row(row)
    await _insert(connection, table, names, conflict)


async def _merge_binary(
    connection: psycopg.AsyncConnection, table: str, columns: str, parts: list[bytes], conflict: str
) -> None:
    await _stage(connection, table, columns)
    async with connection.cursor().copy(f"COPY stage_{table} ({columns}) FROM STDIN (FORMAT binary)".encode()) as sink:
        for chunk in copy.copy_stream(parts):
            await sink.write(chunk)
    await _insert(connection, table, columns, conflict)


async def _stage(connection: psycopg.AsyncConnection, table: str, columns: str) -> None:
    await connection.execute(
        f"""CREATE TEMP TABLE IF NOT EXISTS stage_{table} ON COMMIT DELETE ROWS
            AS SELECT {columns} FROM {table} WITH NO DATA""".encode()
    )


async def _insert(connection: psycopg.AsyncConnection, table: str, columns: str, conflict: str) -> None:
    await connection.execute(
        f"INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM stage_{table} {conflict}".encode()
    )
