"""Topics and partitions as the worker and as Kafka name them, and whether the log and the stored positions agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiokafka import TopicPartition

from services import topics
from services.processor.records import Record
from services.processor.worker import Place
from services.settings_sections import KafkaSettings

Fetched = dict[TopicPartition, list[Any]]

ACCEPT: Final = "Restore the log, or accept the loss with `keepwell dead skip`"


class Places:
    """One installation's places: a place is a topic without the installation's prefix, and a partition."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def named(self, topic: str) -> str:
        """Return a topic's name in Kafka."""
        return topics.named(topic, self._kafka)

    def partition(self, place: Place) -> TopicPartition:
        """Return a place as Kafka names it."""
        return TopicPartition(self.named(place[0]), place[1])

    def place(self, tp: TopicPartition) -> Place:
        """Return what Kafka names as a place."""
        return tp.topic.removeprefix(self._kafka.prefix), tp.partition

    def fresh(self, fetched: Fetched, positions: Mapping[Place, int]) -> list[Record]:
        """Return the fetched records as plain values, without those already processed, control before readings.

        Raises:
            RuntimeError: the log goes on beyond a stored position: records are gone.
        """
        records = []
        for tp, batch in fetched.items():
            topic, partition = place = self.place(tp)
            position = positions[place]
            fresh = [Record(topic, partition, r.offset, r.key, r.value or b"") for r in batch if r.offset >= position]
            if fresh and fresh[0].offset > position:
                msg = (
                    f"{topic}/{partition}: the log goes on at {fresh[0].offset}, {position} was expected: "
                    f"records are gone. {ACCEPT}"
                )
                raise RuntimeError(msg)
            records += fresh
        records.sort(key=lambda record: record.topic != topics.CONTROL)  # what people changed comes first
        return records

    def check(
        self,
        positions: Mapping[Place, int],
        begins: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Check that each stored position is within the log.

        Raises:
            RuntimeError: one is not: records were lost, or the log was replaced.
        """
        for place, position in positions.items():
            tp = self.partition(place)
            if not begins[tp] <= position <= ends[tp]:
                msg = (
                    f"{tp.topic}/{tp.partition}: the stored position {position} is outside the log "
                    f"({begins[tp]} to {ends[tp]}); records were lost or the log was replaced. {ACCEPT}"
                )
                raise RuntimeError(msg)


def count(fetched: Fetched) -> int:
    """Return how many records were fetched."""
    return sum(map(len, fetched.values()))
