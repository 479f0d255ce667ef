"""Rows that break the processor: killed, frozen, restarted in turn, joined and left, out of memory."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from tests.faults.matrix import row
from tests.faults.measure import Standstill
from tests.faults.trial import Trial, eventually_so
from tests.fix_doors import Process
from tests.fix_faults import pause, wake

SESSION_S: Final = 10.0  # after which the group gives a frozen member's partitions to others
STORM_S: Final = 90
JOINS, KILLED = 20, 5  # the group waits the session time-out for one that was killed


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
    8, "rebalance storm",
    how=f"{JOINS} further processors (as many as can in {STORM_S} s) without a fixed name, one as soon as the one before has joined, which then leaves: stopped, "
    f"every {KILLED}th killed",
    figure="longest time without a frame processed while some waited, epochs raised", moment=(0.05, 0.1), slower=7,
)  # fmt: skip
async def rebalance_storm(trial: Trial) -> None:
    before, epochs, began = await trial.processed(), await _epochs(trial), time.monotonic()
    leaving: Process | None = None
    joins = 0
    standstill = Standstill(trial.processed, lambda: trial.load.accepted)
    async with standstill, AsyncExitStack() as stack:
        for number in range(JOINS):
            if time.monotonic() - began > STORM_S:
                break
            owned = await _epochs(trial)
            joiner = stack.enter_context(trial.system.another(f"storm-{number}", fixed=False))
            await eventually_so(partial(_raised, trial, owned), 60, f"join number {number + 1}")
            if leaving is not None:
                await asyncio.to_thread(leaving.stop if number % KILLED else leaving.kill)
            leaving, joins = joiner, number + 1
    trial.read("least joins", joins)
    trial.read("longest s without a frame", standstill.longest_s)
    trial.read("s of storm", time.monotonic() - began)
    trial.read("frames processed in the storm", await trial.processed() - before)
    trial.read("epochs raised", await _epochs(trial) - epochs)


async def _epochs(trial: Trial) -> int:
    return int((await trial.query("SELECT sum(epoch) FROM partition_position"))[0][0])


async def _raised(trial: Trial, before: int) -> bool:
    return await _epochs(trial) > before


async def _worked(trial: Trial, before: int, frames: int) -> bool:
    return await trial.processed() >= before + frames or await trial.caught_up()
