"""The alert engine: findings to episodes, one open episode a patient and rule.

An alert's identity is UUIDv5(patient, rule, rule version, episode start). Safety findings on unsettled data make a
provisional alert at once; it becomes settled when the same episode is found on settled data, or withdrawn when late
rows removed its evidence. Nothing here resolves an alert without a ``cleared`` finding on good data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from detectors.explain import NAMES, patient_sentence, sentence
from detectors.protocol import Finding, Priority
from ingest.catalogue import catalogue
from services.processor.changes import Changes, PatientChange
from services.processor.hot import Episode, Held, Hot
from services.processor.records import AlertChange, AlertEvent, AlertRow, Change, Effects, Suppressed

NAMESPACE: Final = UUID("6f1d8c0e-4b0f-5c7e-9a53-1c1f0c0b7a11")
ORDER: Final[Mapping[Priority, int]] = {"low": 0, "medium": 1, "high": 2}


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


class Engine:
    """Turns findings into alert rows, changes and events of one batch."""

    def __init__(self, rules: Mapping[str, RuleFacts], effects: Effects, now_ms: int, changes: Changes) -> None:
        self._rules = rules
        self._effects = effects
        self._now_ms = now_ms
        self._changes = changes

    def settled(self, hot: Hot, patient_id: int, finding: Finding) -> None:
        """Take a finding on settled data: it is final."""
        self.end_monitoring(hot, patient_id, finding.at_ms)
        if finding.rule in hot.held and finding.change != "raised":
            _follow(hot, finding)
            return
        episode = _open(hot, finding.rule)
        if finding.change == "raised":
            if episode is not None and episode.start_ms == finding.start_ms:
                self._settle(hot, patient_id, episode, finding)
                return
            if episode is not None:
                self.withdraw(hot, patient_id, episode, finding.at_ms)
            self.raise_alert(hot, patient_id, finding, provisional=False)
        elif episode is not None and finding.change == "worsened":
            episode.settled = self._rules[finding.rule].priority[finding.level]
            self._worsen(hot, patient_id, episode, finding)
        elif episode is not None:
            self.resolve(hot, patient_id, episode, finding.at_ms, finding.evidence)

    def provisional(self, hot: Hot, patient_id: int, finding: Finding) -> None:
        """Take a finding on data that may still be reordered: it is told at once, and may be withdrawn."""
        episode = _open(hot, finding.rule)
        if finding.change == "worsened":
            if episode is not None:
                self._worsen(hot, patient_id, episode, finding)
        elif finding.change == "raised":
            if episode is not None and episode.provisional and episode.start_ms != finding.start_ms:
                self.withdraw(hot, patient_id, episode, finding.at_ms)
                episode = None
            if episode is None:
                self.raise_alert(hot, patient_id, finding, provisional=True)

    def take_back(
        self, hot: Hot, patient_id: int, rules: Iterable[str], found: Mapping[tuple[str, int], Priority]
    ) -> None:
        """Take back what unsettled data no longer bear out: a provisional alert, or only its worsening.

        ``found``: (rule, start) → the highest priority the unsettled data give.
        """
        for episode in [e for e in hot.episodes if e.rule in rules]:
            unsettled = found.get((episode.rule, episode.start_ms))
            if episode.settled is None and unsettled is None:
                self.withdraw(hot, patient_id, episode, episode.found_ms)
                continue
            borne_out = max((p for p in (episode.settled, unsettled) if p is not None), key=ORDER.__getitem__)
            if ORDER[borne_out] < ORDER[episode.priority]:
                episode.priority = borne_out
                self._change(hot, patient_id, episode, "settled", episode.found_ms, None)

    def raise_alert(
        self, hot: Hot, patient_id: int, finding: Finding, *, provisional: bool, late: bool = False
    ) -> None:
        """Open an episode (a late finding is only listed: it opens nothing).

        What the monitoring state keeps quiet is counted instead, and told when the state ends and it is still so.
        """
        facts = self._rules[finding.rule]
        if not self._changes.told(patient_id, finding.rule, finding.at_ms) or finding.at_ms < hot.ended_ms:
            if not provisional:
                self._suppress(hot, patient_id, finding, hold=facts.kind == "clinical" and not late)
            return
        evidence = {"utc_offset_min": hot.utc_offset_min, **finding.evidence}
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
        self._effects.alerts.append(row)
        if not late:
            hot.episodes.append(
                Episode(
                    str(identity), finding.rule, facts.kind, finding.start_ms, finding.at_ms, priority, provisional,
                    None if provisional else priority,
                    catalogue()[facts.metric].id if facts.metric else 0,
                )
            )  # fmt: skip
        self._event(hot, patient_id, identity, "raised", priority, finding.at_ms, row.sentence, late=late)

    def covers(self, patient_id: int, finding: Finding) -> bool:
        """Tell whether an alert of this very batch already stands for a finding's episode."""
        facts = self._rules[finding.rule]
        identity = alert_id(patient_id, finding.rule, facts.version, finding.start_ms)
        return any(row.id == identity for row in self._effects.alerts)

    def resolve(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int, evidence: dict[str, Any] | None) -> None:
        """Close an episode on good data."""
        hot.episodes.remove(episode)
        self._change(hot, patient_id, episode, "resolved", at_ms, evidence)

    def resolve_by_person(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int, change: PatientChange) -> None:
        """Close an episode because a person said so: a new normal, or the end of the monitoring."""
        hot.episodes.remove(episode)
        what = f"new normal for {NAMES[change.subject]}" if change.kind == "new_normal" else change.payload["state"]
        self._effects.changes.append(AlertChange(UUID(episode.alert_id), "resolved", at_ms, episode.priority))
        self._event(
            hot, patient_id, UUID(episode.alert_id), "resolved", episode.priority, at_ms,
            f"Resolved by a person: {what.replace('_', ' ')}", person_id=change.person_id,
        )  # fmt: skip

    def end_monitoring(self, hot: Hot, patient_id: int, up_to_ms: int) -> bool:
        """Resolve what is open where a person ended the monitoring by an instant; return whether anything was."""
        change = self._changes.closing(patient_id, up_to_ms) if self._changes.any_of(patient_id) else None
        if change is None or change.effective_ms <= hot.ended_ms:
            return False
        hot.ended_ms = change.effective_ms
        for episode in list(hot.episodes):
            self.resolve_by_person(hot, patient_id, episode, change.effective_ms, change)
        return True

    def resolve_late(self, hot: Hot, patient_id: int, finding: Finding) -> None:
        """Note where a late finding's episode ended."""
        facts = self._rules[finding.rule]
        identity = alert_id(patient_id, finding.rule, facts.version, finding.start_ms)
        self._effects.changes.append(AlertChange(identity, "resolved", finding.at_ms))
        self._event(hot, patient_id, identity, "resolved", facts.priority[finding.level], finding.at_ms, "", late=True)

    def withdraw(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int) -> None:
        """Take a provisional alert back; it stays visible and counted."""
        hot.episodes.remove(episode)
        self._change(hot, patient_id, episode, "withdrawn", at_ms, None)

    def unknown(self, hot: Hot, patient_id: int, episode: Episode, since_ms: int) -> None:
        """Say that an open alert's metric has gone quiet: active, now unknown since."""
        episode.unknown_since_ms = since_ms
        self._change(hot, patient_id, episode, "unknown", since_ms, None)

    def known(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int) -> None:
        """Say that data flow again for an open alert."""
        episode.unknown_since_ms = None
        self._change(hot, patient_id, episode, "known", at_ms, None)

    def _suppress(self, hot: Hot, patient_id: int, finding: Finding, *, hold: bool) -> None:
        evidence = {**finding.evidence, "utc_offset_min": hot.utc_offset_min}
        self._effects.suppressed.append(
            Suppressed(
                hot.organisation_id, patient_id, finding.rule, finding.start_ms, finding.at_ms,
                self._rules[finding.rule].priority[finding.level],
                self._changes.monitoring(patient_id, max(finding.at_ms, hot.ended_ms)),
                sentence(finding.rule, evidence),
            )
        )  # fmt: skip
        if hold and finding.at_ms >= hot.ended_ms:
            hot.held[finding.rule] = Held(finding.start_ms, finding.at_ms, finding.level, finding.evidence)

    def _settle(self, hot: Hot, patient_id: int, episode: Episode, finding: Finding) -> None:
        if episode.provisional:
            episode.provisional = False
            episode.found_ms = finding.at_ms
            episode.settled = self._rules[finding.rule].priority[finding.level]
            self._change(hot, patient_id, episode, "settled", finding.at_ms, finding.evidence)

    def _worsen(self, hot: Hot, patient_id: int, episode: Episode, finding: Finding) -> None:
        priority = self._rules[finding.rule].priority[finding.level]
        if ORDER[priority] > ORDER[episode.priority]:
            episode.priority = priority
            self._change(hot, patient_id, episode, "worsened", finding.at_ms, finding.evidence)

    def _change(
        self, hot: Hot, patient_id: int, episode: Episode, change: Change, at_ms: int, evidence: dict[str, Any] | None
    ) -> None:
        told = told_to_patient = None
        if evidence is not None:
            evidence = {"utc_offset_min": hot.utc_offset_min, **evidence}
            told = sentence(episode.rule, evidence)
            told_to_patient = patient_sentence(episode.rule, evidence)
        identity = UUID(episode.alert_id)
        self._effects.changes.append(
            AlertChange(identity, change, at_ms, episode.priority, told, told_to_patient, evidence)
        )
        self._event(hot, patient_id, identity, change, episode.priority, at_ms, told or "")

    def _event(
        self, hot: Hot, patient_id: int, identity: UUID, change: Change, priority: Priority, at_ms: int, told: str,
        *, late: bool = False, person_id: int | None = None,
    ) -> None:  # fmt: skip
        self._effects.events.append(
            AlertEvent(identity, hot.organisation_id, patient_id, change, priority, late, at_ms, told, person_id)
        )


def _follow(hot: Hot, finding: Finding) -> None:
    """Let a finding that is held become worse, or end."""
    held = hot.held.pop(finding.rule)
    if finding.change == "worsened":
        hot.held[finding.rule] = Held(held.start_ms, finding.at_ms, finding.level, finding.evidence)


def _open(hot: Hot, rule: str) -> Episode | None:
    return next((episode for episode in hot.episodes if episode.rule == rule), None)
