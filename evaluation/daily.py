"""``detectors.daily`` on folders of daily parameters: all people at all limits side by side, and what can be chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import Any, Final

import numpy as np

from detectors.daily import FAR, SHIPPED, Daily, DailySettings
from detectors.protocol import Bools, Doubles
from evaluation.days import CHANNELS, Person

NAME: Final = "daily"
LIMITS: Final = np.concatenate([np.arange(0.5, 8, 0.25), np.arange(8, 20.1, 0.5)])

_WEIGHTS: Final[Mapping[str, tuple[tuple[str, float], ...]]] = {
    "basal": (("basal", 1),),
    "basal, fewer steps": (("basal", 1), ("log_steps", -0.4)),
    "basal, smaller swing, fewer steps": (("basal", 1), ("amplitude", -0.4), ("log_steps", -0.4)),
    "basal, smaller swing, more noise, fewer steps": (
        ("basal", 1), ("amplitude", -0.4), ("noise", 0.4), ("log_steps", -0.4)
    ),
}  # fmt: skip


def _round(
    weights: Iterable[str], slacks: Iterable[float], others: Iterable[dict[str, Any]]
) -> Iterator[DailySettings]:
    for name, slack, other in product(weights, slacks, others):
        yield DailySettings(
            _WEIGHTS[name], slack, **{"rate": 1 / 28, "slow": 1.0, "reach": FAR, "steady": False, **other}
        )


_FEW: Final = ("basal", "basal, fewer steps")
_ROUNDS: Final = (
    _round(_WEIGHTS, (0.5, 1.0), [{"rate": 1 / days, "slow": 0.25, "clear": 0.25} for days in (14, 28)]),
    # other ends of an episode, no guard, a shorter memory of the sum
    _round(_FEW, (0.5, 1.0, 1.5), [{"slow": s, "clear": c} for s, c in ((1.0, 0.25), (0.25, 1.0), (1.0, 1.0))]),
    # a day moves the baseline by less
    _round(_FEW, (0.5, 1.0), [{"reach": r, "clear": c} for r, c in product((1.0, 1.5), (0.25, 0.5))]),
    # no threshold rises with a sickness
    _round(
        _FEW[1:], (0.5,), [{"reach": r, "clear": c, "steady": True} for r, c in product((1.0, 1.5, FAR), (0.25, 0.5))]
    ),
)


def _name(settings: DailySettings) -> str:
    known = tuple(weight for weight in settings.weights if weight[0] != "rest")  # no such parameter is in the folders
    weights = next(name for name, weights in _WEIGHTS.items() if weights == known)
    return (
        f"{weights}; slack {settings.slack}; rate 1/{1 / settings.rate:.0f}; slow {settings.slow}; "
        f"clear {settings.clear}; reach {settings.reach}" + ("; steady" if settings.steady else "")
    )


CONFIGURATIONS: Final[Mapping[str, DailySettings]] = {_name(one): one for one in chain.from_iterable(_ROUNDS)}
"""Every configuration that was ever tried; what is chosen of them is chosen inside a fold."""


def values_of(person: Person, channels: Sequence[str]) -> Doubles:
    """Return (D, C) a person's days in the channels of a detector."""
    columns = {name: person.value[:, CHANNELS.index(name)] for name in ("basal", "amplitude", "noise", "steps")}
    columns["log_steps"] = np.log1p(np.maximum(columns["steps"], 0))
    columns["rest"] = np.full(len(person.day), np.nan)
    return np.stack([columns[name] for name in channels], axis=1)


def paths(people: list[Person], settings: DailySettings = SHIPPED, limits: Doubles = LIMITS) -> list[Bools]:
    """Return (T, D) a person: whether an alert is active after each day, at each limit."""
    detector, t = Daily(settings), len(limits)
    state = detector.new_state(len(people) * t)
    values = [values_of(person, detector.channels) for person in people]
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


SHIPPED_NAME: Final = _name(SHIPPED)
