"""The topics, their names and partition counts: one place, so that they stay co-partitioned."""

from __future__ import annotations

from typing import Final

from services.settings_sections import KafkaSettings

READINGS: Final = "readings.v1"  # live frames
BACKFILL: Final = "backfill.v1"  # spooled and imported history
CONTROL: Final = "control.v1"  # what people change about a patient, and a time-lapse's ticks
ALERTS: Final = "alerts.v1"  # alert changes, for the notifier and integrators
DEAD: Final = "dead.v1"  # refused records

CO_PARTITIONED: Final = (READINGS, BACKFILL, CONTROL)
ALL: Final = (*CO_PARTITIONED, ALERTS, DEAD)


def named(topic: str, settings: KafkaSettings) -> str:
    """Return a topic's name on this broker, prefix included."""
    return settings.prefix + topic


def partitions(topic: str, settings: KafkaSettings) -> int:
    """Return how many partitions a topic is made with."""
    return settings.partitions if topic in CO_PARTITIONED else 4
