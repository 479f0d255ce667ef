"""Rows that break the processor: killed, frozen, restarted in turn, joined and left, out of memory."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from tests.faults.matrix import row
from tests.faults.trial import Trial, eventually_so
from tests.fix_faults import pause, wake

SESSION_S: Final = 10.0  # after which the group gives a frozen member's partitions to others
JOINS: Final = 5


@row(1, "worker dies", how="SIGKILL at a seeded moment, its supervisor starts it again", figure="lost, stored twice")
async def worker_dies(trial: Trial) -> None:
    trial.system.processor.kill()
    await trial.pause(0, 1)


@row(
    2, "worker frozen", how="SIGSTOP for 12 s (the session time-out is 10 s) beside a second processor, SIGCONT",
    figure="writes after waking", processors=2,
)  # fmt: skip
async def worker_frozen(trial: Trial) -> None:
    frozen = trial.system.processor
    pause(frozen.pid)
    await asyncio.sleep(SESSION_S + 2)
    taken = dict(await trial.query("SELECT partition, max(epoch) FROM partition_position GROUP BY partition"))
    wake(frozen.pid)
    await trial.pause(0.5, 1)
    after = dict(await trial.query("SELECT partition, max(epoch) FROM partition_position GROUP BY partition"))
    trial.read("epochs raised on waking", sum(after[p] != taken[p] for p in taken))


@row(
    3, "rolling restart", how="SIGTERM to each of two processors in turn, started again at once",
    figure="alert latency, longest stop s", processors=2,
)  # fmt: skip
async def rolling_restart(trial: Trial) -> None:
    longest = 0.0
    for process in (trial.system.processor, *trial.helpers):
        with trial.out_of_order(process):
            began = time.monotonic()
            code = await asyncio.to_thread(process.stop)
            longest = max(longest, time.monotonic() - began)
            trial.require(code == 0, f"a processor told to stop ended with code {code}")
            process.start()
        before = await trial.processed()
        await eventually_so(partial(_worked, trial, before, 50), 60)
    trial.read("longest stop s", longest)
    trial.require(longest < 10, f"a processor took {longest:.1f} s to stop")


@row(
    8, "rebalance storm", how=f"a second processor without a fixed name joins and is killed, {JOINS} times",
    figure="frames processed between storms, epochs raised",
)  # fmt: skip
async def rebalance_storm(trial: Trial) -> None:
    least = 1 << 30
    for number in range(JOINS):
        before, owned = await trial.processed(), await _epochs(trial)
        joiner = trial.system.another(f"storm-{number}", fixed=False)
        joiner.start()
        try:
            await eventually_so(partial(_raised, trial, owned), 60)
            await trial.pause(0.2, 1.5)
        finally:
            joiner.stop() if number % 2 else joiner.kill()
        least = min(least, await trial.processed() - before)
    trial.read("least frames processed in a storm", least)
    trial.read("epochs raised", await _epochs(trial))


async def _epochs(trial: Trial) -> int:
    return int((await trial.query("SELECT sum(epoch) FROM partition_position"))[0][0])


async def _raised(trial: Trial, before: int) -> bool:
    return await _epochs(trial) > before


async def _worked(trial: Trial, before: int, frames: int) -> bool:
    return await trial.processed() >= before + frames or await trial.caught_up()
