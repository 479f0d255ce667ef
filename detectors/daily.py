"""Small rises of daily heart-rate parameters that stay add up: a guarded CUSUM over several of them at once.

Source: Page 1954 and Mishra 2020 (online CUSUM on resting heart rate); Mayer et al. for splitting a day into a basal
rate, a circadian swing, noise and steps, so that activity does not pass for illness; Huber 1964 for the bounded
innovation; normal-normal shrinkage of empirical Bayes for the first days. Deviations: the score is a weighted sum of
robust z-scores (the shrunk Mahalanobis distance with its covariance shrunk all the way to the diagonal, one-sided); the
baseline never stands still: its steps are bounded, and it may slow down while the sum is suspicious. So an alert cannot
stay open for ever on a baseline that happened to freeze low. The sum is capped a little above the limit. Not wired into
the processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.protocol import Bools, Doubles, Ints, Rows, State

CHANNELS: Final = ("basal", "amplitude", "noise", "log_steps")
"""Basal heart rate, half its circadian swing, its noise (all /min), and the natural logarithm of 1 + steps a day."""

BETWEEN: Final = np.array([9.0, 4.0, 2.5, 0.6])
CENTER: Final = np.array([70.0, 8.0, 7.5, 8.7])
DAY: Final = np.array([3.0, 2.0, 1.0, 0.5])
FLOOR: Final = np.array([1.0, 0.7, 0.3, 0.15])
"""Of the population: SD between people, center, SD of one person's days, and the least such SD. Rounded figures."""

PRIOR_DAYS, LEARNED, FAR, CAP, ROOM = 5, 5, 2.5, 4.0, 2.0
SUSPICIOUS_SHARE = 0.5

C = len(CHANNELS)
DAILY_DTYPE = np.dtype(
    [
        ("mean", "f8", (C,)),
        ("variance", "f8", (C,)),
        ("n", "u2", (C,)),
        ("sum", "f8"),
        ("active", "u1"),
        ("since", "i4"),  # the day on which the sum left zero
    ]
)


@dataclass(frozen=True, slots=True)
class DailySettings:
    """What can be chosen of the detector."""

    weights: tuple[float, ...] = (1.0, 0.0, 0.0, -0.4)  # of CHANNELS; negative: a fall is what counts
    slack: float = 0.5  # taken off the score each day
    rate: float = 1 / 28  # of a day in the baseline
    slow: float = 1.0  # the same while the sum is suspicious, as a share; 1: no guard
    clear: float = 0.25  # an alert ends where the sum falls below this share of the limit


SHIPPED: Final = DailySettings()
"""Chosen by person-wise nested cross-validation among ``evaluation.daily.CONFIGURATIONS``; see docs/detection.md."""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of R people's day."""

    score: Doubles  # (R,) SDs, NaN where the day could not be judged
    sum: Doubles  # (R,) after this day
    active: Bools  # (R,)
    raised: Bools  # (R,)
    cleared: Bools  # (R,)


class Daily:
    """Judge daily values of R people, one day after the other.

    score = Σ wᵢ·clip(zᵢ, ±4) / √Σ wᵢ² over the channels that are known, the basal rate among them;
    S ← clip(S + min(score, 4) - slack, 0, limit + 2); raised when S > limit, cleared when S < ``clear`` · limit.
    A day that can't be judged changes nothing: nothing clears without data. A day enters the baseline with weight
    ``rate`` (a plain mean at first), its step bounded by 2.5 SDs; with the share ``slow`` of that while S > limit / 2.
    Units: as in CHANNELS. Valid: adults; each person's days in order, gaps allowed. State: 85 bytes a person.

    >>> detector = Daily()
    >>> state = detector.new_state(1)
    >>> for day, basal in enumerate([70, 71, 69, 70, 70, 71, 69, 70, 70, 78, 79, 80, 79, 70]):
    ...     values = np.array([[basal, np.nan, np.nan, np.nan]])
    ...     said = detector.advance(state, np.array([0]), np.array([day], "i4"), values, 4.0)
    ...     if said.raised[0]:
    ...         print("raised on day", day, "since day", int(state["since"][0]))
    raised on day 10 since day 9
    """

    dtype = DAILY_DTYPE

    def __init__(self, settings: DailySettings = SHIPPED) -> None:
        self._settings = settings
        self._weights = np.array(settings.weights)

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return np.zeros(n, self.dtype)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def advance(self, state: State, rows: Rows, day: Ints, values: Doubles, limit: float | Doubles) -> Said:
        """Take one day each of R people, in place.

        ``rows`` (R,) unique, ``day`` (R,) a running number of days, ``values`` (R, C) with NaN for what is unknown,
        ``limit`` of the sum, one for all or (R,): what a team's alert budget decides.
        """
        part = state[rows]
        center, spread, doubt = _expected(part)
        z = np.clip((values - center) / np.sqrt(spread**2 + doubt), -CAP, CAP)
        known = np.isfinite(z) & (part["n"] >= LEARNED)
        weights = np.where(known, self._weights, 0.0)
        norm = np.sqrt((weights**2).sum(1))
        judged = known[:, 0] & (norm > 0)
        total = np.where(known, weights * np.nan_to_num(z), 0.0).sum(1)
        score = np.where(judged, total / np.where(norm > 0, norm, 1), np.nan)
        before = part["sum"].copy()
        moved = np.clip(before + np.minimum(np.nan_to_num(score), CAP) - self._settings.slack, 0, limit + ROOM)
        part["sum"] = np.where(judged, moved, before)
        part["since"] = np.where(judged & (before == 0) & (moved > 0), day, part["since"])
        active = part["active"] == 1
        raised = judged & ~active & (part["sum"] > limit)
        cleared = judged & active & (part["sum"] < self._settings.clear * np.asarray(limit))
        part["active"] = (active | raised) & ~cleared
        part["since"] = np.where(cleared, day, part["since"])  # the next run is another one
        suspicious = part["sum"] > SUSPICIOUS_SHARE * np.asarray(limit)
        self._learn(part, values, spread, suspicious)
        state[rows] = part
        return Said(score, part["sum"].copy(), part["active"] == 1, raised, cleared)

    def _learn(self, part: State, values: Doubles, spread: Doubles, suspicious: Bools) -> None:
        known = np.isfinite(values)
        n = part["n"]
        share = np.maximum(self._settings.rate, 1 / (n + 1.0))
        share = np.where((suspicious[:, None]) & (n >= LEARNED), share * self._settings.slow, share)
        bound = np.where(n >= LEARNED, FAR * spread, np.inf)
        step = np.clip(np.where(known, values - part["mean"], 0.0), -bound, bound)
        part["mean"] = np.where(known, np.where(n > 0, part["mean"] + share * step, values), part["mean"])
        grown = (1 - share) * (part["variance"] + share * step**2)
        part["variance"] = np.where(known & (n > 0), grown, part["variance"])
        part["n"] = np.where(known, np.minimum(n + 1, 1000), n)


def _expected(part: State) -> tuple[Doubles, Doubles, Doubles]:
    """Return center, SD of a day, and the center's own variance, (R, C) each: the person's, drawn to the population."""
    n = part["n"].astype(np.float64)
    more = np.maximum(n - 1, 0)
    spread2 = np.maximum((more * part["variance"] + PRIOR_DAYS * DAY**2) / (more + PRIOR_DAYS), FLOOR**2)
    own_doubt = spread2 / np.maximum(n, 1)
    share = np.where(n > 0, BETWEEN**2 / (BETWEEN**2 + own_doubt), 0.0)
    center = share * part["mean"] + (1 - share) * CENTER
    return center, np.sqrt(spread2), BETWEEN**2 * (1 - share)
