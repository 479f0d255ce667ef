"""One table and the numbers in it: the same on screen and, as Markdown, in ``docs/detection.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

BUDGETS: Final = ("0.1", "0.2", "0.3")


class Sheet(NamedTuple):
    """One table with the sentence above it."""

    text: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.text, ""]
        if self.rows:
            lines += [f"| {' | '.join(self.head)} |", "|" + "---|" * len(self.head)]
            lines += [f"| {' | '.join(row)} |" for row in self.rows]
            lines.append("")
        return "\n".join(lines) + "\n"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for what is unknown."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.0


def percent(value: float | None) -> str:
    """Return a share in whole per cent."""
    return "-" if value is None else f"{100 * value:.0f} %"


def between(value: float | None, ci: list[float | None], digits: int = 1) -> str:
    """Return a value with its interval."""
    return f"{number(value, digits)} ({number(ci[0], digits)} to {number(ci[1], digits)})"


def gap(row: Mapping[str, Any]) -> str:
    """Return points with their interval."""
    return between(row["points"], row["ci"])


def listed(words: Sequence[str]) -> str:
    """Return words as one reads them out.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def share(row: Mapping[str, Any]) -> str:
    """Return a share in percent with its interval."""
    low, high = (number(None if end is None else 100 * end, 1) for end in row["ci"])
    return f"{number(None if row['share'] is None else 100 * row['share'], 1)} % ({low} to {high})"
