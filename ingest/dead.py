"""What a door can't answer goes to ``dead.v1``, with the reason and the original bytes, so that somebody sees it.

A sender that floods us fills neither the topic nor memory: so many a second are filed, the others only counted, and of
a long payload the beginning is kept.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest.limits import RateLimit

PER_SECOND, BURST = 10.0, 100.0
MAX_BYTES: Final = 64 * 1024
MAX_DETAIL: Final = 300
SEND_S: Final = 10.0
TELL_EVERY_S: Final = 10.0

log = structlog.get_logger(__name__)


class Unanswered(NamedTuple):
    """A payload nobody could be answered about: why (a code), in words, who it seems to be from, and its bytes."""

    reason: str
    detail: str
    sender: str
    payload: bytes


class DeadLetters(Protocol):
    """Where a door leaves what it can't answer."""

    async def file(self, letters: Sequence[Unanswered]) -> None:
        """File them as far as the bounds allow; never raises, returns in bounded time."""
        ...


class DeadTopic:
    """Files on a Kafka topic. What can't be filed, by rate or by trouble, is counted and told in the log."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._producer: AIOKafkaProducer | None = None
        self._rate = RateLimit(PER_SECOND, BURST)
        self.dropped = 0
        self._told_at = 0.0

    async def file(self, letters: Sequence[Unanswered]) -> None:
        """File the letters; one that is over the rate, or the broker does not take in time, is dropped and counted."""
        kept = [letter for letter in letters if self._rate.take(0, 1) == 0]
        self.dropped += len(letters) - len(kept)
        try:
            async with asyncio.timeout(SEND_S):
                await self._send(kept)
        except (KafkaError, OSError, TimeoutError) as error:
            self.dropped += len(kept)
            log.warning("dead letters not filed", letters=len(kept), error=repr(error))
            await self.stop()
        self._tell()

    async def stop(self) -> None:
        """Disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(SEND_S):
                    await producer.stop()

    async def _send(self, letters: Sequence[Unanswered]) -> None:
        if not letters:
            return
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=10_000
            )
            await producer.start()
            self._producer = producer
        for letter in letters:
            key = letter.sender.encode() or None
            await self._producer.send_and_wait(self._topic, encode_letter(letter), key=key)

    def _tell(self) -> None:
        if self.dropped and time.monotonic() - self._told_at > TELL_EVERY_S:
            self._told_at = time.monotonic()
            log.warning("more payloads than can be filed", dropped=self.dropped, per_second=PER_SECOND)


def encode_letter(letter: Unanswered) -> bytes:
    """Return the JSON value of its ``dead.v1`` record; of a payload over 64 KiB the beginning is kept, and said so."""
    detail, size = letter.detail[:MAX_DETAIL], len(letter.payload)
    if size > MAX_BYTES:
        detail = f"{detail[: MAX_DETAIL - 60]} (the first {MAX_BYTES} of {size} bytes)"
    return msgspec.json.encode(
        {
            "version": 1,
            "reason": letter.reason,
            "detail": detail,
            "key": letter.sender,
            "record": base64.b64encode(letter.payload[:MAX_BYTES]).decode(),
        }
    )
