"""What the processor writes nothing of: records that can't be read or hold poison, and a zombie's."""

from __future__ import annotations

import pytest

from ingest.clock import SystemClock
from services.processor.records import Record
from services.processor.worker import Worker
from services.store.fence import FencedError
from services.store.session import Session
from tests.fix_processor import BOUNDS, HOUR, T0, TOPIC, Bench, block, records, stamped

pytestmark = pytest.mark.stack


async def test_undecodable_records_are_dead_byte_for_byte(bench: Bench) -> None:
    good = records([stamped(1, 0, [block("heart_rate", T0, [60])])])
    bad = [
        Record(TOPIC, 0, 1, b"1", b"\xc1 nonsense"),
        Record(TOPIC, 0, 2, b"99", records([stamped(99, 0, [block("steps", T0, [1])])])[0].value),
    ]
    await bench.feed([*good, *bad])
    dead = await bench.rows("SELECT record_offset, reason, record FROM dead_letter ORDER BY 1")
    assert [(row[0], row[1]) for row in dead] == [(1, "not_msgpack"), (2, "unknown_patient")]
    assert dead[0][2] == b"\xc1 nonsense"
    assert await bench.rows("SELECT next_offset FROM partition_position") == [(3,)]
    assert await bench.rows("SELECT count(*) FROM frame_log") == [(1,)]


async def worker_of(bench: Bench) -> Worker:
    session = Session(bench.settings.postgres.conninfo("writer"))
    worker = Worker(session, SystemClock(), bench.core, BOUNDS, "test")
    await worker.take_over(bench.epochs)
    await worker.prepare()
    return worker


async def test_one_poisonous_record_is_found_filed_and_stepped_over(bench: Bench) -> None:
    """An instant no calendar holds gets past no door of ours; another producer's must not stop a partition for ever."""
    worker = await worker_of(bench)
    frames = [stamped(1, seq, [block("heart_rate", T0 + seq * HOUR, [60, 61])]) for seq in range(7)]
    frames.insert(4, stamped(2, 0, [block("steps", 400_000_000_000_000, [1])], received_ms=T0))
    await worker.process(records(frames))
    await worker.drop()
    assert await bench.rows("SELECT record_offset, reason FROM dead_letter") == [(4, "unprocessable")]
    assert await bench.rows("SELECT sum(stored)::int FROM frame_log") == [(14,)]
    assert await bench.rows("SELECT next_offset FROM partition_position WHERE topic = %s", TOPIC) == [(8,)]


async def test_a_zombie_writes_nothing(bench: Bench) -> None:
    await bench.frames([stamped(1, 0, [block("heart_rate", T0, [60])])])
    zombie_epochs = dict(bench.epochs)
    await bench.take_over()
    bench.epochs = zombie_epochs
    with pytest.raises(FencedError):
        await bench.frames([stamped(1, 1, [block("heart_rate", T0 + HOUR, [61])])])
    assert await bench.rows("SELECT count(*) FROM frame_log") == [(1,)]
