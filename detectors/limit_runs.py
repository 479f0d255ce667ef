"""One person's run beyond one safety limit, reading by reading, as it is kept from batch to batch.

A run becomes an episode when it has lasted long enough, and an episode ends with a run of its own on the healthy side.
Hardly anybody has one, so it is plain numbers and plain conditions: what a clinician would do with a pencil.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np

from detectors.protocol import Change, State

IDLE, PENDING, OPEN, CLEARING = 0, 1, 2, 3

# `start`..`worst` belong to the mildest level's run (then: the episode), `run_*` to a run beside it: towards
# the next level while PENDING or OPEN, towards the end while CLEARING; `*unseen_ms` is what of a run's steps does not
# count, for nobody knows what was between. IDLE is all zeros.
RULE_DTYPE = np.dtype(
    [
        ("phase", "u1"),
        ("level", "u1"),
        ("n", "u2"),
        ("start_ms", "i8"),
        ("last_ms", "i8"),
        ("unseen_ms", "u4"),
        ("worst", "f4"),
        ("run_n", "u2"),
        ("run_ms", "u4"),
        ("run_unseen_ms", "u4"),
        ("run_worst", "f4"),
    ]
)
_ROW: Final = attrgetter(*RULE_DTYPE.names or ())
RUN_FULL: Final = int(np.iinfo(RULE_DTYPE["run_n"]).max)


class Numbers(NamedTuple):
    """A limit as numbers, to be compared with ``sign`` times a value; a level nobody can be beyond is infinite."""

    sign: int  # 1: above is beyond, -1: below
    mild: float
    severe: float
    clear: float
    persist_ms: int
    clear_ms: int
    gap_ms: int  # as which a longer step counts towards the mild level
    clear_gap_ms: int  # of a run towards the end of an episode, the first step longer than this does not count
    longest_gap_ms: int  # a longer step begins a run anew
    mild_in_full: bool  # every step of a run counts in full towards the mild level too
    min_readings: int
    rest_only: bool
    top: int  # the worst level that there is


@dataclass(slots=True)
class Run:
    """A row of RULE_DTYPE as plain numbers."""

    phase: int = IDLE
    level: int = 0
    n: int = 0
    start_ms: int = 0
    last_ms: int = 0
    unseen_ms: int = 0
    worst: float = 0
    run_n: int = 0
    run_ms: int = 0
    run_unseen_ms: int = 0
    run_worst: float = 0

    def forget(self) -> None:
        """Become IDLE."""
        for name in RULE_DTYPE.names or ():
            setattr(self, name, 0)

    def take(self, limit: Numbers, t_ms: int, value: float, at_rest: bool) -> Change | None:
        """Take the next good reading; return what changed. After ``cleared`` the caller lets it ``forget``."""
        if self.phase >= OPEN:
            return self._while_open(limit, t_ms, value, at_rest)
        signed = limit.sign * value
        if not signed >= limit.mild or (limit.rest_only and not at_rest):
            if self.phase != IDLE:
                self.forget()
            return None
        step_ms = t_ms - self.last_ms
        unseen_ms = step_ms - limit.gap_ms if step_ms > limit.gap_ms else 0
        if self.phase == IDLE or step_ms > limit.longest_gap_ms:
            self.phase, self.n, self.start_ms, self.unseen_ms, self.worst = PENDING, 1, t_ms, 0, value
            self._end_run()
        else:
            self._count(limit, value)
            self.unseen_ms += unseen_ms
        self._go_on(limit, t_ms, value, unseen_ms, run=signed >= limit.severe)
        severe = self.run_n >= limit.min_readings and self.run_ms >= limit.persist_ms
        counted_ms = t_ms - self.start_ms - (0 if limit.mild_in_full else self.unseen_ms)
        if not severe and (counted_ms < limit.persist_ms or self.n < limit.min_readings):
            return None
        self.phase, self.level = OPEN, int(severe)
        return "raised"

    def _while_open(self, limit: Numbers, t_ms: int, value: float, at_rest: bool) -> Change | None:
        signed = limit.sign * value
        self._count(limit, value)
        toward = signed >= limit.severe and self.level < limit.top and (at_rest or not limit.rest_only)
        back = signed <= limit.sign * limit.clear
        step_ms = t_ms - self.last_ms
        if back != (self.phase == CLEARING) or step_ms > limit.longest_gap_ms:
            self._end_run()
        unseen_ms = step_ms - limit.gap_ms if step_ms > limit.gap_ms else 0
        if back:  # of a run that ends it, the first step too long to follow each other does not count
            unseen_ms = step_ms if step_ms > limit.clear_gap_ms and not self.run_unseen_ms else 0
        self.phase = CLEARING if back else OPEN
        self._go_on(limit, t_ms, value, unseen_ms, run=toward or back)
        if self.run_n < limit.min_readings:
            return None
        if back:
            return "cleared" if self.run_ms - self.run_unseen_ms >= limit.clear_ms else None
        if self.run_ms < limit.persist_ms:
            return None
        self.level = 1
        return "worsened"

    def change_over(self, old: Numbers, new: Numbers) -> None:
        """Go on when the limit becomes another one, before the first reading under that.

        A run goes on where every reading in it would have counted under the new limit too: all of it, or what of it
        was beyond the worse level; else it begins anew. An open episode stays open whatever the limit becomes: it goes
        on to the clear threshold that holds then. What of a run did not count goes on not to count.
        """
        if self.phase == CLEARING:
            if new.sign * (new.clear - old.clear) < 0:
                self.phase = OPEN
                self._end_run()
            return
        if self.phase == PENDING and not new.mild <= old.mild:
            if not (new.mild <= old.severe and self.run_n):
                self.forget()
                return
            self.n, self.unseen_ms, self.worst = self.run_n, self.run_unseen_ms, self.run_worst
            self.start_ms = self.last_ms - self.run_ms
        if not new.severe <= old.severe:
            self._end_run()

    def _count(self, limit: Numbers, value: float) -> None:
        """Count a reading in the run of the mildest level, or in the episode.

        Under a looser limit than it began with, an episode's worst reading need not be beyond.
        """
        signed = limit.sign * value
        if signed >= limit.mild and self.n < RUN_FULL:
            self.n += 1
        if signed > limit.sign * self.worst:
            self.worst = value

    def _go_on(self, limit: Numbers, t_ms: int, value: float, unseen_ms: int, *, run: bool) -> None:
        """Count a reading in the run beside the episode, begin that run with it, or end it.

        ``unseen_ms``: what of the step to it does not count.
        """
        if not run:
            self._end_run()
        elif not self.run_n:
            self.run_n, self.run_ms, self.run_unseen_ms, self.run_worst = 1, 0, 0, value
        else:
            self.run_n = min(self.run_n + 1, RUN_FULL)
            self.run_ms += max(t_ms - self.last_ms, 0)
            self.run_unseen_ms += unseen_ms
            if limit.sign * value > limit.sign * self.run_worst:
                self.run_worst = value
        self.last_ms = t_ms

    def _end_run(self) -> None:
        self.run_n, self.run_ms, self.run_unseen_ms, self.run_worst = 0, 0, 0, 0.0


def runs_of(rows: State) -> list[Run]:
    """Return (K,) rows of RULE_DTYPE as runs."""
    return [Run(*row) for row in rows.tolist()]


def rows_of_runs(runs: list[Run]) -> State:
    """Return K runs as rows of RULE_DTYPE."""
    return np.array([_ROW(run) for run in runs], RULE_DTYPE)
