"""Write the tables of ``docs/access.md`` anew from the permissions themselves (``make docs``)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.api.permissions import FIELDS, PERMISSIONS
from services.roles import ROLES

PAGE: Final = Path(__file__).parents[1] / "docs" / "access.md"
BEGIN, END = "<!-- made by `make docs` -->\n", "<!-- end -->"


def tables() -> str:
    """Return both tables as Markdown: how far each action reaches by role, then what each role sees of what."""
    lines = ["| action | " + " | ".join(ROLES) + " |", "|---" * (len(ROLES) + 1) + "|"]
    for action, by_role in PERMISSIONS.items():
        lines.append(f"| `{action}` | " + " | ".join("" if far == "-" else far for far in by_role.values()) + " |")
    lines += ["", "| role | of what | fields |", "|---|---|---|"]
    for role in ROLES:
        kinds = FIELDS.get(role, {"everything it may read": "*"}) or {"nothing": ""}
        for kind, fields in kinds.items():
            lines.append(f"| {role} | {kind} | {'all' if fields == '*' else ', '.join(fields.split())} |")
    return "\n".join(lines) + "\n"


def filled(page: str) -> str:
    """Return the page with its tables as they should be."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"{PAGE} must hold the markers {BEGIN.strip()} and {END}"
        raise ValueError(msg)
    return before + begin + tables() + end + after


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
