"""Stamped frames go to Kafka, and nobody is told they are kept before the broker has said so."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest import metrics
from ingest.frame import StampedFrame, encode, last_ms
from ingest.partition import partition_of, record_key

REQUEST_TIMEOUT_S = 10.0
LINGER_MS = 2
MAX_BATCH_BYTES = 512 * 1024
MAX_RECORD_BYTES = 1_100_000  # above what ingest.assign lets through
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 5.0

log = structlog.get_logger(__name__)


class BrokerUnavailable(Exception):
    """The broker did not acknowledge in time.

    The frames may or may not be kept: the sender sends them again, and what is stored twice is a duplicate.
    """


class WrongTopic(Exception):
    """The topic is not the one the settings describe: publishing would part patients from their state."""


class Publisher(Protocol):
    """Where a door leaves its frames."""

    @property
    def ready(self) -> bool:
        """Whether a broker is connected."""
        ...

    async def publish(self, frames: Sequence[StampedFrame]) -> None:
        """Return once every frame is acknowledged; raise `BrokerUnavailable` otherwise, in bounded time."""
        ...


class KafkaPublisher:
    """One idempotent producer, ``acks=all``; made again by itself when it breaks.

    Memory is bounded by the callers (they wait here) and by one open batch a partition. A frame whose newest
    reading is older than ``history_after_ms`` when received is history and goes to its own topic, where it can't
    stand in front of a live one.
    """

    def __init__(self, bootstrap: str, topic: str, history_topic: str, partitions: int, history_after_ms: int) -> None:
        self._bootstrap = bootstrap
        self._topic, self._history_topic = topic, history_topic
        self._partitions = partitions
        self._history_after_ms = history_after_ms
        self._producer: AIOKafkaProducer | None = None
        self._why = "no broker is connected yet"
        self._broken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin connecting; returns at once, `ready` tells when it succeeded."""
        self._keeper = asyncio.create_task(self._keep_producer(), name="publisher")

    async def stop(self) -> None:
        """Let what is in flight finish (bounded) and disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._close()

    @property
    def ready(self) -> bool:
        """Whether a broker is connected."""
        return self._producer is not None

    async def publish(self, frames: Sequence[StampedFrame]) -> None:
        """Append the frames to their patients' partitions and return after the broker's acknowledgement.

        Raises:
            BrokerUnavailable: no broker, or no acknowledgement within REQUEST_TIMEOUT_S.
        """
        producer = self._producer
        if producer is None:
            metrics.PUBLISH_FAILURES.labels("not_connected").inc(len(frames))
            raise BrokerUnavailable(self._why)
        began = time.monotonic()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S) as limit:
                appended = [await self._append(producer, frame) for frame in frames]
                # not gather: on a timeout it would cancel futures that the producer still means to fulfil
                await asyncio.wait(appended)
            for future in appended:
                future.result()
            metrics.PUBLISH_SECONDS.observe(time.monotonic() - began)
        except TimeoutError as error:
            if not limit.expired():
                raise
            metrics.PUBLISH_FAILURES.labels("timeout").inc(len(frames))
            msg = f"no acknowledgement within {REQUEST_TIMEOUT_S:g} s"
            raise BrokerUnavailable(msg) from error
        except KafkaError as error:
            # With idempotence whatever is transient is retried inside the producer. What comes out here has
            # broken it (a lost sequence, a fence), and a new producer begins with a clean one.
            metrics.PUBLISH_FAILURES.labels("refused").inc(len(frames))
            log.warning("publish failed, making a new producer", error=repr(error))
            if self._producer is producer:
                self._broken.set()
            raise BrokerUnavailable(repr(error)) from error

    async def _append(self, producer: AIOKafkaProducer, frame: StampedFrame) -> asyncio.Future[object]:
        future: asyncio.Future[object] = await producer.send(
            self._history_topic if is_history(frame, self._history_after_ms) else self._topic,
            encode(frame),
            key=record_key(frame.patient_id),
            partition=partition_of(frame.patient_id, self._partitions),
        )
        future.add_done_callback(_seen)
        return future

    async def _keep_producer(self) -> None:
        backoff = FIRST_BACKOFF_S
        while True:
            self._broken.clear()
            try:
                await self._connect()
            except (KafkaError, OSError, TimeoutError, WrongTopic) as error:
                self._why = f"no broker at {self._bootstrap}: {error!r}"
                log.warning("not publishing", why=self._why)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LAST_BACKOFF_S)
                continue
            backoff = FIRST_BACKOFF_S
            await self._broken.wait()
            await self._close()

    async def _connect(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            acks="all",
            linger_ms=LINGER_MS,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            retry_backoff_ms=50,
        )
        try:
            await producer.start()
            for topic in (self._topic, self._history_topic):
                await self._check(producer, topic)
        except BaseException:
            await _stop(producer)
            raise
        self._producer = producer
        log.info("publishing", topic=self._topic, partitions=self._partitions)

    async def _check(self, producer: AIOKafkaProducer, topic: str) -> None:
        found = len(await producer.partitions_for(topic))
        if found != self._partitions:
            msg = f"topic {topic} has {found} partitions, the settings say {self._partitions}"
            raise WrongTopic(msg)

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


def is_history(frame: StampedFrame, after_ms: int) -> bool:
    """Tell whether everything in a frame was measured more than ``after_ms`` before it was received."""
    return bool(frame.blocks) and max(map(last_ms, frame.blocks)) < frame.received_ms - after_ms


async def _stop(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            await producer.stop()


def _seen(future: asyncio.Future[object]) -> None:
    """Take note of a failure nobody waits for any more, so that the event loop doesn't complain."""
    if not future.cancelled():
        future.exception()
