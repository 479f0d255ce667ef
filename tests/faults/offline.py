"""The undisturbed run every row is compared with: the same frames in order, without Kafka and without processes.

The frames are stamped as a door does it and handed to `process_batch` batch by batch, on a database of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import psycopg

from ingest import parse
from ingest.assign import stamp
from ingest.clock import SystemClock
from ingest.devices import DeviceRegistry
from ingest.frame import Frame, StampedFrame, encode
from services.processor.batch import Bounds
from services.settings import Settings
from services.store.migrate import migrate_database
from tests.databases import drop_database
from tests.fix_doors import Doors
from tests.fix_faults import SETTLED_ALERTS, TEN_YEARS_S
from tests.fix_processor import BOUNDS, Bench
from tests.fix_stack import LiveStack

BATCH = 300
LIVE = replace(BOUNDS, history_ms=TEN_YEARS_S * 1000)  # the stories are of last year, told as if live

Alert = tuple[Any, ...]


async def offline_alerts(
    stack: LiveStack, settings: Settings, lanes: Iterable[tuple[str, str, Sequence[Frame]]], bounds: Bounds = LIVE
) -> list[Alert]:
    """Return the settled alerts of these lanes: (patient, device, frames), enrolled in this order.

    Silence of two hours in event time is among them; nothing here is judged by a clock.

    The database named in the settings is made, used and dropped.
    """
    migrate_database(settings.postgres)
    try:
        lanes = list(lanes)
        stamped = await _stamped(stack, settings, lanes)
        connection = await psycopg.AsyncConnection.connect(settings.postgres.conninfo("writer"), autocommit=True)
        async with connection:
            bench = Bench(settings, connection, now_ms=SystemClock().now_ms(), bounds=bounds)
            await bench.take_over()
            for first in range(0, len(stamped), BATCH):
                await bench.frames(stamped[first : first + BATCH])
        with psycopg.connect(settings.postgres.conninfo("admin")) as admin:
            return admin.execute(SETTLED_ALERTS, [[]]).fetchall()
    finally:
        drop_database(settings)


async def _stamped(
    stack: LiveStack, settings: Settings, lanes: Sequence[tuple[str, str, Sequence[Frame]]]
) -> list[StampedFrame]:
    enrolled = Doors(stack, settings).enrol(*((patient, device) for patient, device, _ in lanes), since_days=20_000)
    registry = DeviceRegistry(settings.postgres.conninfo("gateway"))
    await registry.start()
    try:
        received_ms = SystemClock().now_ms()
        made = []
        for credentials, (_, _, frames) in zip(enrolled, lanes, strict=True):
            device = await registry.by_token(credentials.token)
            assert device is not None
            for frame in frames:
                parsed = parse.parse(msgspec.Raw(encode(frame)), "msgpack", received_ms)
                made += stamp(parsed, device, received_ms)
    finally:
        await registry.stop()
    return sorted(made, key=lambda one: one.sent_ms)
