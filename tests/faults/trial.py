"""One row on one seed: a system of its own, the load, the fault at its moment, and the checks afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka.errors import KafkaError

from ingest.frame import CONTENT_TYPE, encode
from services.settings import Settings
from services.settings_sections import MetricsSettings
from tests.databases import drop_database
from tests.faults import checkerside
from tests.faults.kafka_proxy import KafkaProxy
from tests.faults.load import PART_S, PARTS, Load, Story
from tests.faults.matrix import Row
from tests.faults.measure import Memory, alert_latencies
from tests.faults.offline import Alert
from tests.faults.proxy import Proxy
from tests.faults.watch import Watch, sign_in
from tests.fix_doors import Process, drop_topics, environment, free_port, migrated_settings
from tests.fix_faults import START_S, Group, System, alerts, eventually
from tests.fix_stack import LiveStack

# Bounds of a row that hangs, not promises: other work on the same cores makes everything slower.
DRAIN_S: Final = 120.0
LOAD_S: Final = 120.0
SUPERVISE_S: Final = 0.2
BY_THE_WALL_CLOCK: Final = ("device_silent", "clock_fault")  # what two runs at two times cannot share
MAX_RECORDS: Final = 400  # of a transaction: small enough that a fault meets many of them


@dataclass
class Outcome:
    """What one row on one seed came to."""

    row: int
    seed: int
    processors: int = 1
    problems: list[str] = field(default_factory=list)
    readings: dict[str, float | str] = field(default_factory=dict)  # the row's own figures
    accepted: int = 0  # readings
    stored: int = 0
    beside: str = ""  # conflicts, quarantined, dead
    again: int = 0  # frames that came more than once through Kafka
    restarts: int = 0
    alerts: int = 0
    catch_up_s: float | None = None
    alert_p50_s: float | None = None
    alert_max_s: float | None = None
    memory_mb: float = 0.0
    took_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return not self.problems


class Trial:
    """What an act is handed: the running system, its load, its watcher, the seed's chance, and a place for findings."""

    def __init__(
        self, row: Row, story: Story, stack: LiveStack, folder: Path, part_s: float = PART_S, processors: int = 1
    ) -> None:
        self.row = row
        self.part_s = part_s * row.slower  # how fast the load is sent
        self.story = row.tell(story) if row.tell else story
        self.rng = random.Random(story.seed * 1000 + row.number)
        self.stack = stack
        self.folder = folder
        self.outcome = Outcome(row.number, story.seed, 1 if row.alone else max(row.processors, processors))
        self.proxies: dict[str, Proxy] = {}
        self.leave_out: list[str] = list(BY_THE_WALL_CLOCK)
        self.refused = 0  # frames the doors must refuse
        self.cut_off: frozenset[str] = frozenset()  # devices nobody can hear now
        self.strangers: set[str] = set()  # patients the offline run does not know
        self.helpers: list[Process] = []  # further processors
        self.also_drop: Settings | None = None  # a second database of the row
        self._down: set[Process] = set()
        self._metrics: MetricsSettings | None = None
        self.system: System
        self.load: Load
        self.watch: Watch
        self.api: Process

    # -- what an act says --------------------------------------------------------------------------------------

    def require(self, holds: bool, otherwise: str) -> None:
        """Note a problem unless ``holds``."""
        if not holds:
            self.outcome.problems.append(otherwise)

    def read(self, name: str, value: float | str) -> None:
        """Note a figure of the row."""
        self.outcome.readings[name] = round(value, 3) if isinstance(value, float) else value

    # -- what an act does --------------------------------------------------------------------------------------

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one ``keepwell`` command to its end, as an operator would, told the servers' own addresses."""
        argv = [sys.executable, "-m", "services.cli.main", *words]
        env = environment(self.system.settings)
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)

    async def probe(self, timeout_s: float = 25) -> httpx.Response:
        """Send a frame again that was accepted long ago, and return the door's answer."""
        key = next(k for k in self.load.frames if k not in self.load.over_mqtt and self.load.accepted_at.get(k))
        token = self.load.credentials(key).token
        headers = {"Authorization": f"Bearer {token}", "Content-Type": CONTENT_TYPE}
        tls = ssl.create_default_context(cafile=self.system.settings.tls.ca_file)
        async with httpx.AsyncClient(verify=tls, timeout=timeout_s, trust_env=False) as client:
            return await client.post(
                f"{self.system.url}/v1/frames", content=encode([self.load.frames[key][0]]), headers=headers
            )

    def kafka(self) -> KafkaProxy:
        """Return the proxy before Kafka."""
        proxy = self.proxies["kafka"]
        assert isinstance(proxy, KafkaProxy)
        return proxy

    @contextlib.contextmanager
    def out_of_order(self, process: Process) -> Iterator[None]:
        """Inside, the supervisor leaves this process alone."""
        self._down.add(process)
        try:
            yield
        finally:
            self._down.discard(process)

    @contextlib.contextmanager
    def all_out_of_order(self) -> Iterator[None]:
        """Inside, the supervisor leaves every process alone."""
        self._down.update(self._processes())
        try:
            yield
        finally:
            self._down.clear()

    def moved_to(self, database: str) -> None:
        """From now on everything, the checks too, works on this database."""
        settings = self.system.settings
        moved = settings.postgres.model_copy(update={"database": database})
        self.system.settings = self.also_drop = settings.model_copy(update={"postgres": moved})
        for process in self._processes():
            told = process.settings.postgres.model_copy(update={"database": database})
            process.settings = process.settings.model_copy(update={"postgres": told})

    @property
    def processors(self) -> list[Process]:
        """The processors that share the partitions from the start."""
        return [self.system.processor, *self.helpers]

    def running(self) -> list[Process]:
        """Return the system's processes that run now."""
        return [process for process in self._processes() if process.alive()] if hasattr(self, "api") else []

    async def pause(self, low: float, high: float) -> None:
        """Let a time drawn from the seed pass."""
        await asyncio.sleep(self.rng.uniform(low, high))

    async def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows as the schema's owner sees them, without stopping the load meanwhile."""
        return await asyncio.to_thread(self.system.query, statement, *values)

    async def processed(self) -> int:
        """Return how many frames are in the database."""
        return int((await self.query("SELECT count(*) FROM frame_log"))[0][0])

    async def caught_up(self, ends: dict[int, int] | None = None) -> bool:
        """Whether everything on the log (or up to ``ends``) is in the database."""
        wanted = ends or await self.system.ends()
        stored = await asyncio.to_thread(self.system.stored_positions)
        return all(stored.get(partition, 0) >= end for partition, end in wanted.items())

    async def nobody_dirty(self) -> bool:
        """Whether nobody awaits a rebuild: late data, or a layout that makes what is usual be learned anew."""
        return not await self.query("SELECT 1 FROM patient_state WHERE dirty_since IS NOT NULL LIMIT 1")

    # -- the run -----------------------------------------------------------------------------------------------

    async def run(self, expected: list[Alert]) -> Outcome:
        """Run the row; whatever goes wrong becomes one of its problems."""
        began = time.monotonic()
        settings = await asyncio.to_thread(migrated_settings, self.stack)
        try:
            async with AsyncExitStack() as stack:
                if self.row.prepare:
                    await stack.enter_async_context(self.row.prepare(self, settings))
                await self._start(stack, settings)
                try:
                    await self._play(expected)
                finally:
                    await self._end_the_bridge()
        except Exception as error:  # whatever broke it off is what the row found
            self.outcome.problems.append(f"the row broke off: {type(error).__name__}: {error}"[:400])
        finally:
            await asyncio.to_thread(drop_database, settings)
            if self.also_drop is not None:
                await asyncio.to_thread(drop_database, self.also_drop)
            with contextlib.suppress(KafkaError, OSError):  # a row that broke off may have left no broker
                await drop_topics(settings)
        self.outcome.took_s = time.monotonic() - began
        return self.outcome

    async def _start(self, stack: AsyncExitStack, settings: Settings) -> None:
        for name in sorted(self.row.proxied):
            proxy = _proxy(name, settings, self.rng.randrange(1 << 30))
            self.proxies[name] = await stack.enter_async_context(proxy)
        self.system = System(self.stack, settings, self.folder, "faulty", self._through, MAX_RECORDS)
        stack.enter_context(self.system)
        self.api = Process(self.system.told, ["api"], self.folder / "api.log")
        self.helpers = [self.system.another(f"helper-{n}") for n in range(2, self.outcome.processors + 1)]
        for process in (self.api, *self.helpers):
            stack.enter_context(process)
        for proxy in self.proxies.values():
            proxy.free()
        await stack.enter_async_context(self._supervised())
        await self.system.ready()
        async with Group(self.system) as group:
            all_here = partial(_members, group, self.outcome.processors)
            await eventually_so(all_here, START_S, f"{self.outcome.processors} processors sharing the partitions")
        frames, gateway, mqtt = self.story.frames, self.proxies.get("gateway"), self.proxies.get("mosquitto")
        self.load = Load(
            self.system, dict(frames), set(self.story.over_mqtt), self.folder / "book.db", PARTS,
            patients=dict(self.story.patients), url=f"https://127.0.0.1:{gateway.port}" if gateway else "",
            mqtt_port=mqtt.port if mqtt else 0,
        )  # fmt: skip
        await stack.enter_async_context(self.load)
        url = f"http://127.0.0.1:{settings.api.port}"
        await eventually(lambda: _answers(url), "the API's readiness")
        api = self.proxies.get("api")
        through = f"http://127.0.0.1:{api.port}" if api else url
        self.watch = await stack.enter_async_context(Watch(through, sign_in(self.system)))

    async def _play(self, expected: list[Alert]) -> None:
        memory = Memory(self._processes())
        async with memory:
            playing = asyncio.ensure_future(self.row.play(self) if self.row.play else self.load.play(self.part_s))
            try:
                await self.load.until(self.rng.uniform(*self.row.moment))
                await self.pause(0, 0.3)
                await self.row.act(self)
                over = time.monotonic()
                waiting = await self.system.ends()
                await eventually_so(lambda: self.caught_up(waiting), DRAIN_S, "catching up after the fault")
                self.outcome.catch_up_s = time.monotonic() - over
                await playing
                await self.load.finished(LOAD_S)
                await eventually_so(self.caught_up, DRAIN_S, "processing everything accepted")
                await eventually_so(self.nobody_dirty, DRAIN_S, "rebuilding whoever awaits it")
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
        self.outcome.memory_mb = memory.most_mb
        await self._check(expected)

    async def _end_the_bridge(self) -> None:
        """Let the bridge end its session: mosquitto collects, and writes, the next rows' messages for one killed."""
        with contextlib.suppress(subprocess.TimeoutExpired), self.out_of_order(self.system.bridge):
            if self.system.bridge.alive():
                await asyncio.to_thread(self.system.bridge.stop)

    async def _check(self, expected: list[Alert]) -> None:
        wanted = await asyncio.to_thread(checkerside.events, self.system)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while len(self.watch.seen) < len(wanted):
                    await asyncio.sleep(0.05)
        verdict, problems = await asyncio.to_thread(checkerside.kept, self.system, self.load.book)
        problems += checkerside.all_answered(self.load.book, self.refused)
        problems += checkerside.waveforms(self.system, self.load.book)
        problems += checkerside.no_effect_twice(self.system)
        problems += checkerside.seen_once_each(self.system, self.watch, same=self.row.same_stream)
        found = alerts(self.system, self.leave_out)
        ours = {one for one in self.story.patients.values() if one not in self.strangers}
        problems += checkerside.same_alerts(
            [one for one in found if one[0] in ours], [one for one in expected if one[1] not in self.leave_out]
        )
        one = self.outcome
        one.problems += problems
        one.accepted, one.stored, one.alerts = verdict.accepted, verdict.stored, len(found)
        one.beside = f"{verdict.conflict} / {verdict.quarantined} / {verdict.dead}"
        one.again = int(self.system.query("SELECT count(*) FROM frame_log WHERE deliveries > 1")[0][0])
        one.restarts = self.system.restarts
        if late := alert_latencies(self.load, self.watch.seen):
            one.alert_p50_s, one.alert_max_s = sorted(late)[len(late) // 2], max(late)

    def _through(self, settings: Settings) -> Settings:
        ports = {name: proxy.port for name, proxy in self.proxies.items()}
        update: dict[str, object] = {"metrics": self.metrics(settings)}
        if "kafka" in ports:
            update["kafka"] = settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{ports['kafka']}"})
        if "postgres" in ports:
            update["postgres"] = settings.postgres.model_copy(update={"port": ports["postgres"]})
        told = settings.model_copy(update=update)
        return self.row.change(told) if self.row.change else told

    def metrics(self, settings: Settings) -> MetricsSettings:
        """Return places of this trial's own for the processes' metrics and health."""
        if self._metrics is None:
            ports = {f"{name}_port": free_port() for name in ("gateway", "bridge", "processor", "api")}
            self._metrics = settings.metrics.model_copy(update=ports)
        return self._metrics

    async def not_ready(self, name: str) -> bool:
        """Whether a process answers on its health port that it is not ready."""
        port = getattr(self.metrics(self.system.settings), f"{name}_port")
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 503
        return False

    def _processes(self) -> list[Process]:
        return [self.system.gateway, self.system.bridge, self.api, *self.processors]

    @asynccontextmanager
    async def _supervised(self) -> AsyncIterator[None]:
        """Start every process again that ends, as its supervisor does, unless an act has it in hand."""
        task = asyncio.create_task(self._supervise())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _supervise(self) -> None:
        while True:
            for process in self._processes():
                if not process.alive() and process not in self._down:
                    self.system.restarts += 1
                    process.start()
            if self.stack.pid("mosquitto") is None:  # no row ends it; it can fail an assertion of its own
                self.read(
                    "mosquitto crashed by itself", int(self.outcome.readings.get("mosquitto crashed by itself", 0)) + 1
                )
                await asyncio.to_thread(self.stack.start, "mosquitto")
            await asyncio.sleep(SUPERVISE_S)


async def eventually_so(check: Callable[[], Awaitable[bool]], timeout_s: float, what: str = "") -> None:
    """Poll ``check`` until it holds.

    Raises:
        TimeoutError: it did not in time.
    """
    until = time.monotonic() + timeout_s
    while not await check():
        if time.monotonic() > until:
            msg = f"{what or 'what the row waits for'} did not happen within {timeout_s:g} s"
            raise TimeoutError(msg)
        await asyncio.sleep(0.05)


async def _members(group: Group, wanted: int) -> bool:
    return await group.members() == wanted


def _proxy(name: str, settings: Settings, seed: int) -> Proxy:
    if name == "kafka":
        return KafkaProxy(int(settings.kafka.bootstrap.rpartition(":")[2]), seed)
    port = {
        "postgres": settings.postgres.port, "mosquitto": settings.mqtt.port, "gateway": settings.gateway.port,
        "api": settings.api.port,
    }[name]  # fmt: skip
    return Proxy(port, seed)


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    return False
