"""What a batch writes of alerts: rows, changes, events and counts of what is kept quiet, with their sentences.

What is to be written is decided by the engine of ``episodes``. An alert's identity is UUIDv5(patient, rule, rule
version, episode start).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from detectors.explain import patient_sentence, sentence
from detectors.protocol import Finding, Priority
from services.processor import beside
from services.processor.changes import Changes
from services.processor.hot import Episode, Hot
from services.processor.records import AlertChange, AlertEvent, AlertRow, Change, Effects, Suppressed
from services.processor.watermark import offset_at

NAMESPACE: Final = UUID("6f1d8c0e-4b0f-5c7e-9a53-1c1f0c0b7a11")


def alert_id(patient_id: int, rule: str, version: int, start_ms: int) -> UUID:
    """Return the identity of an episode; the same input gives the same id on every run."""
    return uuid5(NAMESPACE, f"{patient_id}/{rule}/{version}/{start_ms}")


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What the engine needs to know of a rule."""

    version: int
    kind: Literal["clinical", "technical"]
    priority: tuple[Priority, ...]
    metric: str | None


class AlertRows:
    """Adds to the effects of one batch."""

    def __init__(self, rules: Mapping[str, RuleFacts], effects: Effects, now_ms: int, changes: Changes) -> None:
        self._rules = rules
        self._effects = effects
        self._now_ms = now_ms
        self._changes = changes

    def insert(self, hot: Hot, patient_id: int, finding: Finding, *, provisional: bool, late: bool) -> AlertRow:
        """Write a new alert, which takes the place of whatever became of it earlier in the batch."""
        facts = self._rules[finding.rule]
        evidence = self.whole(hot, patient_id, finding.rule, finding.at_ms, finding.evidence)
        identity = alert_id(patient_id, finding.rule, facts.version, finding.start_ms)
        priority = facts.priority[finding.level]
        row = AlertRow(
            id=identity, organisation_id=hot.organisation_id, patient_id=patient_id, rule=finding.rule,
            rule_version=facts.version, kind=facts.kind, priority=priority, state="active", provisional=provisional,
            late=late, started_ms=finding.start_ms, found_ms=finding.at_ms, raised_ms=self._now_ms,
            last_evidence_ms=finding.at_ms, unknown_since_ms=None, resolved_ms=None,
            sentence=sentence(finding.rule, evidence), patient_sentence=patient_sentence(finding.rule, evidence),
            evidence=evidence,
        )  # fmt: skip
        # Rows are written before changes: what became of this alert earlier in the batch is over.
        self._effects.changes[:] = [change for change in self._effects.changes if change.id != identity]
        self._effects.alerts.append(row)
        self.event(hot, patient_id, identity, "raised", priority, finding.at_ms, row.sentence, late=late)
        return row

    def change(
        self, hot: Hot, patient_id: int, episode: Episode, change: Change, at_ms: int, evidence: dict[str, Any] | None,
        *, late: bool = False,
    ) -> None:  # fmt: skip
        """Write what became of an episode's alert; ``evidence``: what its sentences are to say now, None: as before."""
        told = told_to_patient = None
        if evidence is not None:
            evidence = self.whole(hot, patient_id, episode.rule, at_ms, evidence)
            told = sentence(episode.rule, evidence)
            told_to_patient = patient_sentence(episode.rule, evidence)
        for each in filter(None, (episode.alert_id, episode.told_id)):
            self._effects.changes.append(
                AlertChange(UUID(each), change, at_ms, episode.priority, told, told_to_patient, evidence)
            )
        identity = UUID(episode.told_id or episode.alert_id)  # people know of one of them
        late = late or episode.late
        self.event(hot, patient_id, identity, change, episode.priority, at_ms, told or "", late=late)

    def event(
        self, hot: Hot, patient_id: int, identity: UUID, change: Change, priority: Priority, at_ms: int, told: str,
        *, late: bool = False, person_id: int | None = None,
    ) -> None:  # fmt: skip
        """Write what the streams and the notifier hear of an alert."""
        self._effects.events.append(
            AlertEvent(identity, hot.organisation_id, patient_id, change, priority, late, at_ms, told, person_id)
        )

    def suppress(self, hot: Hot, patient_id: int, finding: Finding) -> None:
        """Count a finding that the monitoring state keeps quiet."""
        evidence = self.whole(hot, patient_id, finding.rule, finding.at_ms, finding.evidence)
        evidence["utc_offset_min"] = offset_at(hot, finding.at_ms)
        self._effects.suppressed.append(
            Suppressed(
                hot.organisation_id, patient_id, finding.rule, finding.start_ms, finding.at_ms,
                self._rules[finding.rule].priority[finding.level],
                self._changes.quiet_by(patient_id, finding.rule, finding.at_ms) or "active",
                sentence(finding.rule, evidence),
            )
        )  # fmt: skip

    def has(self, patient_id: int, finding: Finding) -> bool:
        """Tell whether an alert of this very batch already stands for a finding's episode."""
        facts = self._rules[finding.rule]
        identity = alert_id(patient_id, finding.rule, facts.version, finding.start_ms)
        return any(row.id == identity for row in self._effects.alerts)

    def words(self, identity: UUID) -> str:
        """Return what this batch says of an alert so far, empty where it says nothing."""
        changed = [one.sentence for one in self._effects.changes if one.id == identity and one.sentence]
        raised = [row.sentence for row in self._effects.alerts if row.id == identity]
        return (changed or raised or [""])[-1]

    def whole(self, hot: Hot, patient_id: int, rule: str, at_ms: int, evidence: dict[str, Any]) -> dict[str, Any]:
        """Return what a finding tells, with the wearer's offset and what happened to the person that may bear on it."""
        said = beside.told(self._changes, patient_id, self._rules[rule].metric, at_ms, evidence)
        return {"utc_offset_min": offset_at(hot, at_ms), **evidence, **said}
