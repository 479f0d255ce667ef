"""Is everything accepted kept, once? The devices' books against the database, as sets.

Written from the documented formats alone (design pages, `ingest/frame.py`'s docstrings, the schema): it shares no
code with what it checks. A reading is (device, metric, instant in ms, float32 value). Accepted readings must equal
stored ∪ conflicting ∪ superseded ∪ quarantined ∪ dead ∪ erased; nothing may be stored twice; nothing may be there that
nobody sent (or an operator wrote as the fix of a dead letter); of an instant's revisions the highest one is stored.
Waveforms are compared sample by sample, by `evaluation.samples`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray

from evaluation.samples import problems as compare

# A reading as two numbers: device (13 bits), metric (8) and instant (43), and the value's bits.
READING: Final = np.dtype([("key", "<u8"), ("value", "<u8")])
TIME_BITS, METRIC_BITS = 43, 8
Readings = NDArray[np.void]  # of READING

# What this checker knows of units: (unit, the metric's own) → factor and offset.
UNITS: Final = {
    ("[degF]", "Cel"): (5 / 9, -160 / 9), ("K", "Cel"): (1.0, -273.15), ("s", "ms"): (1000.0, 0.0),
    ("mmol/L", "mg/dL"): (18.0156, 0.0), ("kPa", "mm[Hg]"): (7.500616827, 0.0), ("1", "%"): (100.0, 0.0),
    ("g", "kg"): (0.001, 0.0), ("[lb_av]", "kg"): (0.45359237, 0.0), ("Hz", "/min"): (60.0, 0.0),
}  # fmt: skip
EXAMPLES: Final = 5
_ERASED_DEVICES: Final = """
    SELECT DISTINCT d.key FROM erasure e JOIN device_assignment a ON a.patient_id = e.patient_id
    JOIN device d ON d.id = a.device_id WHERE e.done_at IS NOT NULL"""

_BLOCKS: Final = """
    SELECT d.key, b.metric_id, (extract(epoch FROM b.t0) * 1000)::bigint, b.step_us,
           CASE WHEN b.offsets_ms IS NOT NULL THEN array_send(b.offsets_ms) END, array_send(b.value)
    FROM reading_block b JOIN device d ON d.id = b.device_id"""
_SINGLE: Final = """
    SELECT d.key, r.metric_id, (extract(epoch FROM r.t) * 1000)::bigint, r.value
    FROM {} r JOIN device d ON d.id = r.device_id JOIN metric m ON m.id = r.metric_id WHERE m.kind <> 'waveform'"""


@dataclass(slots=True)
class Verdict:
    """What the comparison found; ``problems`` is empty when every invariant holds."""

    accepted: int = 0  # distinct readings accepted
    stored: int = 0
    conflict: int = 0
    quarantined: int = 0
    dead: int = 0
    erased: int = 0  # accepted ones of patients who were erased: nowhere kept, on purpose
    accepted_hash: str = ""
    kept_hash: str = ""
    problems: list[str] = field(default_factory=list)
    superseded: int = 0  # replaced by a higher revision, kept beside
    samples: int = 0  # of waveforms, accepted

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return not self.problems


class Names:
    """Numbers for device keys and metrics, the same for both sides."""

    def __init__(self, metrics: Sequence[tuple[int, str, str, str]]) -> None:
        self.metric_ids = {key: number for number, key, *_ in metrics}
        self.units = {key: unit for _, key, unit, _ in metrics}
        self.waveforms = {key for _, key, _, kind in metrics if kind == "waveform"}  # samples, not readings
        self.waveform_ids = {number for number, *_, kind in metrics if kind == "waveform"}
        self._devices: dict[str, int] = {}
        self.keys: list[str] = []

    def device(self, key: str) -> int:
        """Return the number of a device key."""
        if key not in self._devices:
            self._devices[key] = len(self.keys)
            self.keys.append(key)
        return self._devices[key]

    def show(self, reading: np.void) -> str:
        """Return a reading in words."""
        rest, t_ms = divmod(int(reading["key"]), 1 << TIME_BITS)
        device, metric_id = divmod(rest, 1 << METRIC_BITS)
        metric = next(key for key, number in self.metric_ids.items() if number == metric_id)
        value = np.uint32(reading["value"]).view(np.float32)
        return f"{self.keys[device]} {metric} {t_ms} {value:g}"


def check(books: Iterable[Path], conninfo: str, *, only_booked: bool = False) -> Verdict:
    """Compare the devices' books (SQLite, as documented in ``ingest/ledger.py``) with a database.

    ``only_booked`` leaves out devices that have no book, e.g. such as were enrolled by hand.

    Raises:
        psycopg.Error, sqlite3.Error: one of the sides can't be read.
        ValueError: a book or a block has another shape than documented.
    """
    with psycopg.connect(conninfo) as connection:
        names = Names(connection.execute("SELECT id, key, unit, kind FROM metric").fetchall())
        books = list(books)
        accepted = _distinct(_all([part for book in books for part in _book(book, names)]))
        booked = len(names.keys) if only_booked else 1 << 13
        stored = _sorted(_of(_stored(connection, names), booked))
        conflict = _distinct(_of(_single(connection, "reading_conflict", names), booked))
        quarantined = _distinct(_of(_single(connection, "quarantined_reading", names), booked))
        superseded = _distinct(_of(_single(connection, "reading_superseded", names), booked))
        dead = _distinct(_of(_dead(connection, names), booked))
        fixed = _distinct(_of(_dead(connection, names, "fixed_record"), booked))
        waves = [wave for book in books for wave in _waveforms(book, names)]
        gone = {str(row[0]) for row in connection.execute(_ERASED_DEVICES)}
        samples, wrong_samples = compare(waves, connection, gone, set(names.keys[:booked]) if only_booked else None)
        erased = accepted[_erased(connection, names, accepted)]
    verdict = Verdict(len(accepted), len(stored), len(conflict), len(quarantined), len(dead), len(erased))
    verdict.superseded, verdict.samples = len(superseded), samples
    verdict.problems += wrong_samples
    kept = _distinct(_all([stored, conflict, superseded, quarantined, dead]))
    _say(verdict, names, "of an erased patient and still kept", _common(kept, erased))
    kept = _distinct(_all([kept, erased]))
    verdict.accepted_hash, verdict.kept_hash = _hash(accepted), _hash(kept)
    _say(verdict, names, "accepted but nowhere kept", _without(accepted, kept))
    _say(verdict, names, "kept but never accepted", _without(kept, _distinct(_all([accepted, fixed]))))
    unstored = _distinct(_all([quarantined, dead, erased]))
    _say(verdict, names, "of the highest revision and not stored", _outdated(books, names, stored, unstored))
    _say(verdict, names, "stored more than once", _repeated(stored))
    _say(verdict, names, "stored and a conflict with itself", _common(stored[~_again(stored)], conflict))
    return verdict


def _outdated(books: Iterable[Path], names: Names, stored: Readings, unstored: Readings) -> Readings:
    """Return the readings of corrected instants whose highest revision is neither stored nor could be."""
    books = list(books)
    ranks = sorted({rank for book in books for rank in _revisions(book)}, reverse=True)
    found: list[Readings] = []
    settled = np.empty(0, np.uint64)
    for rank in ranks:
        sent = _distinct(_all([part for book in books for part in _book(book, names, rank)]))
        top = sent[~np.isin(sent["key"], settled)]
        settled = np.concatenate([settled, top["key"]])
        kept = np.isin(top["key"], _common(top, _distinct(stored))["key"])
        found.append(top[~kept & ~np.isin(top["key"], unstored["key"])])
    return _all(found)


def _revisions(book: Path) -> set[int]:
    """Return the revisions above 0 of a book's accepted frames."""
    return {_revision(_shape(body)) for _, body, state in _frames(book) if state == "accepted"} - {0}


def _revision(frame: list[Any]) -> int:
    return int(frame[7]) if len(frame) > 7 else 0


def _erased(connection: psycopg.Connection[Any], names: Names, readings: Readings) -> NDArray[np.bool_]:
    """Tell which readings were measured while their device was an erased patient's."""
    rows = connection.execute(
        """SELECT d.key,
                  CASE WHEN isfinite(a.valid_from) THEN (extract(epoch FROM a.valid_from) * 1000)::bigint ELSE 0 END,
                  CASE WHEN isfinite(a.valid_to) THEN (extract(epoch FROM a.valid_to) * 1000)::bigint
                       ELSE (1::bigint << 43) END
           FROM erasure e JOIN device_assignment a ON a.patient_id = e.patient_id JOIN device d ON d.id = a.device_id
           WHERE e.done_at IS NOT NULL"""
    ).fetchall()
    device = readings["key"] >> np.uint64(TIME_BITS + METRIC_BITS)
    t_ms = (readings["key"] & np.uint64((1 << TIME_BITS) - 1)).astype(np.int64)
    within = np.zeros(len(readings), bool)
    for key, from_ms, to_ms in rows:
        within |= (device == names.device(key)) & (t_ms >= from_ms) & (t_ms < to_ms)
    return within


def sent_readings(books: Iterable[Path]) -> dict[str, int]:
    """Return how many readings the frames of each state held, re-sent ones counted each time (also refused ones)."""
    counts = {"sent": 0, "accepted": 0, "rejected": 0}
    for book in books:
        for _, body, state in _frames(book):
            counts[state] += sum(len(block[5]) // _width(block[4]) for block in _shape(body)[5])
    return counts


def sent_frames(books: Iterable[Path]) -> dict[str, int]:
    """Return how many frames (and bodies that were no frames) each state of the books holds."""
    counts = {"sent": 0, "accepted": 0, "rejected": 0}
    for book in books:
        for state, count in _ask(book, "SELECT state, count(*) FROM frame GROUP BY state"):
            counts[state] += count
    return counts


def rejected_frames(books: Iterable[Path], device: str) -> int:
    """Return how many frames and bodies of one device were refused."""
    query = "SELECT count(*) FROM frame WHERE state = 'rejected' AND device = ?"
    return sum(count for book in books for (count,) in _ask(book, query, device))


def _ask(book: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()


def _of(parts: Iterable[Readings], devices: int) -> Readings:
    """Return the readings of the devices with a number below ``devices``."""
    readings = _all(list(parts))
    known: Readings = readings[(readings["key"] >> np.uint64(TIME_BITS + METRIC_BITS)) < devices]
    return known


def _say(verdict: Verdict, names: Names, what: str, found: Readings) -> None:
    if len(found):
        shown = "; ".join(names.show(reading) for reading in found[:EXAMPLES])
        verdict.problems.append(f"{len(found)} readings {what}, e.g. {shown}")


def _repeated(order: Readings) -> Readings:
    """Return the readings, of sorted ones, whose (device, metric, instant) is there more than once."""
    repeated: Readings = order[1:][order["key"][1:] == order["key"][:-1]]
    return repeated


def _sorted(readings: Readings) -> Readings:
    return readings[np.lexsort((readings["value"], readings["key"]))]


def _again(order: Readings) -> NDArray[np.bool_]:
    """Return, for sorted readings, which equal the one before."""
    again = np.zeros(len(order), bool)
    again[1:] = (order["key"][1:] == order["key"][:-1]) & (order["value"][1:] == order["value"][:-1])
    return again


def _distinct(readings: Readings) -> Readings:
    order = _sorted(readings)
    return order[~_again(order)]


def _common(one: Readings, other: Readings) -> Readings:
    """Return what is in both of two sets of distinct readings."""
    if not len(one) or not len(other):
        return one[:0]
    order = _sorted(np.concatenate([one, other]))
    return order[_again(order)]


def _without(one: Readings, other: Readings) -> Readings:
    """Return what is in ``one`` and not in ``other``, both of distinct readings."""
    if np.array_equal(one, other):
        return one[:0]
    order = _sorted(np.concatenate([one, _common(one, other)]))
    again = _again(order)
    again[:-1] |= again[1:]
    return order[~again]


def _hash(readings: Readings) -> str:
    """Return a hash of distinct readings, which are sorted: the order they came in does not matter."""
    return hashlib.sha256(readings.tobytes()).hexdigest()[:32]


def _all(parts: Sequence[Readings]) -> Readings:
    return np.concatenate(parts) if parts else np.empty(0, READING)


def _rows(device: int, metric: int, t_ms: NDArray[np.int64], value: NDArray[np.float32]) -> Readings:
    rows = np.empty(len(value), READING)
    place = (device << METRIC_BITS | metric) << TIME_BITS
    rows["key"] = np.uint64(place) | t_ms.astype(np.uint64)
    rows["value"] = np.ascontiguousarray(value, "<f4").view("<u4")
    return rows


# ---------------------------------------------------------------- the devices' side


def _frames(book: Path) -> Iterator[tuple[str, bytes, str]]:
    """Yield (device, body, state) of every entry that is a frame; a body without the blocks the door did not take."""
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as connection:
        query = "SELECT device, body, state, verdict FROM frame WHERE session IS NOT NULL ORDER BY id"
        for device, body, state, verdict in connection.execute(query):
            withheld = json.loads(verdict).get("withheld") if verdict else None
            yield device, _without_metrics(body, withheld) if withheld else body, state


def _without_metrics(body: bytes, withheld: list[str]) -> bytes:
    frame = _shape(body)
    frame[5] = [block for block in frame[5] if block[0] not in withheld]
    return msgspec.msgpack.encode(frame)


def _shape(body: bytes) -> list[Any]:
    """Return a frame: version, session, seq, sent_ms, utc_offset_min, blocks, status, revision (0 where left out)."""
    frame = msgspec.msgpack.decode(body)
    if not isinstance(frame, list) or frame[0] != 1 or len(frame) < 6:
        msg = "a book holds a frame of an unknown version; this checker knows version 1"
        raise ValueError(msg)
    return frame


def _waveforms(book: Path, names: Names) -> Iterator[tuple[str, list[Any]]]:
    for device, body, state in _frames(book):
        if state == "accepted":
            yield from ((device, block) for block in _shape(body)[5] if block[0] in names.waveforms)


def _book(book: Path, names: Names, revision: int | None = None) -> Iterator[Readings]:
    """Yield the accepted readings of a book, of one revision or of all."""
    for device, body, state in _frames(book):
        if state != "accepted" or (revision is not None and _revision(_shape(body)) != revision):
            continue
        for block in _shape(body)[5]:
            metric, unit, t0_ms, step_us, dtype, data, offsets, _, scale, offset = block
            if metric in names.waveforms:
                continue
            value = _decode(data, dtype, scale, offset)
            if unit != names.units[metric]:
                factor, shift = _to_kept(unit, names.units[metric])
                value = value * factor + shift
            times = _times(t0_ms, step_us, offsets, len(value))
            yield _rows(names.device(device), names.metric_ids[metric], times, value.astype(np.float32))


def _to_kept(unit: str, kept: str) -> tuple[float, float]:
    if (unit, kept) in UNITS:
        return UNITS[unit, kept]
    if unit == "1" or unit.startswith("{"):  # a count of something
        return 1.0, 0.0
    msg = f"a book holds the unit {unit!r} for {kept!r}, which this checker does not know; add it to UNITS"
    raise ValueError(msg)


def _width(dtype: str) -> int:
    return {"f4": 4, "i2": 2}[dtype]


def _decode(data: bytes, dtype: str, scale: float, offset: float) -> NDArray[np.float64]:
    raw = np.frombuffer(data, {"f4": "<f4", "i2": "<i2"}[dtype]).astype(np.float64)
    return raw * scale + offset if dtype == "i2" else raw


def _times(t0_ms: int, step_us: int, offsets: bytes | None, n: int) -> NDArray[np.int64]:
    if offsets is not None:
        return t0_ms + np.frombuffer(offsets, "<i4").astype(np.int64)
    return t0_ms + np.arange(n, dtype=np.int64) * step_us // 1000


# ---------------------------------------------------------------- the database's side


def _stored(connection: psycopg.Connection, names: Names) -> Iterator[Readings]:
    with connection.cursor(name="blocks", binary=True) as cursor:
        cursor.itersize = 5000
        for key, metric, t0_ms, step_us, offsets, values in cursor.execute(_BLOCKS):
            value = _elements(values, ">f4").astype(np.float32)
            packed = None if offsets is None else _elements(offsets, ">i4").astype("<i4").tobytes()
            yield _rows(names.device(key), metric, _times(t0_ms, step_us, packed, len(value)), value)


def _elements(sent: bytes, dtype: str) -> NDArray[Any]:
    """Return the elements of PostgreSQL's binary array: 20 bytes of head, then (length, value) each."""
    return np.frombuffer(sent, np.dtype([("length", ">i4"), ("value", dtype)]), offset=20)["value"]


def _single(connection: psycopg.Connection, table: str, names: Names) -> Iterator[Readings]:
    for key, metric, t_ms, value in connection.execute(_SINGLE.format(table)):
        yield _rows(names.device(key), metric, np.array([t_ms]), np.array([value], np.float32))


def _dead(connection: psycopg.Connection, names: Names, column: str = "record") -> Iterator[Readings]:
    """Yield the readings of dead records that are still readable; those that aren't were never a frame."""
    keys: dict[int, str] = dict(connection.execute("SELECT id, key FROM device").fetchall())
    query = f"SELECT {column} FROM dead_letter WHERE {column} IS NOT NULL"  # noqa: S608 - one of two names
    for (record,) in connection.execute(query):
        try:
            stamped = msgspec.msgpack.decode(record)
            device, found = names.device(keys[stamped[4]]), stamped[10]
        except (msgspec.DecodeError, TypeError, KeyError, IndexError):
            continue
        for metric, t0_ms, step_us, dtype, data, offsets, _, scale, offset in found:
            if metric in names.waveform_ids:
                continue
            value = _decode(data, dtype, scale, offset)
            yield _rows(device, metric, _times(t0_ms, step_us, offsets, len(value)), value.astype(np.float32))
