"""What both ``keepwell admin … import`` commands share: the file, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from services.cli import say
from services.cli.admin_desk import Desk
from services.cli.say import refuse

if TYPE_CHECKING:
    from services.roster import Bad, Row

MAX_BYTES: Final = 10_000_000
FILE = typer.Argument(..., help="a CSV file in UTF-8, with the columns named above in its first line")
CHECK = typer.Option(False, "--check", help="say what is wrong and what would be made, and write nothing")


def rows_of(file: Path, columns: Sequence[str], may_be: Sequence[str] = ()) -> tuple[list[Row], list[Bad]]:
    """Return the rows of a file and what is no row; end with one plain sentence where it can't be read."""
    from services.roster import read

    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        refuse(f"{file} can't be read: {error.strerror}")
    except UnicodeDecodeError as error:
        refuse(f"{file} is not in UTF-8, from byte {error.start} on; save it as CSV UTF-8")
    if len(data) > MAX_BYTES:
        refuse(f"{file} has more than {MAX_BYTES:,} bytes; cut it into several")
    return read(text, columns, may_be)


def end_with(bad: Sequence[Bad], file: Path, as_json: bool) -> None:
    """Name every bad row and end, where there is one."""
    if not bad:
        return
    in_order = sorted(bad)
    if as_json:
        say.rows([one._asdict() for one in in_order], as_json, "")
    else:
        for line, column, value, allowed in in_order:
            typer.echo(f"line {line}: {column} = {value!r} is not possible; allowed: {allowed}", err=True)
    lines = len({one.line for one in bad})
    refuse(
        f"{lines} line{'' if lines == 1 else 's'} of {file} can't be taken, and nothing was written; mend "
        f"{'it' if lines == 1 else 'them'} and try again with --check"
    )


def teams_of(at: Desk) -> list[str]:
    """Return the keys of the organisation's teams."""
    query = "SELECT key FROM care_team WHERE organisation_id = %s ORDER BY key LIMIT 1000"
    return [key for (key,) in at.connection.execute(query, [at.organisation_id]).fetchall()]
