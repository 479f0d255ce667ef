"""``keepwell demo``: the whole way once, on real parts, from an empty database to explained alerts on a screen."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

import typer
import uvloop
from rich.console import Console

from services.cli.demo_play import BROKEN, Options, Times, play
from services.cli.demo_run import Run, drop_old_runs
from services.cli.supervise import Processes, RunError
from services.settings import load
from services.store.migrate import migrate

BUGS: Final = ("drop", "double", "learn-anomaly")
ENDING_S: Final = 60.0


def register(app: typer.Typer) -> None:
    """Add the ``demo`` command."""

    @app.command()
    def demo(
        once: bool = typer.Option(False, "--once", help="stop by itself after the time-lapse and judge the run"),
        seed: int = typer.Option(1, help="draws patients, scenarios, onsets and sizes"),
        json_file: Path = typer.Option(None, "--json", help="write what the run came to into this file"),
        days: int = typer.Option(21, min=14, max=28, help="days of time-lapse before the present"),
        patients: int = typer.Option(18, min=15, max=60, help="made-up patients; two real recordings come on top"),
        processors: int = typer.Option(1, min=1, max=4, help="stream processors that share the work"),
        inject_bug: str = typer.Option(
            "", help=f"break the processor on purpose ({', '.join(BUGS)}); the run must fail"
        ),
        screen: bool = typer.Option(True, "--screen/--no-screen", help="serve the screen and print a link to it"),
    ) -> None:
        """See it work: start the stack, live through three weeks in half a minute, go on live until Ctrl-C.

        Made-up patients with known stories and two real recordings (shifted in time so that they end now) send
        over HTTPS and MQTT; each alert is printed with its sentence as it is raised. Then try, in another
        terminal: keepwell simulate fever --patient p07

        With --once it stops by itself and exits with 1 if an invariant broke.
        """
        if inject_bug and inject_bug not in BUGS:
            raise typer.BadParameter(f"{inject_bug!r} is no bug; choose {', '.join(BUGS)}")  # noqa: EM102
        options = Options(once, seed, json_file, days, patients, processors, inject_bug, screen)
        raise typer.Exit(_main(options))


def _main(options: Options) -> int:
    from deploy.local.errors import StackError

    console = Console(highlight=False)
    times = Times()
    try:
        with running_stack(console) as home:
            times.up = time.monotonic() - times.began
            return uvloop.run(_demo(home, options, times, console))
    except* (RunError, StackError, OSError) as group:
        for error in group.exceptions:
            console.print(f"keepwell: {error}", style="red", markup=False)
    except* KeyboardInterrupt:
        console.print("stopped")
    return BROKEN


@contextmanager
def running_stack(console: Console) -> Iterator[Path]:
    """Give the home of a running stack; what was started here is stopped at the end."""
    from deploy.local.plan import open_stack
    from services.cli.stack import show_progress

    with show_progress(console) as report:
        stack, choices = open_stack(load(), report)
        for reason in dict.fromkeys(f"{choice.how}: {choice.why}" for choice in choices):
            console.print(f"servers are {reason}")
        running = stack.up() if stack.servers else []
    console.print("stack is up: " + ", ".join(f"{one.name} :{one.port}" for one in running))
    try:
        yield stack.home.path
    finally:
        if any(one.started for one in running):
            stack.down()
            console.print("stack stopped")


async def _demo(home: Path, options: Options, times: Times, console: Console) -> int:
    run = Run.create(home)
    settings = run.settings
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await drop_old_runs(settings)
    await migrate(settings)
    bug = {"KEEPWELL_INJECT_BUG": options.bug} if options.bug else {}
    processes = Processes(run.folder, run.environment | bug, console.print)
    _start(processes, options)
    run.announce()
    try:
        async with AsyncExitStack() as stack:
            watching = asyncio.create_task(processes.watch())
            stopping = asyncio.create_task(stopped.wait())
            playing = asyncio.create_task(play(run, options, times, console, stack, stopped))
            await asyncio.wait((watching, stopping, playing), return_when=asyncio.FIRST_COMPLETED)
            if times.lapse and not playing.done() and not watching.done():
                with contextlib.suppress(TimeoutError):  # once live it ends by itself, and tells what it came to
                    await asyncio.wait_for(asyncio.shield(playing), ENDING_S)
            if stopping.done() and not times.lapse:
                console.print("stopped before it was live; nothing was judged")
            for task in (watching, stopping, playing):
                if not task.done():
                    task.cancel()
            results = await asyncio.gather(watching, playing, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result
            return results[1] if isinstance(results[1], int) else BROKEN
    finally:
        run.withdraw()
        processes.stop()


def _start(processes: Processes, options: Options) -> None:
    for name in ("gateway", "bridge"):
        processes.start(name, [name])
    for number in range(1, options.processors + 1):
        processes.start(f"processor-{number}", ["processor"])
    if options.screen:
        processes.start("api", ["api"])
