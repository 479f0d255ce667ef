"""A time-lapse's clock over Kafka: where it stands at the start, how it moves, and when it goes live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from ingest.clock import SystemClock
from ingest.frame import Tick
from ingest.ticks import write_tick
from services import topics
from services.settings import Settings
from services.settings_sections import KafkaSettings
from services.store.migrate import migrate_topics
from services.ticks import NEAR_END, follow_ticks

pytestmark = pytest.mark.stack


@asynccontextmanager
async def producing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, enable_idempotence=True)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not check():
            await asyncio.sleep(0.02)


async def test_the_clock_follows_the_ticks(migrated: Settings) -> None:
    settings = migrated.kafka.model_copy(update={"prefix": migrated.kafka.prefix + "ticks."})
    await migrate_topics(settings)
    topic, partitions = topics.named(topics.CONTROL, settings), settings.partitions
    async with producing(settings) as producer:
        async with follow_ticks(settings) as clock:
            assert clock.now_ms() == 0
            await write_tick(producer, topic, partitions, Tick(1_000))
            await until(lambda: clock.now_ms() == 1_000)
            await producer.send_and_wait(topic, b"\x00 another control record", partition=3)
            await write_tick(producer, topic, partitions, Tick(5_000, horizon_ms=9_000))
            await until(lambda: clock.now_ms() == 5_000)
            await write_tick(producer, topic, partitions - 1, Tick(7_000))
            await asyncio.sleep(0.5)
            assert clock.now_ms() == 5_000  # one partition has not said so yet

        for _ in range(NEAR_END + 5):  # bury partition 0's last tick
            await producer.send(topic, b"\x00", partition=0)
        await producer.flush()
        async with follow_ticks(settings) as late, follow_ticks(settings, horizon=True) as door:
            assert late.now_ms() == 5_000
            assert door.now_ms() in (7_000, 9_000)  # partition 11 stands at the horizon, the others later

        await write_tick(producer, topic, partitions, Tick(8_000, live=True))
        async with follow_ticks(settings) as live:
            assert live.live
            assert abs(live.now_ms() - SystemClock().now_ms()) < 1_000
