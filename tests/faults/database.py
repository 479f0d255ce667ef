"""Rows that break PostgreSQL, or the way to it."""

from __future__ import annotations

import asyncio
import time

from tests.faults.matrix import row
from tests.faults.trial import Trial


@row(9, "database kill -9", how="SIGKILL of the postmaster, started again", figure="seconds to the first commit")
async def database_killed(trial: Trial) -> None:
    before = await trial.processed()
    began = time.monotonic()
    trial.stack.kill("postgres")
    await trial.pause(0, 1)
    await asyncio.to_thread(trial.stack.start, "postgres")
    trial.read("s without a database", time.monotonic() - began)
    async with asyncio.timeout(30):
        while await trial.processed() <= before and not await trial.caught_up():
            await asyncio.sleep(0.05)
    trial.read("s to the first commit", time.monotonic() - began)
