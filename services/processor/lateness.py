"""How old a finding is when it is revealed, and who is live again: history is listed, never paged.

A finding is late when its instant lies more than `Bounds.history_ms` before the receipt of the frame that revealed
it: the frame that brought its patient (for a safety limit: its metric) as far as that instant. Frames are looked at
one by one in the order of the log, so that it makes no difference how they were cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from services.processor.core import QUIET_MS
from services.processor.hot import Hot


class Revealed(NamedTuple):
    """The frame that revealed something."""

    place: int  # among the noted frames of its patient in this batch
    received_ms: int


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a patient before a frame was taken in."""

    heard_ms: int
    newest_ms: int
    newest: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Receipt:
    before: Before
    received_ms: int
    live: bool  # after it the patient's newest instant is no history
    settled_ms: int
    judged: dict[int, int]


@dataclass(slots=True)
class Receipts:
    """The frames of a batch that may reveal history, or end it, by slot in the order of the log."""

    history_ms: int
    _of: dict[int, list[_Receipt]] = field(default_factory=dict)

    def before(self, slot: int, hot: Hot, received_ms: int) -> Before | None:
        """Return what is to be handed to `note` after a frame, None where it can reveal nothing old.

        A live patient's marks are never that far behind, so that noting costs nothing where there is no history.
        """
        behind = min(hot.settled_ms - QUIET_MS, hot.closed_ms) < received_ms - self.history_ms
        if not (behind or slot in self._of or any(episode.hushed for episode in hot.episodes)):
            return None
        return Before(hot.heard_ms, hot.newest_ms, dict(hot.newest))

    def note(self, slot: int, hot: Hot, received_ms: int, before: Before) -> None:
        """Remember how far a frame moved its patient's marks."""
        live = hot.newest_ms >= received_ms - self.history_ms
        receipt = _Receipt(before, received_ms, live, hot.settled_ms, dict(hot.judged))
        self._of.setdefault(slot, []).append(receipt)

    def revealed(self, slot: int, at_ms: int, metric: int | None = None) -> Revealed | None:
        """Return the first noted frame that moved the patient's mark, or a metric's, past an instant.

        Where the data had reached the instant before, without being settled yet, their receipt counts, not that of
        the frame which settled them.
        """
        for place, one in enumerate(self._of.get(slot, ())):
            mark = one.settled_ms if metric is None else one.judged.get(metric, 0)
            if mark > at_ms:
                newest = one.before.newest_ms if metric is None else one.before.newest.get(metric, 0)
                return Revealed(place, one.before.heard_ms if newest >= at_ms else one.received_ms)
        return None

    def newest(self, slot: int, hot: Hot) -> Revealed:
        """Return the last noted frame, for what unsettled data reveal; received when the newest reading was."""
        return Revealed(max(0, len(self._of.get(slot, ())) - 1), hot.heard_ms)

    def is_late(self, revealed: Revealed | None, at_ms: int) -> bool:
        """Tell whether a finding at an instant was history when it was revealed."""
        return revealed is not None and at_ms < revealed.received_ms - self.history_ms

    def live_within(self, slot: int, first: int, stop: int | None) -> bool:
        """Tell whether the patient was live after one of the noted frames [first, stop)."""
        return any(one.live for one in self._of.get(slot, ())[first:stop])
