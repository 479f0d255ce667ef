"""The Faust app: its worker's life, signals and crash handling around the processor's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from typing import Any

import faust
import psycopg
from mode import Service

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from services.logs import configure_logging
from services.processor.batch import INJECTED_BUG
from services.processor.consumer import StreamLoop
from services.processor.core import Core
from services.processor.relay import OutboxRelay
from services.runtime import clock_for
from services.settings import Settings
from services.store.migrate import check_schema


def create_app(settings: Settings) -> faust.App:
    """Return the app; ``run`` starts its worker."""
    folder = settings.stack.home / "faust"  # Faust wants one; nothing of ours is kept there
    folder.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        settings.kafka.prefix + "processor",
        broker=f"kafka://{settings.kafka.bootstrap}",
        store="memory://",
        datadir=folder,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        loghandlers=[],
    )
    app.producer_only = True  # the one consumer is ours: Faust's own would need an agent, and commits past gaps

    @app.service
    class Processor(Service):
        """Runs the loop and the relay; any unexpected end of one crashes the worker loudly."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._stopping = asyncio.Event()

        @Service.task
        async def _stream(self) -> None:
            try:
                async with AsyncExitStack() as stack:
                    clock = await stack.enter_async_context(clock_for(settings))
                    core = Core(Pipeline(guard=INJECTED_BUG != "learn-anomaly"), Limits(), settings.kafka.partitions)
                    loop = StreamLoop(settings, clock, core)
                    relay = asyncio.create_task(OutboxRelay(settings, clock, loop.worker).run(self._stopping))
                    relay.add_done_callback(lambda _: self._stopping.set())
                    try:
                        await loop.run(self._stopping)
                    finally:
                        self._stopping.set()
                        await relay
            except Exception as error:
                logging.getLogger(__name__).critical("processor stops: %s", error, exc_info=error)
                await self.crash(error)

        async def on_stop(self) -> None:
            self._stopping.set()

    return app


def run(settings: Settings) -> int:
    """Run the processor until it is told to stop; return the exit code."""
    configure_logging()
    with contextlib.suppress(psycopg.OperationalError):  # a database that is away is waited for, and asked then
        check_schema(settings.postgres, "writer")
    worker = faust.Worker(create_app(settings), loglevel="WARN", redirect_stdouts=False, quiet=True)
    code = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    return code
