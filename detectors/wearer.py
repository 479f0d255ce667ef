"""Whether the device is worn by somebody else: several vitals asleep that stay far out, one as few illnesses move it.

Source: a person's resting heart rate differs far more between people than from day to day (Quer et al. 2020, 92,457
adults); exponentially weighted means of Roberts 1959. Deviations: no population is asked and no other patient looked
at. Who is acutely ill looks like a stranger too: faster heart and breath, warmer skin, less oxygen and less
variability prove nothing here, however far they go; one vital must lie the other way. Where the beats are irregular
both the rate and its variability rise, so more variability counts as the other way only without a faster heart. Slow
breath is a warning, whoever's it is, and so is little oxygen: neither is taken for another's. A
heart rate and its variability come from the same beats and move together: they are one vital. Who differs from a
person only the way an illness does is not noticed, nor is anybody by a device that measures one vital.

Units: the person's own spreads. Valid: adults who sleep at night, two vitals known that are not of the same beats.

It is a question about the device, and it mutes nothing. It is not asked for ever: what is not answered and lasts is
the person's own, or nobody can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.baseline import LEARNED, NIGHT_HEART, Usual
from detectors.coverage import enough
from detectors.protocol import Bools, Doubles, Evidence, Ints, State
from detectors.together import ASLEEP, ILL, about, vitals_told

HEART, HRV, BREATH, SPO2 = 0, 1, 2, 4  # places in ASLEEP; the first two are of one vital
VITALS: Final = 4
SHARE: Final = 1 / 4  # of a night in the mean
NIGHT_MOST, MEAN_MOST = 4.0, 2.0  # spreads: no single night asks, and a few of their own nights end it
FAR: Final = 1.65  # spreads, of the mean
ASKED_DAYS: Final = 21  # from the first night of it; then it ends, and is not asked again before it was over
NOT, ASKED, DROPPED = 0, 1, 2
FAST: Final = 1.0  # spreads: a heart this much faster explains more variability

WEARER_DTYPE: Final = np.dtype(
    [
        ("mean", "f4", (len(ASLEEP),)),  # of how many spreads the nights lay away
        ("since", "u2"),  # local day on which the run began; 0: none
        ("active", "u1"),  # NOT, ASKED, or DROPPED without an answer while it still looks so
    ]
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """What was said of R people's night."""

    raised: Bools  # (R,)
    cleared: Bools  # (R,) over, or dropped without an answer
    since: Ints  # (R,) local day on which the run began
    far: Bools  # (R, V) of ASLEEP: known tonight, and the mean is far out


def judge(state: State, z: Doubles, known: Bools) -> Doubt:
    """Take the closing night of R patients into their rows of the pipeline, in place.

    ``z`` (R, P) spreads by which the day's values lie away from what is usual, ``known`` (R, P) where a value can be
    judged. Each vital's mean follows by a quarter of a night, held within 2 spreads. Raised where the means of two
    vitals known tonight are 1.65 spreads away, one on the side to which an illness does not move it; cleared where
    that is no more so at half of it, or 21 days after it began. A night with fewer than two vitals changes nothing but
    their means.

    >>> from detectors.baseline import NIGHT_HEART, NIGHT_SKIN, PAIRS
    >>> from detectors.pipeline import PIPELINE_DTYPE
    >>> state, z = np.zeros(1, PIPELINE_DTYPE), np.full((1, len(PAIRS)), np.nan)
    >>> for night in range(1, 12):
    ...     z[0, NIGHT_HEART], z[0, NIGHT_SKIN] = (-4, 3) if night < 6 else (0, 0)
    ...     state["open_day"] = night
    ...     doubt = judge(state, z, np.isfinite(z))
    ...     if doubt.raised[0] or doubt.cleared[0]:
    ...         print(night, "raised" if doubt.raised[0] else "cleared", int(doubt.since[0]))
    3 raised 2
    9 cleared 2
    """
    tonight, part = known[:, ASLEEP], state["wearer"].copy()
    mean = part["mean"].astype(np.float64)
    away = np.clip(np.where(tonight, z[:, ASLEEP], mean), -NIGHT_MOST, NIGHT_MOST)
    mean = np.clip(mean + SHARE * (away - mean), -MEAN_MOST, MEAN_MOST)
    shown = np.where(tonight, mean, 0.0)
    score, judged = _score(shown), _vitals(tonight).sum(1) >= 2
    active, running = part["active"] == ASKED, judged & (score >= FAR / 2)
    began = np.where(part["since"] > 0, part["since"], np.where(running, state["open_day"], 0))
    raised = judged & (part["active"] == NOT) & (score >= FAR)
    over = judged & ~running
    dropped = active & ~over & (state["open_day"] - part["since"].astype(np.int32) >= ASKED_DAYS)
    became = np.where(dropped, DROPPED, np.where(raised, ASKED, part["active"]))
    part["mean"], part["active"] = mean, np.where(over, NOT, became)
    part["since"] = np.where(over, 0, began)
    state["wearer"] = part
    return Doubt(raised, active & (over | dropped), np.asarray(began, np.int32), np.abs(shown) >= FAR)


def forget(state: State, pairs: Any) -> None:
    """Forget what the nights of these baselines said, in place: they start afresh.

    The heart rate's answer the question, which is filed under it; it is asked again only after it was over once.
    """
    part = state["wearer"].copy()
    part["mean"][:, np.isin(ASLEEP, pairs)] = 0
    if NIGHT_HEART in pairs:
        part["active"] = np.where(part["active"] == NOT, NOT, DROPPED)
    state["wearer"] = part


def alike(state: State) -> Bools:
    """Return (R,) whose night had two vitals at least, no two of which lie far out: another's would, as far as known.

    Whichever way they lie: who is ill and who is somebody else may look the same.
    """
    known = (enough(state["day"]) & (state["baselines"]["n"] >= LEARNED))[:, ASLEEP]
    second = np.sort(_vitals(np.abs(state["wearer"]["mean"])), axis=1)[:, -2]
    return np.asarray((_vitals(known).sum(1) >= 2) & (second < FAR / 2))


def _vitals(each: Any) -> Any:
    """Return (R, 4) of (R, V): the heart rate and its variability are one."""
    return np.concatenate([each[:, :2].max(1, keepdims=True), each[:, 2:]], axis=1)


def _score(mean: Doubles) -> Doubles:
    """Return (R,) the distance that two vitals have reached, one of them the other way than in an illness."""
    other = np.maximum(-ILL * mean, 0)
    other[:, HRV] = np.where(mean[:, HEART] > FAST, 0, other[:, HRV])
    other[:, BREATH] = 0
    second = np.sort(_vitals(np.abs(mean)), axis=1)[:, -2]
    return np.where(mean[:, SPO2] <= -FAR, 0.0, np.minimum(other.max(1), second))


def evidence(doubt: Doubt, state: State, values: Doubles, expected: Usual, i: int) -> Evidence:
    """Return what a finding about patient ``i`` tells: each vital that is far out; once it is over, since when."""
    told = about(state, i) | {"since_day": int(doubt.since[i])}
    if not doubt.raised[i]:
        return told
    vitals = vitals_told(state, values, expected, doubt.far[i], i)
    for one, place in zip(vitals, np.flatnonzero(doubt.far[i]).tolist(), strict=True):
        one["mean"] = round(float(state["wearer"]["mean"][i, place]), 3)
    return told | {"vitals": vitals}
