"""One person's runs at the two levels of a NEWS2 that is told, occasion by occasion: see ``early_warning``.

Hardly anybody has one, so it is plain numbers and plain conditions, as in ``limit_runs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from detectors.protocol import Change
from detectors.scores.observations import MAX_AGE_S, PARAMETERS

LEVELS: Final = (5, 7)
PERSIST_S: Final = 900
BRIEF_S: Final = 300  # lower for less than this is noise about a boundary
CLEAR_S: Final = 3600
GAP_S: Final = 3600  # after so long without a reading a run begins anew: as long as a pulse counts
REPEATED: Final = ("respiratory_rate", "spo2", "heart_rate")  # worn devices send these by themselves: one is not enough
_MAX_AGE: Final = [MAX_AGE_S[key] for key in PARAMETERS]
_ONCE: Final = [key not in REPEATED for key in PARAMETERS]


class Occasion(NamedTuple):
    """What one person's NEWS2 is made of at an instant, all times in seconds."""

    t_s: int
    last_s: int  # the occasion before, 0: none
    points: list[int]  # of each parameter that is not too old
    ever: list[int]  # of each parameter, whatever its age
    at: list[int]  # when each was measured, 0: not
    off: bool


@dataclass(slots=True)
class Run:
    """One person's run at 5 and at 7 points, as plain numbers; ``open``: how many levels were told."""

    since: list[int]
    low: list[int]
    back: int
    open: int
    worst: int

    def forget(self) -> None:
        """Know of no run."""
        self.since, self.low, self.back, self.open, self.worst = [0, 0], [0, 0], 0, 0, 0

    def take(self, one: Occasion) -> Change | None:
        """Take the next occasion; return what changed. After ``cleared`` the caller lets it ``forget``."""
        for level in range(1 if self.open else 0, len(LEVELS)):
            self._follow(level, one)
        if self.since[0]:
            self.worst = max(self.worst, sum(one.points))
        lasted = 0 if one.off else next((n for n in (2, 1) if n > self.open and self._lasted(n - 1, one)), 0)
        if lasted > self.open:
            change: Change = "worsened" if self.open else "raised"
            self.open, self.back = lasted, 0
            return change
        return "cleared" if self.open and self._ends(one) else None

    def _follow(self, level: int, one: Occasion) -> None:
        """Begin a run, go on with it, or end it."""
        gap = one.t_s - one.last_s > GAP_S
        if gap or one.off or (self.low[level] and one.t_s - self.low[level] >= BRIEF_S):
            self.since[level] = self.low[level] = 0
            self.worst = self.worst if level else 0
        if one.off or sum(one.points) < LEVELS[level]:
            if self.since[level]:
                self.low[level] = self.low[level] or one.t_s
            return
        self.since[level], self.low[level] = self.since[level] or one.t_s, 0

    def _lasted(self, level: int, one: Occasion) -> bool:
        since = self.since[level]
        if not since or self.low[level] or one.t_s - since < PERSIST_S:
            return False
        told = zip(one.points, one.at, _ONCE, strict=True)
        return sum(points for points, at, once in told if once or at > since) >= LEVELS[level]

    def lasting(self, one: Occasion) -> int:
        """Return the score with what became too old during the episode as it was last."""
        known = zip(one.ever, one.points, one.at, _MAX_AGE, strict=True)
        return sum(ever if at >= self.since[0] - most else points for ever, points, at, most in known)

    def _ends(self, one: Occasion) -> bool:
        if self.lasting(one) >= LEVELS[0]:
            self.back = 0
            return False
        if not self.back or one.t_s - one.last_s > GAP_S:
            self.back = one.t_s
        return one.t_s - self.back >= CLEAR_S
