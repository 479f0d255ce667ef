"""Rows that break the network between devices, watchers and doors."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from ingest.doors import HttpDoors, MqttDoor
from ingest.frame import Tick
from ingest.ticks import write_tick
from services import topics
from services.settings import Settings
from simulators.sending import until_door_knows
from tests.cast import HOUR
from tests.faults.load import DAYS, PARTS
from tests.faults.matrix import row
from tests.faults.measure import open_files
from tests.faults.trial import Trial, eventually_so
from tests.fix_faults import T0

PART_MS: Final = DAYS * 24 * HOUR // PARTS  # event time of a part of the load
ONE_WAY_PARTS: Final = 2
SILENCE_S: Final = 2 * 3600
FROZEN_S: Final = 6
MORE_FILES: Final = 10
LOSS: Final = 0.3
LOSSY_S, CUTTING_S = 8, 6
CUT_CHANCE: Final = 0.05
CUTS: Final = 8


def driven(settings: Settings) -> Settings:
    """Let ticks drive every clock, and judge silence by it."""
    told = settings.processor.model_copy(update={"silence_s": SILENCE_S})
    clock = settings.clock.model_copy(update={"source": "driven"})
    return settings.model_copy(update={"processor": told, "clock": clock})


async def with_ticks(trial: Trial) -> None:
    """Release a part at a time; the clock ticks on once everybody who can has sent it, as in a time-lapse."""
    settings = trial.system.settings
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap)
    (credentials,) = trial.system.doors.enrol(("clock", "clock-probe"), since_days=20_000)
    await producer.start()
    try:
        async with (
            HttpDoors(trial.system.url, settings.tls.ca_file) as doors,
            MqttDoor(settings.mqtt.host, settings.mqtt.port, credentials, settings.mqtt.ca_file) as mqtt,
        ):
            for part in range(PARTS):
                now_ms, horizon_ms = T0 + part * PART_MS, T0 + (part + 1) * PART_MS
                tick = Tick(now_ms, horizon_ms=horizon_ms)
                topic = topics.named(topics.CONTROL, settings.kafka)
                await write_tick(producer, topic, settings.kafka.partitions, tick)
                for door in (doors.door(credentials), mqtt):
                    await until_door_knows(door, horizon_ms)
                await trial.load.release()
                await eventually_so(partial(_sent, trial, part + 1), 90, "the frames of a part")
                if part == PARTS - 1:
                    await write_tick(producer, topic, settings.kafka.partitions, Tick(horizon_ms))
    finally:
        await producer.stop()


@row(
    13, "partition",
    how="ticks drive the clock; a proxy holds what HTTPS devices send, then both ways, while MQTT devices go on; then it heals",
    figure="patients cut off and told silent, event hours until then", proxied=("gateway",), change=driven,
    moment=(0.2, 0.3), play=with_ticks,
)  # fmt: skip
async def partition(trial: Trial) -> None:
    cut = _only_https(trial)
    way, began = trial.proxies["gateway"], trial.load.released
    trial.cut_off = frozenset(trial.load.frames) - trial.story.over_mqtt
    way.up.hold()
    await eventually_so(partial(_released, trial, began + ONE_WAY_PARTS), 60, "the others going on")
    way.down.hold()
    try:
        await eventually_so(partial(_silent, trial, cut), 60, "device_silent of everybody cut off")
    except TimeoutError as error:
        trial.require(False, str(error))
    trial.read("patients cut off and told silent", len(cut))
    trial.read("event hours until all were told", (trial.load.released - began) * PART_MS // HOUR)
    way.free()
    trial.cut_off = frozenset()


def _only_https(trial: Trial) -> set[str]:
    """Return the patients none of whose devices speaks MQTT."""
    patients = trial.story.patients
    return set(patients.values()) - {patients[key] for key in trial.story.over_mqtt}


async def _released(trial: Trial, parts: int) -> bool:
    return trial.load.released >= min(parts, PARTS)


async def _sent(trial: Trial, parts: int) -> bool:
    """Whether every device that is not cut off has a verdict on its first ``parts`` parts."""
    frames, done = trial.load.frames, trial.load.accepted_at
    reached = frames.keys() - trial.cut_off
    return all(len(done.get(key, [])) >= len(frames[key]) * parts // PARTS for key in reached)


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
    how=f"proxy before mosquitto: {LOSS:.0%} of the TCP segments from either end are lost for {LOSSY_S} s, then connections are "
    f"reset in the middle of a piece, {CUT_CHANCE:.0%} of all pieces, for {CUTTING_S} s",
    figure="segments sent again, connections made", proxied=("mosquitto",), slower=2,
)  # fmt: skip
async def lossy_link(trial: Trial) -> None:
    proxy = trial.proxies["mosquitto"]
    proxy.lose(LOSS)
    await asyncio.sleep(LOSSY_S)
    again = proxy.sent_again()
    proxy.lose(0)
    made = proxy.connections
    proxy.up.cut_chance = proxy.down.cut_chance = CUT_CHANCE
    await asyncio.sleep(CUTTING_S)
    proxy.up.cut_chance = proxy.down.cut_chance = 0
    trial.read("segments the proxy sent again", again)
    trial.read("connections made", proxy.connections - made)
    trial.require(again > 0, "no segment was lost")
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
