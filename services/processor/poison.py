"""Bad records, or a bad deploy? Stops a process before it files everything it is handed as dead.

The judgement survives restarts: the outcome of the last records of each partition is in the database already (a
dead letter, or a position that moved past it), so a process that begins takes it from there. A supervisor that
restarts a broken version for ever therefore files nothing more, while good records after a mended version need
nobody's leave to go on. Letters that were looked at (fixed, redriven, given up) or skipped on purpose do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from typing import Final

from services.processor.records import DeadRecord, Record

WINDOW: Final = 200  # the last records that were handled
RATIO: Final = 0.5  # of a full window dead: stop
RUN: Final = 50  # dead in a row: stop


class PoisonError(RuntimeError):
    """Too many records can't be processed; going on would drain everything into the dead letters."""


class PoisonGuard:
    """Remembers of the last `WINDOW` records whether they were dead."""

    def __init__(self) -> None:
        self._dead: deque[bool] = deque(maxlen=WINDOW)
        self._next = self._dead

    @property
    def ratio(self) -> float:
        """Return the part of the last `WINDOW` records that were dead."""
        return sum(self._dead) / WINDOW

    def recall(self, positions: Mapping[tuple[str, int], int], letters: Set[tuple[str, int, int]]) -> None:
        """Begin with what became of the last records of the partitions taken over.

        Args:
            positions: (topic, partition) → next offset.
            letters: (topic, partition, offset) of the open dead letters among the last `RUN` records of each.
        """
        self._dead.clear()
        if not positions:
            return
        each = WINDOW // len(positions)
        older: list[bool] = []
        run = 0
        for place, next_offset in positions.items():
            flags = [
                (*place, offset) in letters for offset in range(next_offset - 1, max(-1, next_offset - RUN - 1), -1)
            ]
            trailing = flags.index(False) if False in flags else len(flags)
            run += trailing
            older += flags[trailing:each]
        # Which partition's record was handled last is not known: what is dead since each one's last good record is
        # taken as one run. The first good record ends it.
        self._dead.extend([*older, *[True] * run])

    def check(self, records: Iterable[Record], dead: Iterable[DeadRecord]) -> None:
        """Judge the outcome of a part of a batch before it is committed; `accept` keeps it once it is.

        Raises:
            PoisonError: too many are dead; the part must not be committed.
        """
        letters = {(d.record.topic, d.record.partition, d.record.offset): d for d in dead}
        self._next = self._dead.copy()
        for record in records:
            letter = letters.get((record.topic, record.partition, record.offset))
            self._next.append(letter is not None)
            if letter is not None:
                _judge(list(self._next), letter)

    def accept(self) -> None:
        """The part last checked has been committed."""
        self._dead = self._next


def _judge(last: list[bool], letter: DeadRecord) -> None:
    in_a_row = len(last) >= RUN and all(last[-RUN:])
    too_many = len(last) == WINDOW and sum(last) > RATIO * WINDOW
    if not in_a_row and not too_many:
        return
    counted = f"the last {RUN} records" if in_a_row else f"{sum(last)} of the last {WINDOW} records"
    place = f"{letter.record.topic} {letter.record.partition} {letter.record.offset}"
    msg = (
        f"{counted} can't be processed, {place} is the latest ({letter.reason}); stopping before "
        "everything is filed as dead. It stays in Kafka. See `keepwell dead list` for the reasons; mend or roll "
        "back the version and start it, or step over bad records with `keepwell dead skip`"
    )
    raise PoisonError(msg)
