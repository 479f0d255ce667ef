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
        """Make or upgrade the database, its roles and the Kafka topics. Safe to run again.

        Run it after each upgrade of Keepwell, before the processes are started again: each refuses a schema that is
        not its own. An upgrade is one transaction; take a `keepwell backup` first, there is no way back but that.
        """
        from services.store.migrate import migrate as run

        settings = load().settings
        applied = asyncio.run(run(settings))
        console = Console(highlight=False, soft_wrap=True)
        for revision in applied:
            console.print(f"schema {revision} applied")
        console.print(f"database {settings.postgres.database} and topics are up to date")
