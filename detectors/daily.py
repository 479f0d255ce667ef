"""Small rises of daily heart-rate parameters that stay add up: a guarded CUSUM over several of them at once.

Source: Page 1954 and Mishra 2020 (online CUSUM on resting heart rate); Mayer et al. for splitting a day into a basal
rate, a circadian swing, noise and steps, so that activity does not pass for illness; Huber 1964 for the bounded
innovation; normal-normal shrinkage of empirical Bayes for the first days. Deviations: the score is a weighted sum of
robust z-scores (the shrunk Mahalanobis distance, one-sided, with its covariance shrunk all the way to a fixed one: two
heart rates of a person go together, nothing else does); the baseline never stands still: however far out a day is, it
moves it by a bounded step. So an alert cannot stay open for ever on a baseline that happened to freeze low, and a week
of illness moves it by less than half a spread. The sum is capped a little above the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import numpy as np

from detectors.protocol import Bools, Doubles, Ints, Rows, State


class Channel(NamedTuple):
    """A daily quantity, and what is known of it in adults before the first day: rounded figures."""

    center: float  # of the population
    between: float  # SD between people
    day: float  # SD of one person's days
    floor: float  # the SD of days is never taken as less


CHANNELS: Final[Mapping[str, Channel]] = MappingProxyType(
    {
        "basal": Channel(70, 9, 3, 1),
        "rest": Channel(74, 11, 4, 1.5),
        "amplitude": Channel(8, 4, 2, 0.7),
        "noise": Channel(7.5, 2.5, 1, 0.3),
        "log_steps": Channel(8.7, 0.6, 0.5, 0.15),
    }
)
"""Basal heart rate (of a night, or a model's), that at rest by day, half the circadian swing, its noise (all /min),
and the natural logarithm of 1 + steps a day."""

HEARTS: Final = ("basal", "rest")
HEARTS_CORRELATION: Final = 0.5
"""Of a person's night with the day before it: 0.2 to 0.8 in seven recordings of months."""

PRIOR_DAYS, LEARNED, FAR, CAP, ROOM = 5, 5, 2.5, 4.0, 2.0
HIGH: Final = 1.0  # SDs of the heart rates: nothing is raised by quiet days alone, nor on a day that was as usual
SUSPICIOUS_SHARE = 0.5
MOST_DAYS: Final = 255  # counted; the weight of a day is that of the shorter memory long before


def hearts_together(z: Doubles) -> Doubles:
    """Return (R,) by how many SDs heart rates (R, H) are away together; NaN: unknown, all of them: NaN.

    >>> hearts_together(np.array([[2.0, 2.0], [2.0, np.nan], [np.nan, np.nan]])).round(2).tolist()
    [2.31, 2.0, nan]
    """
    known = np.isfinite(z)
    n = known.sum(axis=1)
    total = np.where(known, z, 0.0).sum(axis=1)
    return np.where(n > 0, total / np.sqrt(np.maximum(n + HEARTS_CORRELATION * n * (n - 1), 1)), np.nan)


Budget = Literal["0.1", "0.2", "0.3"]
LIMITS: Final[Mapping[Budget, float]] = MappingProxyType({"0.1": 4.5, "0.2": 2.5, "0.3": 1.5})
"""The limit of the sum by the incidents from adaptive rules a patient-week that a team agreed to: in steps of 0.5 the
least strict one at which all adaptive rules together keep to it in made-up people (``evaluation.joint``). In the 38
people on whom SHIPPED was chosen the rule alone cost 0.09, 0.18 and 0.26 (docs/detection.md: what people got who took
no part in the choice)."""


@dataclass(frozen=True, slots=True)
class DailySettings:
    """What can be chosen of the detector."""

    weights: tuple[tuple[str, float], ...] = (("basal", 1.0), ("rest", 1.0), ("log_steps", -0.4))  # < 0: a fall counts
    slack: float = 0.5  # taken off the score each day
    rate: float = 1 / 28  # of a day in the baseline
    slow: float = 1.0  # the same while the sum is suspicious, as a share; 1: no guard
    clear: float = 0.5  # an alert ends where the sum falls below this share of the limit
    reach: float = 1.5  # SDs by which a day counts as away from the baseline at the most, when it moves it
    steady: bool = True  # the spread learns nothing while the sum is suspicious: no threshold rises with a sickness


SHIPPED: Final = DailySettings()
"""Chosen by person-wise nested cross-validation among ``evaluation.daily.CONFIGURATIONS``; see docs/detection.md."""


def state_dtype(settings: DailySettings = SHIPPED) -> np.dtype[np.void]:
    """Return what is kept of a person."""
    c = len(settings.weights)
    fields = [("mean", "f4", (c,)), ("variance", "f4", (c,)), ("n", "u1", (c,)), ("sum", "f4"), ("active", "u1")]
    return np.dtype([*fields, ("since", "u2")])  # since: the day on which the sum left zero


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of R people's day."""

    score: Doubles  # (R,) SDs, NaN where the day could not be judged
    sum: Doubles  # (R,) after this day
    active: Bools  # (R,)
    raised: Bools  # (R,)
    cleared: Bools  # (R,)
    heart: Doubles  # (R,) SDs by which the heart rates alone are above; NaN as the score
    z: Doubles  # (R, C) of each channel, NaN where it is unknown; so are the next two before the first day
    center: Doubles  # (R, C) what was expected
    spread: Doubles  # (R, C) one SD of a day about it, doubt about a young baseline included


class Daily:
    """Judge daily values of R people, one day after the other.

    score = Σ wᵢ·clip(zᵢ, ±4) / √(Σ wᵢ² + 2·0.5·w₁·w₂) over the channels that are known, a heart rate among them, w₁ and
    w₂ those of the two heart rates where both are; S ← clip(S + min(score, 4) - slack, 0, limit + 2); raised when
    S > limit and the heart rates alone are at least 1 SD above, cleared when S < ``clear`` · limit, after which the
    next run begins. A day that can't be judged changes nothing: nothing clears without data. A day enters the baseline
    with weight ``rate`` (a plain mean at first), as at most ``reach`` SDs away; with the share ``slow`` of that while
    S > limit / 2. Its spread learns from at most 2.5 SDs, and while S > limit / 2 from nothing (``steady``).
    Units: as in CHANNELS. Valid: adults; each person's days in order, gaps allowed. State: 34 bytes a person.

    >>> detector = Daily()
    >>> state = detector.new_state(1)
    >>> for day, basal in enumerate([70, 71, 69, 70, 70, 71, 69, 70, 70, 78, 79, 80, 79, 70]):
    ...     values = np.array([[basal, np.nan, np.nan]])  # the rate at rest by day and the steps are unknown
    ...     said = detector.advance(state, np.array([0]), np.array([day], "i4"), values, 4.0)
    ...     if said.raised[0]:
    ...         print("raised on day", day, "since day", int(state["since"][0]))
    raised on day 10 since day 9
    """

    dtype = state_dtype()

    def __init__(self, settings: DailySettings = SHIPPED) -> None:
        self._settings = settings
        self.dtype = state_dtype(settings)
        self.channels = tuple(name for name, _ in settings.weights)
        self._weights = np.array([weight for _, weight in settings.weights])
        self._hearts = np.array([name in HEARTS for name in self.channels])
        self._prior = Channel(*np.array([CHANNELS[name] for name in self.channels]).T)

    def new_state(self, n: int) -> State:
        """Return (n,) rows that know nothing."""
        return np.zeros(n, self.dtype)

    def reset(self, state: State, rows: Rows) -> None:
        """Forget everything about ``rows``, in place."""
        state[rows] = np.zeros((), self.dtype)

    def advance(
        self, state: State, rows: Rows, day: Ints, values: Doubles, limit: float | Doubles,
        highest: Doubles | None = None, learns: Bools | None = None, doubt: Doubles | None = None,
    ) -> Said:  # fmt: skip
        """Take one day each of R people, in place.

        ``rows`` (R,) unique, ``day`` (R,) a running number of days, ``values`` (R, C) in the order of ``channels``
        with NaN for what is unknown, ``limit`` of the sum, one for all or (R,): what a team's alert budget decides.
        ``highest`` (R, H) up to where a rise of each heart rate among the channels is expected, NaN where none is: up
        to there a day counts as usual and says nothing of the spread, unless an alert is open. ``learns`` (R,) who
        learns of the day, None: all. ``doubt`` (R, H) variance of the heart rates' measuring: the day is judged by that
        much less, and moves the baseline by its share of what is sure.
        """
        part = state[rows]
        center, spread, variance = self._expected(part)
        unsure = np.zeros(values.shape)
        unsure[:, self._hearts] = 0 if doubt is None else doubt
        deviation = np.sqrt(spread**2 + variance + unsure)
        z = (values - center) / deviation
        held = np.zeros(z.shape, bool)
        if highest is not None:
            held[:, self._hearts] = (z > 0)[:, self._hearts] & (values[:, self._hearts] <= highest)
            held &= (part["active"] == 0)[:, None]
            z = np.where(held, 0.0, z)
        score, heart = self._score(part, z)
        judged = np.isfinite(score)
        before = part["sum"].astype(np.float64)
        moved = np.clip(before + np.minimum(np.nan_to_num(score), CAP) - self._settings.slack, 0, limit + ROOM)
        after = np.where(judged, moved, before)
        part["since"] = np.where((before == 0) & (after > 0), day, part["since"])
        active = part["active"] == 1
        raised = judged & ~active & (after > limit) & (np.nan_to_num(heart) >= HIGH)
        cleared = judged & active & (after < self._settings.clear * np.asarray(limit))
        part["active"] = (active | raised) & ~cleared
        part["since"] = np.where(cleared, day + 1, part["since"])  # the next run begins after this one's last night
        part["sum"] = after
        suspicious = part["sum"] > SUSPICIOUS_SHARE * np.asarray(limit)
        taught = values if learns is None else np.where(learns[:, None], values, np.nan)
        self._learn(part, taught, spread, suspicious, held, spread**2 / (spread**2 + unsure))
        state[rows] = part
        return Said(score, after, part["active"] == 1, raised, cleared, heart, z, center, deviation)

    def _score(self, part: State, z: Doubles) -> tuple[Doubles, Doubles]:
        """Return (R,) the score of all channels and that of the heart rates alone; NaN where none of these is known."""
        known = np.isfinite(z) & (part["n"] >= LEARNED)
        weights = np.where(known, self._weights, 0.0)
        hearts = weights[:, self._hearts]
        variance = (weights**2).sum(1) + HEARTS_CORRELATION * (hearts.sum(1) ** 2 - (hearts**2).sum(1))
        total = np.where(known, weights * np.clip(np.nan_to_num(z), -CAP, CAP), 0.0).sum(1)
        heart = hearts_together(np.where(known, z, np.nan)[:, self._hearts])
        return np.where(np.isfinite(heart), total / np.sqrt(np.where(variance > 0, variance, 1)), np.nan), heart

    def _learn(
        self, part: State, values: Doubles, spread: Doubles, suspicious: Bools, held: Bools, sure: Doubles
    ) -> None:
        known = np.isfinite(values)
        n = part["n"].astype(np.int32)
        learned = n >= LEARNED
        share = np.maximum(self._settings.rate, 1 / (n + 1.0))
        share = np.where((suspicious[:, None]) & learned, share * self._settings.slow, share) * sure
        away = np.where(known, values - part["mean"], 0.0)
        bound = np.where(learned, self._settings.reach * spread, np.inf)
        moved = part["mean"] + share * np.clip(away, -bound, bound)
        part["mean"] = np.where(known, np.where(n > 0, moved, values), part["mean"])
        bound = np.where(learned, FAR * spread, np.inf)
        grown = (1 - share) * (part["variance"] + share * np.clip(away, -bound, bound) ** 2)
        steady = (suspicious[:, None] & learned & self._settings.steady) | held
        part["variance"] = np.where(known & (n > 0) & ~steady, grown, part["variance"])
        part["n"] = np.where(known, np.minimum(n + 1, MOST_DAYS), n)

    def _expected(self, part: State) -> tuple[Doubles, Doubles, Doubles]:
        """Return (R, C) center, SD of a day, and the center's own variance: the person's, drawn to the population."""
        prior = self._prior
        n = part["n"].astype(np.float64)
        more = np.maximum(n - 1, 0)
        spread2 = (more * part["variance"] + PRIOR_DAYS * prior.day**2) / (more + PRIOR_DAYS)
        spread2 = np.maximum(spread2, prior.floor**2)
        between2 = prior.between**2
        share = np.where(n > 0, between2 / (between2 + spread2 / np.maximum(n, 1)), 0.0)
        center = share * part["mean"] + (1 - share) * prior.center
        return center, np.sqrt(spread2), between2 * (1 - share)
