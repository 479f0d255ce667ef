"""Write the tables and sentences of ``docs/detection.md`` anew from the tasks' JSON (``make evaluate``).

Each JSON file of the folder fills the part of its name, and the one "in short" where its task has sentences; a part
without a file stays as it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from evaluation.brief import brief
from evaluation.tables import sheets

PAGE: Final = Path(__file__).parents[1] / "docs" / "detection.md"


def filled(page: str, documents: dict[str, dict[str, Any]]) -> str:
    """Return the page with the parts of these documents made anew.

    Raises:
        ValueError: the page does not hold a part's markers.
    """
    for name, document in documents.items():
        page = with_part(page, name, "evaluate", "".join(sheet.markdown() for sheet in sheets(document)))
        if said := brief(document):
            page = with_part(page, f"{name} in short", "evaluate", said)
    return page


def with_part(page: str, name: str, target: str, text: str) -> str:
    """Return the page with the part between the markers of ``name`` made anew by ``make TARGET``.

    Raises:
        ValueError: the page does not hold the markers.
    """
    begin, end = f"<!-- {name}: made by `make {target}` -->\n", f"<!-- end of {name} -->"
    before, opened, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        msg = f"{PAGE} must hold the markers of {name}: {begin.strip()} and {end}"
        raise ValueError(msg)
    return before + begin + text + end + after


def main(folder: Path) -> None:
    """Fill the page from a folder of JSON files."""
    documents = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}
    PAGE.write_text(filled(PAGE.read_text("utf-8"), documents), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
