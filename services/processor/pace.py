"""How much history is taken in beside live records: as much as a live record may wait for, and no more.

History rides in the transaction of the live records of a turn, after them: what a transaction costs whatever is in it
(the fence, staging, the disk) is paid once, and a live record waits only for the history records beside it. So many
are taken as fit in a part of that cost, by what the last transactions took: then what is added to a live record's wait
is in proportion to the wait itself, on a fast machine as on a loaded one. Where no live record is at hand, but some
came lately, history goes alone four times a second; while more live records wait than usual, once: what piled up in a
stall is taken in first. It is slow then, and never stands still.
"""

from __future__ import annotations

from typing import Final

BESIDE_S: Final = 0.005  # that history may add to a transaction with live records; or this part of its fixed cost:
SHARE: Final = 0.25
ALONE_S: Final = 0.2  # of a transaction while nothing live has come lately: the first live record may wait so long
SMALLEST: Final = 2  # records of history at a time
LIVE_LATELY_S: Final = 2.0
BETWEEN_S, PILED_S = 0.25, 1.0
PILE, UNUSUAL = 50, 2.0  # so many live records that wait are no pile, nor up to twice as many as usual
FIRST_EACH_S: Final = 0.001  # of a record, until transactions have told
# Of a record at least, as part of the mean: where noise hides what a record costs, it must not look free, or the next
# transaction would be filled with history.
LEAST_EACH: Final = 0.15
MEMORY: Final = 0.99  # weight of what was, at each transaction: some seconds, so that one stall tells little


class Pace:
    """Decides in each turn, from monotonic seconds, how many records of history to take."""

    def __init__(self, largest: int, now: float) -> None:
        self._largest = largest
        self._live_at = self._history_at = now - LIVE_LATELY_S
        # decayed sums over transactions: how many, records, seconds, records squared, records times seconds, live ones
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def allows(self, now: float, live: int, waiting: int) -> int:
        """Return how many to take beside ``live`` records of this turn; ``waiting`` are known of, these included."""
        if live:
            self._live_at = now
        beside = now - self._live_at < LIVE_LATELY_S
        rest = PILED_S if self._piled(max(live, waiting)) else 0.0 if live else BETWEEN_S
        if beside and now - self._history_at < rest:
            return 0
        fixed, each = self.cost_s()
        fits = int((max(BESIDE_S, SHARE * fixed) if beside else ALONE_S) / each)
        return min(max(fits, SMALLEST), self._largest)

    def _piled(self, waiting: int) -> bool:
        count, live = self._sums[0], self._sums[5]
        return waiting > max(PILE, UNUSUAL * live / count if count else 0.0)

    def took(self, began: float, ended: float, live: int, history: int) -> None:
        """Note what a transaction took with so many records of each kind."""
        if history:
            self._history_at = ended
        n, s = live + history, ended - began
        new = (1, n, s, n * n, n * s, live)
        self._sums = tuple(MEMORY * old + one for old, one in zip(self._sums, new, strict=True))  # type: ignore[assignment]

    def cost_s(self) -> tuple[float, float]:
        """Return the seconds a transaction costs whatever is in it, and those of each record: the line that fits."""
        count, n, s, nn, ns, _ = self._sums
        if not n:
            return 0.0, FIRST_EACH_S
        mean_n, mean_s = n / count, s / count
        spread = nn / count - mean_n**2
        each = (ns / count - mean_n * mean_s) / spread if spread > 0.01 * mean_n**2 else mean_s / mean_n / 2
        each = min(max(each, LEAST_EACH * mean_s / mean_n), mean_s / mean_n)
        return mean_s - each * mean_n, max(each, 1e-6)
