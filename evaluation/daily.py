"""``detectors.daily`` on folders of daily parameters: all people at all limits side by side, and what can be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from detectors.daily import SHIPPED, Daily, DailySettings
from detectors.protocol import Bools, Doubles
from evaluation.days import CHANNELS, Person

NAME: Final = "daily"
LIMITS: Final = np.concatenate([np.arange(0.5, 8, 0.25), np.arange(8, 20.1, 0.5)])

_WEIGHTS: Final[Mapping[str, tuple[float, ...]]] = {
    "basal": (1, 0, 0, 0),
    "basal, fewer steps": (1, 0, 0, -0.4),
    "basal, smaller swing, fewer steps": (1, -0.4, 0, -0.4),
    "basal, smaller swing, more noise, fewer steps": (1, -0.4, 0.4, -0.4),
}
CONFIGURATIONS: Final[Mapping[str, DailySettings]] = {
    **{  # the first round
        f"{name}; slack {slack}; rate 1/{days}; slow 0.25; clear 0.25": DailySettings(
            weights, slack, 1 / days, 0.25, 0.25
        )
        for name, weights in _WEIGHTS.items()
        for slack in (0.5, 1.0)
        for days in (14, 28)
    },
    **{  # the second: other ends of an episode, no guard, a shorter memory of the sum
        f"{name}; slack {slack}; rate 1/28; slow {slow}; clear {clear}": DailySettings(
            _WEIGHTS[name], slack, 1 / 28, slow, clear
        )
        for name in ("basal", "basal, fewer steps")
        for slack in (0.5, 1.0, 1.5)
        for slow, clear in ((1.0, 0.25), (0.25, 1.0), (1.0, 1.0))
    },
}
"""Every configuration that was ever tried; what is chosen of them is chosen inside a fold."""


def values_of(person: Person) -> Doubles:
    """Return (D, 4) a person's days in the channels of the detector."""
    basal, amplitude, noise, steps = (
        person.value[:, CHANNELS.index(name)] for name in ("basal", "amplitude", "noise", "steps")
    )
    return np.stack([basal, amplitude, noise, np.log1p(np.maximum(steps, 0))], axis=1)


def paths(people: list[Person], settings: DailySettings = SHIPPED, limits: Doubles = LIMITS) -> list[Bools]:
    """Return (T, D) a person: whether an alert is active after each day, at each limit."""
    detector, t = Daily(settings), len(limits)
    state = detector.new_state(len(people) * t)
    values = [values_of(person) for person in people]
    found = [np.zeros((t, len(person.day)), bool) for person in people]
    for i in range(max((len(person.day) for person in people), default=0)):
        here = [number for number, person in enumerate(people) if len(person.day) > i]
        rows = (np.array(here)[:, None] * t + np.arange(t)).ravel()
        day = np.repeat(np.array([people[number].day[i] for number in here], np.int32), t)
        row_values = np.repeat(np.stack([values[number][i] for number in here]), t, axis=0)
        said = detector.advance(state, rows, day, row_values, np.tile(limits, len(here)))
        for place, number in enumerate(here):
            found[number][:, i] = said.active[place * t : (place + 1) * t]
    return found


SHIPPED_NAME: Final = next(name for name, settings in CONFIGURATIONS.items() if settings == SHIPPED)
