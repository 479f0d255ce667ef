"""A device's own book: every frame it sent, byte for byte, and what the door said of it.

One SQLite file a run, one writing process. A frame is written as ``sent`` before it leaves and as
``accepted`` or ``rejected`` after its verdict, so a crash can lose a verdict but never invent one.
Write-ahead logging without an fsync a commit: it survives the death of the process, not of the machine.
Table ``frame``: ``device``, ``session``, ``seq``, ``body`` (the msgpack frame as sent, or what else was
sent), ``state``, ``verdict`` (JSON).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest import frame as wire
from ingest.frame import Frame
from ingest.verdict import Accepted, Busy, Verdict

State = Literal["sent", "accepted", "rejected"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS frame (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    session TEXT,
    seq INTEGER,
    body BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sent', 'accepted', 'rejected')),
    verdict TEXT
);
CREATE INDEX IF NOT EXISTS unsettled ON frame (device, id) WHERE state = 'sent';
"""


class Entry(NamedTuple):
    """One frame of the book; ``session`` and ``seq`` are None where the bytes sent were no frame."""

    id: int
    device: str
    session: str | None
    seq: int | None
    body: bytes
    state: State
    verdict: str | None


class Readings(NamedTuple):
    """One block as it was sent: ``times_ms`` shape (n,), ``values`` float32 in the unit sent, shape (n,)."""

    device: str
    metric: str
    unit: str
    times_ms: NDArray[np.int64]
    values: NDArray[np.float32]


class Ledger:
    """The book of one run; open it with ``with Ledger(path) as ledger``."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._book = sqlite3.connect(path, isolation_level=None)
        self._book.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")
        self._last = int(self._book.execute("SELECT coalesce(max(id), 0) FROM frame").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._book.close()

    def add(self, device: str, frames: Sequence[tuple[Frame | None, bytes]]) -> list[int]:
        """Write frames as sent, each with its bytes, and return their numbers; call it before sending."""
        first = self._last + 1
        rows = [
            (first + i, device, frame and frame.session, frame.seq if frame else None, body)
            for i, (frame, body) in enumerate(frames)
        ]
        self._last += len(rows)
        self._write("INSERT INTO frame (id, device, session, seq, body, state) VALUES (?, ?, ?, ?, ?, 'sent')", rows)
        return [row[0] for row in rows]

    def settle(self, ids: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        """Write the door's verdicts, one a frame, in the same order; a busy one leaves its frame as sent.

        Raises:
            ValueError: not as many verdicts as frames.
        """
        rows = [
            (
                "accepted" if isinstance(verdict, Accepted) else "rejected",
                msgspec.json.encode(verdict).decode(),
                i,
            )
            for i, verdict in zip(ids, verdicts, strict=True)
            if not isinstance(verdict, Busy)
        ]
        self._write("UPDATE frame SET state = ?, verdict = ? WHERE id = ?", rows)

    def unsettled(self, device: str, limit: int = 1000) -> list[Entry]:
        """Return frames whose verdict is not known, oldest first."""
        query = "SELECT * FROM frame WHERE device = ? AND state = 'sent' ORDER BY id LIMIT ?"
        return [Entry(*row) for row in self._book.execute(query, (device, limit))]

    def counts(self) -> dict[str, int]:
        """Return the number of frames in each state."""
        found = dict(self._book.execute("SELECT state, count(*) FROM frame GROUP BY state").fetchall())
        return {state: int(found.get(state, 0)) for state in ("sent", "accepted", "rejected")}

    def entries(self, state: State | None = None) -> Iterator[Entry]:
        """Go through the book in the order of sending."""
        query = "SELECT * FROM frame WHERE ? IS NULL OR state = ? ORDER BY id"
        for row in self._book.execute(query, (state, state)):
            yield Entry(*row)

    def readings(self, state: State = "accepted") -> Iterator[Readings]:
        """Go through every block of the frames in ``state``; a frame sent twice comes twice.

        Of accepted frames without the blocks that were refused for the patient's consent.
        """
        for entry in self.entries(state):
            if entry.session is None:
                continue
            withheld = _withheld(entry) if state == "accepted" else ()
            for block in wire.decode_frame(entry.body).blocks:
                if block.metric in withheld:
                    continue
                values = wire.block_values(block).astype(np.float32)
                times_ms = wire.block_times_ms(block, len(values))
                yield Readings(entry.device, block.metric, block.unit, times_ms, values)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._book.execute("BEGIN")
        try:
            self._book.executemany(statement, rows)
        except BaseException:
            self._book.execute("ROLLBACK")
            raise
        self._book.execute("COMMIT")


def _withheld(entry: Entry) -> Sequence[str]:
    if entry.verdict is None:
        return ()
    verdict = msgspec.json.decode(entry.verdict, type=Verdict)
    return verdict.withheld if isinstance(verdict, Accepted) else ()
