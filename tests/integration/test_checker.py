"""The checker on corrections, waveforms and fixed letters: it passes what is right, and finds each planted error."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import psycopg
import pytest

from evaluation.checker import Verdict, check
from ingest.assign import Assignment, Device, stamp
from ingest.catalogue import catalogue
from ingest.frame import FRAME_VERSION, Block, Frame, encode
from ingest.ledger import Ledger
from ingest.verdict import Accepted
from tests.fix_processor import HOUR, T0, Bench, records

pytestmark = pytest.mark.stack
DEVICE = Device(1, "d1", 1, (Assignment(1, 0, 2**62),))
ECG = np.random.default_rng(3).integers(-900, 900, 1800).astype("<i2")


def vital(values: list[float], metric: str = "glucose") -> Block:
    return Block(metric, catalogue()[metric].unit, T0, 60_000_000, "f4", np.array(values, "<f4").tobytes())


def ecg(start: int, stop: int, samples: np.ndarray[tuple[int], np.dtype[np.int16]] = ECG) -> Block:
    return Block("ecg", "uV", T0 + start * 4, 4_000, "i2", samples[start:stop].tobytes(), None, None, 2.0, 0.0)


def floats(start: int, stop: int) -> Block:
    values = (np.sin(np.arange(start, stop) / 9) * 1e3).astype("<f4")
    return Block("ppg", "1", T0 + start * 4, 4_000, "f4", values.tobytes())


def told() -> list[Frame]:
    other = ECG.copy()
    other[700] += 1
    blocks = [
        [vital([100, 101, 102]), ecg(0, 900), floats(0, 400)], [ecg(900, 1800)], [vital([100, 111, 102, 103])],
        [ecg(600, 1200, other), floats(100, 300)], [vital([90, 112])], [vital([5.5, 100])], [vital([100, 120])],
    ]  # fmt: skip
    revisions = [0, 0, 1, 0, 3, 0, 2]
    return [
        Frame(FRAME_VERSION, "s", seq, T0 + HOUR, 0, blocks[seq], None, revision)
        for seq, revision in enumerate(revisions)
    ]


async def kept(bench: Bench, folder: Path) -> Path:
    """Everything through the doors' checks and the processor, and the device's book of it."""
    book = folder / "d1.book"
    with Ledger(book) as ledger:
        for frame in told():
            (one,) = ledger.add("d1", [(frame, encode(frame))])
            ledger.settle([one], [Accepted(frame_id=f"d1~s~{frame.seq}", href="", session="s", seq=frame.seq)])
            await bench.frames(stamp(frame, DEVICE, T0 + HOUR))
    return book


def judge(bench: Bench, book: Path) -> Verdict:
    return check([book], bench.settings.postgres.conninfo("admin"))


PLANTED = [
    ("UPDATE waveform_block SET sample[7] = sample[7] + 1 WHERE t0 = (SELECT min(t0) FROM waveform_block)", "samples of d1 metric 20 accepted but nowhere kept"),
    ("DELETE FROM waveform_block WHERE t0 = (SELECT max(t0) FROM waveform_block)", "accepted but nowhere kept"),
    ("INSERT INTO waveform_block SELECT patient_id, metric_id, device_id, t0 + interval '8 ms', step_us, scale, \"offset\", sample[3:9] FROM waveform_block WHERE metric_id = 20", "samples of d1 metric 20 stored more than once"),
    ("UPDATE waveform_block SET t0 = t0 + interval '2 ms'", "accepted but nowhere kept"),
    ("DELETE FROM reading_conflict WHERE metric_id = 20", "samples of d1 metric 20 accepted but nowhere kept"),
    ("UPDATE reading_conflict SET value = value + 1 WHERE metric_id = 20", "samples of d1 metric 20 kept but never accepted"),
    ("DELETE FROM reading_superseded WHERE value = 101", "1 readings accepted but nowhere kept"),
    ("UPDATE reading_superseded SET value = 77 WHERE value = 101", "1 readings kept but never accepted"),
    ("UPDATE reading_block SET value[2] = 111 WHERE value[2] = 112; UPDATE reading_superseded SET value = 112 WHERE value = 111", "of the highest revision and not stored"),
    ("DELETE FROM quarantined_reading", "1 readings accepted but nowhere kept"),
]  # fmt: skip


async def test_what_is_right_passes_and_each_planted_error_is_found(bench: Bench, tmp_path: Path) -> None:
    book = await kept(bench, tmp_path)
    verdict = judge(bench, book)
    assert verdict.problems == []
    assert (verdict.superseded, verdict.quarantined, verdict.samples) == (3, 1, 1800 + 600 + 400 + 200)
    for error, complaint in PLANTED:
        with psycopg.connect(bench.settings.postgres.conninfo("admin"), autocommit=True) as admin:
            tables = (
                "waveform_block",
                "reading_conflict",
                "reading_superseded",
                "quarantined_reading",
                "reading_block",
            )
            copies = {table: admin.execute(f"SELECT * FROM {table}".encode()).fetchall() for table in tables}
            for statement in error.split("; "):
                assert admin.execute(statement.encode()).rowcount > 0, statement
            found = judge(bench, book).problems
            assert any(complaint in one for one in found), (error, found)
            for table, rows in copies.items():
                admin.execute(f"TRUNCATE {table}".encode())
                marks = ", ".join(["%s"] * len(rows[0])) if rows else ""
                for row in rows:
                    admin.execute(f"INSERT INTO {table} VALUES ({marks})".encode(), row)
    assert judge(bench, book).problems == []


async def test_a_fixed_letter_may_hold_what_nobody_sent(bench: Bench, tmp_path: Path) -> None:
    book = await kept(bench, tmp_path)
    (frame,) = stamp(Frame(FRAME_VERSION, "s", 99, T0 + HOUR, 0, [vital([66.5])]), DEVICE, T0 + HOUR)
    fixed = msgspec.structs.replace(frame, frame_id="fixed")
    await bench.frames([fixed])
    assert any("kept but never accepted" in one for one in judge(bench, book).problems)
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as admin:
        admin.execute(
            """INSERT INTO dead_letter (topic, partition, record_offset, reason, detail, record, recorded_at, state, fixed_record)
               VALUES ('readings.v1', 0, 7, 'wrong_shape', '', 'x', '2026-01-01Z', 'redriven', %s)""",
            [records([fixed])[0].value],
        )
    assert judge(bench, book).problems == []
