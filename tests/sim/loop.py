"""One thread, no real time: an event loop whose clock is moved by hand, and gates at which everything waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without sockets; time passes when `advance` is called and never by itself."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0.0
        self._selector = self

    def time(self) -> float:
        """Return the seconds that have passed in the simulation."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass; what was due wakes when the loop runs next."""
        self._passed += seconds

    def select(self, timeout: float | None) -> list[object]:
        """Stand in for a selector that has nothing to wait for."""
        if timeout is None:
            msg = "everything in the simulation waits for something that never comes"
            raise RuntimeError(msg)
        self._passed += timeout
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    async def quiet(self) -> None:
        """Return when every task waits at a gate or for time to pass."""
        while True:
            await asyncio.sleep(0)
            if not self._ready:  # type: ignore[attr-defined]
                return


@dataclass(eq=False)
class Actor:
    """Something that acts by itself and can die: a processor, a door, a relay, a reader."""

    name: str
    dead: bool = False
    frozen: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, work: object) -> asyncio.Task[None]:
        """Run a coroutine as a part of this actor."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self.tasks.append(task)
        return task

    def kill(self) -> None:
        """Stop at once; what it would still do on the way out does not happen."""
        self.dead = True
        for task in self.tasks:
            task.cancel()


@dataclass(eq=False)
class Gate:
    """An actor waits here until it is let on; ``busy`` tells whether going on would do anything."""

    actor: Actor
    name: str
    future: asyncio.Future[None]
    busy: Callable[[], bool]
    can: Callable[[], bool]


def always() -> bool:
    """Answer yes."""
    return True


class Gates:
    """Where everybody waits, in the order they came."""

    def __init__(self) -> None:
        self.waiting: list[Gate] = []

    async def at(
        self, actor: Actor, name: str, *, busy: Callable[[], bool] = always, can: Callable[[], bool] = always
    ) -> None:
        """Wait to be let on.

        Raises:
            CancelledError: the actor is dead: nothing it does from now on happens.
        """
        if actor.dead:
            raise asyncio.CancelledError
        gate = Gate(actor, name, asyncio.get_running_loop().create_future(), busy, can)
        self.waiting.append(gate)
        try:
            await gate.future
        finally:
            self.waiting.remove(gate)

    def open(self) -> list[Gate]:
        """Return the gates whose actors may go on."""
        return [g for g in self.waiting if not g.actor.frozen and not g.future.done() and g.can()]
