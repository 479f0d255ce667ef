"""One patient's stored data, as one transaction sees them, a few rows at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg.rows import dict_row

from ingest.catalogue import Metric, catalogue
from services.api import individual, monitoring
from services.api.patients import Patient
from services.api.query import Connection, Row, every
from services.api.series import unpack
from services.api.times import rfc3339

ROWS: Final = 500  # fetched at once, of anything
BLOCKS: Final = 20  # fetched at once: at most 3,600 readings, some 2 MB as resources
FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before the audit's first row


class Block(NamedTuple):
    """Readings of one metric from one device within an hour; N of them, shape (N,) each."""

    metric: Metric
    device: str
    t_ms: NDArray[np.int64]
    value: NDArray[np.float32]
    quality: NDArray[np.int64]


class Wave(NamedTuple):
    """Samples of one waveform from one device; a value is ``sample * scale + offset`` in the metric's unit."""

    metric: Metric
    device: str
    t0: datetime
    step_us: int
    scale: float
    offset: float
    samples: list[int]


@dataclass(frozen=True, slots=True)
class Source:
    """Reads inside the transaction of its connection, whose role and settings decide what is seen.

    ``opened`` says what of the patient is open to whoever asks (``readings``, ``alerts``); ``withheld`` which classes
    of data the patient's consent keeps from them; ``owner`` that the connection is the owner's, who reads the tables
    where the API's role reads the views.
    """

    connection: Connection
    patient: Patient
    now: datetime
    opened: frozenset[str]
    withheld: tuple[str, ...] = ()
    owner: bool = False

    async def batches(self, query: LiteralString, values: Mapping[str, Any], size: int) -> AsyncIterator[list[Row]]:
        """Return the rows of a query through a cursor of the server's, so many at a time. Declared in SQL: it is gone
        with its transaction, whatever ends that."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            declare: LiteralString = "DECLARE export NO SCROLL CURSOR FOR "
            await cursor.execute(declare + query, {"patient": self.patient.id, **values})
            fetch = f"FETCH FORWARD {size} FROM export".encode()
            while rows := await (await cursor.execute(fetch, binary=True)).fetchall():
                yield rows
            await cursor.execute("CLOSE export")

    async def readings(self) -> AsyncIterator[list[Block]]:
        """Return every stored reading, metric by metric, its blocks in order of time."""
        keys = {device["number"]: device["key"] for device in await self.devices()}
        query: LiteralString = _BLOCKS + ("reading_block" if self.owner else "reading_block_view") + _OF_METRIC
        for metric in catalogue().values():
            if metric.kind == "waveform":
                continue
            async for rows in self.batches(query, {"metric": metric.id}, BLOCKS):
                yield [_block(metric, keys, row) for row in rows]

    async def waves(self) -> AsyncIterator[list[Wave]]:
        """Return every stored stretch of a waveform, metric by metric, in order of time."""
        keys = {device["number"]: device["key"] for device in await self.devices()}
        query: LiteralString = _WAVES + ("waveform_block" if self.owner else "waveform_block_view") + _OF_METRIC
        for metric in catalogue().values():
            if metric.kind != "waveform":
                continue
            async for rows in self.batches(query, {"metric": metric.id}, BLOCKS):
                yield [_wave(metric, keys, row) for row in rows]

    def consents(self) -> AsyncIterator[list[Row]]:
        """Return every decision about what the data may be used for, in the order they were said."""
        return self.batches(_CONSENTS, {}, ROWS)

    def set_aside(self) -> AsyncIterator[list[Row]]:
        """Return the values that were received and not used as readings, each with why."""
        return self.batches(_SET_ASIDE, {}, ROWS)

    def days(self) -> AsyncIterator[list[Row]]:
        """Return the closed days (or nights) of each metric in each context, with what was usual then."""
        return self.batches(_DAYS, {}, ROWS)

    def alerts(self) -> AsyncIterator[list[Row]]:
        """Return the alerts, the earliest first, with their sentence for the patient."""
        return self.batches(_ALERTS, {}, ROWS)

    def accesses(self) -> AsyncIterator[list[Row]]:
        """Return who did what with the patient's data: a row a day, person and kind of access, the earliest first."""
        span = {"from": FIRST, "to": self.now + timedelta(days=1), "zone": self.patient.time_zone}
        return self.batches(_ACCESSES, span, ROWS)

    async def devices(self) -> list[Row]:
        """Return the devices the patient has or had (``number`` is the database's), the first worn first."""
        return await every(self.connection, _DEVICES, [self.patient.id])

    async def organisation(self) -> str:
        """Return the key of the organisation: a patient's key is theirs only within it."""
        rows = await every(self.connection, "SELECT organisation_key() AS key")
        return str(rows[0]["key"])

    async def _life_events(self) -> list[dict[str, Any]]:
        """Return the patient's medicines and other events that were not withdrawn, the latest begun first."""
        rows = await every(
            self.connection,
            """SELECT payload FROM (SELECT DISTINCT ON (subject) payload FROM patient_change
                                    WHERE patient_id = %s AND kind = 'life_event' ORDER BY subject, version DESC) latest
               ORDER BY payload ->> 'day' DESC, payload ->> 'words'""",
            [self.patient.id],
        )
        said = [row["payload"] for row in rows if not row["payload"]["withdrawn"]]
        return [{name: one[name] for name in ("day", "words")} for one in said]

    async def profile(self) -> dict[str, Any]:
        """Return who the patient is, what is known of them and what is watched now."""
        own = await individual.read(self.connection, self.patient.id, self.now)
        said = own.latest("profile", "")
        watched = await monitoring.shown(self.connection, self.patient.id, self.now)
        return {
            "id": self.patient.key,
            "name": self.patient.name,
            "time_zone": self.patient.time_zone,
            "enrolled_at": rfc3339(self.patient.enrolled_at),
            "exported_at": rfc3339(self.now),
            "not_open_to_who_asked": sorted({"readings", "alerts"} - self.opened),
            "withheld_by_consent": list(self.withheld),
            "profile": said["payload"] if said else {},
            "limits_note": individual.note(own, plain=True)[1],
            "life_events": await self._life_events(),
            "monitoring": {name: watched[name] for name in ("state", "since", "until")},
            "devices": [
                {
                    "id": row["key"],
                    "model": row["model"],
                    "class": row["class"],
                    "from": rfc3339(row["since"]),
                    "to": rfc3339(row["until"]),
                }
                for row in await self.devices()
            ],
        }


def _block(metric: Metric, keys: Mapping[int, str], row: Row) -> Block:
    t_ms, value, quality = unpack([(row["t_ms"], row["step_us"], row["offsets_ms"], row["value"], row["quality"])])
    return Block(metric, keys.get(row["device_id"], ""), t_ms, value.astype(np.float32), quality)


def _wave(metric: Metric, keys: Mapping[int, str], row: Row) -> Wave:
    where, samples = keys.get(row["device_id"], ""), row["sample"]
    return Wave(metric, where, row["t0"], row["step_us"], row["scale"], row["offset"], samples)


_BLOCKS: Final[LiteralString] = """
    SELECT device_id, (extract(epoch FROM t0) * 1000)::bigint AS t_ms, step_us, offsets_ms, value, quality FROM """
_WAVES: Final[LiteralString] = 'SELECT device_id, t0, step_us, scale, "offset", sample FROM '
_OF_METRIC: Final[LiteralString] = " WHERE patient_id = %(patient)s AND metric_id = %(metric)s ORDER BY t0, device_id"
_DEVICES: Final[LiteralString] = """
    SELECT d.id AS number, d.key, d.model, d.class, min(a.valid_from) AS since,
           nullif(max(a.valid_to), 'infinity') AS until
    FROM device_assignment a JOIN device d ON d.id = a.device_id WHERE a.patient_id = %s GROUP BY d.id ORDER BY 4, 2"""
_SET_ASIDE: Final[LiteralString] = """
    SELECT s.metric_id, d.key AS device, s.t, s.value, s.why
    FROM (SELECT metric_id, device_id, t, value, 'can not be true: ' || reason AS why FROM quarantined_reading
          WHERE patient_id = %(patient)s
          UNION ALL SELECT metric_id, device_id, t, value, 'the device sent another value for the same instant'
          FROM reading_conflict WHERE patient_id = %(patient)s
          UNION ALL SELECT metric_id, device_id, t, value, 'the device corrected it later'
          FROM reading_superseded WHERE patient_id = %(patient)s) AS s
    LEFT JOIN device d ON d.id = s.device_id ORDER BY s.metric_id, s.t, s.device_id, s.value"""
_DAYS: Final[LiteralString] = """
    SELECT metric_id, context, day, value, minutes, center, spread, days FROM daily_value
    WHERE patient_id = %(patient)s ORDER BY metric_id, day, context"""
_ALERTS: Final[LiteralString] = """
    SELECT id, kind, priority, state, provisional, late, started_at, last_evidence_at, resolved_at, acknowledged_at,
           patient_sentence AS sentence
    FROM alert WHERE patient_id = %(patient)s ORDER BY started_at, id"""
_CONSENTS: Final[LiteralString] = """
    SELECT c.recorded_at, c.purpose, c.data_classes, c.decision, c.effective_at, c.expires_at, d.key AS document,
           d.version AS document_version, c.relation, c.decided_by, c.form
    FROM consent c LEFT JOIN consent_document d ON d.id = c.document_id
    WHERE c.patient_id = %(patient)s ORDER BY c.id"""
_ACCESSES: Final[LiteralString] = """
    SELECT f.*, p.name AS person_name
    FROM audit_of_patient(%(patient)s, %(from)s, %(to)s, %(zone)s) f LEFT JOIN person p ON p.id = f.person_id
    ORDER BY f.day, f.newest"""
