"""Follow a time-lapse: ticks on ``control.v1`` move this process's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ingest.clock import DrivenClock
from ingest.ticks import decode_tick
from services import topics
from services.settings_sections import KafkaSettings

NEAR_END = 64  # the last tick is among the last records, unless people changed a lot since
CATCH_UP_S = 20.0
RETRY_S = 0.5

log = structlog.get_logger(__name__)


@asynccontextmanager
async def follow_ticks(settings: KafkaSettings, *, horizon: bool = False) -> AsyncIterator[DrivenClock]:
    """Give a clock that follows the ticks, already at the last ones written.

    ``horizon`` takes a tick's ``horizon_ms`` where it has one (see `ingest.frame.Tick`).

    Raises:
        TimeoutError: the control topic could not be read to its end within CATCH_UP_S.
    """
    clock = DrivenClock(settings.partitions)
    caught_up = asyncio.Event()
    follower = asyncio.create_task(_follow(settings, clock, caught_up, horizon=horizon), name="ticks")
    try:
        async with asyncio.timeout(CATCH_UP_S):
            await caught_up.wait()
        yield clock
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


async def _follow(settings: KafkaSettings, clock: DrivenClock, caught_up: asyncio.Event, *, horizon: bool) -> None:
    while True:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap, group_id=None, auto_offset_reset="earliest", fetch_max_wait_ms=200
        )
        try:
            await consumer.start()
            await _read(consumer, settings, clock, caught_up, horizon=horizon)
        except (KafkaError, OSError) as error:
            log.warning("ticks cannot be followed", error=repr(error))
            await asyncio.sleep(RETRY_S)
        finally:
            await consumer.stop()


async def _read(
    consumer: AIOKafkaConsumer, settings: KafkaSettings, clock: DrivenClock, caught_up: asyncio.Event, *, horizon: bool
) -> None:
    topic = topics.named(topics.CONTROL, settings)
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
    consumer.assign(partitions)
    begin = await consumer.beginning_offsets(partitions)
    end = await consumer.end_offsets(partitions)
    for partition in partitions:
        consumer.seek(partition, max(begin[partition], end[partition] - NEAR_END))
    seen: set[TopicPartition] = set()
    whole = {partition for partition in partitions if begin[partition] >= end[partition] - NEAR_END}
    behind = set(partitions)
    while True:
        for partition in list(behind):
            if await consumer.position(partition) < end[partition]:
                continue
            if partition in seen or partition in whole:
                behind.discard(partition)
            else:  # no tick near the end: read this one from its beginning
                whole.add(partition)
                consumer.seek(partition, begin[partition])
        if not behind:
            caught_up.set()
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                tick = decode_tick(record.value or b"")
                if tick is not None:
                    seen.add(partition)
                    at_ms = tick.horizon_ms if horizon and tick.horizon_ms is not None else tick.now_ms
                    clock.tick(partition.partition, at_ms, live=tick.live)
