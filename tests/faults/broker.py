"""Rows that break Kafka, or the way to it."""

from __future__ import annotations

import asyncio
import time

from tests.faults.matrix import row
from tests.faults.trial import Trial


@row(5, "broker kill -9, disk kept", how="SIGKILL of the Kafka JVM, started again", figure="seconds without a broker")
async def broker_killed(trial: Trial) -> None:
    began = time.monotonic()
    trial.stack.kill("kafka")
    await trial.pause(0, 1)
    await asyncio.to_thread(trial.stack.start, "kafka")
    trial.read("s without a broker", time.monotonic() - began)
