"""Runs an example of a rules file through the code that judges people's readings, and says where it differs."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

import numpy as np

from detectors.adult_limits import Limit
from detectors.explain import sentence
from detectors.limit_sets import Standing
from detectors.limits import Limits
from detectors.protocol import Finding
from ingest.catalogue import catalogue
from ingest.clock import to_ms
from ingest.frame import GOOD
from services import adaptive, layer
from services.limits import LIMITS
from services.processor import individual, safety
from services.processor.change import PatientChange
from services.processor.readings import Table
from services.rules.examples import BEGINS
from services.rules.form import Example, RulesFile

START_MS: Final = to_ms(BEGINS)
_JUDGE: Final = Limits()


class Found(NamedTuple):
    """A finding as an example expects it; ``sentence`` is what the care team would read."""

    at_s: float
    rule: str
    level: str
    sentence: str = ""

    def __str__(self) -> str:
        told = f" ({self.sentence})" if self.sentence else ""
        return f"{self.rule} {self.level} at {duration(self.at_s)}{told}"


class Outcome(NamedTuple):
    """What an example came to: what was expected and not found, and what was found and not expected."""

    example: Example
    missing: list[Found]
    surplus: list[Found]

    @property
    def holds(self) -> bool:
        """Whether exactly what was expected was found."""
        return not self.missing and not self.surplus


def tried(file: RulesFile, example: Example) -> Outcome:
    """Run one example: everybody's limits, the file's layer, and the example's profile."""
    expected = [Found(at_s, one.rule, one.level) for at_s, one in example.expect]
    found = [_as_expected(finding) for finding in _findings(file, example)]
    return Outcome(example, _less(expected, found), _less(found, expected))


def untested(file: RulesFile) -> list[str]:
    """Return what a file says that no example can test: what is found weeks of nights later."""
    return [f"{rule}.{field}" for rule in adaptive.RULES if rule in file.rules for field in adaptive.fields_of(rule)]


def duration(seconds: float) -> str:
    """Return a time since the beginning as an example says it.

    >>> duration(5400), duration(300), duration(0), duration(90)
    ('1 h 30 min', '5 min', '0 min', '1 min 30 s')
    """
    hours, minutes, rest = int(seconds // 3600), int(seconds % 3600 // 60), seconds % 60
    parts = [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if minutes else []
    parts += [f"{rest:g} s"] if rest else []
    return " ".join(parts) or "0 min"


def _findings(file: RulesFile, example: Example) -> list[Finding]:
    said = {"rules": layer.plain(file.rules)}
    changes = [PatientChange(START_MS, 1, "limits", file.aim.subject, said, None)]
    if example.profile:
        changes.append(PatientChange(START_MS, 2, "profile", "", example.profile, None))
    standing = Standing(_JUDGE.everybody, {0: individual.timeline(changes)})
    return _JUDGE.advance(_JUDGE.new_state(1), safety.readings_of(_table(example)), standing)


def _table(example: Example) -> Table:
    """Return the readings as the processor holds them, in order of time."""
    said, n = sorted(example.readings), len(example.readings)
    return Table(
        np.zeros(n, np.intp),
        np.ones(n, np.int32),
        np.array([catalogue()[reading.metric].id for reading in said], np.int16),
        np.array([START_MS + round(reading.at_s * 1000) for reading in said], np.int64),
        np.array([reading.value for reading in said], np.float32),
        np.full(n, GOOD, np.uint8),
        np.full(n, -1, np.int32),
    )


def _as_expected(finding: Finding) -> Found:
    limit: Limit = LIMITS[finding.rule]
    level = "cleared" if finding.change == "cleared" else limit.levels[finding.level][1]
    told = sentence(finding.rule, {"utc_offset_min": 0, **finding.evidence})
    return Found((finding.at_ms - START_MS) / 1000, finding.rule, level, told)


def _less(these: list[Found], those: list[Found]) -> list[Found]:
    """Return those of the first list that the second does not hold, each as often."""
    left = Counter(found[:3] for found in those)
    kept = []
    for found in these:
        if left[found[:3]]:
            left[found[:3]] -= 1
        else:
            kept.append(found)
    return kept
