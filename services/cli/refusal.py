"""A refusal in one plain sentence; needs nothing of what runs the servers."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console


def refuse(sentence: str) -> NoReturn:
    """End the command with a plain sentence and exit code 2."""
    Console(stderr=True).print(f"keepwell: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)
