"""``keepwell rules``: limits, bounds and budgets as files: written, tested, tried on what is stored, and applied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console

from services.cli import say
from services.cli.rules_apply import apply
from services.cli.rules_dry_run import dry_run
from services.cli.rules_file import FILE, opened
from services.cli.rules_show import export, history, show
from services.cli.say import JSON

if TYPE_CHECKING:
    from services.rules.trial import Outcome

DIFFERS: Final = 1
HELP: Final = """Write safety limits, bounds of drifts and the alert budget as files: one layer each, with examples.

    keepwell rules export programme copd > copd.yaml    a layer, to begin from
    keepwell rules test copd.yaml         runs its examples; needs no server
    keepwell rules dry-run copd.yaml --from 2026-11-01T00:00Z      on what is stored
    keepwell rules apply copd.yaml --reason "board of November"
    keepwell rules show patient p20       what holds, and which layer says so

The format, and what a layer can say: docs/rules.md.
"""


def register(app: typer.Typer) -> None:
    """Add the ``rules`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(group, name="rules")
    group.command("test")(try_examples)
    group.command("dry-run")(dry_run)
    for command in (show, apply, history, export, schema):
        group.command(command.__name__)(command)


def try_examples(files: list[Path] = FILE, as_json: bool = JSON) -> None:
    """Run the examples in rules files through the code that judges people's readings.

    Exit code 1 where something else is found than a file expects, or where a file has no example. Examples test
    limits; bounds of drifts and the alert budget are tried on the past (`keepwell rules dry-run`).
    """
    from services.rules.trial import tried, untested

    opened_files = {file: opened(file) for file in files}
    outcomes = {file: [tried(one, example) for example in one.examples] for file, one in opened_files.items()}
    for file, one in opened_files.items():
        _note(file, untested(one))
    if as_json:
        say.told({str(file): [_plain(each) for each in tried] for file, tried in outcomes.items()}, as_json)
    else:
        for file, each in outcomes.items():
            _print(file, each)
    if not all(each and all(one.holds for one in each) for each in outcomes.values()):
        raise typer.Exit(DIFFERS)


def schema() -> None:
    """Print the JSON Schema of a rules file, for editors that check while one writes."""
    from services.rules.schema import as_text

    print(as_text(), end="")  # noqa: T201 - one document on stdout, not wrapped


def _note(file: Path, untested: list[str]) -> None:
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if untested:
        console.print(
            f"{file}: no example tests {', '.join(untested)}; see what it finds with `keepwell rules dry-run`"
        )


def _print(file: Path, outcomes: list[Outcome]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not outcomes:
        console.print(f"{file}: no example, so nothing was tested; docs/rules.md shows how to write one")
    for one in outcomes:
        console.print(f"{'ok  ' if one.holds else 'FAIL'} {file}:{one.example.line} {one.example.name}")
        for found in one.missing:
            console.print(f"     - expected, not found: {found}")
        for found in one.surplus:
            console.print(f"     + found, not expected: {found}")


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "example": outcome.example.name,
        "line": outcome.example.line,
        "holds": outcome.holds,
        "missing": [found._asdict() for found in outcome.missing],
        "surplus": [found._asdict() for found in outcome.surplus],
    }
