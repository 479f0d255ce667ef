"""Write the tables of ``docs/operations.md`` anew from the list of metrics and the alarm rules (``make docs``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from services import metrics

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "operations.md"
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yaml"


def rules() -> list[dict[str, Any]]:
    """Return every alarm rule."""
    document = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def alarms() -> str:
    """Return the alarms as a table in Markdown."""
    rows = ["| alarm | severity | raised when | what to do |", "|---|---|---|---|"]
    for rule in rules():
        when = rule["expr"].replace("|", "\\|")
        lasting = f", for {rule['for']}" if "for" in rule else ""
        action = rule["annotations"]["action"]
        rows.append(f"| `{rule['alert']}` | {rule['labels']['severity']} | `{when}`{lasting} | {action} |")
    return "\n".join(rows) + "\n"


def filled(page: str) -> str:
    """Return the page with its tables as they should be."""
    for name, table in (("metrics", metrics.table()), ("alarms", alarms())):
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, mark, after = rest.partition(end)
        if not mark:
            msg = f"{PAGE} must hold the markers of {name}"
            raise ValueError(msg)
        page = before + begin + table + mark + after
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
