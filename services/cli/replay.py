"""``keepwell replay PATH``: a recording through the whole way, or judged in memory where there are no servers."""

from __future__ import annotations

import contextlib
from datetime import tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import typer

from detectors.device_classes import CLASSES, UNKNOWN
from services.cli.refusal import refuse

ONLY_WITH_SERVERS: Final = "--speed, --name, --fresh and --reframe are of the way through the servers; leave them out"
ONLY_WITHOUT: Final = "--plot, --zone and --detector go with --no-stack"


def register(app: typer.Typer) -> None:
    """Add the ``replay`` command."""

    @app.command()
    def replay(
        path: Path = typer.Argument(
            ..., help="a CSV of one person, or a folder of PERSON_hr.csv.zip and PERSON_steps.csv.zip"
        ),
        speed: str = typer.Option("max", help="max, or how many times faster than it was measured, e.g. 3600"),
        json_file: Path | None = typer.Option(None, "--json", help="write what the replay came to into this file"),
        name: str = typer.Option("replay", help="keeps database keepwell_NAME and topics NAME.… between replays"),
        fresh: bool = typer.Option(False, "--fresh", help="forget earlier replays of this name first"),
        reframe: int | None = typer.Option(
            None, min=0, help="a seed: other frame boundaries, another session, rows shuffled; nothing is stored twice"
        ),
        no_stack: bool = typer.Option(False, "--no-stack", help="judge it in memory: no servers, nothing is kept"),
        plot: Path | None = typer.Option(None, "--plot", help="with --no-stack: write a page of charts and findings"),
        zone: str | None = typer.Option(None, "--zone", help="with --no-stack: where the person lives: Europe/Berlin"),
        detector: list[str] | None = typer.Option(None, help="with --no-stack: one more to look at it, by its name"),
        device_class: str = typer.Option(UNKNOWN, help=f"what measured it: {', '.join(CLASSES)}"),
    ) -> None:
        """Send a recording through the whole way, as it is, and check that every reading is accounted for.

        Or, with --no-stack, judge it in seconds by the code that runs in the processor, and print what was found: when,
        and how far from this person's own usual. --plot writes a page that needs no network.

        A CSV names its columns in the first line: time, and one column for each metric of the catalogue:

        \b
            time,heart_rate,steps,spo2
            2026-11-22T08:30:00+01:00,61,0,97
            2026-11-22T08:31:00+01:00,64,12,

        or time,metric,value and, if you like, unit (UCUM). time is ISO 8601 with the wearer's offset from UTC, or Unix
        milliseconds. Times without an offset are UTC, or with --zone local; night is told from day by the offset, so
        give --zone where times are UTC. An empty cell is no reading. Steps are those of the minute that begins at time.

        Through the servers, rows out of order stay out of order; an instant that comes twice with different values
        becomes a conflict. Each person becomes a patient with one device; all of them begin together, whatever their
        dates. What was sent before is recognised: a second replay stores nothing twice and raises no new alert. It
        starts the stack where it does not run, and stops what it started. Exits with 1 when the books do not balance.
        """
        if device_class not in CLASSES:
            refuse(f"--device-class {device_class!r} is not known; allowed: {', '.join(CLASSES)}")
        if no_stack:
            if speed != "max" or name != "replay" or fresh or reframe is not None:
                refuse(ONLY_WITH_SERVERS)
            from services.cli.replay_tell import tell

            tell(path, None if zone is None else _zone(zone), detector or [], json_file, plot, device_class)
            return
        if plot is not None or zone is not None or detector:
            refuse(ONLY_WITHOUT)
        from services.cli.replay_stack import Options, run

        raise typer.Exit(run(Options(path, _speed(speed), json_file, _name(name), fresh, reframe, device_class)))


def _zone(text: str) -> tzinfo:
    with contextlib.suppress(ValueError, OSError, KeyError):
        return ZoneInfo(text)
    refuse(f"--zone {text!r} is no time zone; write it like Europe/Berlin, or UTC")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1e9:
            return float(text)
    raise typer.BadParameter(f"--speed {text!r}: allowed are max, or a number above 0, e.g. 3600")  # noqa: EM102


def _name(text: str) -> str:
    if text.isascii() and text.replace("-", "").isalnum() and text == text.lower() and len(text) <= 40:
        return text
    raise typer.BadParameter(f"--name {text!r}: allowed are a-z, 0-9 and -, 40 at most")  # noqa: EM102
