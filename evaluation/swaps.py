"""An illness that begins together with another device: found or not, and what the change alone is told as.

Made-up people (``evaluation.made_up_days``), others than those by whom ``detectors.devices`` was chosen, live the same
days several times over: with the event of ``evaluation.injector`` named beforehand (+5 /min over 3 days, from a noon
on), with another device from that noon on, with both, with neither.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from detectors.baseline import NIGHT_HEART, REST_HEART
from detectors.daily import LIMITS
from detectors.protocol import Bools, Doubles, Longs
from detectors.rules import RESTING_HEART
from evaluation.budgets import interval, resampled, rounded
from evaluation.injected import BUDGET, NAMED
from evaluation.injector import CASES
from evaluation.made_up_days import FIRST_SHARE, People, live, people

CAST: Final = (400, 84)  # people, days
FIRST: Final = 1000  # of the made-up people: others than those by whom the offset of a device was chosen
SEED: Final = 20_261_130
EARLIEST, LATEST = 22, 61  # day of an event
TIMES: Final = 2  # events a person, each in days of its own
ILL_DAYS, SWAP_DAYS = 7, 14  # after the day of the event: as long the rule may tell it
RESAMPLED: Final = 2000
ASLEEP_H, REST_H = (11, 19), (-2, 10)  # hours from a day's noon on of which its values are means
OTHER: Final = {"alike": 0, "higher": 1, "lower": -1}


class Story(NamedTuple):
    """What happens to everybody: ``ill`` or not, and how another device measures; None: none comes."""

    ill: bool
    other: int | None
    days: int  # after that of the event in which what is told counts


STORIES: Final = {
    "nothing, 7 days": Story(ill=False, other=None, days=ILL_DAYS),
    "ill": Story(ill=True, other=None, days=ILL_DAYS),
    **{f"ill, another device that measures {how}": Story(True, side, ILL_DAYS) for how, side in OTHER.items()},
    "nothing, 14 days": Story(ill=False, other=None, days=SWAP_DAYS),
    **{f"another device that measures {how}": Story(False, side, SWAP_DAYS) for how, side in OTHER.items()},
}


def evaluate(told: Any = lambda *_: None, cast: tuple[int, int] = CAST, first: int = FIRST) -> dict[str, Any]:
    """Return the task's document: of how many people each story is told."""
    well = people(*cast, first)
    found: dict[str, list[Bools]] = {}
    for turn in range(TIMES):
        day = np.random.default_rng([SEED, turn]).integers(EARLIEST, LATEST + 1, cast[0])
        for done, (name, story) in enumerate(STORIES.items()):
            told(name, turn * len(STORIES) + done, TIMES * len(STORIES))
            lived = live(happens(well, day, story), LIMITS[BUDGET], None if story.other is None else day)
            found.setdefault(name, []).append(within(lived.of(RESTING_HEART.id), day, story.days))
    return {
        "task": "swaps",
        "n": cast[0],
        "events": cast[0] * TIMES,
        "budget": BUDGET,
        "stories": {name: _share(np.stack(each, axis=1)) for name, each in found.items()},
    }


def happens(well: People, day: Longs, story: Story) -> People:
    """Return people to whom a story happens from the noon of their ``day`` (N,) on."""
    changed = well
    for pair, (from_h, to_h), first in ((NIGHT_HEART, ASLEEP_H, 1.0), (REST_HEART, REST_H, FIRST_SHARE)):
        values = well.values[:, :, pair]
        since = np.arange(values.shape[1]) - day[:, None]
        if story.ill:
            values = values + CASES[NAMED].size * risen(since, from_h, to_h)
        if story.other is not None:  # as the injector's device_swap
            size = story.other * (CASES["device_swap"].size + 0.02 * values)
            values = values + size * np.select([since > 0, since == 0], [1.0, first], 0.0)
        changed = changed.other(pair, values)
    return changed


def risen(since: Longs, from_h: int, to_h: int) -> Doubles:
    """Return the mean share of the ramp in a day's hours, ``since`` days after that of its noon."""
    case = CASES[NAMED]
    days = since[..., None] + np.linspace(from_h, to_h, 25) / 24
    return np.asarray((np.clip(days / case.rise_days, 0, 1) * (days < case.days)).mean(-1))


def within(told: Bools, day: Longs, days: int) -> Bools:
    """Return (N,) of whom something was told from their ``day`` on, up to ``days`` later."""
    since = np.arange(told.shape[1]) - day[:, None]
    return np.asarray((told & (since >= 0) & (since <= days)).any(1))


def _share(found: Bools) -> dict[str, Any]:
    """Return the share of events (N, TIMES); the interval resamples people."""
    each = found.mean(1)
    shares = resampled(len(each), RESAMPLED) @ each / len(each)
    return {"share": rounded(float(shares[0])), "ci": interval(shares)}
