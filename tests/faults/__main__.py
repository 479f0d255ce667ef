"""``python -m tests.faults``."""

import typer

from tests.faults.run import main

typer.run(main)
