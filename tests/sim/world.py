"""One seed, from beginning to end: the scheduler opens one gate after another and lets things go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec
import psycopg
from aiokafka import TopicPartition

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest.clock import FrozenClock
from services.processor import hot as hot_state
from services.processor import watermark
from services.processor.consumer import StreamLoop
from services.processor.core import Core
from services.settings import Settings
from services.settings_sections import KafkaSettings, ProcessorSettings
from services.store.fence import FencedError
from services.topics import CO_PARTITIONED
from tests.sim import plan as plans
from tests.sim.door import Doors
from tests.sim.kafka import Group, Log, SimConsumer
from tests.sim.loop import Actor, Gate, Gates, VirtualLoop
from tests.sim.person import acknowledge as person_acknowledges
from tests.sim.person import make as person_makes
from tests.sim.plan import Change, Junk, Plan
from tests.sim.readers import Stream, relay
from tests.sim.store import Open, Server, SimSession
from tests.sim.stories import START
from tests.sim.tables import EventRow, when
from tests.sim.wiring import wired

MAX_STEPS: Final = 6000
CALM_STEPS: Final = 4000  # after the faults: everything must be done within so many
TOGETHER_MS: Final = 10_000  # requests of this long overlap
ENDS, STOPS = "everything comes to its end", "a process stops only when it is replaced"
MOST_PEOPLE: Final = 4
OTHER_LAYOUT: Final = 1  # of what an older version kept
PIPELINE, LIMITS = Pipeline(), Limits()
SETTINGS: Final = {
    n: Settings(kafka=KafkaSettings(partitions=n), processor=ProcessorSettings(max_records=60)) for n in (1, 2, 3)
}


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant, self.detail = invariant, detail


class Processor(Actor):
    """One process of the group: the loop, its worker, its relay."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.stopping = asyncio.Event()
        self.loop: StreamLoop | None = None
        self.consumer: SimConsumer | None = None
        self.main: asyncio.Task[None] | None = None


class World:
    """Everything there is, and what has happened to it."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.seed, self.time = seed, loop
        self.chance = Random(seed)
        self.plan: Plan = plans.draw(self.chance)
        self.history: list[str] = []
        self.clock = FrozenClock(START)
        self.gates = Gates()
        self.server = Server(self.gates)
        self.server.tables.patients = dict.fromkeys(self.plan.patients, plans.ORGANISATION)
        self.server.tables.devices = {number: device.key for number, device in self.plan.devices.items()}
        self.server.committed.append(self._noted)
        self.log = Log(self.plan.partitions)
        self.group = Group(self.log, self.gates)
        self.doors = Doors(self.plan, self.log, self.gates, self.clock, self.chance)
        self.stream = Stream(self.server, self.chance)
        self.processors: list[Processor] = []
        self.people: list[Actor] = []
        self.guard = True  # a planted bug switches this off
        self.born = 0
        self.steps = 0
        self.haste = self.chance.choice((0.2, 0.5, 0.9))  # of the devices: how far the processors fall behind
        self.faults = self.chance.choice((0, 2, 4, 8))  # how many things may still go wrong
        self.thawing: dict[Processor, int] = {}
        upgrades = Random(f"upgrade {seed}")  # apart: what else a seed brings stays the same
        self.upgrade_at = upgrades.randrange(60, 400) if upgrades.random() < 0.25 else 0  # step; 0: never
        self._building: Processor | None = None

    # ------------------------------------------------------------------ from beginning to end

    async def run(self) -> None:
        """Live through the plan, then through calm until everything is done.

        Raises:
            Broken: something stopped that must not stop, or never came to its end.
        """
        with wired(self._make_consumer, self._make_session, self.time.time, self._log_line):
            self.stream.start(self.stream.run())
            for _ in range(self.plan.processors):
                self.join()
            try:
                await self._until(lambda: self.doors.next_ms is None and not self.doors.in_flight, MAX_STEPS)
                self.faults = 0
                self._thaw_all()
                self.clock.advance(plans.BOUND_MS + watermark.AT_THE_DOOR_MS)  # what is missing now never comes
                await self._until(self.done, CALM_STEPS)
            finally:
                for actor in (*self.processors, self.stream, *self.people, *self.doors.in_flight):
                    actor.kill()
                await self.time.quiet()

    async def _until(self, over: Callable[[], bool], most: int) -> None:
        for _ in range(most):
            await self.time.quiet()
            self._reap()
            if over():
                return
            self.step()
        waiting = ", ".join(f"{g.actor.name} {g.name}" for g in self.gates.waiting)
        msg = f"after {most} steps there is still something to do; waiting: {waiting}"
        raise Broken(ENDS, msg)

    def done(self) -> bool:
        """Tell whether everything sent has been processed, relayed and read, and nobody is missing."""
        busy = any(gate.busy() for gate in self.gates.open())
        alive = [p for p in self.processors if not p.dead]
        return (
            not busy
            and bool(alive)
            and self.group.settled
            and not any(p.frozen for p in alive)
            and self.caught_up()
            and not self.dirty()
            and not self.waiting()
        )

    def waiting(self) -> bool:
        """Tell whether a gap in a device's frames is still waited for: the clock ends that."""
        return any(hot_state.decode(row.hot).holds for row in self.server.tables.hot.values())

    def dirty(self) -> bool:
        """Tell whether late data still await a rebuild, or what was learned before an upgrade its learning anew."""
        unread = any(layout == OTHER_LAYOUT for _, layout in self.server.tables.baselines.values())
        return unread or any(row.dirty_ms is not None for row in self.server.tables.hot.values())

    def caught_up(self) -> bool:
        """Tell whether the stored positions have reached the ends of the logs."""
        places = [(topic, p) for topic in CO_PARTITIONED for p in range(self.plan.partitions)]
        stored = self.server.tables.positions
        return all(stored.get(at, (0, 0))[0] == len(self.log.of(TopicPartition(*at))) for at in places)

    # ------------------------------------------------------------------ one step

    def step(self) -> None:
        """Let one thing happen."""
        self.steps += 1
        self.time.advance(0.02)
        if self.steps == self.upgrade_at:
            self._upgrade()
            return
        if self._calm_down():
            return
        if self.faults and self.chance.random() < 0.03 and self._go_wrong():
            self.faults -= 1
            return
        if self.server.tables.alerts and len(self.people) < MOST_PEOPLE and self.chance.random() < 0.02:
            self._acknowledge()
            return
        open_gates = self.gates.open()
        busy = [gate for gate in open_gates if gate.busy()]
        if self._may_deliver() and (not busy or self.chance.random() < self.haste):
            self._deliver()
        elif busy and self.chance.random() < 0.97:
            self._let_on(self.chance.choice(busy))
        elif open_gates:
            self.time.advance(0.3)
            self._let_on(self.chance.choice(open_gates))

    def _calm_down(self) -> bool:
        """Do what is not up to chance: the broker's part, wakings, restarts; return whether something was done."""
        for one in [p for p, at in self.thawing.items() if at <= self.steps]:
            del self.thawing[one]
            if not one.dead:
                one.frozen = False
                self.note(f"{one.name} wakes")
                if one.name not in self.group.members:
                    self._hear_of_expulsion(one)
                return True
        if not any(not p.dead for p in self.processors):
            self.join()
            return True
        return self.group.complete()

    def _let_on(self, gate: Gate) -> None:
        self.note(f"{gate.actor.name} {gate.name}")
        gate.future.set_result(None)

    # ------------------------------------------------------------------ devices

    def _acknowledge(self) -> None:
        person = Actor(f"person {len(self.people) + 1}")
        self.people.append(person)
        alert = self.chance.choice(sorted(self.server.tables.alerts))
        person.start(person_acknowledges(self.server, person, self.clock, alert))

    def _may_deliver(self) -> bool:
        due = self.doors.next_ms
        if due is None:
            return False
        return all(due - one.at_ms < TOGETHER_MS for one in self.doors.in_flight.values())

    def _deliver(self) -> None:
        due = self.doors.take()
        self.clock.set(max(self.clock.now_ms(), due.at_ms))
        if isinstance(due, Junk):
            self.note(f"somebody writes: {due.kind}")
            self.doors.litter(due)
            return
        if isinstance(due, Change):
            self.note(f"somebody sets patient {due.patient} to {due.state} from {when(due.effective_ms)} on")
            person = Actor("somebody")
            self.people.append(person)
            person.start(person_makes(self.server, person, self.clock, due, self.plan.partitions))
            return
        numbers = ", ".join(f"{frame.session}{frame.seq}" for frame in due.frames)
        self.note(f"d{due.device} sends {numbers}")
        self.doors.request(due)

    # ------------------------------------------------------------------ what goes wrong

    def _go_wrong(self) -> bool:
        kinds = (self._crash, self._crash, self._freeze, self._lose_connection, self._door_dies, self.join, self._leave)
        return bool(self.chance.choice(kinds)())

    def _some(self) -> Processor | None:
        alive = [p for p in self.processors if not p.dead and not p.frozen]
        return self.chance.choice(alive) if alive else None

    def _crash(self) -> bool:
        one = self._some()
        if one is None:
            return False
        self.note(f"{one.name} is killed")
        one.kill()
        self.server.end_idle(one)
        return True

    def _upgrade(self) -> None:
        """Replace every process by those of a version that can't read what was learned."""
        self.note("everybody is upgraded, what was learned is of another layout")
        for one in [one for one in self.processors if not one.dead]:
            one.kill()
            self.server.end_idle(one)
        tables = self.server.tables
        tables.baselines = {patient: (state, OTHER_LAYOUT) for patient, (state, _) in tables.baselines.items()}
        tables.checkpoints = {
            key: msgspec.structs.replace(row, layout=OTHER_LAYOUT) for key, row in tables.checkpoints.items()
        }

    def _freeze(self) -> bool:
        one = self._some()
        if one is None or not any(gate.actor is one for gate in self.gates.waiting):
            return False
        self.note(f"{one.name} is frozen")
        one.frozen = True
        self.thawing[one] = self.steps + self.chance.choice((20, 80, 250))
        if self.chance.random() < 0.8:
            self._expel(one)
        return True

    def _expel(self, one: Processor) -> None:
        self.note(f"{one.name}'s session times out")
        self.group.leave(one.name)
        if self.chance.random() < 0.7:
            self.server.end_idle(one)
            self.note(f"the server ends what {one.name} left open")

    def _hear_of_expulsion(self, one: Processor) -> None:
        if one.consumer is not None:
            self.group.members[one.name] = one.consumer
            self.group.rejoin()

    def _lose_connection(self) -> bool:
        of_store = ("begins", "reads", "writes", "commits", "has committed", "loads the states", "connects")
        gates = [g for g in self.gates.open() if isinstance(g.actor, Processor) and g.name in of_store]
        if not gates:
            return False
        gate = self.chance.choice(gates)
        self.note(f"{gate.actor.name} loses the database when it {gate.name}")
        gate.future.set_exception(psycopg.OperationalError("server closed the connection unexpectedly"))
        return True

    def _door_dies(self) -> bool:
        doors = [door for door, one in self.doors.in_flight.items() if one.tries < 3]
        if not doors:
            return False
        door = self.chance.choice(doors)
        self.note(f"the {door.name} dies")
        door.kill()
        self.doors.lost(door)
        return True

    def join(self) -> bool:
        """Start one more processor."""
        if sum(not p.dead for p in self.processors) >= 4:
            return False
        self.born += 1
        one = self._building = Processor(f"p{self.born}")
        core = Core(Pipeline(guard=False) if not self.guard else PIPELINE, LIMITS, self.plan.partitions)
        one.loop = StreamLoop(self.settings, self.clock, core)
        self.processors.append(one)
        one.main = one.start(one.loop.run(one.stopping))
        one.start(relay(self.settings, self.clock, one.loop.worker, self.server, self.log, one, self.chance))
        self.note(f"{one.name} starts")
        return True

    def _leave(self) -> bool:
        one = self._some()
        if one is None or sum(not p.dead for p in self.processors) < 2:
            return False
        self.note(f"{one.name} is asked to stop")
        one.stopping.set()
        return True

    def _reap(self) -> None:
        """Take note of who has ended by itself."""
        for one in self.processors:
            if one.main is None or not one.main.done():
                continue
            main, one.main = one.main, None
            error = None if main.cancelled() else main.exception()
            if not one.dead:
                one.kill()
                self.group.leave(one.name)
            elif one.name in self.group.members:
                self.group.leave(one.name)
            if error is not None:
                self.note(f"{one.name} stops: {type(error).__name__}: {error}")
                self.stopped(one, error)

    def stopped(self, one: Processor, error: BaseException) -> None:
        """Judge why a process stopped: being replaced is the only reason."""
        if isinstance(error, Broken):
            raise error
        if not isinstance(error, FencedError):
            raise Broken(STOPS, f"{one.name}: {error!r}") from error

    def _thaw_all(self) -> None:
        self.thawing = dict.fromkeys(self.thawing, 0)

    # ------------------------------------------------------------------ making and noting

    @property
    def settings(self) -> Settings:
        """The settings of every process."""
        return SETTINGS[self.plan.partitions]

    def _make_consumer(self, options: dict[str, Any]) -> SimConsumer:
        assert self._building is not None
        made = SimConsumer(self._building, self.group, self.chance, options)
        if made.grouped:
            self._building.consumer = made
        return made

    def _make_session(self) -> SimSession:
        assert self._building is not None
        return SimSession(self.server, self._building)

    def _noted(self, one: Open) -> None:
        for effects, *_ in one.effects:
            moved = ", ".join(f"{topic}/{p} to {offset}" for (topic, p), offset in effects.positions.items())
            self.note(f"  committed by {one.actor.name}, transaction {one.xid}: {moved}")
            for event in effects.events:
                late = " (late)" if event.late else ""
                self.note(
                    f"    patient {event.patient_id} {event.change}{late} at {when(event.at_ms)}: {event.sentence}"
                )

    def _log_line(self, line: str) -> None:
        self.note(f"  log: {line}")

    def note(self, line: str) -> None:
        """Add to the history."""
        self.history.append(f"{self.steps:5d} {when(self.clock.now_ms())} {line}")


__all__ = ["Broken", "EventRow", "Processor", "World"]
