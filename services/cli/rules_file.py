"""What the ``keepwell rules`` commands share: the file they are given, or everything that is wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from services.cli.say import refuse

if TYPE_CHECKING:
    from services.rules.form import Aim, RulesFile

FILE = typer.Argument(..., help="the rules file; docs/rules.md shows one")
WHOM = typer.Argument(None, help="organisation, programme KEY or patient KEY; left out: organisation")


def opened(file: Path) -> RulesFile:
    """Return the layer in a file; what is wrong in it ends the command, each thing on a line of its own."""
    from services.rules.reading import read
    from services.rules.trouble import RulesFileError

    try:
        return read(file.read_text("utf-8"))
    except OSError as error:
        refuse(f"{file} can't be read: {error.strerror}; name a file that is there")
    except UnicodeDecodeError as error:
        refuse(f"{file} is no text in UTF-8 (byte {error.start}); write it as UTF-8")
    except RulesFileError as error:
        refuse(f"{file} is not taken:\n" + "\n".join(f"  {trouble}" for trouble in error.troubles))


def named(whom: list[str] | None) -> Aim:
    """Return the layer that words on the command line name; else end with one plain sentence."""
    from services.rules.form import FOR, aim_of

    words = " ".join(whom or ["organisation"])
    aim = aim_of(words)
    if aim is None:
        refuse(f"{words!r} names nobody's limits; write {FOR}")
    return aim
