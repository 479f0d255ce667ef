"""The Faust app: its worker's life, signals and crash handling around the processor's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, cast

import faust
import psycopg
import structlog
from faust.app import BootStrategy
from mode import Service, ServiceT

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest.health import Health
from services import topics
from services.logs import configure_logging
from services.ops import watched
from services.processor import filing
from services.processor.batch import INJECTED_BUG
from services.processor.consumer import StreamLoop
from services.processor.core import Core
from services.processor.relay import OutboxRelay
from services.processor.watch import Watch
from services.runtime import clock_for
from services.settings import Settings
from services.store.schema import check_schema

STOP_S: Final = 15.0  # for the batch in hand; one that waits for the database longer is given up, and happens later


class OursFirst(BootStrategy):
    """Starts our own loop before Faust's consumer, whose joining takes seconds that no reading should wait."""

    def server(self) -> Iterable[ServiceT]:
        """Return the services in the order of their start."""
        return [*cast(ProcessorApp, self.app).first, *super().server()]


class ProcessorApp(faust.App):
    """A Faust app with services of its own in front of Faust's."""

    BootStrategy = OursFirst
    first: Sequence[ServiceT] = ()


def create_app(settings: Settings) -> faust.App:
    """Return the app; ``run`` starts its worker."""
    folder = settings.stack.home / "faust"  # Faust wants one; nothing of ours is kept there
    folder.mkdir(parents=True, exist_ok=True)
    app = ProcessorApp(
        topics.named("agents", settings.kafka),  # the group of Faust's own consumer, which serves the agents only
        broker=f"kafka://{settings.kafka.bootstrap}",
        store="memory://",
        datadir=folder,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=1.0,
        stream_wait_empty=False,
        loghandlers=[],
    )
    filing.attach(app, settings)

    class Processor(Service):
        """Runs the loop and the relay; any unexpected end of one crashes the worker loudly."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._stopping = asyncio.Event()
            self._streaming: asyncio.Task[Any] | None = None

        @Service.task
        async def _stream(self) -> None:
            self._streaming = asyncio.current_task()
            try:
                async with AsyncExitStack() as stack:
                    clock = await stack.enter_async_context(clock_for(settings))
                    core = Core(
                        Pipeline(budget=settings.processor.alert_budget, guard=INJECTED_BUG != "learn-anomaly"),
                        Limits(),
                        settings.kafka.partitions,
                    )
                    loop = StreamLoop(settings, clock, core)
                    watch = Watch(settings, clock, loop)
                    health = Health("processor", watch.checks())
                    await stack.enter_async_context(watched(settings, health, ("processor",), watch.stuck_s))
                    measuring = asyncio.create_task(watch.run(), name="watch")
                    stack.callback(measuring.cancel)
                    relay = asyncio.create_task(OutboxRelay(settings, clock, loop.worker).run(self._stopping))
                    relay.add_done_callback(lambda _: self._stopping.set())
                    try:
                        await loop.run(self._stopping)
                    finally:
                        self._stopping.set()
                        await relay
            except Exception as error:
                structlog.get_logger(__name__).critical("processor_stops", exc_info=error)
                await self.crash(error)

        async def on_stop(self) -> None:
            """Let the loop finish what is in hand: when this returns, mode cancels it, wherever it is."""
            self._stopping.set()
            if self._streaming is not None:
                await asyncio.wait({self._streaming}, timeout=STOP_S)

    app.first = [
        Processor(beacon=app.beacon, loop=app.loop),
        filing.Beginning(settings, beacon=app.beacon, loop=app.loop),
    ]
    return app


class Quiet(faust.Worker):
    """A worker without a terminal: no spinner, and its log lines go the way of all others."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spinner = None

    def _setup_logging(self) -> None:
        """Nothing: `configure_logging` has done it."""


def run(settings: Settings) -> int:
    """Run the processor until it is told to stop; return the exit code."""
    configure_logging()
    with contextlib.suppress(psycopg.OperationalError):  # a database that is away is waited for, and asked then
        check_schema(settings.postgres, "writer")
    worker = Quiet(create_app(settings), loglevel="WARN", redirect_stdouts=False, quiet=True)
    code = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    return code
