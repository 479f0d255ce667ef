"""``keepwell replay PATH --no-stack``: read, judge in memory, tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from detectors.device_classes import UNKNOWN
from detectors.registry import NotADetector
from services.cli.refusal import refuse
from services.cli.replay_alone import judge
from services.cli.replay_beside import chosen
from services.cli.replay_page import page
from services.cli.replay_words import document, lines
from simulators.recording import NotARecording
from simulators.recordings_at import recordings_at

NOT_MEDICAL = 'Not a medical device. "Unusual for this person" is not a diagnosis; limits are those for adults.'


def tell(
    path: Path, zone: tzinfo | None, detectors: Sequence[str], json_file: Path | None, plot: Path | None,
    device_class: str = UNKNOWN,
) -> None:  # fmt: skip
    """Judge what a path names, print it, and write what was asked for; end with one sentence where it can't be read."""
    console = Console(highlight=False, markup=False)
    try:
        beside = chosen(detectors)
        with console.status(f"reading {path}"):
            recordings = recordings_at(path, zone)
        with _progress() as told:
            people = judge(recordings, told, beside, device_class)
        for one in people:
            for line in lines(one):
                console.print(line, soft_wrap=True)
        if json_file is not None:
            whole = {"path": path.name, "people": [document(one) for one in people]}
            _write(json_file, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        if plot is not None:
            _write(plot, page(path.name, people))
            console.print(f"charts: {plot}", soft_wrap=True)
        console.print(NOT_MEDICAL, soft_wrap=True)
    except (NotARecording, NotADetector, OSError) as error:
        refuse(str(error))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("judging day"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda done, of: progress.update(bar, completed=done, total=of)
