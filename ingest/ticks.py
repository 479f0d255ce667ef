"""A time-lapse tells every process what time it is: one tick to every control partition."""

from __future__ import annotations

import asyncio

import msgspec
from aiokafka import AIOKafkaProducer

from ingest.frame import Tick

TIMEOUT_S = 30.0

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Tick)


def decode_tick(record: bytes) -> Tick | None:
    """Return the tick in a control record, None when the record is another one."""
    try:
        return _decoder.decode(record)
    except msgspec.DecodeError:
        return None


async def write_tick(producer: AIOKafkaProducer, topic: str, partitions: int, tick: Tick) -> None:
    """Write one tick to every partition of the control topic and return after the broker's acknowledgement.

    Raises:
        TimeoutError: no acknowledgement within TIMEOUT_S.
        KafkaError: the broker refused.
    """
    record = _encoder.encode(tick)
    async with asyncio.timeout(TIMEOUT_S):
        sent = [await producer.send(topic, record, partition=partition) for partition in range(partitions)]
        await asyncio.gather(*sent)
