"""Could heart rate variability alone be told night by night? Candidates that do not run, and what each would find.

Each is a one-sided CUSUM of falls of RMSSD asleep in made-up people (``evaluation.made_up_days``): S ← clip(S +
min(z, 4) - slack, 0, limit + 2), told when S > limit on a night at least 1 spread below, over when S is below half of
it. Source: Page 1954. Of each the least strict limit that costs no more than asked in the people by whom it is chosen;
others are judged by it. That RMSSD varies by 18 % from night to night is assumed, and it is no wider than what the
candidates assume: what they find is rather too much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.baseline import NIGHT_HEART, NIGHT_HRV
from detectors.daily import CAP, FAR, HIGH, LEARNED, LIMITS, PRIOR_DAYS, ROOM, SHIPPED, SUSPICIOUS_SHARE
from detectors.protocol import Bools, Doubles, Longs
from detectors.rules import SHARE
from detectors.together import CORRELATION
from evaluation.budgets import interval, resampled, rounded
from evaluation.injector import CASES
from evaluation.made_up_days import People, live, people
from evaluation.rivals import begins
from evaluation.seeds import rate
from evaluation.swaps import ASLEEP_H, EARLIEST, RESAMPLED, SEED, within

CHOSEN_BY, JUDGED_BY = (250, 84, 0), (400, 84, 1000)  # people, days, the first of them
LATEST: Final = 60
ASKED = (SHARE, 0.02, 0.05, 0.1)  # alerts a patient-week; the first is a rule's share of the budget
THRESHOLDS: Final = np.arange(1.0, 12.1, 0.25)
SLACKS = (0.5, 1.0)
FALLS = ((0.8, 5), (0.7, 5), (0.8, 14))  # share that is left, days; the first is the injector's event
RISE_DAYS: Final = CASES["hrv_minus_20_percent"].rise_days
LOG_CENTER, LOG_BETWEEN, LOG_DAY, LOG_FLOOR = 3.6, 0.45, 0.18, 0.08  # of the logarithm of RMSSD in ms

Score = Callable[[People, Doubles], Doubles]  # people and their z (N, D, P) → (N, D) spreads, above 0: fallen


def against_fortnight(of: People, z: Doubles) -> Doubles:
    """Return how far RMSSD lies below what the fortnight's baseline expects."""
    return -z[:, :, NIGHT_HRV]


def with_heart(of: People, z: Doubles) -> Doubles:
    """Return the projection of heart rate and RMSSD asleep on the way an illness moves both, as ``together``."""
    towards = np.linalg.solve(CORRELATION[:2, :2], [1.0, -1.0])
    weights = towards / np.sqrt(towards @ [1.0, -1.0])
    return np.asarray(z[:, :, [NIGHT_HEART, NIGHT_HRV]] @ weights)


def against_slow_mean(of: People, z: Doubles) -> Doubles:
    """Return how far the logarithm of RMSSD lies below a slow mean of its own, kept as ``daily`` keeps one."""
    value = np.log(of.values[:, :, NIGHT_HRV])
    n, mean, variance = (np.zeros(len(value)) for _ in range(3))
    found = np.full(value.shape, np.nan)
    for day in range(value.shape[1]):
        more = np.maximum(n - 1, 0)
        spread2 = np.maximum((more * variance + PRIOR_DAYS * LOG_DAY**2) / (more + PRIOR_DAYS), LOG_FLOOR**2)
        share = np.where(n > 0, LOG_BETWEEN**2 / (LOG_BETWEEN**2 + spread2 / np.maximum(n, 1)), 0)
        center = share * mean + (1 - share) * LOG_CENTER
        deviation = np.sqrt(spread2 + LOG_BETWEEN**2 * (1 - share))
        known = np.isfinite(value[:, day])
        found[:, day] = np.where(known & (n >= LEARNED), (center - value[:, day]) / deviation, np.nan)
        away, moves = np.where(known, value[:, day] - mean, 0), np.maximum(SHIPPED.rate, 1 / (n + 1))
        step, far = (np.where(n >= LEARNED, times * np.sqrt(spread2), np.inf) for times in (SHIPPED.reach, FAR))
        variance = np.where(known & (n > 0), (1 - moves) * (variance + moves * np.clip(away, -far, far) ** 2), variance)
        mean = np.where(known, np.where(n > 0, mean + moves * np.clip(away, -step, step), value[:, day]), mean)
        n += known
    return found


SCORES: Final[Mapping[str, Score]] = MappingProxyType(
    {
        "RMSSD, the fortnight": against_fortnight,
        "its logarithm, a slow mean": against_slow_mean,
        "with the heart rate": with_heart,
    }
)


def active(score: Doubles, slack: float) -> Bools:
    """Return (T, N, D) whether an alert is open, at each of ``THRESHOLDS``; ``score`` (N, D), NaN: unknown."""
    limits = THRESHOLDS[:, None]
    total = np.zeros((len(THRESHOLDS), len(score)))
    is_open = np.zeros(total.shape, bool)
    found = np.zeros((*total.shape, score.shape[1]), bool)
    for day in range(score.shape[1]):
        z = score[:, day]
        known = np.isfinite(z)
        total = np.where(known, np.clip(total + np.minimum(np.nan_to_num(z), CAP) - slack, 0, limits + ROOM), total)
        raised = known & ~is_open & (total > limits) & (np.nan_to_num(z) >= HIGH)
        is_open = (is_open | raised) & ~(known & (total < SUSPICIOUS_SHARE * limits))
        found[:, :, day] = is_open
    return found


class Lived(NamedTuple):
    """People, and how far their days lie from the usual."""

    of: People
    z: Doubles  # (N, D, P)


class Candidate(NamedTuple):
    """One score with one slack."""

    score: Score
    slack: float

    def told(self, lived: Lived) -> Bools:
        """Return (T, N, D) where an alert begins."""
        return begins(active(self.score(*lived), self.slack))


CANDIDATES: Final[Mapping[str, Candidate]] = MappingProxyType(
    {f"{name}, slack {slack}": Candidate(score, slack) for name, score in SCORES.items() for slack in SLACKS}
)


def evaluate(
    told: Any = lambda *_: None,
    chosen_by: tuple[int, int, int] = CHOSEN_BY,
    judged_by: tuple[int, int, int] = JUDGED_BY,
) -> dict[str, Any]:
    """Return the task's document: of each candidate, at each rate asked, what it costs and what it finds."""
    day = np.random.default_rng([SEED, 99]).integers(EARLIEST, LATEST + 1, judged_by[0])
    well = people(*judged_by)
    choosing, usually, *fallen = (
        Lived(one, live(one, LIMITS["0.1"]).z)
        for one in (people(*chosen_by), well, *(falls(well, day, left, days) for left, days in FALLS))
    )
    rows = {}
    for done, (name, one) in enumerate(CANDIDATES.items()):
        told(name, done, len(CANDIDATES))
        per_week = one.told(choosing).sum((1, 2)) / (chosen_by[0] * chosen_by[1] / 7)
        without, with_it = one.told(usually), [one.told(each) for each in fallen]
        places = [_within(per_week, asked) for asked in ASKED]
        rows[name] = {
            str(asked): _judged(place, without, with_it, day) for asked, place in zip(ASKED, places, strict=True)
        }
    return {
        "task": "variability",
        "chosen_by": chosen_by[0],
        "n": judged_by[0],
        "configurations_tried": len(CANDIDATES),
        "events": [{"share_left": left, "days": days} for left, days in FALLS],
        "candidates": rows,
    }


def falls(well: People, day: Longs, left: float, days: int) -> People:
    """Return people whose RMSSD falls from the noon of their ``day`` on, as the injector's."""
    value = well.values[:, :, NIGHT_HRV]
    since = (np.arange(value.shape[1]) - day[:, None])[..., None] + np.linspace(*ASLEEP_H, 25) / 24
    share = (np.clip(since / RISE_DAYS, 0, 1) * (since < days)).mean(-1)
    return well.other(NIGHT_HRV, value * (1 - (1 - left) * share))


def _within(per_week: Doubles, asked: float) -> int | None:
    over = np.flatnonzero(per_week > asked)
    first = int(over[-1]) + 1 if len(over) else 0
    return first if first < len(per_week) else None


def _judged(place: int | None, without: Bools, with_it: list[Bools], day: Longs) -> dict[str, Any] | None:
    """Return cost and findings at one limit; None: none is strict enough. Intervals resample people."""
    if place is None:
        return None
    n, days = without.shape[1:]
    got = rate(int(without[place].sum()), n * days / 7)
    found = []
    for (_, lasts), each in zip(FALLS, with_it, strict=True):
        now, anyway = (within(one[place], day, lasts).astype(float) for one in (each, without))
        more = resampled(n, RESAMPLED) @ (now - anyway) / n
        found.append(
            {
                "found": rounded(float(now.mean())),
                "anyway": rounded(float(anyway.mean())),
                "more": rounded(float(more[0])),
                "ci": interval(more),
            }
        )
    return {
        "limit": float(THRESHOLDS[place]),
        "rate": rounded(got.value),
        "rate_ci": [rounded(got.low), rounded(got.high)],
        "found": found,
    }
