"""Rows that break Kafka, or the way to it."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from tests.faults.kafka_proxy import FIND_COORDINATOR, HEARTBEAT, JOIN_GROUP, PRODUCE, SYNC_GROUP
from tests.faults.matrix import row
from tests.faults.trial import Trial, eventually_so

OUTAGES_S: Final = (3, 14)  # the door waits 10 s for the broker before it refuses
RTT_S: Final = 0.5
SLOW_S: Final = 8
# Kafka's error codes
NOT_LEADER, TIMED_OUT, COORDINATOR_LOADING, NO_COORDINATOR, NOT_COORDINATOR = 6, 7, 14, 15, 16
BURST: Final = (
    *((PRODUCE, code) for code in (NOT_LEADER, TIMED_OUT) * 6),
    *((HEARTBEAT, code) for code in (COORDINATOR_LOADING, NOT_COORDINATOR, NO_COORDINATOR)),
    *((FIND_COORDINATOR, NO_COORDINATOR),) * 2,
    *((JOIN_GROUP, COORDINATOR_LOADING), (SYNC_GROUP, COORDINATOR_LOADING)),
)


@row(
    4, "broker lost", how=f"proxy refuses all connections to Kafka for {OUTAGES_S[0]} s, then for {OUTAGES_S[1]} s",
    figure="the door's answers meanwhile, slowest refusal s", proxied=("kafka",),
)  # fmt: skip
async def broker_lost(trial: Trial) -> None:
    answers: list[tuple[int, bool, float]] = []
    for seconds in OUTAGES_S:
        await trial.kafka().refuse()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            answer = await trial.probe()
            if time.monotonic() < until:  # one that came later may have met the broker again
                answers.append((answer.status_code, "retry-after" in answer.headers, time.monotonic() - began))
            await asyncio.sleep(0.3)
        await trial.kafka().accept()
        accepted = trial.load.accepted
        await eventually_so(partial(_more, trial, accepted), 60, "taking frames again")
    refused = [seconds for status, _, seconds in answers if status == 503]
    strange = sorted({status for status, retry, _ in answers if status != 503 or not retry})
    trial.require(bool(refused), "no request was refused while the broker was lost")
    trial.require(not strange, f"the door answered {strange} or without Retry-After while no broker was there")
    trial.read("refused with 503", len(refused))
    trial.read("slowest refusal s", max(refused, default=0.0))


async def _more(trial: Trial, accepted: int) -> bool:
    return trial.load.accepted > accepted or trial.load.accepted == trial.story.count


@row(5, "broker kill -9, disk kept", how="SIGKILL of the Kafka JVM, started again", figure="seconds without a broker")
async def broker_killed(trial: Trial) -> None:
    began = time.monotonic()
    trial.stack.kill("kafka")
    await trial.pause(0, 1)
    await asyncio.to_thread(trial.stack.start, "kafka")
    trial.read("s without a broker", time.monotonic() - began)


@row(
    6, "slow broker", how=f"proxy before the real broker: round trip {RTT_S * 1000:.0f} ms for {SLOW_S} s",
    figure="largest process MB, frames accepted a second meanwhile", proxied=("kafka",),
)  # fmt: skip
async def slow_broker(trial: Trial) -> None:
    kafka, accepted = trial.kafka(), trial.load.accepted
    kafka.up.delay_s = kafka.down.delay_s = RTT_S / 2
    await asyncio.sleep(SLOW_S)
    trial.read("least frames/s accepted", (trial.load.accepted - accepted) / SLOW_S)
    kafka.up.delay_s = kafka.down.delay_s = 0


@row(
    7, "protocol error burst",
    how=f"proxy before the real broker makes {len(BURST)} answers errors: NOT_LEADER, REQUEST_TIMED_OUT to produce, "
    "COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE to the group; after the broker did its part",
    figure="answers made errors", proxied=("kafka",),
)  # fmt: skip
async def protocol_errors(trial: Trial) -> None:
    kafka = trial.kafka()
    burst = list(BURST)
    trial.rng.shuffle(burst)
    kafka.errors.extend(burst)
    await asyncio.sleep(6)
    kafka.errors.clear()
    made = kafka.answered_wrong
    trial.read("answers made errors", sum(made.values()))
    trial.require(made.get(PRODUCE, 0) >= 3, f"only {made.get(PRODUCE, 0)} produce answers were made errors")
    trial.require(made.get(HEARTBEAT, 0) >= 1, "no heartbeat was answered with an error")
