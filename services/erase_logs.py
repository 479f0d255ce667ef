"""After an erasure: cut the logs up to what is processed, so that Kafka no longer hands the patient's records out.

DeleteRecords moves the start of a partition's log: what lies before it can't be read any more, of any patient of
that partition, and all of it is stored, filed or erased already. The broker frees the disk when the segment rolls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from ingest.partition import partition_of
from services import topics
from services.settings_sections import KafkaSettings

POLL_S: Final = 0.2
REQUEST_MS: Final = 15_000

Positions = Callable[[], dict[tuple[str, int], int]]


def positions_of(connection: psycopg.Connection[Any]) -> dict[tuple[str, int], int]:
    """Return the stored next offset of every (topic, partition)."""
    rows = connection.execute("SELECT topic, partition, next_offset FROM partition_position").fetchall()
    return {(topic, partition): offset for topic, partition, offset in rows}


async def cut(settings: KafkaSettings, patient_id: int, positions: Positions, wait_s: float) -> dict[str, int]:
    """Delete the records of the patient's partitions that are processed; return topic/partition → first one left.

    Waits up to ``wait_s`` until everything that is in the patient's partitions now has been processed, so that
    nothing of the patient is left there. Never deletes what is not processed, or what a reader of ``alerts.v1`` or
    ``dead.v1`` has not committed.

    Raises:
        KafkaError: the broker is away or refuses; what was not cut can be cut later.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=None)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap, request_timeout_ms=REQUEST_MS)
    await consumer.start()
    try:
        await admin.start()
        places = {name: partition_of(patient_id, topics.partitions(name, settings)) for name in topics.ALL}
        partitions = {TopicPartition(topics.named(name, settings), p): (name, p) for name, p in places.items()}
        ends = await consumer.end_offsets(list(partitions))
        until = time.monotonic() + wait_s
        while _behind(partitions, ends, positions()) and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
        stored, readers = positions(), await _readers(admin)
        cuts = {}
        for tp, (name, partition) in partitions.items():
            if name in topics.CO_PARTITIONED:
                cuts[tp] = min(ends[tp], stored.get((name, partition), 0))
            else:
                cuts[tp] = min([ends[tp], *(offsets[tp] for offsets in readers if tp in offsets)])
        begins = await consumer.beginning_offsets(list(partitions))
        wanted = {tp: RecordsToDelete(offset) for tp, offset in cuts.items() if offset > begins[tp]}
        if wanted:
            await admin.delete_records(wanted, timeout_ms=REQUEST_MS)
        return {f"{name}/{p}": max(cuts[tp], begins[tp]) for tp, (name, p) in partitions.items()}
    finally:
        await admin.close()
        await consumer.stop()


def _behind(
    partitions: dict[TopicPartition, tuple[str, int]],
    ends: dict[TopicPartition, int],
    stored: dict[tuple[str, int], int],
) -> bool:
    """Tell whether something in the patient's partitions is still to be processed; a topic nobody reads is not."""
    return any(
        stored[place] < ends[tp]
        for tp, place in partitions.items()
        if place[0] in topics.CO_PARTITIONED and place in stored
    )


async def _readers(admin: AIOKafkaAdminClient) -> list[dict[TopicPartition, int]]:
    """Return what each consumer group has committed."""
    groups = [group[0] for group in await admin.list_consumer_groups()]
    found = [await admin.list_consumer_group_offsets(group) for group in groups]
    return [{tp: meta.offset for tp, meta in offsets.items() if meta.offset >= 0} for offsets in found]
