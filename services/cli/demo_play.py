"""The play of a demo: everyone is enrolled, three weeks pass, it goes on live, and the run is judged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from evaluation.burden import in_words
from ingest.client import Door
from ingest.clock import SystemClock, to_datetime
from ingest.frame import Tick
from ingest.ledger import Ledger
from ingest.ticks import write_tick
from services import topics
from services.cli import demo_cast
from services.cli.demo_live import POLL_S, AlertPrinter, follow_requests, latencies_ms, percentile
from services.cli.demo_report import Report, judge
from services.cli.demo_run import Run, counted, until_processed
from services.cli.enrol import login_link
from services.cli.simulate import REQUESTS
from services.settings import Settings
from simulators.lapse import Lapse
from simulators.scenarios import Span
from simulators.sending import Sender, until_door_answers
from simulators.series import DAY_MS, HOUR_MS

READY_S: Final = 60.0
PROCESSED_S: Final = 120.0
BROKEN: Final = 1


@dataclass
class Options:
    """What the demo was asked for."""

    once: bool
    seed: int
    json: Path | None
    days: int
    patients: int
    processors: int
    bug: str
    screen: bool


@dataclass
class Times:
    """Wall clock of the run's parts in seconds; ``install`` is handed in by whoever installed."""

    began: float = field(default_factory=time.monotonic)
    up: float = 0.0
    ready: float = 0.0
    lapse: float = 0.0

    def document(self, first_alert: float | None) -> dict[str, float | None]:
        """Return the times for the report, in seconds; the first alert is counted from when the stack was up."""
        install = float(os.environ.get("KEEPWELL_INSTALL_S", "0") or 0)
        total = install + time.monotonic() - self.began
        parts = {"install": install, "up": self.up, "ready": self.ready, "lapse": self.lapse, "total": total}
        return {name: round(value, 2) for name, value in parts.items()} | {
            "first_alert": None if first_alert is None else round(self.ready - self.up + first_alert, 2)
        }


async def play(
    run: Run, options: Options, times: Times, console: Console, stack: AsyncExitStack, stopped: asyncio.Event
) -> int:
    """Play the demo to its end, or live until ``stopped``; return the exit code.

    Raises:
        RunError, TimeoutError: the processes do not get ready or do not keep up.
    """
    settings, clock = run.settings, SystemClock()
    now = clock.now_ms()
    span = Span((now - options.days * DAY_MS) // HOUR_MS * HOUR_MS, now)
    parts = demo_cast.assemble(options.seed, span, options.patients)
    tokens, login = demo_cast.enrol(settings, parts, span)
    book = stack.enter_context(Ledger(demo_cast.book_path(run.folder)))
    senders, doors = await demo_cast.connect(stack, settings, parts, tokens, book)
    await _until_ready(settings, doors, options)
    times.ready = time.monotonic() - times.began
    made_up = sum(part.story is not None for part in parts)
    over_mqtt = sum(sender.way == "mqtt" for sender in senders)
    console.print(
        f"{made_up} made-up patients (seed {options.seed}) and {len(parts) - made_up} real recordings, "
        f"shifted in time to end now; {over_mqtt} of {len(senders)} devices send over MQTT"
    )
    if options.screen:
        console.print(f"watch it in a browser (works once): {login_link(settings, login)}", soft_wrap=True)
    printer = AlertPrinter(settings, console)
    printing = asyncio.create_task(printer.run())
    try:
        lapse = await _lapse(settings, senders, doors, span, console, stack)
        times.lapse = time.monotonic() - times.began - times.ready
        await until_processed(settings, PROCESSED_S)
        latency = await latencies_ms(settings, senders) if options.once else []
        if not options.once:
            console.print(
                "\nlive now; in another terminal: keepwell simulate fever --patient p07   (Ctrl-C ends the demo)"
            )
            asking = asyncio.create_task(follow_requests(run.folder / REQUESTS, senders, console))
            try:
                await lapse.live(stopped)
            finally:
                asking.cancel()
        await until_processed(settings, PROCESSED_S)
        await asyncio.sleep(2 * POLL_S)  # the last alerts are printed
    finally:
        printing.cancel()
        await asyncio.gather(printing, return_exceptions=True)
    report = judge(settings, parts, span, sorted(run.folder.glob("*.book")), strict=options.once)
    return _tell(report, options, times, printer.first_s, latency, console)


async def _lapse(
    settings: Settings, senders: list[Sender], doors: list[Door], span: Span, console: Console, stack: AsyncExitStack
) -> Lapse:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap, acks="all", linger_ms=0)
    await producer.start()
    stack.push_async_callback(producer.stop)
    topic = topics.named(topics.CONTROL, settings.kafka)

    async def tick(one: Tick) -> None:
        await write_tick(producer, topic, settings.kafka.partitions, one)

    columns = (TextColumn("time-lapse"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=span.end_ms - span.start_ms)

        def show(now_ms: int) -> None:
            progress.update(task, completed=now_ms - span.start_ms, description=f"{to_datetime(now_ms):%d %b %H:%M}")

        lapse = Lapse(senders, tick, doors, SystemClock(), show)
        await lapse.run(span)
    return lapse


async def _until_ready(settings: Settings, doors: list[Door], options: Options) -> None:
    """Return once both doors answer, every partition has its processor, and the screen is served."""
    async with asyncio.timeout(READY_S):
        await asyncio.gather(*(until_door_answers(door) for door in doors), _until_owned(settings))
        if options.screen:
            await _until_served(settings)


async def _until_owned(settings: Settings) -> None:
    wanted = 2 * settings.kafka.partitions
    while len(counted(settings, "SELECT 1 FROM partition_position")) < wanted:
        await asyncio.sleep(0.1)


async def _until_served(settings: Settings) -> None:
    from services.runtime import api_base

    verify = str(settings.tls.ca_file) if settings.tls.ca_file else True
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"{api_base(settings)}/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.1)


def _tell(
    report: Report, options: Options, times: Times, first_s: float | None, latency: list[float], console: Console
) -> int:
    document: dict[str, Any] = {"seed": options.seed, "days": options.days, **report.document}
    document["latency_ms"] = {"p50": percentile(latency, 0.5), "p99": percentile(latency, 0.99), "n": len(latency)}
    document["wall_s"] = times.document(first_s)
    document["broken"] = report.broken
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1), "utf-8")
    console.print()
    for name in ("sent", "rejected", "accepted", "stored", "duplicate", "conflict", "dead", "quarantined"):
        console.print(f"  {name:12}{document[name]:>12,}")
    same = document["hash"]["accepted"] == document["hash"]["kept"]
    console.print(
        f"  as sets, the books' readings {'equal' if same else 'are NOT'} the database's ({document['hash']['kept']})"
    )
    for name, truth in document["truth"].items():
        n = truth["false_clinical"]
        false = f", {n} false in {truth['false_incidents']} incidents" if n else ""
        console.print(f"  {name:14}{truth['raised']} of {truth['expected']} expected alerts{false}")
    console.print(f"  burden: {in_words(document['burden'])}")
    console.print(f"  wall clock, s: {document['wall_s']}; accepted to stored, ms: {document['latency_ms']}")
    for problem in report.broken:
        console.print(f"broken: {problem}", style="red", markup=False)
    console.print(
        "every invariant holds" if not report.broken else f"{len(report.broken)} invariants broken", style="bold"
    )
    return BROKEN if report.broken else 0
