"""What Kafka still holds of what came after stored positions: whether a restored database can catch up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services import topics
from services.settings_sections import KafkaSettings


class Reach(NamedTuple):
    """One partition's log beside a stored position: from ``begins`` up to ``ends`` (exclusive) is held."""

    topic: str
    partition: int
    position: int
    begins: int
    ends: int

    @property
    def waiting(self) -> int:
        """How many offsets wait to be taken in."""
        return max(0, self.ends - max(self.position, self.begins))

    @property
    def trouble(self) -> str:
        """Say why the partition can't go on from its position; "" where it can."""
        place = f"{self.topic}/{self.partition}"
        if self.position < self.begins:
            lost = self.begins - self.position
            return (
                f"{place}: {lost} records from {self.position} to {self.begins - 1} are no longer in Kafka, which "
                f"begins at {self.begins} (its retention was shorter than the time since)"
            )
        if self.position > self.ends:
            return (
                f"{place}: the stored position {self.position} is beyond the log's end {self.ends}: "
                "the log was replaced or cut"
            )
        return ""


def compare(positions: Mapping[tuple[str, int], int], begins: Mapping[tuple[str, int], int],
            ends: Mapping[tuple[str, int], int]) -> list[Reach]:  # fmt: skip
    """Return the reach of each stored position, in the order of topic and partition."""
    return [Reach(*key, position, begins[key], ends[key]) for key, position in sorted(positions.items())]


async def look(settings: KafkaSettings, positions: Iterable[tuple[str, int, int]]) -> list[Reach] | None:
    """Ask Kafka about (topic, partition, next offset); None when the broker or a topic is not there."""
    wanted = {(topic, partition): offset for topic, partition, offset in positions}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=None, request_timeout_ms=10_000)
    try:
        await consumer.start()
        known = await consumer.topics()
        if not {topics.named(topic, settings) for topic, _ in wanted} <= known:
            return None
        places = {key: TopicPartition(topics.named(key[0], settings), key[1]) for key in wanted}
        begins = await consumer.beginning_offsets(list(places.values()))
        ends = await consumer.end_offsets(list(places.values()))
    except (KafkaError, OSError, TimeoutError):
        return None
    finally:
        await consumer.stop()
    return compare(
        wanted,
        {key: begins[place] for key, place in places.items()},
        {key: ends[place] for key, place in places.items()},
    )
