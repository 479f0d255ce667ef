"""`python -m tests.faults`: rows times seeds on the real stack, and the page that says what came of it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.local.stack import Stack
from tests.faults import report
from tests.faults.load import PEOPLE, Story, story
from tests.faults.matrix import Row, all_rows
from tests.faults.offline import Alert, offline_alerts
from tests.faults.trial import Outcome, Trial
from tests.fix_stack import LiveStack, settings_of

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".keepwell" / "faults"
Keep = Callable[[Sequence[Outcome]], None]
PAGE = ROOT / "docs" / "reliability.md"


def main(
    seeds: int = typer.Option(1, help="how many seeds, from --first on"),
    first: int = typer.Option(1, help="the first seed"),
    rows: str = typer.Option("", help="numbers of the rows, e.g. 1,5,9; all of them where none are given"),
    out: Path | None = typer.Option(None, "--json", help="write every reading to this file"),
    page: Path | None = typer.Option(None, help="write the page here; docs/reliability.md when all rows ran"),
    list_only: bool = typer.Option(False, "--list", help="list the rows and stop"),
    people: int = typer.Option(PEOPLE, min=4, help="how many people send; fewer make a quicker, weaker run"),
    processors: int = typer.Option(
        1, min=1, max=12, help="how many share the partitions in every row that can have more"
    ),
    home: Path = typer.Option(HOME, help="folder of the stack the rows run on"),
) -> None:
    """Break a whole running system, row by row, and say what held."""
    chosen = choose(rows)
    console = Console()
    if list_only:
        console.print(_listed(chosen))
        return
    if page is None and not rows:
        page = PAGE

    def keep(outcomes: Sequence[Outcome]) -> None:  # after each row: a run that is broken off has its page too
        if out is not None:
            out.write_text(json.dumps(report.as_json(chosen, outcomes), indent=1, default=str) + "\n", "utf-8")
        if page is not None:
            page.write_text(report.page(chosen, outcomes, people, processors), "utf-8")

    outcomes = asyncio.run(run_all(chosen, range(first, first + seeds), home, console, people, processors, keep))
    failed = sum(not one.passed for one in outcomes)
    console.print(f"{len(outcomes) - failed} of {len(outcomes)} held", style="green" if not failed else "red")
    raise typer.Exit(1 if failed else 0)


def choose(rows: str) -> list[Row]:
    """Return the rows of a list like ``1,5,9``, all of them for an empty one.

    Raises:
        typer.BadParameter: a number that is no row.
    """
    known = {one.number: one for one in all_rows()}
    wanted = [int(part) if part.strip().isdigit() else -1 for part in rows.split(",")] if rows else list(known)
    if strange := [number for number in wanted if number not in known]:
        msg = f"no row {strange[0]}; there are {', '.join(map(str, known))}"
        raise typer.BadParameter(msg)
    return [known[number] for number in wanted]


async def run_all(
    rows: Sequence[Row], seeds: Sequence[int], home: Path, console: Console, people: int, processors: int, keep: Keep
) -> list[Outcome]:
    """Run every row on every seed, on a stack of the harness's own; what fails is told at once."""
    local = Stack(home, 0)
    home.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    with (home / "harness").open("a") as alone, tempfile.TemporaryDirectory(prefix="keepwell-faults-") as folder:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two would kill each other's servers
        await asyncio.to_thread(local.up)
        try:
            stack = LiveStack(home, settings_of(home), local)
            with _progress(console) as progress:
                task = progress.add_task("faults", total=len(rows) * len(seeds))
                for seed in seeds:
                    progress.update(task, description=f"seed {seed}: the undisturbed run")
                    told = await asyncio.to_thread(story, seed, people)
                    expected = await undisturbed(stack, told)
                    for one in rows:
                        progress.update(task, description=f"seed {seed}: {one.number} {one.name}")
                        await asyncio.to_thread(local.up)  # what the row before left dead
                        outcome = await run_one(one, told, stack, Path(folder), expected, processors)
                        outcomes.append(outcome)
                        keep(outcomes)
                        progress.advance(task)
                        progress.console.print(*_told(one, outcome), highlight=False)
        finally:
            await asyncio.to_thread(local.down)
    return outcomes


async def undisturbed(stack: LiveStack, told: Story) -> list[Alert]:
    """Return the settled alerts of a story when nothing is disturbed."""
    lanes = [(told.patients[key], f"{key}-watch", frames) for key, frames in told.frames.items()]
    postgres = stack.settings.postgres.model_copy(update={"database": "kw_offline"})
    return await offline_alerts(stack, stack.settings.model_copy(update={"postgres": postgres}), lanes)


async def run_one(
    row: Row, told: Story, stack: LiveStack, folder: Path, expected: list[Alert], processors: int
) -> Outcome:
    """Run one row on one seed; its logs stay in the folder when it failed."""
    own = folder / f"{row.number}-{told.seed}-{time.monotonic_ns()}"
    own.mkdir(parents=True)
    return await Trial(row, told, stack, own, processors=processors).run(expected)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _told(row: Row, outcome: Outcome) -> list[str]:
    mark = "[green]held[/green]  " if outcome.passed else "[red]broken[/red]"
    catch_up = "" if outcome.catch_up_s is None else f"catch-up {outcome.catch_up_s:.1f} s, "
    figures = "; ".join(f"{name} {value}" for name, value in outcome.readings.items())
    line = (
        f"{mark} {row.number:2} {row.name}, seed {outcome.seed}: {catch_up}{outcome.again} frames again, "
        f"{outcome.restarts} restarts, {outcome.alerts} alerts, {outcome.took_s:.0f} s. {figures}"
    )
    return ["\n".join([line, *(f"       {problem}" for problem in outcome.problems)])]


def _listed(rows: Sequence[Row]) -> Table:
    table = Table("row", "fault", "how", "figure", box=None)
    for one in rows:
        table.add_row(str(one.number), one.name, one.how, one.figure)
    return table
