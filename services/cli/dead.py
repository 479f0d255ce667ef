"""``keepwell dead``: records that could not be processed."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from services.settings import load


def register(app: typer.Typer) -> None:
    """Add the ``dead`` commands."""
    dead = typer.Typer(
        help="Look at records that could not be processed, and step over one that stops a processor.",
        no_args_is_help=True,
    )
    app.add_typer(dead, name="dead")

    @dead.command("list")
    def list_(as_json: bool = typer.Option(False, "--json", help="print JSON for scripts")) -> None:
        """List the dead letters, newest first (at most 1,000), with the reason of each."""
        import psycopg

        with psycopg.connect(load().settings.postgres.conninfo("admin")) as connection:
            rows = connection.execute(
                """SELECT topic, partition, record_offset, reason, detail, recorded_at FROM dead_letter
                   ORDER BY recorded_at DESC LIMIT 1000"""
            ).fetchall()
        names = ("topic", "partition", "offset", "reason", "detail", "recorded_at")
        if as_json:
            Console().print_json(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
            return
        table = Table(*names, box=None)
        for row in rows:
            table.add_row(*map(str, row))
        Console().print(table if rows else "no dead letters")

    @dead.command()
    def skip(topic: str, partition: int, offset: int) -> None:
        """Move a partition's stored position past OFFSET, when the record there stops every processor.

        Stop the processors first. The record stays in Kafka until its retention ends.
        """
        import psycopg

        with psycopg.connect(load().settings.postgres.conninfo("admin")) as connection:
            moved = connection.execute(
                """UPDATE partition_position SET next_offset = %s, epoch = epoch + 1
                   WHERE topic = %s AND partition = %s AND next_offset <= %s RETURNING 1""",
                [offset + 1, topic, partition, offset],
            ).fetchone()
        if moved is None:
            Console(stderr=True).print(
                f"{topic}/{partition} has no position at or before {offset}: see partition_position", style="red"
            )
            raise typer.Exit(2)
        Console().print(f"{topic}/{partition} goes on at {offset + 1}")
