"""Write the tables of ``docs/detection.md`` anew from the tasks' JSON (``make evaluate``).

Each JSON file of the folder fills the part of its name; a part without a file stays as it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from evaluation.tables import sheets

PAGE: Final = Path(__file__).parents[1] / "docs" / "detection.md"


def filled(page: str, documents: dict[str, dict[str, Any]]) -> str:
    """Return the page with the parts of these documents made anew.

    Raises:
        ValueError: the page does not hold a part's markers.
    """
    for name, document in documents.items():
        begin, end = f"<!-- {name}: made by `make evaluate` -->\n", f"<!-- end of {name} -->"
        before, opened, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not opened or not closed:
            msg = f"{PAGE} must hold the markers of {name}: {begin.strip()} and {end}"
            raise ValueError(msg)
        page = before + begin + "".join(sheet.markdown() for sheet in sheets(document)) + end + after
    return page


def main(folder: Path) -> None:
    """Fill the page from a folder of JSON files."""
    documents = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}
    PAGE.write_text(filled(PAGE.read_text("utf-8"), documents), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
