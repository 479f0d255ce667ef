"""Rows that break the network between devices, watchers and doors."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from ingest.frame import Tick
from ingest.ticks import write_tick
from services import topics
from services.settings import Settings
from tests.cast import HOUR
from tests.faults.load import DAYS, PARTS
from tests.faults.matrix import row
from tests.faults.measure import open_files
from tests.faults.trial import Trial, eventually_so
from tests.fix_faults import T0

PART_MS: Final = DAYS * 24 * HOUR // PARTS  # event time of a part of the load
ONE_WAY_PARTS, BOTH_WAYS_PARTS = 2, 3
SILENCE_S: Final = 2 * 3600
FROZEN_S: Final = 6
MORE_FILES: Final = 10
LOSSY_S: Final = 8
CUT_CHANCE: Final = 0.05
CUTS: Final = 8


def driven(settings: Settings) -> Settings:
    """Let ticks drive every clock, and judge silence by it."""
    told = settings.processor.model_copy(update={"silence_s": SILENCE_S})
    return settings.model_copy(
        update={"processor": told, "clock": settings.clock.model_copy(update={"source": "driven"})}
    )


@row(
    13, "partition",
    how="proxy holds what HTTPS devices send, then both ways, while MQTT devices go on and ticks drive the clock; then heals",
    figure="silent patients found, s from the tick to the last alert", proxied=("gateway",), change=driven,
    moment=(0.2, 0.35),
)  # fmt: skip
async def partition(trial: Trial) -> None:
    cut = _only_https(trial)
    way = trial.proxies["gateway"]
    way.up.hold()
    await _tick_on(trial, ONE_WAY_PARTS)
    way.down.hold()
    await _tick_on(trial, BOTH_WAYS_PARTS)
    began = time.monotonic()
    try:
        await eventually_so(partial(_silent, trial, cut), 30, "device_silent of everybody cut off")
    except TimeoutError as error:
        trial.require(False, str(error))
    trial.read("s to the last device_silent", time.monotonic() - began)
    trial.read("patients cut off", len(cut))
    way.free()


def _only_https(trial: Trial) -> set[str]:
    """Return the patients none of whose devices speaks MQTT."""
    patients = trial.story.patients
    return set(patients.values()) - {patients[key] for key in trial.story.over_mqtt}


async def _tick_on(trial: Trial, parts: int) -> None:
    """Let the clock go on with what the MQTT devices have sent."""
    settings = trial.system.settings.kafka
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await producer.start()
    try:
        for _ in range(parts):
            released = trial.load.released
            await eventually_so(partial(_sent, trial, released), 60, "the others' frames")
            tick = Tick(T0 + released * PART_MS, horizon_ms=T0 + (released + 1) * PART_MS)
            await write_tick(producer, topics.named(topics.CONTROL, settings), settings.partitions, tick)
            await asyncio.sleep(0.5)
    finally:
        await producer.stop()


async def _sent(trial: Trial, parts: int) -> bool:
    """Whether every MQTT device has a verdict on its first ``parts`` parts."""
    frames, done = trial.load.frames, trial.load.accepted_at
    return all(len(done.get(key, [])) >= len(frames[key]) * parts // PARTS for key in trial.story.over_mqtt)


async def _silent(trial: Trial, wanted: set[str]) -> bool:
    rows = await trial.query(
        "SELECT p.key FROM alert a JOIN patient p ON p.id = a.patient_id WHERE a.rule = 'device_silent'"
    )
    return wanted <= {key for (key,) in rows}


@row(
    14, "half-open connections, resets",
    how=f"proxies before the gateway, Kafka and PostgreSQL stop reading for {FROZEN_S} s, then reset every connection",
    figure="open files more than before", proxied=("gateway", "kafka", "postgres"),
)  # fmt: skip
async def half_open(trial: Trial) -> None:
    before = {process: open_files(process.pid) for process in trial.running()}
    for proxy in trial.proxies.values():
        proxy.hold()
    await asyncio.sleep(FROZEN_S)
    for proxy in trial.proxies.values():
        proxy.reset()
        proxy.free()
    try:
        await eventually_so(partial(_few_files, before), 45, "closing what was cut")
    except TimeoutError as error:
        trial.require(False, str(error))
    trial.read("open files more than before", max(open_files(p.pid) - n for p, n in before.items() if p.alive()))


async def _few_files(before: dict[Any, int]) -> bool:
    return all(open_files(p.pid) <= n + MORE_FILES for p, n in before.items() if p.alive())


@row(
    15, "lossy link",
    how=f"proxy before mosquitto resets a connection in the middle of a piece, {CUT_CHANCE:.0%} of all pieces, for {LOSSY_S} s",
    figure="connections made", proxied=("mosquitto",),
)  # fmt: skip
async def lossy_link(trial: Trial) -> None:
    proxy = trial.proxies["mosquitto"]
    made = proxy.connections
    proxy.up.cut_chance = proxy.down.cut_chance = CUT_CHANCE
    await asyncio.sleep(LOSSY_S)
    proxy.up.cut_chance = proxy.down.cut_chance = 0
    trial.read("connections made", proxy.connections - made)
    trial.require(proxy.connections > made, "no connection was lost")


@row(
    21, "stream cut and resumed", how=f"proxy resets the watcher's connection {CUTS} times, a second or so apart",
    figure="alert changes missed or seen twice, connections", proxied=("api",), moment=(0.1, 0.2),
)  # fmt: skip
async def stream_cut(trial: Trial) -> None:
    for _ in range(CUTS):
        await trial.pause(0.6, 1.3)
        trial.proxies["api"].reset()
    trial.read("connections", trial.watch.connections)
    trial.require(trial.watch.connections > CUTS // 2, "the watcher was not cut off")
