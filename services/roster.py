"""Lists of people or patients as CSV, read whole: rows with exactly the columns asked for, and what is no such row."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final, NamedTuple

PEOPLE: Final = ("key", "name", "role", "team", "invite")
PATIENTS: Final = ("key", "name", "time_zone", "team", "device", "model")
MAY_BE: Final = ("device_class",)  # a column of patients that a file may leave out
MAX_ROWS: Final = 10_000

Cells = dict[str, str]  # by column, without spaces around


class Row(NamedTuple):
    """One person or patient, and the line of the file they begin on (from 1)."""

    line: int
    cells: Cells


class Bad(NamedTuple):
    """What can't be: where, what is there, and what may be there."""

    line: int
    column: str
    value: str
    allowed: str


def read(text: str, columns: Sequence[str], may_be: Sequence[str] = ()) -> tuple[list[Row], list[Bad]]:
    """Return the rows of a CSV with exactly these columns, in any order, and what is no such row.

    Columns that ``may_be`` there are empty where the file leaves them out.
    """
    rows: list[Row] = []
    bad: list[Bad] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    begin = 1
    try:
        for fields in reader:
            line, begin = begin, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = [field.strip().removeprefix("\ufeff") for field in fields]
                if sorted(header) != sorted({*columns, *(one for one in may_be if one in header)}):
                    also = f", and {','.join(may_be)} if you like" if may_be else ""
                    return [], [Bad(line, "header", ",".join(header), f"{','.join(columns)} in any order{also}")]
            elif len(fields) != len(header):
                bad.append(Bad(line, "row", ",".join(fields), f"{len(header)} fields, {','.join(header)}"))
            elif len(rows) == MAX_ROWS:
                return [], [Bad(line, "row", fields[0], f"{MAX_ROWS} rows a file; cut it into several")]
            else:
                cells = dict(zip(header, (field.strip() for field in fields), strict=True))
                rows.append(Row(line, dict.fromkeys(may_be, "") | cells))
    except csv.Error as error:
        bad.append(Bad(begin, "row", str(error), 'CSV with commas, and quotes (") around what has a comma in it'))
    if not header and not bad:
        bad.append(Bad(1, "header", "", ",".join(columns)))
    return rows, bad
