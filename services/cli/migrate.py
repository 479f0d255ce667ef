"""``keepwell migrate``: make or upgrade database, roles and topics."""

from __future__ import annotations

import asyncio

import typer
from rich.console import Console

from services.settings import load


def register(app: typer.Typer) -> None:
    """Add the ``migrate`` command."""

    @app.command()
    def migrate() -> None:
        """Make or upgrade the database, its roles and the Kafka topics. Safe to run again."""
        from services.store.migrate import migrate as run

        settings = load().settings
        asyncio.run(run(settings))
        Console().print(f"database {settings.postgres.database} and topics are up to date", highlight=False)
