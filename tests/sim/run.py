"""Run seeds: one, many on several cores, or with a bug until it is found."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from typing import Final

from tests.sim.bugs import planted
from tests.sim.judge import Judge
from tests.sim.loop import VirtualLoop
from tests.sim.world import Broken, World

CHUNK: Final = 20


@dataclass(frozen=True)
class Result:
    """What came of one seed; ``invariant`` is empty when all hold."""

    seed: int
    steps: int
    frames: int
    fingerprint: str  # of the history: the same seed gives the same
    invariant: str = ""
    detail: str = ""
    history: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return not self.invariant


def run_seed(seed: int, bug: str | None = None, *, history: bool = False) -> Result:
    """Run one seed; the history is kept when an invariant fails or it is asked for."""
    with planted(bug) as switch:
        return _run(seed, switch, history=history)


def _run(seed: int, switch: object, *, history: bool) -> Result:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    world = loop.run_until_complete(_made(seed, loop))
    if callable(switch):
        switch(world)
    judge = Judge(world)
    broken: Broken | None = None
    try:
        loop.run_until_complete(world.run())
        loop.run_until_complete(judge.end())
    except Broken as error:
        broken = error
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    lines = tuple(world.history)
    mark = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    frames = len(world.doors.accepted)
    if broken is None:
        return Result(seed, world.steps, frames, mark, history=lines if history else ())
    return Result(seed, world.steps, frames, mark, broken.invariant, broken.detail, lines)


async def _made(seed: int, loop: VirtualLoop) -> World:
    return World(seed, loop)


def run_chunk(start: int, seeds: int, bug: str | None) -> list[Result]:
    """Run consecutive seeds; stop after the first that fails."""
    results = []
    with planted(bug) as switch:
        for seed in range(start, start + seeds):
            results.append(_run(seed, switch, history=False))
            if not results[-1].ok:
                break
    return results


def run_many(start: int, seeds: int, jobs: int, bug: str | None = None) -> Iterator[Result]:
    """Yield results as they come, of ``seeds`` seeds on ``jobs`` processes; stop early by closing."""
    if jobs == 1:
        for first in range(start, start + seeds, CHUNK):
            yield from run_chunk(first, min(CHUNK, start + seeds - first), bug)
        return
    firsts = iter(range(start, start + seeds, CHUNK))
    with ProcessPoolExecutor(jobs) as pool:
        running = set()
        try:
            for first in firsts:
                running.add(pool.submit(run_chunk, first, min(CHUNK, start + seeds - first), bug))
                if len(running) < 2 * jobs:
                    continue
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
            for future in running:
                yield from future.result()
        finally:
            for future in running:
                future.cancel()


@dataclass(frozen=True)
class Found:
    """How a planted bug was found; ``seeds`` is None when it was not."""

    bug: str
    seeds: int | None
    invariant: str
    seconds: float


def find(bug: str, most: int, start: int = 0) -> Found:
    """Run seeds with a bug until an invariant fails."""
    began = time.monotonic()
    with planted(bug) as switch:
        for number in count(1):
            if number > most:
                return Found(bug, None, "", time.monotonic() - began)
            result = _run(start + number - 1, switch, history=False)
            if not result.ok:
                return Found(bug, number, result.invariant, time.monotonic() - began)
    raise AssertionError
