"""``keepwell config show``: every setting, its value and where it came from."""

from __future__ import annotations

import json

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from services.settings import Settings, load


def register(app: typer.Typer) -> None:
    """Add the ``config`` commands."""
    config = typer.Typer(help="Look at the settings.", no_args_is_help=True)
    app.add_typer(config, name="config")

    @config.callback()
    def group() -> None:
        """Look at the settings."""

    @config.command()
    def show(
        origin: bool = typer.Option(False, "--origin", help="also tell which layer each value came from"),
        as_json: bool = typer.Option(False, "--json", help="print JSON for scripts"),
    ) -> None:
        """Print every setting; secrets are never shown.

        Layers: default < stack.toml < keepwell.toml < KEEPWELL_* < flags.
        """
        loaded = load()
        values = {key: _shown(loaded.settings, key) for key in loaded.origin}
        if as_json:
            rows = {key: {"value": value, "origin": loaded.origin[key]} for key, value in values.items()}
            Console().print_json(json.dumps(rows))
            return
        table = Table("setting", "value", *(["from"] if origin else []), box=None)
        for key, value in values.items():
            table.add_row(key, value, *([loaded.origin[key]] if origin else []))
        Console().print(table)


def _shown(settings: Settings, key: str) -> str:
    section, name = key.split(".", 1)
    value = getattr(getattr(settings, section), name)
    if isinstance(value, SecretStr):
        return "set" if value.get_secret_value() else "not set"
    return "" if value is None else str(value)
