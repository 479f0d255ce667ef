"""A rules file: one layer as text, which version of it that is, and examples of what it finds.

What a layer can say is what `services.limits` checks; nothing is checked twice or otherwise here.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import msgspec

from services import layer
from services.layer import Layer, Own
from services.processor.individual import PROGRAMME
from services.rules import text

CLEARED: Final = "cleared"  # what an example expects where an alert ends
FOR: Final = "organisation, programme KEY or patient KEY"
Level = Literal["low", "medium", "high", "cleared"]


class Aim(NamedTuple):
    """Whose layer it is; ``key`` of the programme or patient, empty for the organisation."""

    layer: Layer
    key: str = ""

    @property
    def subject(self) -> str:
        """Return how a change names the layer.

        >>> Aim("programme", "heart").subject
        'programme/heart'
        """
        return PROGRAMME + self.key if self.layer == "programme" else self.layer

    def __str__(self) -> str:
        return f"{self.layer} {self.key}".strip()


def aim_of(words: object) -> Aim | None:
    """Return whom the words after ``for`` name, None where they name nobody.

    >>> aim_of("patient p20"), aim_of("organisation"), aim_of("ward 3")
    (Aim(layer='patient', key='p20'), Aim(layer='organisation', key=''), None)
    """
    match words.split() if isinstance(words, str) else ():
        case ["organisation"]:
            return Aim("organisation")
        case ["programme", key]:
            return Aim("programme", key)
        case ["patient", key]:
            return Aim("patient", key)
    return None


class Reading(NamedTuple):
    """One reading of an example, ``at_s`` seconds after it begins; the value in the catalogue's unit."""

    at_s: float
    metric: str
    value: float


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding: of which rule, when it is made, and the priority it has then, or that it is over."""

    rule: str
    at: str
    level: Level


class Example(NamedTuple):
    """Readings of somebody with a profile, and everything the limits are to find in them, in order."""

    name: str
    profile: dict[str, Any]
    readings: tuple[Reading, ...]
    expect: tuple[tuple[float, Expected], ...]  # with its instant in seconds
    line: int


class RulesFile(NamedTuple):
    """A whole file."""

    aim: Aim
    version: int
    rules: Own
    examples: tuple[Example, ...] = ()


def written(file: RulesFile) -> str:
    """Return a layer as the text of a file, without examples."""
    rules = {rule: _whole(setting) for rule, setting in layer.plain(file.rules).items()}
    return text.written({"for": str(file.aim), "version": file.version, "rules": rules})


def _whole(setting: dict[str, Any]) -> dict[str, Any]:
    """Return a setting with 92 for 92.0, and a budget as a number, as one writes it."""
    numbers = {key: float(setting[key]) for key in ("bound", "alert_budget") if key in setting}
    levels = [_int(level) for level in setting.get("levels", ())]
    return setting | {key: _int(number) for key, number in numbers.items()} | ({"levels": levels} if levels else {})


def _int(number: float) -> float:
    return int(number) if number == int(number) else number
