"""What was told, and what all data show: the alerts of a rebuilt span matched with those that exist.

By rule and overlap. An alert people were told of stays as it was told: it is updated where the rebuilt episode is the
very same, linked by ``revised_by`` to the rebuilt one where late data moved its beginning, and withdrawn where
nothing is left of it. What nobody was told of is listed as late. Told are only a finding of `LASTS` that is still so
while its patient is live, and what was held back until what is usual was learned anew, while it lasts or is of today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from detectors.rules import ADAPTIVE, DRIFTS, REST_HEART_HOURS, RULES, SHIFTS
from services.processor.episodes import ORDER
from services.processor.hot import Episode
from services.processor.records import (
    AlertChange,
    AlertEvent,
    AlertRevision,
    AlertRow,
    Change,
    Effects,
    KnownAlert,
)

NOT_BORNE_OUT: Final = "data that came later do not bear this out"
CHANGED_RULE: Final = "the rule has been changed since, and does not find this any more"
FOREVER_MS: Final = 1 << 50
LASTS: Final = frozenset(rule.id for rule in RULES.values() if rule.kind == "safety" or rule in (*DRIFTS, *SHIFTS))
SAFETY: Final = frozenset(rule.id for rule in RULES.values() if rule.kind == "safety")
TOLD: Final[tuple[Change, ...]] = ("raised", "worsened", "resolved", "withdrawn")  # the others are corrections
SEEN: Final = (
    "priority", "state", "provisional", "late", "found_ms", "unknown_since_ms", "resolved_ms", "sentence",
    "patient_sentence", "evidence",
)  # fmt: skip


def rebuilt_rows(
    rows: Iterable[AlertRow], changes: Iterable[AlertChange], carried: Mapping[UUID, AlertRow]
) -> dict[UUID, AlertRow]:
    """Return the alerts of a replay as they stand at its end: id → row.

    ``carried``: the stored rows of episodes that were open where the replay began; they are as open as then.
    """
    found = {
        identity: replace(row, state="active", resolved_ms=None, unknown_since_ms=None)
        for identity, row in carried.items()
    }
    for row in rows:
        found[row.id] = replace(row)
    for change in changes:
        if change.id not in found:
            continue
        row = found[change.id]
        row.last_evidence_ms = max(row.last_evidence_ms, change.at_ms)
        row.priority = change.priority or row.priority
        row.sentence = change.sentence or row.sentence
        row.patient_sentence = change.patient_sentence or row.patient_sentence
        row.evidence = row.evidence if change.evidence is None else change.evidence
        if change.change == "settled":
            row.provisional = False
        elif change.change == "resolved":
            row.state, row.provisional, row.resolved_ms = "resolved", False, change.at_ms
        elif change.change == "withdrawn":
            row.state, row.provisional = "withdrawn", False
    return {identity: row for identity, row in found.items() if row.state != "withdrawn"}


def without_retold(
    rebuilt: Mapping[UUID, AlertRow], known: Mapping[UUID, KnownAlert], former: Iterable[AlertRow]
) -> dict[UUID, AlertRow]:
    """Return the rebuilt alerts less what is over and was told, as urgently, by an earlier version of its rule.

    That stands for it: else an upgrade would list everybody's past a second time.
    ``known``: the alerts that are matched with the rebuilt ones. ``former``: those of earlier versions that are over.
    """
    stand = [row for row in former if row.state == "resolved"]
    return {
        identity: row
        for identity, row in rebuilt.items()
        if row.state == "active"
        or identity in known
        or not any(_meet(row, one) and ORDER[one.priority] >= ORDER[row.priority] for one in stand)
        or any(_meet(row, one.row) for one in known.values())
    }


@dataclass(slots=True)
class Reconciliation:
    """The matching of one patient's alerts."""

    rebuilt: dict[UUID, AlertRow]
    known: dict[UUID, KnownAlert]
    episodes: list[Episode]  # open at the end of the replay; told how they are known
    unknown_since: Mapping[str, int | None]  # alert id → since when an open alert has had no data
    live: bool
    effects: Effects
    present_ms: int = FOREVER_MS  # what was found before it and is over would be told too late to be acted on
    held_from_ms: int = FOREVER_MS  # what adaptive rules show from here on was held back
    _told_as: dict[UUID, UUID] = field(default_factory=dict)  # rebuilt → the alert people know it by
    _shadows: set[UUID] = field(default_factory=set)  # known alerts that stand behind one that was told
    _listed: dict[UUID, bool] = field(default_factory=dict)  # alert → late, when all is done

    def __post_init__(self) -> None:
        """Find the shadows."""
        targets = {known.revised_by for known in self.known.values()}
        self._shadows = {identity for identity, known in self.known.items() if known.row.late and identity in targets}

    def run(self) -> None:
        """Leave rows, revisions and events in ``effects``, and in each open episode under which alert it is told."""
        links = {identity: self._link(known) for identity, known in self._told().items()}
        for told, target in links.items():
            self._choose(told, target)
        for identity, row in self.rebuilt.items():
            self._place(identity, row)
        for identity, known in self.known.items():
            if identity not in self.rebuilt:
                self._end(known, links.get(identity))
        for episode in self.episodes:
            self._open(episode)

    def _told(self) -> dict[UUID, KnownAlert]:
        """Return the alerts that people were told of, or saw listed, and that the replay does not have."""
        return {
            identity: known
            for identity, known in self.known.items()
            if identity not in self._shadows and identity not in self.rebuilt and known.row.state != "withdrawn"
        }

    def _link(self, told: KnownAlert) -> UUID | None:
        """Return the rebuilt alert that an alert became: of its rule, overlapping, the likest."""
        candidates = [row for row in self.rebuilt.values() if _meet(row, told.row)]
        return min(candidates, key=lambda row: _unlike(row, told)).id if candidates else None

    def _choose(self, told: UUID, target: UUID | None) -> None:
        """Say under which alert people know a rebuilt one: itself if they were told of it, else an open one first.

        One that was only listed is not told in place of one that was told.
        """
        if target is None:
            return
        itself = self.known.get(target)
        if itself and target not in self._shadows and itself.row.late <= self.known[told].row.late:
            return
        before = self._told_as.get(target)
        if before is None or _standing(self.known[told].row) > _standing(self.known[before].row):
            self._told_as[target] = told

    def _place(self, identity: UUID, row: AlertRow) -> None:
        """Store a rebuilt alert: in place, behind the one that was told, or as a finding of its own."""
        known = self.known.get(identity)
        row.unknown_since_ms = self._unknown_since(identity) if row.state == "active" else None
        shadow = identity in self._told_as
        if known is None:
            row.late = self._listed[identity] = shadow or not self._to_tell(row)
            self.effects.alerts.append(row)
            self._event(row, "revised" if shadow else "raised", row.late)
            if row.state == "resolved" and not row.late:
                self._event(row, "resolved", late=False)
            return
        row.late, row.raised_ms = known.row.late, known.row.raised_ms
        if row.rule == "device_silent":  # the clock told it in its own words
            row.sentence, row.patient_sentence = known.row.sentence, known.row.patient_sentence
            row.evidence = known.row.evidence
        if shadow:
            self._revise(known, row, None, None)
        else:
            self._revise(known, row, None, self._news(known.row, row))

    def _to_tell(self, row: AlertRow) -> bool:
        """Tell whether what nobody was told of, or only as late, is to be told now."""
        lasts = row.state == "active" and self.live
        if self._was_held_back(row.rule, row.found_ms):
            return lasts or row.found_ms >= self.present_ms
        return lasts and row.rule in LASTS

    def _was_held_back(self, rule: str, at_ms: int) -> bool:
        """Tell whether what a rule shows at an instant was kept back while what is usual was learned anew.

        What an hour shows at its very end was not: that hour had been judged.
        """
        first_ms = self.held_from_ms + (1 if rule == REST_HEART_HOURS.id else 0)
        return rule in ADAPTIVE and at_ms >= first_ms

    def _news(self, before: AlertRow, after: AlertRow) -> Change:
        """Return how a change of an alert is told, and un-list it where it lasts and its patient is live."""
        over = before.state == "active" and after.state == "resolved"
        if over and self._was_held_back(after.rule, after.resolved_ms or 0):
            return "resolved"
        if after.state != "active" or not self.live:
            return "revised"
        if before.late and self._to_tell(after):
            after.late = False
            return "raised"
        return "worsened" if ORDER[after.priority] > ORDER[before.priority] else "revised"

    def _end(self, known: KnownAlert, target: UUID | None) -> None:
        """Link an alert to what it became, or withdraw it."""
        row = replace(known.row)
        if target is None:
            if row.state == "withdrawn":
                return
            row.state, row.provisional, row.unknown_since_ms = "withdrawn", False, None
            why = CHANGED_RULE if row.rule in RULES and row.rule_version != RULES[row.rule].version else NOT_BORNE_OUT
            row.sentence = f"{row.sentence} ({why})"
            row.evidence = {**row.evidence, "withdrawn": why}
            self._revise(known, row, None, None if row.id in self._shadows else "withdrawn")
            return
        became = self.rebuilt[target]
        news: Change = "revised"
        if self._told_as.get(target) == row.id:
            row.state, row.resolved_ms = became.state, became.resolved_ms
            row.unknown_since_ms = became.unknown_since_ms
            if row.state == "active" and ORDER[became.priority] > ORDER[row.priority]:
                row.priority, row.sentence = became.priority, became.sentence
                row.patient_sentence, row.evidence = became.patient_sentence, became.evidence
            news = self._news(known.row, row)
        elif row.state == "active":  # joined with another that goes on in its place
            row.state, row.resolved_ms, row.unknown_since_ms = "resolved", row.last_evidence_ms, None
        row.provisional = False
        self._revise(known, row, target, news)

    def _revise(self, known: KnownAlert, row: AlertRow, revised_by: UUID | None, news: Change | None) -> None:
        """Write a row that differs from the stored one; tell it as ``news``, None: to nobody."""
        self._listed[row.id] = row.late
        same = all(getattr(row, name) == getattr(known.row, name) for name in SEEN)
        if same and revised_by == known.revised_by:
            return
        row.last_evidence_ms = max(row.last_evidence_ms, known.row.last_evidence_ms)
        self.effects.revisions.append(AlertRevision(row, revised_by, void=news == "worsened"))
        if news is not None:
            reopened = self.live and row.state == "active" != known.row.state
            self._event(row, news, row.late or not (news in TOLD or reopened))

    def _open(self, episode: Episode) -> None:
        """Let an open episode know under which alert it is told."""
        identity = UUID(episode.alert_id)
        told_as = self._told_as.get(identity)
        episode.told_id = "" if told_as is None else str(told_as)
        episode.late = self._listed[told_as or identity]
        episode.hushed = episode.late and episode.rule in SAFETY
        episode.unknown_since_ms = self._unknown_since(identity)

    def _unknown_since(self, identity: UUID) -> int | None:
        told_as = self._told_as.get(identity, identity)
        return self.unknown_since.get(str(identity)) or self.unknown_since.get(str(told_as))

    def _event(self, row: AlertRow, change: Change, late: bool) -> None:
        at_ms = row.found_ms if change == "raised" else row.last_evidence_ms
        self.effects.events.append(
            AlertEvent(row.id, row.organisation_id, row.patient_id, change, row.priority, late, at_ms, row.sentence)
        )


def _meet(one: AlertRow, other: AlertRow) -> bool:
    """Tell whether two alerts are of one rule and overlap."""
    return one.rule == other.rule and one.started_ms <= _span(other)[1] and _span(one)[1] >= other.started_ms


def _span(row: AlertRow) -> tuple[int, int]:
    """Return where an alert begins and ends; one that was only listed ends with its evidence."""
    if row.resolved_ms is not None:
        return row.started_ms, row.resolved_ms
    return row.started_ms, row.last_evidence_ms if row.late and row.state != "active" else FOREVER_MS


def _unlike(row: AlertRow, told: KnownAlert) -> tuple[bool, bool, int]:
    return row.id != told.revised_by, row.state != told.row.state, abs(row.started_ms - told.row.started_ms)


def _standing(row: AlertRow) -> tuple[bool, bool, int]:
    """Return by what one alert rather than another stands for an episode: told, open, the newest."""
    return not row.late, row.state == "active", row.started_ms
