"""``python -m tests.sim``: seeds, one seed with its history, or the planted bugs."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

FIXED: Final = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
MOST: Final = 2000
LAST_LINES: Final = 60

app = typer.Typer(add_completion=False)
console = Console(stderr=True)


@app.command()
def simulate(
    seeds: Annotated[int, typer.Option(help="how many seeds")] = 200,
    start: Annotated[int, typer.Option(help="the first seed")] = 0,
    jobs: Annotated[int, typer.Option(help="processes")] = 1,
    bug: Annotated[str, typer.Option(help="plant this bug; `--bugs` runs them all")] = "",
    bugs: Annotated[bool, typer.Option(help="plant each bug and count the seeds until it is found")] = False,
    history: Annotated[bool, typer.Option(help="print what happened, step by step")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Live through seeds: random frames, faults and interleavings, every invariant judged.

    A seed that fails is printed with the steps before it and the command that repeats it, and the exit code is 1.
    """
    from tests.sim.bugs import BUGS

    if bug and bug not in BUGS:
        console.print(f"{bug} is no planted bug; there are: {', '.join(BUGS)}")
        raise typer.Exit(2)
    if bugs:
        raise typer.Exit(_all_bugs(start, as_json=as_json))
    raise typer.Exit(_seeds(start, seeds, jobs, bug or None, history=history, as_json=as_json))


def _seeds(start: int, seeds: int, jobs: int, bug: str | None, *, history: bool, as_json: bool) -> int:
    from tests.sim.run import Result, run_many, run_seed

    began = time.monotonic()
    failed: Result | None = None
    done = steps = frames = 0
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("seeds", total=seeds)
        results = run_many(start, seeds, jobs, bug) if not history else iter([run_seed(start, bug, history=True)])
        for result in results:
            done, steps, frames = done + 1, steps + result.steps, frames + result.frames
            progress.advance(task)
            if history:
                console.print("\n".join(result.history), markup=False, highlight=False)
            if not result.ok:
                failed = result
                break
    took = time.monotonic() - began
    if failed is not None:
        _explain(failed, bug)
    rate = done / took
    if as_json:
        found = (
            None if failed is None else {"seed": failed.seed, "invariant": failed.invariant, "detail": failed.detail}
        )
        sys.stdout.write(json.dumps({"start": start, "seeds": done, "steps": steps, "frames": frames, "bug": bug,
                                     "seconds": round(took, 1), "seeds_per_second": round(rate, 1),
                                     "failed": found}) + "\n")  # fmt: skip
    else:
        console.print(
            f"{done} seeds from {start}: {steps:,} steps, {frames:,} frames, {rate:.1f} seeds/s; "
            + ("every invariant holds" if failed is None else f"seed {failed.seed} breaks one"),
            highlight=False,
        )
    return 0 if failed is None else 1


def _explain(failed: object, bug: str | None) -> None:
    from tests.sim.run import Result

    assert isinstance(failed, Result)
    for line in failed.history[-LAST_LINES:]:
        console.print(line, markup=False, highlight=False)
    planted = f" --bug {bug}" if bug else ""
    console.print(f"seed {failed.seed}: {failed.invariant}: {failed.detail}", markup=False, highlight=False)
    console.print(f"again: python -m tests.sim --start {failed.seed} --seeds 1 --history{planted}", highlight=False)


def _all_bugs(start: int, *, as_json: bool) -> int:
    from tests.sim.bugs import BUGS
    from tests.sim.run import find

    table = Table("planted bug", "what is broken", "seeds", "invariant that failed")
    rows = []
    for name, bug in BUGS.items():
        console.print(f"{name} …", highlight=False)
        found = find(name, MOST, start)
        rows.append({"bug": name, "what": bug.what, "seeds": found.seeds, "invariant": found.invariant,
                     "seconds": round(found.seconds, 1)})  # fmt: skip
        table.add_row(name, bug.what, str(found.seeds or f"not in {MOST}"), found.invariant)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        Console().print(table)
    return 0 if all(row["seeds"] for row in rows) else 1


if __name__ == "__main__":
    if any(
        os.environ.get(name) != value for name, value in FIXED.items()
    ):  # before numpy is there, and hashes are drawn
        os.environ.update(FIXED)
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])  # noqa: S606 - itself again
    app()
