"""What the processor reads back: stored readings to compare with, states to start from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.clock import to_datetime
from services.processor.change import APPLIED, PatientChange
from services.processor.hot import StateRow
from services.processor.readings import Table
from services.processor.records import KnownAlert
from services.store import alerts

_BLOCK_SQL = """
    SELECT b.patient_id, b.metric_id, b.device_id, (extract(epoch FROM b.t0) * 1000)::bigint, b.step_us, b.offsets_ms,
           b.value, b.quality
    FROM reading_block b"""


class Span(NamedTuple):
    """A stretch of one series; ``device_id`` None means every device."""

    patient_id: int
    metric_id: int
    device_id: int | None
    from_ms: int
    to_ms: int


class SampleSpan(NamedTuple):
    """A stretch of one waveform; Unix microseconds, bounds included."""

    patient_id: int
    metric_id: int
    device_id: int
    from_us: int
    to_us: int


class Samples(NamedTuple):
    """N samples of one waveform in order of time; all of shape (N,). A value is ``raw * scale + offset``."""

    t_us: NDArray[np.int64]
    raw: NDArray[np.int16]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def values(self) -> NDArray[np.float64]:
        """(N,) in the metric's unit."""
        return self.raw * self.scale + self.offset


class Versions(NamedTuple):
    """What is known of corrected instants, each (patient, metric, device, Unix ms)."""

    revisions: dict[tuple[int, int, int, int], int]  # → the stored value's, where above 0
    superseded: dict[tuple[int, int, int, int], set[float]]  # → values that were replaced


class Checkpoint(NamedTuple):
    """A patient's state as it was at the end of a day."""

    day: date
    hot: bytes
    state: bytes
    layout: int


class Reader:
    """Reads inside the transaction of its connection."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def organisations(self, patient_ids: list[int]) -> dict[int, int]:
        """Return patient → organisation for those that exist."""
        cursor = await self._connection.execute(
            "SELECT id, organisation_id FROM patient WHERE id = ANY(%s) AND erased_at IS NULL", [patient_ids]
        )
        return dict(await cursor.fetchall())

    async def erased(self, patient_ids: list[int]) -> set[int]:
        """Return which of these patients were erased."""
        cursor = await self._connection.execute(
            "SELECT id FROM patient WHERE id = ANY(%s) AND erased_at IS NOT NULL", [patient_ids]
        )
        return {row[0] for row in await cursor.fetchall()}

    async def changes(self, patient_ids: list[int]) -> dict[int, list[PatientChange]]:
        """Return patient → what people changed that detection goes by, for those of whom anything was changed."""
        cursor = await self._connection.execute(
            """SELECT patient_id, (extract(epoch FROM effective_at) * 1000)::bigint, change_id, kind, subject, payload,
                      person_id
               FROM control_event WHERE patient_id = ANY(%s) AND kind = ANY(%s)
               ORDER BY patient_id, effective_at""",
            [patient_ids, list(APPLIED)],
        )
        changes: dict[int, list[PatientChange]] = {}
        for patient_id, *change in await cursor.fetchall():
            changes.setdefault(patient_id, []).append(PatientChange(*change))
        return changes

    async def device_keys(self, device_ids: list[int]) -> dict[int, str]:
        """Return device → key for those that exist."""
        cursor = await self._connection.execute("SELECT id, key FROM device WHERE id = ANY(%s)", [device_ids])
        return dict(await cursor.fetchall())

    async def readings(self, spans: list[Span]) -> list[Table]:
        """Return the stored readings of each span, bounds included, by instant; ``slot`` holds the patient id."""
        found = []
        for span in spans:
            device = "" if span.device_id is None else " AND b.device_id = %(device)s"
            cursor = await self._connection.execute(
                f"""{_BLOCK_SQL} WHERE b.patient_id = %(patient)s AND b.metric_id = %(metric)s{device}
                    AND b.t0 >= %(first)s::timestamptz - interval '1 hour' AND b.t0 <= %(last)s
                    AND b.t_last >= %(first)s
                    ORDER BY b.t0""",
                {
                    "patient": span.patient_id, "metric": span.metric_id, "device": span.device_id,
                    "first": to_datetime(span.from_ms), "last": to_datetime(span.to_ms),
                },
                binary=True,
            )  # fmt: skip
            table = _unpack(await cursor.fetchall())
            inside = table[(table.t_ms >= span.from_ms) & (table.t_ms <= span.to_ms)]
            found.append(inside.sorted(inside.t_ms, inside.device))
        return found

    async def samples(self, spans: list[SampleSpan]) -> list[Samples]:
        """Return the stored samples of each span's blocks, whole blocks, by instant."""
        found = []
        for span in spans:
            cursor = await self._connection.execute(
                """SELECT (extract(epoch FROM t0) * 1000000)::bigint, step_us, scale, "offset", sample
                   FROM waveform_block WHERE patient_id = %s AND metric_id = %s AND device_id = %s
                     AND t0 >= %s::timestamptz - interval '1 hour' AND t0 <= %s ORDER BY t0""",
                [span.patient_id, span.metric_id, span.device_id, from_us(span.from_us), from_us(span.to_us)],
                binary=True,
            )
            rows = [row for row in await cursor.fetchall() if int(row[0]) + (len(row[4]) - 1) * row[1] >= span.from_us]
            found.append(_unpack_samples(rows))
        return found

    async def versions(self, spans: list[Span]) -> Versions:
        """Return the corrected instants of the spans' series, bounds included."""
        where = """FROM {} r JOIN unnest(%s::int[], %s::smallint[], %s::int[], %s::timestamptz[], %s::timestamptz[])
                     AS s (patient_id, metric_id, device_id, first, last) USING (patient_id, metric_id, device_id)
                   WHERE r.t BETWEEN s.first AND s.last"""
        columns = "patient_id, metric_id, device_id, (extract(epoch FROM r.t) * 1000)::bigint"
        values = [
            [s.patient_id for s in spans], [s.metric_id for s in spans], [s.device_id for s in spans],
            [to_datetime(s.from_ms) for s in spans], [to_datetime(s.to_ms) for s in spans],
        ]  # fmt: skip
        found = Versions({}, {})
        query = f"SELECT {columns}, r.revision {where.format('reading_revision')}"
        for *key, revision in await (await self._connection.execute(query.encode(), values)).fetchall():
            found.revisions[_key(key)] = revision
        query = f"SELECT {columns}, r.value {where.format('reading_superseded')}"
        for *key, value in await (await self._connection.execute(query.encode(), values, binary=True)).fetchall():
            found.superseded.setdefault(_key(key), set()).add(value)
        return found

    async def recent(self, since: dict[int, int]) -> Table:
        """Return every stored reading of each patient from its instant on (patient → Unix ms)."""
        if not since:
            return Table.empty()
        patients = sorted(since)
        cursor = await self._connection.execute(
            f"""{_BLOCK_SQL} JOIN unnest(%s::int[], %s::timestamptz[]) AS s (patient_id, since) USING (patient_id)
                WHERE b.t_last >= s.since AND b.t0 >= %s::timestamptz - interval '1 hour'""",
            [patients, [to_datetime(since[p]) for p in patients], to_datetime(min(since.values()))],
            binary=True,
        )
        table = _unpack(await cursor.fetchall())
        bound = np.zeros(max(patients) + 1, np.int64)
        bound[patients] = [since[p] for p in patients]
        return table[table.t_ms >= bound[table.slot]]

    async def states(self, partitions: list[int]) -> list[StateRow]:
        """Return the kept state of every patient of these partitions."""
        cursor = await self._connection.execute(
            """SELECT s.patient_id, s.hot, b.state, b.layout
               FROM patient_state s LEFT JOIN patient_baseline b USING (patient_id) WHERE s.partition = ANY(%s)""",
            [partitions],
        )
        rows = await cursor.fetchall()
        changes = await self.changes([row[0] for row in rows])
        return [StateRow(patient, hot, state, layout, changes.get(patient, [])) for patient, hot, state, layout in rows]

    async def hot(self, patient_id: int) -> bytes | None:
        """Return the hot row of a patient, None of whom nothing was ever received."""
        cursor = await self._connection.execute("SELECT hot FROM patient_state WHERE patient_id = %s", [patient_id])
        row = await cursor.fetchone()
        return None if row is None else bytes(row[0])

    async def quarantined(
        self, patient_ids: list[int], from_ms: int, to_ms: int
    ) -> set[tuple[int, int, int, int, float]]:
        """Return (patient, metric, device, Unix ms, value) of what is quarantined in a span, bounds included."""
        cursor = await self._connection.execute(
            """SELECT patient_id, metric_id, device_id, (extract(epoch FROM t) * 1000)::bigint, value
               FROM quarantined_reading WHERE patient_id = ANY(%s) AND t BETWEEN %s AND %s""",
            [patient_ids, to_datetime(from_ms), to_datetime(to_ms)],
            binary=True,
        )
        return {*await cursor.fetchall()}

    async def open_letters(self, positions: Mapping[tuple[str, int], int], back: int) -> set[tuple[str, int, int]]:
        """Return the dead letters nobody looked at among the last ``back`` records before each position.

        ``positions``: (topic, partition) → next offset. What an operator skipped on purpose is left out.
        """
        keys = list(positions)
        cursor = await self._connection.execute(
            """SELECT d.topic, d.partition, d.record_offset FROM dead_letter d
               JOIN unnest(%s::text[], %s::int[], %s::bigint[]) AS p (topic, partition, next_offset)
                 ON d.topic = p.topic AND d.partition = p.partition
                AND d.record_offset >= p.next_offset - %s AND d.record_offset < p.next_offset
               WHERE d.state = 'open' AND d.reason <> 'skipped'""",
            [[topic for topic, _ in keys], [number for _, number in keys], list(positions.values()), back],
        )
        return {(topic, partition, offset) for topic, partition, offset in await cursor.fetchall()}

    async def first_stored(self, patient_id: int) -> int:
        """Return the instant of a patient's first stored reading, 0 without any."""
        cursor = await self._connection.execute(
            "SELECT (extract(epoch FROM min(t0)) * 1000)::bigint FROM reading_block WHERE patient_id = %s", [patient_id]
        )
        row = await cursor.fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    async def stored(self, patient_id: int, from_ms: int, to_ms: int | None) -> Table:
        """Return every stored reading of a patient in [from, to), to None: all that follow."""
        bound = "" if to_ms is None else " AND b.t0 < %(last)s"
        cursor = await self._connection.execute(
            f"""{_BLOCK_SQL} WHERE b.patient_id = %(patient)s AND b.t_last >= %(first)s
                AND b.t0 >= %(first)s::timestamptz - interval '1 hour'{bound}""",
            {"patient": patient_id, "first": to_datetime(from_ms), "last": to_ms and to_datetime(to_ms)},
            binary=True,
        )
        table = _unpack(await cursor.fetchall())
        return table[(table.t_ms >= from_ms) & (table.t_ms < (1 << 50 if to_ms is None else to_ms))]

    async def checkpoints(self, patient_id: int) -> list[Checkpoint]:
        """Return what is kept of a patient to rebuild from, the newest first: some fifty at the most."""
        cursor = await self._connection.execute(
            "SELECT day, hot, state, layout FROM baseline_checkpoint WHERE patient_id = %s ORDER BY day DESC",
            [patient_id],
        )
        return [Checkpoint(*row) for row in await cursor.fetchall()]

    async def known_alerts(self, patient_id: int, rules: list[str], from_ms: int, also: list[UUID]) -> list[KnownAlert]:
        """Return a patient's alerts of some rules found since an instant, those named, and those linked to either."""
        return await alerts.known(self._connection, patient_id, rules, to_datetime(from_ms), also)

    async def sentences(self, alert_ids: list[UUID]) -> dict[UUID, str]:
        """Return alert → its sentence for those that exist."""
        cursor = await self._connection.execute("SELECT id, sentence FROM alert WHERE id = ANY(%s)", [alert_ids])
        return dict(await cursor.fetchall())

    async def overlapping_alert(self, patient_id: int, rule: str, from_ms: int, to_ms: int) -> bool:
        """Tell whether an alert of this rule already covers part of the span."""
        cursor = await self._connection.execute(
            """SELECT 1 FROM alert WHERE patient_id = %s AND rule = %s AND state <> 'withdrawn'
               AND started_at <= %s
                 AND coalesce(resolved_at, CASE WHEN late THEN last_evidence_at ELSE 'infinity' END) >= %s LIMIT 1""",
            [patient_id, rule, to_datetime(to_ms), to_datetime(from_ms)],
        )
        return await cursor.fetchone() is not None


def _unpack(rows: list[tuple[int, int, int, int, int, list[int] | None, list[float], list[int] | None]]) -> Table:
    if not rows:
        return Table.empty()
    lengths = np.array([len(row[6]) for row in rows], np.intp)
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    steps = np.repeat(np.array([row[4] for row in rows], np.int64), lengths)
    t_ms = np.repeat(np.array([row[3] for row in rows], np.int64), lengths) + place * steps // 1000
    t_ms += np.concatenate([_or_zeros(row[5], len(row[6])) for row in rows])
    return Table(
        np.repeat(np.array([row[0] for row in rows], np.intp), lengths),
        np.repeat(np.array([row[2] for row in rows], np.int32), lengths),
        np.repeat(np.array([row[1] for row in rows], np.int16), lengths),
        t_ms,
        np.concatenate([np.array(row[6], np.float32) for row in rows]),
        np.concatenate([_or_zeros(row[7], len(row[6])) for row in rows]).astype(np.uint8),
        np.full(int(lengths.sum()), -1, np.int32),
    )


def _key(row: list[Any]) -> tuple[int, int, int, int]:
    patient_id, metric_id, device_id, t_ms = row
    return patient_id, metric_id, device_id, t_ms


def _unpack_samples(rows: list[tuple[Any, ...]]) -> Samples:
    if not rows:
        nothing = np.empty(0, np.float64)
        return Samples(np.empty(0, np.int64), np.empty(0, np.int16), nothing, nothing)
    lengths = np.array([len(row[4]) for row in rows], np.intp)
    t_us = np.concatenate(
        [int(row[0]) + np.arange(n, dtype=np.int64) * row[1] for row, n in zip(rows, lengths, strict=True)]
    )
    order = np.argsort(t_us, kind="stable")
    return Samples(
        t_us[order],
        np.concatenate([np.array(row[4], np.int16) for row in rows])[order],
        np.repeat(np.array([row[2] for row in rows], np.float64), lengths)[order],
        np.repeat(np.array([row[3] for row in rows], np.float64), lengths)[order],
    )


def from_us(us: int) -> datetime:
    """Return an aware UTC datetime for Unix microseconds, exact."""
    return to_datetime(us // 1000) + timedelta(microseconds=us % 1000)


def _or_zeros(values: list[int] | None, n: int) -> NDArray[np.int64]:
    return np.zeros(n, np.int64) if values is None else np.array(values, np.int64)
