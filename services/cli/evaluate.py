"""``keepwell evaluate TASK``: detection judged on recordings, beside published rules on the same people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.cli.refusal import refuse

TASKS: Final = (
    "onset",
    "injected",
    "exchanged",
    "calibration",
    "joint",
    "swaps",
    "variability",
    "shifts",
    "subgroups",
    "hearts",
    "shape",
    "nab",
)


def register(app: typer.Typer) -> None:
    """Add the ``evaluate`` command."""

    @app.command()
    def evaluate(
        task: str = typer.Argument(..., help=", ".join(TASKS)),
        data: Path = typer.Option(None, help="the folder of recordings; which format, see above"),
        nested_cv: bool = typer.Option(
            False, "--nested-cv", help="choose configuration and limits inside the fold, and say how many were tried"
        ),
        json_file: Path = typer.Option(None, "--json", help="write every figure, with its interval, into this file"),
    ) -> None:
        """Judge detection: the very code that runs in the processor, replayed in the order of time.

        onset: was anything said in the 8 days up to the onset of an illness, and more than in as many other days of
        the same people? DATA is a folder of daily parameters (ID_results.csv a person, day 0 the onset), or of raw
        recordings (PERSON_hr.csv.zip, PERSON_steps.csv.zip and onset.csv: timelines only). What runs is judged with
        the limits it is shipped with.

        injected: known events (a heart rate that rises by 3, 5 or 8 /min, less HRV, fever, desaturation, another
        device, a clock that jumps) put into made-up people and, with DATA, into raw recordings: found or not, how
        late, what the baseline takes up of them, and how long it takes to learn a new normal.

        exchanged: one person's device worn by another for two weeks, among made-up people and, with DATA, among those
        of raw recordings: asked about within how many nights, and how often for nothing.

        calibration: does it speak as often as asked (where it can be asked), by age of the baseline and with 10, 25
        and 50 % of days missing, do bands of 95 % hold 95 %, and do p-values say what they promise? Made-up people
        stand beside those of DATA, who are mostly too few for it. joint: do all adaptive rules together keep to an
        alert budget? Made-up people with all vitals; no DATA. swaps: an illness that begins with another device;
        variability: what rules of heart rate variability alone, which do not run, would find; both of made-up people.
        shifts: small shifts that stay, told within how many nights; made-up people and, with DATA as for onset, how
        often of real ones. subgroups: rates and lift by group of people, as gaps to everybody else. DATA of the others
        as for onset. hearts: which heart rate of a day tells most, asleep, at rest
        by day, both or a circadian model's; DATA of raw recordings. shape: is a day told whose heart rate takes another
        course, and does it tell another wearer? Made-up people and, with DATA, raw recordings. nab: the Numenta Anomaly
        Benchmark, with a setting of the daily detector made for it, not the one that runs; DATA is a checkout of it.

        How to read it: "found" without "control" says nothing, since a rule that is always on finds everybody. "lift"
        is found less control. "rate got" are alert episodes per patient-week in healthy spans. Intervals are 95 %,
        by resampling people. No server is needed; nothing is sent anywhere.
        """
        if task not in TASKS:
            refuse(f"task {task!r} is not known; there are {', '.join(TASKS)}")
        document = _run(task, data, nested_cv=nested_cv)
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
        _tell(document)


def _run(task: str, data: Path | None, *, nested_cv: bool) -> dict[str, Any]:
    from evaluation.days import NotEvaluable

    try:
        with _progress() as told:
            if task in _MADE_UP:
                return _MADE_UP[task](told)
            if task in ("injected", "exchanged", "shape", "shifts") and data is None:
                return _OTHERS[task](None, told)
            folder = _needed(task, data)
            if task == "onset":
                return _onset(folder, told, nested_cv=nested_cv)
            return _OTHERS[task](folder, told)
    except NotEvaluable as error:
        refuse(str(error))


def _needed(task: str, data: Path | None) -> Path:
    if data is None:
        refuse(f"{task} needs --data, a folder of recordings; `keepwell evaluate --help` says in which format")
    if not data.is_dir():
        refuse(f"--data {data} is no folder; `keepwell evaluate --help` says what is expected in it")
    return data


def _onset(data: Path, told: Any, *, nested_cv: bool) -> dict[str, Any]:
    from evaluation import onset, wearers
    from services.cli.evaluate_stream import process

    if wearers.is_folder_of_recordings(data):
        return wearers.evaluate(data, process, told)
    return onset.evaluate(data, told, nested_cv=nested_cv)


def _injected(data: Path | None, told: Any) -> dict[str, Any]:
    from evaluation import injected
    from services.cli.evaluate_stream import process

    budgets = (injected.BUDGET, injected.SHIPPED)
    return injected.evaluate(data, {budget: partial(process, budget=budget) for budget in budgets}, told)


def _exchanged(data: Path | None, told: Any) -> dict[str, Any]:
    from evaluation import exchanged
    from services.cli.evaluate_stream import process

    return exchanged.evaluate(data, process, told)


def _joint(told: Any) -> dict[str, Any]:
    from evaluation import joint

    return joint.evaluate(told)


def _swaps(told: Any) -> dict[str, Any]:
    from evaluation import swaps

    return swaps.evaluate(told)


def _variability(told: Any) -> dict[str, Any]:
    from evaluation import variability

    return variability.evaluate(told)


def _calibration(data: Path, told: Any) -> dict[str, Any]:
    from evaluation import calibration
    from services.cli.evaluate_stream import process

    return calibration.evaluate(data, process, told)


def _subgroups(data: Path, told: Any) -> dict[str, Any]:
    from evaluation import subgroups

    return subgroups.evaluate(data, told)


def _hearts(data: Path, told: Any) -> dict[str, Any]:
    from evaluation import hearts

    return hearts.evaluate(data, told)


def _shifts(data: Path | None, told: Any) -> dict[str, Any]:
    from evaluation import shifts

    return shifts.evaluate(data, told)


def _shape(data: Path | None, told: Any) -> dict[str, Any]:
    from evaluation import shapes

    return shapes.evaluate(data, told)


def _nab(data: Path, told: Any) -> dict[str, Any]:
    from evaluation import nab

    return nab.evaluate(data, told)


_MADE_UP: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "joint": _joint,
    "swaps": _swaps,
    "variability": _variability,
}
_OTHERS: Final[dict[str, Callable[[Any, Any], dict[str, Any]]]] = {
    "injected": _injected,
    "exchanged": _exchanged,
    "calibration": _calibration,
    "subgroups": _subgroups,
    "hearts": _hearts,
    "shifts": _shifts,
    "shape": _shape,
    "nab": _nab,
}


@contextmanager
def _progress() -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(bar, description=what, completed=done, total=total)


def _tell(document: dict[str, Any]) -> None:
    from evaluation.tables import sheets

    console = Console(highlight=False, markup=False)
    for sheet in sheets(document):
        console.print(sheet.text, soft_wrap=True)
        if sheet.rows:
            table = Table(*sheet.head, box=None)
            for row in sheet.rows:
                table.add_row(*row)
            console.print(table)
