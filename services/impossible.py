"""What a person asks for that can't be: the field, its value, what is allowed. Doors and commands word it their way."""

from __future__ import annotations


class ImpossibleError(ValueError):
    """A value that is not allowed; ``field``, ``value`` and ``allowed`` say which, and what is."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field} = {value!r} is not allowed; allowed: {allowed}")
        self.field, self.value, self.allowed = field, value, allowed


def impossible(value: object, field: str, allowed: str) -> ImpossibleError:
    """Return the error of one value."""
    return ImpossibleError(field, value, allowed)
