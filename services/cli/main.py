"""The command line: ``keepwell COMMAND``. Each command lives in its own module and is registered here."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import typer
from rich.console import Console

from services.settings import SettingsError

COMMANDS: Final = (
    "demo", "stack", "migrate", "doors", "processor", "api", "enrol", "simulate", "replay", "config", "dead",
)  # fmt: skip

app = typer.Typer(
    name="keepwell",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Remote monitoring with the wearables people already own. Start with `keepwell demo`. "
    "Not a medical device, not an emergency service.",
)


def main() -> None:
    """Run the command line; expected trouble ends with one plain sentence and exit code 2."""
    for name in COMMANDS:
        importlib.import_module(f"services.cli.{name}").register(app)
    try:
        app()
    except SettingsError as error:
        Console(stderr=True).print(f"keepwell: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
