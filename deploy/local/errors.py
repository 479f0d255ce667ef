"""The one error of the local stack, and how progress is told."""

from __future__ import annotations

from collections.abc import Callable

# (server or part, what is being done)
Report = Callable[[str, str], None]


class StackError(RuntimeError):
    """The stack cannot do what was asked; the text names the value, what is allowed and the next step."""


def silent(_part: str, _text: str) -> None:
    """Report nothing."""
