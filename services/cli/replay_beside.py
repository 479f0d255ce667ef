"""Detectors chosen by name, of other packages too, over a recording beside those that always run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from detectors import registry
from detectors.explain import sentence
from detectors.protocol import DayValues, Detector, Finding, HourSlice, Priority
from services.processor.alert_rows import alert_id
from services.processor.in_memory import Day
from services.processor.records import AlertChange, AlertRow, Effects
from simulators.recording import Recording

ALWAYS: Final = ("limits", "news2", "pipeline", "weight_gain")
LEVELS: Final[tuple[Priority, ...]] = ("low", "medium", "high")


def chosen(names: Sequence[str]) -> list[Detector[Any]]:
    """Return the detectors of these names.

    Raises:
        NotADetector: unknown, broken, running anyway, or not for a recording's readings.
    """
    made = []
    for name in names:
        if name in ALWAYS:
            msg = f"--detector {name}: it always runs; leave it out"
            raise registry.NotADetector(msg)
        detector = registry.load(name)()
        if detector.takes is DayValues:
            msg = f"--detector {name}: it takes DayValues, which no recording holds; allowed are Readings, HourSlice"
            raise registry.NotADetector(msg)
        made.append(detector)
    return made


class Beside:
    """What the chosen detectors find, day by day, as alerts like any other."""

    def __init__(self, detectors: Sequence[Detector[Any]], recordings: Sequence[Recording]) -> None:
        self._each = [(detector, detector.new_state(len(recordings))) for detector in detectors]
        self._recordings = recordings

    def take(self, day: Day) -> Effects:
        """Judge one day of everybody."""
        effects = Effects(recorded_ms=0)
        for detector, state in self._each:
            for given in day.slices if detector.takes is HourSlice else [day.readings()]:
                for finding in detector.update(state, given):
                    self._note(effects, finding)
        return effects

    def _note(self, effects: Effects, finding: Finding) -> None:
        identity = alert_id(finding.row, finding.rule, 1, finding.start_ms)
        if finding.change == "cleared":
            effects.changes.append(AlertChange(identity, "resolved", finding.at_ms))
            return
        evidence = {"utc_offset_min": self._recordings[finding.row].offset_at(finding.at_ms), **finding.evidence}
        told = evidence.get("sentence") or sentence(finding.rule, evidence)
        priority = LEVELS[finding.level]
        if finding.change == "worsened":
            worse = AlertChange(identity, "worsened", finding.at_ms, priority, told, evidence=evidence)
            effects.changes.append(worse)
            return
        effects.alerts.append(
            AlertRow(
                id=identity, organisation_id=0, patient_id=finding.row, rule=finding.rule, rule_version=1,
                kind="clinical", priority=priority, state="active", provisional=False, late=False,
                started_ms=finding.start_ms,
                found_ms=finding.at_ms, raised_ms=0, last_evidence_ms=finding.at_ms, unknown_since_ms=None,
                resolved_ms=None, sentence=told, patient_sentence="", evidence=evidence,
            )
        )  # fmt: skip
