"""What is wrong in a rules file: gathered with its line, its key, its value, what is allowed and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NamedTuple

Place = tuple[str | int, ...]  # from the top: keys, and places in lists


class Trouble(NamedTuple):
    """What is wrong in a file: where, what it says, what is allowed there, and what to do next."""

    line: int
    key: str
    value: object
    allowed: str
    next_step: str

    def __str__(self) -> str:
        said = "" if self.value is ... else f" = {_short(self.value)}"
        return f"line {self.line}: {self.key}{said} is not allowed; allowed: {self.allowed}. Next: {self.next_step}"


class RulesFileError(ValueError):
    """A file can't be what it is meant to be; ``troubles`` says all of it that can be told at once."""

    def __init__(self, troubles: list[Trouble]) -> None:
        super().__init__("\n".join(map(str, troubles)))
        self.troubles = troubles


class Document(NamedTuple):
    """What a file says, and on which line each key and each entry of a list begins."""

    said: Any
    lines: dict[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest one around it."""
        return next(self.lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.lines)


class Check:
    """Goes through a document and gathers what is wrong in it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.troubles: list[Trouble] = []

    def refuse(self, place: Place, value: object, allowed: str, next_step: str) -> None:
        """Say that a value is not allowed at a place; ``...``: it is the key that is not."""
        self.troubles.append(Trouble(self.document.line(place), dotted(place), value, allowed, next_step))

    def keys(
        self, place: Place, said: Iterable[str], known: Iterable[str], hints: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Refuse each key of a map that is none of those known; ``hints``: the next step for some of them."""
        known = tuple(known)
        for key in said:
            if key not in known:
                self.refuse((*place, key), ..., ", ".join(known), hints.get(key) or nearest(key, known))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the next step for a word that is not known: the ones it is nearest to, or to leave it out.

    >>> nearest("spo2_lo", ["spo2_low", "fever", "systolic_low"])
    'write spo2_low or systolic_low, or leave it out'
    """
    near = get_close_matches(word, known, cutoff=0.5)
    return f"write {' or '.join(near)}, or leave it out" if near else "leave it out"


def dotted(place: Place) -> str:
    """Return a place as people write it.

    >>> dotted(("rules", "fever", "levels", 0))
    'rules.fever.levels[0]'
    """
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return words.removeprefix(".") or "the file"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
