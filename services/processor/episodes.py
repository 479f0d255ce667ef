"""The alert engine: findings to episodes, one open episode a patient and rule.

Safety findings on unsettled data make a provisional alert at once; it becomes settled when the same episode is found
on settled data, or withdrawn when late rows removed its evidence. Nothing here resolves an alert without a ``cleared``
finding on good data. What comes of it is written by ``alert_rows``.

What is found on history opens an episode that is listed as late; if it still lasts when its patient is live again, it
is told then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from detectors.protocol import Finding, Priority
from detectors.rules import ADAPTIVE, DRIFTS, NEWS2_HIGH, NIGHT_FALLS
from detectors.wording import NAMES
from ingest.catalogue import catalogue
from services.monitoring import group_of
from services.processor.alert_rows import AlertRows, RuleFacts, alert_id
from services.processor.change import PatientChange, at_hour_ms
from services.processor.changes import Changes
from services.processor.hot import Episode, Held, Hot
from services.processor.lateness import Receipts, Revealed
from services.processor.records import AlertChange, Change, Effects
from services.processor.watermark import offset_at

NEVER_MS: Final = 1 << 50  # older than this nothing is
OUTLASTS_ANSWERS: Final = frozenset(rule.id for rule in (*DRIFTS, NIGHT_FALLS))
"""Rules whose level stays told when "new normal" ended the alert: at the next level none is left to become worse."""
ORDER: Final[Mapping[Priority, int]] = {"low": 0, "medium": 1, "high": 2}


class Engine:
    """Turns findings into alert rows, changes and events of one batch."""

    def __init__(
        self,
        rules: Mapping[str, RuleFacts],
        effects: Effects,
        now_ms: int,
        changes: Changes,
        receipts: Receipts | None = None,
    ) -> None:
        """Take the batch's ``receipts``; without any, nothing is late."""
        self._rules = rules
        self._effects = effects
        self._rows = AlertRows(rules, effects, now_ms, changes)
        self._changes = changes
        self._receipts = Receipts(NEVER_MS) if receipts is None else receipts
        self._hushed_at: dict[str, int] = {}  # alert id → the frame that revealed what was hushed in this batch
        self.unspoken: list[int] = []  # places in ``effects.events`` whose sentence has to be looked up

    def revealed(self, slot: int, mark_ms: int, metric_id: int | None = None) -> Revealed | None:
        """Return the frame that moved the patient's mark, or a metric's, past an instant."""
        return self._receipts.revealed(slot, mark_ms, metric_id)

    def settled(self, hot: Hot, patient_id: int, finding: Finding, revealed: Revealed | None = None) -> None:
        """Take a finding on settled data: it is final."""
        self.pass_on(finding.row, hot, patient_id, finding.rule, finding.at_ms)
        if finding.rule in hot.held and finding.change != "raised":
            _follow(hot, finding)
            return
        finding = self.since_told(patient_id, finding)
        episode = _open(hot, finding.rule)
        if episode is not None and revealed is not None:
            self.tell_if_live(hot, patient_id, finding.row, episode, before=revealed.place)
        if finding.change == "worsened" and episode is None and finding.rule in OUTLASTS_ANSWERS:
            finding = replace(finding, change="raised", evidence={**finding.evidence, "change": "raised"})
        if finding.change == "raised":
            quiet = self._is_quiet(hot, patient_id, finding)  # a change may have come after it was told provisionally
            if episode is not None and episode.start_ms == finding.start_ms and not quiet:
                self._settle(hot, patient_id, episode, finding, revealed)
                return
            if episode is not None:
                self.withdraw(hot, patient_id, episode, finding.at_ms)
            self.raise_alert(hot, patient_id, finding, provisional=False, revealed=revealed)
        elif episode is not None and finding.change == "worsened":
            episode.settled = self._rules[finding.rule].priority[finding.level]
            episode.evidence = finding.evidence
            if episode.priority == episode.settled:  # told already, perhaps in the words of data that were not all
                evidence = {"utc_offset_min": offset_at(hot, finding.at_ms), **finding.evidence}
                self._rows.change(hot, patient_id, episode, "settled", episode.found_ms, evidence)
            else:
                self._worsen(hot, patient_id, episode, finding, revealed)
        elif episode is not None:
            self._lower(hot, patient_id, episode, episode.settled)
            self.resolve(hot, patient_id, episode, finding.at_ms, finding.evidence)

    def provisional(self, hot: Hot, patient_id: int, finding: Finding) -> None:
        """Take a finding on data that may still be reordered: it is told at once, and may be withdrawn.

        One that is raised has been through `since_told`.
        """
        episode, revealed = _open(hot, finding.rule), self._receipts.newest(finding.row, hot)
        if finding.change == "worsened":
            if episode is not None and not self._is_quiet(hot, patient_id, finding):
                self._worsen(hot, patient_id, episode, finding, revealed)
        elif finding.change == "raised":
            if episode is not None and episode.provisional and episode.start_ms != finding.start_ms:
                self.withdraw(hot, patient_id, episode, finding.at_ms)
                episode = None
            if episode is None and finding.at_ms >= hot.ended_ms:  # else nobody waits for it: it is listed once settled
                self.raise_alert(hot, patient_id, finding, provisional=True, revealed=revealed)
            elif episode is not None and episode.provisional and not self._is_quiet(hot, patient_id, finding):
                self._worsen(hot, patient_id, episode, finding, revealed)

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
            self._lower(hot, patient_id, episode, borne_out)

    def _lower(self, hot: Hot, patient_id: int, episode: Episode, borne_out: Priority | None) -> None:
        """Take back a worsening that was told and that the data, as far as they are known now, do not bear out."""
        if borne_out is not None and ORDER[borne_out] < ORDER[episode.priority]:
            episode.priority = borne_out
            words = episode.evidence if episode.settled == borne_out else None
            self._rows.change(hot, patient_id, episode, "settled", episode.found_ms, words)

    def raise_alert(
        self, hot: Hot, patient_id: int, finding: Finding, *, provisional: bool, revealed: Revealed | None = None
    ) -> None:
        """Open an episode; one that history revealed, or the end of the monitoring overtook, is listed as late.

        What the monitoring state keeps quiet is counted instead, and told when the state ends and it is still so.
        """
        if self._is_quiet(hot, patient_id, finding):
            if not provisional:
                self._suppress(hot, patient_id, finding, hold=self._said_once(finding.rule))
            return
        finding = self.since_told(patient_id, finding)
        over = finding.at_ms < hot.ended_ms
        late = over or self._receipts.is_late(revealed, finding.at_ms)
        row = self._rows.insert(hot, patient_id, finding, provisional=provisional, late=late)
        metric = self._rules[finding.rule].metric
        episode = Episode(
            str(row.id), finding.rule, row.kind, finding.start_ms, finding.at_ms, row.priority, provisional,
            None if provisional else row.priority, catalogue()[metric].id if metric else 0, late=late,
            evidence=None if provisional or not self._said_once(finding.rule) else finding.evidence,
        )  # fmt: skip
        hot.episodes.append(episode)
        if late and not over and revealed is not None:
            self._hush(episode, revealed)

    def list_late(self, hot: Hot, patient_id: int, finding: Finding) -> bool:
        """List a finding on a stretch of data behind the watermark, unless it is kept quiet; it opens no episode."""
        if self._is_quiet(hot, patient_id, finding):
            self._suppress(hot, patient_id, finding, hold=False)
            return False
        self._rows.insert(hot, patient_id, finding, provisional=False, late=True)
        return True

    def _said_once(self, rule: str) -> bool:
        """Tell whether a finding comes once, from the detectors; the other technical ones come anew while they last."""
        return self._rules[rule].kind == "clinical" or rule in ADAPTIVE

    def _is_quiet(self, hot: Hot, patient_id: int, finding: Finding) -> bool:
        return not self._changes.told(patient_id, finding.rule, finding.at_ms)

    def tell_if_live(self, hot: Hot, patient_id: int, slot: int, episode: Episode, before: int | None = None) -> None:
        """Tell an episode that was listed as late, if its patient was live while it lasted.

        ``before``: the noted frame that ended it, or changed it; None: it lasts.
        """
        if not episode.hushed or not self._receipts.live_within(slot, self._hushed_at.get(episode.alert_id, 0), before):
            return
        change: Change = "raised" if episode.late else "worsened"
        episode.hushed = episode.late = False
        identity = UUID(episode.told_id or episode.alert_id)
        self._effects.changes.append(AlertChange(identity, change, episode.found_ms, episode.priority))
        words = self._rows.words(identity)
        if not words:
            self.unspoken.append(len(self._effects.events))
        self._rows.event(hot, patient_id, identity, change, episode.priority, episode.found_ms, words)

    def tell_the_live(self, slot: int, hot: Hot, patient_id: int) -> None:
        """At the end of a batch: tell what was listed as late and lasts, if the patient is live again."""
        for episode in hot.episodes:
            self.tell_if_live(hot, patient_id, slot, episode)

    def covers(self, patient_id: int, finding: Finding) -> bool:
        """Tell whether an alert of this very batch already stands for a finding's episode."""
        return self._rows.has(patient_id, finding)

    def resolve(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int, evidence: dict[str, Any] | None) -> None:
        """Close an episode on good data."""
        hot.episodes.remove(episode)
        self._rows.change(hot, patient_id, episode, "resolved", at_ms, evidence)

    def resolve_by_person(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int, change: PatientChange) -> None:
        """Close an episode because a person said so: a new normal, or the end of the monitoring."""
        hot.episodes.remove(episode)
        what = f"new normal for {NAMES[change.subject]}" if change.kind == "new_normal" else change.payload["state"]
        for each in filter(None, (episode.alert_id, episode.told_id)):
            self._effects.changes.append(AlertChange(UUID(each), "resolved", at_ms, episode.priority))
        self._rows.event(
            hot, patient_id, UUID(episode.told_id or episode.alert_id), "resolved", episode.priority, at_ms,
            f"Resolved by a person: {what.replace('_', ' ')}", person_id=change.person_id,
        )  # fmt: skip

    def end_monitoring(self, hot: Hot, patient_id: int, up_to_ms: int) -> bool:
        """Resolve what is open where a person ended the monitoring by an instant; return whether that is news."""
        change = self._changes.closing(patient_id, up_to_ms)
        if change is None:
            return False
        news = change.effective_ms > hot.ended_ms
        hot.ended_ms = max(change.effective_ms, hot.ended_ms)
        ended = [self._end(hot, patient_id, episode, up_to_ms) for episode in [*hot.episodes]]
        return news or any(ended)

    def pass_on(self, slot: int, hot: Hot, patient_id: int, rule: str, up_to_ms: int) -> None:
        """Carry one rule on to an instant up to which it has been judged, as people changed the monitoring by then.

        What a person ended is ended there, what was kept quiet is told where it may be. Each rule on its own time line:
        so it makes no difference which of the others was judged further in this batch. While what is usual is learned
        anew, nobody knows whether what was kept quiet is still so.
        """
        if not self._changes.any_of(patient_id):
            return
        unknown = hot.anew_ms is not None and rule in ADAPTIVE
        while True:
            episode, held = _open(hot, rule), None if unknown else hot.held.get(rule)
            if episode is not None and self._end(hot, patient_id, episode, up_to_ms):
                continue
            told = None if held is None else self._changes.first_told(patient_id, rule, held.at_ms, up_to_ms)
            if held is None or told is None or at_hour_ms(told) > up_to_ms:
                return
            del hot.held[rule]
            finding = Finding(slot, rule, "raised", held.start_ms, at_hour_ms(told), held.level, held.evidence)
            self.raise_alert(hot, patient_id, finding, provisional=False)

    def pass_all_on(self, slot: int, hot: Hot, patient_id: int) -> None:
        """At the end of a batch: carry every rule on to its mark."""
        if not self._changes.any_of(patient_id):
            return
        ended = self._changes.closing(patient_id, hot.settled_ms - 1)
        hot.ended_ms = max(hot.ended_ms, 0 if ended is None else ended.effective_ms)
        for rule in {episode.rule for episode in hot.episodes} | hot.held.keys():
            metric = self._rules[rule].metric
            of_metric = metric and group_of(rule) == "safety" and rule != NEWS2_HIGH.id
            mark = hot.judged.get(catalogue()[metric].id) if metric and of_metric else None
            self.pass_on(slot, hot, patient_id, rule, (hot.settled_ms if mark is None else mark) - 1)

    def _end(self, hot: Hot, patient_id: int, episode: Episode, up_to_ms: int) -> bool:
        """Resolve an episode by the first end of the monitoring after it was found; should it last, it is held."""
        change = self._changes.closing_after(patient_id, episode.found_ms, up_to_ms)
        if change is None:
            return False
        if episode.worse_ms >= change.effective_ms:  # it became worse when nobody was to be told any more
            self._lower(hot, patient_id, episode, episode.settled)
        self.resolve_by_person(hot, patient_id, episode, change.effective_ms, change)
        if episode.evidence is not None and episode.settled is not None:
            level = self._rules[episode.rule].priority.index(episode.settled)
            hot.held[episode.rule] = Held(episode.start_ms, change.effective_ms, level, episode.evidence)
        return True

    def since_told(self, patient_id: int, finding: Finding) -> Finding:
        """Return a finding that outlasted the end of a monitoring as one of the monitoring that followed.

        The episode people ended stays ended; what lasts begins another one where it may be told again.
        """
        ended = self._changes.closing(patient_id, finding.at_ms) if self._changes.any_of(patient_id) else None
        if ended is None or finding.start_ms >= ended.effective_ms:
            return finding
        told = self._changes.first_told(patient_id, finding.rule, ended.effective_ms, finding.at_ms)
        return finding if told is None else replace(finding, start_ms=told)

    def resolve_late(self, hot: Hot, patient_id: int, finding: Finding) -> None:
        """Note where a late finding's episode ended."""
        facts = self._rules[finding.rule]
        identity = alert_id(patient_id, finding.rule, facts.version, finding.start_ms)
        self._effects.changes.append(AlertChange(identity, "resolved", finding.at_ms))
        self._rows.event(
            hot, patient_id, identity, "resolved", facts.priority[finding.level], finding.at_ms, "", late=True
        )

    def withdraw(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int) -> None:
        """Take a provisional alert back; it stays visible and counted."""
        hot.episodes.remove(episode)
        self._rows.change(hot, patient_id, episode, "withdrawn", at_ms, None)

    def unknown(self, hot: Hot, patient_id: int, episode: Episode, since_ms: int) -> None:
        """Say that an open alert's metric has gone quiet: active, now unknown since."""
        episode.unknown_since_ms = since_ms
        self._rows.change(hot, patient_id, episode, "unknown", since_ms, None)

    def known(self, hot: Hot, patient_id: int, episode: Episode, at_ms: int) -> None:
        """Say that data flow again for an open alert."""
        episode.unknown_since_ms = None
        self._rows.change(hot, patient_id, episode, "known", at_ms, None)

    def _suppress(self, hot: Hot, patient_id: int, finding: Finding, *, hold: bool) -> None:
        self._rows.suppress(hot, patient_id, finding)
        if hold:
            hot.held[finding.rule] = Held(finding.start_ms, finding.at_ms, finding.level, finding.evidence)

    def _settle(self, hot: Hot, patient_id: int, episode: Episode, finding: Finding, revealed: Revealed | None) -> None:
        if episode.provisional:
            episode.provisional = False
            episode.found_ms = finding.at_ms
            episode.settled = self._rules[finding.rule].priority[finding.level]
            episode.evidence = finding.evidence
            worse = ORDER[episode.priority] > ORDER[episode.settled]  # told already: its words stand for it
            self._rows.change(hot, patient_id, episode, "settled", finding.at_ms, None if worse else finding.evidence)
            if episode.late and revealed is not None:
                self._hush(episode, revealed)
            self._worsen(hot, patient_id, episode, finding, revealed)  # its limit may have become a stricter one

    def _worsen(self, hot: Hot, patient_id: int, episode: Episode, finding: Finding, revealed: Revealed | None) -> None:
        priority = self._rules[finding.rule].priority[finding.level]
        if ORDER[priority] > ORDER[episode.priority]:
            episode.priority, episode.worse_ms = priority, finding.at_ms
            late = self._receipts.is_late(revealed, finding.at_ms)
            self._rows.change(hot, patient_id, episode, "worsened", finding.at_ms, finding.evidence, late=late)
            if late and revealed is not None:
                self._hush(episode, revealed)

    def _hush(self, episode: Episode, revealed: Revealed) -> None:
        episode.hushed = True
        self._hushed_at[episode.alert_id] = revealed.place


def _follow(hot: Hot, finding: Finding) -> None:
    """Let a finding that is held become worse, or end."""
    held = hot.held.pop(finding.rule)
    if finding.change == "worsened":
        hot.held[finding.rule] = Held(held.start_ms, finding.at_ms, finding.level, finding.evidence)


def _open(hot: Hot, rule: str) -> Episode | None:
    return next((episode for episode in hot.episodes if episode.rule == rule), None)
