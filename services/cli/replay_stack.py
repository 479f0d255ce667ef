"""A recording through the whole way, as it is, and the books checked at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from detectors.device_classes import UNKNOWN
from evaluation.burden import in_words
from ingest.client import DoorClosed, NotDelivered
from ingest.ledger import Ledger
from services.cli import replay_report, replay_send
from services.cli.demo import running_stack
from services.cli.demo_run import until_processed
from services.cli.replay_report import ASSUMED, Account, Snapshot
from services.cli.replay_run import ReplayRun, Window, erase
from services.cli.replay_send import Person
from services.cli.supervise import Processes, RunError
from services.devices import EnrolmentError
from services.store.migrate import migrate
from simulators.recording import NotARecording
from simulators.sending import until_door_answers

READY_S: Final = 60.0
PROCESSED_S: Final = 900.0
BROKEN: Final = 1
COUNTS: Final = ("sent", "rejected", "accepted", "stored", "duplicate", "conflict", "dead", "quarantined", "late")


@dataclass
class Options:
    """What was asked for; ``speed`` None is as fast as it goes."""

    path: Path
    speed: float | None
    json: Path | None
    name: str
    fresh: bool
    reframe: int | None
    device_class: str = UNKNOWN


@dataclass
class Times:
    """Wall clock of the replay's parts in seconds."""

    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure one part."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.parts[name] = time.monotonic() - began


def run(options: Options) -> int:
    """Replay; return the exit code: 1 where the books do not balance, or something was in the way."""
    from deploy.local.errors import StackError

    console = Console(highlight=False)
    times = Times()
    try:
        with times.part("total"):
            with times.part("read"), console.status(f"reading {options.path}"):
                people = replay_send.read(options.path, options.reframe)
            total = sum(one.recording.n for one in people)
            console.print(f"{total:,} readings of {len(people)} people in {options.path}; local times are taken as UTC")
            with contextlib.ExitStack() as stack:
                with times.part("up"):
                    home = stack.enter_context(running_stack(console))
                account = uvloop.run(_replay(home, options, people, times, console))
        return _tell(account, options, times, console)
    except* (RunError, StackError, OSError, NotARecording, EnrolmentError, NotDelivered, DoorClosed) as group:
        for error in _leaves(group):
            console.print(f"keepwell: {error}", style="red", markup=False, soft_wrap=True)
    except* KeyboardInterrupt:
        console.print("stopped; the next replay begins again and finds what was sent already")
    return BROKEN


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _replay(home: Path, options: Options, people: list[Person], times: Times, console: Console) -> Account:
    run = ReplayRun.open(home, options.name)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    with run.alone():
        if options.fresh:
            await erase(run)
        await migrate(run.settings)
        processes = Processes(run.folder, run.environment, console.print)
        playing = asyncio.create_task(_play(run, options, people, processes, times, console))
        watching = asyncio.create_task(processes.watch())
        stopping = asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait((playing, watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                return playing.result()
            if watching.done():
                watching.result()  # raises: a process has died
            raise KeyboardInterrupt
        finally:
            for task in (playing, watching, stopping):
                task.cancel()
            await asyncio.gather(playing, watching, stopping, return_exceptions=True)
            processes.stop()


async def _play(
    run: ReplayRun, options: Options, people: list[Person], processes: Processes, times: Times, console: Console
) -> Account:
    settings = run.settings
    tokens = replay_send.enrol(settings, people, options.device_class)
    before = Snapshot.take(settings)
    part = run.begin_book(replay_send.identity(people))
    async with AsyncExitStack() as stack:
        book = stack.enter_context(Ledger(part))
        with times.part("ready"):
            processes.start("gateway", ["gateway"])
            players, door = await replay_send.connect(stack, settings, people, tokens, book)
            async with asyncio.timeout(READY_S):
                await until_door_answers(door)
        window = await stack.enter_async_context(Window(run))
        with times.part("send"), _progress(console, sum(one.recording.n for one in people)) as told:
            # Everyone is heard once before the processor looks: after a day without a replay nobody is "silent".
            for player in players:
                told(await player.first())
            processes.start("processor", ["processor"])
            await replay_send.play(players, options.speed, told, window.room)
    with times.part("process"), console.status("waiting for the processor"):
        await until_processed(settings, PROCESSED_S)
    with times.part("check"), console.status("comparing the books with the database"):
        return await asyncio.to_thread(replay_report.account, run, people, run.finish_book(part), before)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    columns = (
        TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TextColumn("readings"), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda n: progress.advance(task, n)


def _tell(account: Account, options: Options, times: Times, console: Console) -> int:
    document = account.document
    moving = times.parts["send"] + times.parts["process"]
    document |= {
        "path": options.path.name,
        "speed": options.speed or "max",
        "reframe": options.reframe,
        "time_zone": ASSUMED,
        "wall_s": {name: round(seconds, 2) for name, seconds in times.parts.items()},
        "readings_per_s": round(document["accepted"] / max(moving, 1e-9)),
        "broken": account.broken,
    }
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1), "utf-8")
    for name in COUNTS:
        console.print(f"  {name:12}{document[name]:>12,}")
    console.print(
        f"  of these were there already {document['already_there']:,}; {document['new_alerts']} alerts are new; "
        f"{document['readings_per_s']:,} readings a second, sent to processed"
    )
    same = document["hash"]["accepted"] == document["hash"]["kept"]
    console.print(f"  the books' readings {'equal' if same else 'are NOT'} the database's, as sets")
    _tell_rules(document, console)
    console.print(f"  wall clock, s: {document['wall_s']}")
    for problem in account.broken:
        console.print(f"broken: {problem}", style="red", markup=False, soft_wrap=True)
    console.print("the books balance" if not account.broken else "the books do not balance", style="bold")
    return BROKEN if account.broken else 0


def _tell_rules(document: dict[str, Any], console: Console) -> None:
    table = Table("rule", "kind", "alerts", "late", "withdrawn", "a person-week", box=None)
    for rule, row in document["rules"].items():
        numbers = (str(row[key]) for key in ("count", "late", "withdrawn", "per_person_week"))
        table.add_row(rule, row["kind"], *numbers)
    if document["rules"]:
        console.print(f"  {in_words(document['burden'])}:")
        console.print(table)
