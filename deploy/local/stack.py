"""One stack: Kafka, PostgreSQL with TimescaleDB and mosquitto, started together, watched, stopped, mended.

``Stack(home).up()`` makes everything run and returns when a produce, a query and a publish succeeded; called
again it brings back what died and leaves the rest alone. Every change holds the home's lock.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deploy.local import archive, debian, kafka, mosquitto, paths, ports, postgres, process, state, tls, user
from deploy.local.errors import Report, StackError, silent
from deploy.local.server import Context, Server
from deploy.local.watch import until_ready
from ingest.clock import SystemClock

SERVERS = ("kafka", "postgres", "mosquitto")
T = TypeVar("T")


@dataclass(frozen=True)
class Running:
    """One server after `Stack.up`: its pid, whether this call started it, and the seconds it took."""

    name: str
    pid: int
    port: int
    started: bool
    seconds: float


class Stack:
    """The servers of one home. ``base_port`` None keeps the remembered ports, 0 chooses free ones once.

    ``servers`` are those this stack runs itself; the others are named in the settings and are not touched.
    """

    in_containers = False

    def __init__(
        self,
        home: Path,
        base_port: int | None = None,
        servers: Sequence[str] = SERVERS,
        report: Report = silent,
    ) -> None:
        self.user = user.choose()
        self.home = paths.home(home, self.user)
        self.programs = paths.programs(self.user)
        self._base_port = base_port
        self.servers = tuple(servers)
        self._report = report

    # -- what is there ---------------------------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        """Return the pid of a running server, None when it does not run."""
        who = self._running(name)
        return who.pid if who else None

    def ports(self) -> dict[str, int]:
        """Return the ports by name.

        Raises:
            StackError: the stack was never up.
        """
        return dict(self._known().ports)

    def _running(self, name: str) -> process.Identity | None:
        if name not in SERVERS:
            msg = f"no server {name!r}; there are {', '.join(SERVERS)}"
            raise StackError(msg)
        return process.read_pid(self.home.pid_file(name))

    def _known(self) -> state.State:
        known = state.load(self.home)
        if known is None:
            msg = f"no stack in {self.home.path}; run `keepwell up` first"
            raise StackError(msg)
        return known

    # -- up --------------------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Download, unpack and prepare what the servers need; nothing happens when all is there.

        Raises:
            StackError: a download failed or a tool is missing.
        """
        downloads = paths.downloads()
        for folder in (downloads, self.programs):
            folder.mkdir(parents=True, exist_ok=True)
        if self.programs == paths.ROOT_CACHE:
            self.programs.chmod(0o755)
        with state.locked(self.programs / "lock", "the downloads", 1800), ThreadPoolExecutor(2) as pool:
            jobs: list[Future[Any]] = []
            if {"postgres", "mosquitto"} & set(self.servers):
                jobs.append(pool.submit(debian.fetch, self.programs, downloads, self._report))
            if "kafka" in self.servers:
                jobs.append(pool.submit(self._fetch_kafka, downloads))
            failed = [str(error) for error in (job.exception() for job in jobs) if isinstance(error, StackError)]
            if failed:
                raise StackError("\n".join(failed))
            for job in jobs:
                job.result()

    def _fetch_kafka(self, downloads: Path) -> None:
        kafka.fetch(self.programs, downloads, self._report)
        archive.ensure(self.programs, self.user, self._report)

    def up(self) -> list[Running]:
        """Make every server of this stack run and answer; return them in order.

        Raises:
            StackError: what failed, with the end of its log and the next step.
        """
        self.fetch()
        with state.locked(self.home.lock, f"the stack in {self.home.path}"):
            context = self._settle()
            return _run(self._bring_up(context, self.servers))

    def start(self, name: str) -> Running:
        """Start one server where it does not run, and wait until it answers.

        Raises:
            StackError: it did not start, or the stack was never up.
        """
        self._running(name)
        with state.locked(self.home.lock, f"the stack in {self.home.path}"):
            return _run(self._bring_up(self.context(self._known()), [name]))[0]

    def _settle(self) -> Context:
        """Settle ports, secrets and certificates, and write ``stack.toml``."""
        known = state.load(self.home)
        before = dict(known.ports) if known else None
        settled = state.with_ports(known, self._base_port)
        running = [name for name in SERVERS if self._running(name)]
        if before is not None and before != settled.ports and running:
            msg = (
                f"{', '.join(running)} of {self.home.path} use base port {before['kafka'] - 92}; "
                "run `keepwell down` before you give another base port"
            )
            raise StackError(msg)
        if settled.chosen and not running and not all(map(ports.is_free, settled.ports.values())):
            settled.ports = ports.choose()
        if not self.in_containers:
            for name in self.servers:
                if name not in running:
                    ports.require_free(name, settled.ports)
        self.home.make(self.user)
        settled.complete()
        state.save(self.home, settled)
        made = tls.ensure(self.home.tls, SystemClock())
        state.write_stack_toml(self.home, settled, self.servers)
        context = self.context(settled)
        broker = process.read_pid(self.home.pid_file("mosquitto"))
        if made and broker is not None:
            mosquitto.Mosquitto(context).copy_certificate()
            process.send(broker, mosquitto.RELOAD)
        return context

    def context(self, known: state.State) -> Context:
        """Return what each server is told about this stack."""
        return Context(self.home, self.user, known, self.programs, self._report)

    async def _bring_up(self, context: Context, names: Sequence[str]) -> list[Running]:
        tasks = [asyncio.create_task(self._ensure(server_of(name, context), context)) for name in names]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ensure(self, server: Server, context: Context) -> Running:
        began = time.monotonic()
        log, port = self.home.log(server.name), context.state.ports[ports.OF_SERVER[server.name][0]]
        who = self._running(server.name)
        child = None
        if who is None:
            await asyncio.to_thread(self._prepare, server, context)
            self._report(server.name, "starting")
            argv = server.argv()
            who, child = process.spawn(
                argv,
                user=self.user,
                cwd=self.home.data(server.name),
                log=log,
                env=context.environ(server.name),
            )
            process.write_pid(self.home.pid_file(server.name), who)
        await until_ready(server, who, log, child)
        seconds = time.monotonic() - began
        self._report(server.name, f"ready on 127.0.0.1:{port} (pid {who.pid}, {seconds:.1f} s)")
        return Running(server.name, who.pid, port, child is not None, seconds)

    def _prepare(self, server: Server, context: Context) -> None:
        server.recover()
        ports.require_free(server.name, context.state.ports)
        server.prepare()

    # -- down ------------------------------------------------------------------------------------------------

    def down(self) -> list[str]:
        """Stop what runs, together; return the names of those that were stopped.

        Each is asked first and killed when it does not end in its time.
        """
        if not self.home.path.exists():
            return []
        with (
            state.locked(self.home.lock, f"the stack in {self.home.path}"),
            ThreadPoolExecutor(len(SERVERS)) as pool,
        ):
            running = [name for name in SERVERS if self._running(name)]
            list(pool.map(self._stop, running))
            return running

    def stop(self, name: str) -> None:
        """Stop one server cleanly; nothing happens when it does not run."""
        with state.locked(self.home.lock, f"the stack in {self.home.path}"):
            self._stop(name)

    def _stop(self, name: str) -> None:
        who = self._running(name)
        if who is None:
            return
        kind = _KINDS[name]
        self._report(name, "stopping")
        clean = process.stop(who, kind.stop_signal, kind.stop_s)
        self.home.pid_file(name).unlink(missing_ok=True)
        self._report(name, "stopped" if clean else f"killed: it did not stop within {kind.stop_s:.0f} s")

    def erase(self) -> None:
        """Stop the stack and remove its data, logs, certificates and passwords. Downloads stay."""
        self.down()
        for folder in (self.home.servers, self.home.path):
            shutil.rmtree(folder, ignore_errors=True)

    def kill(self, name: str) -> None:
        """End one server with ``kill -9``, as a crash would; the pid file stays, as after a crash.

        PostgreSQL's children end by themselves when they notice; `start` waits for them.
        """
        who = self._running(name)
        if who is not None:
            process.kill(who)


_KINDS: dict[str, type[kafka.Kafka] | type[postgres.Postgres] | type[mosquitto.Mosquitto]] = {
    "kafka": kafka.Kafka,
    "postgres": postgres.Postgres,
    "mosquitto": mosquitto.Mosquitto,
}


def server_of(name: str, context: Context) -> Server:
    """Return one server of a stack by its name."""
    return _KINDS[name](context)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own in a thread, so that callers with a running loop may call us."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T] | None]] = []

    async def watched() -> T:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, watched())
        try:
            return future.result()
        except KeyboardInterrupt:
            for loop, task in running:
                if task is not None:
                    loop.call_soon_threadsafe(task.cancel)
            raise
