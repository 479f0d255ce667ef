"""What the clinical scores look at: the newest good value of each parameter, and how old it is.

How old a value may be is an engineering choice for people at home; none is validated. It goes by how often the Royal
College of Physicians asks for a set of observations (NEWS2, 2017): hourly from 5 points or one red parameter on, every
4 to 6 hours at 1 to 4 points, every 12 hours at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from detectors.protocol import Bools, Condition, Doubles

HOUR_S: Final = 3600

PARAMETERS: Final[tuple[str, ...]] = (
    "respiratory_rate",
    "spo2",
    "supplemental_oxygen",
    "systolic_pressure",
    "heart_rate",
    "consciousness",
    "body_temperature",
)
"""Keys of the catalogue, in the order of NEWS2's chart and of the arrays' last axis."""

MAX_AGE_S: Final[Mapping[str, int]] = MappingProxyType(
    {
        # change within minutes, and worn devices send them by themselves: the shortest interval asked for
        "respiratory_rate": HOUR_S,
        "spo2": HOUR_S,
        "heart_rate": HOUR_S,
        # as long as the saturation it is read with: more oxygen, or none, changes what that means
        "supplemental_oxygen": HOUR_S,
        # rises within hours: the interval at 1 to 4 points
        "body_temperature": 4 * HOUR_S,
        # somebody has to look, and it may change at once: the same, because nobody looks hourly at home
        "consciousness": 4 * HOUR_S,
        # cuffs are used in the morning and in the evening: the longest interval asked for
        "systolic_pressure": 12 * HOUR_S,
    }
)
"""How old a value may be, in seconds; exactly so old is not too old."""

CONSCIOUSNESS: Final[tuple[str, ...]] = (
    "alert",
    "newly confused",
    "responds to voice",
    "responds to pain",
    "unresponsive",
)
"""What the codes 0 to 4 of ``consciousness`` mean: ACVPU."""

WHO: Final[tuple[Condition, ...]] = ("under_16", "pregnant")
"""For whom a score may not hold, in the order of ``Observations.who``."""


@dataclass(frozen=True, slots=True)
class Observations:
    """P people at one instant each.

    Units are the catalogue's; ``supplemental_oxygen`` is a flow in L/min of which 0 is air, ``consciousness`` a code.

    Raises:
        ValueError: two columns differ in shape, or a value is younger than the present.
    """

    value: Doubles  # (P, 7) the newest good value of each of PARAMETERS, NaN where there is none
    age_s: Doubles  # (P, 7) how long ago it was measured; 0 for what simply holds, any number where there is no value
    scale_2: Bools  # (P,) a named clinician wants a saturation of 88 to 92 %
    who: Bools  # (P, 2) whether each of WHO holds

    def __post_init__(self) -> None:
        """Raise ValueError where the columns contradict each other."""
        n = len(self.value)
        shapes = {"value": (n, len(PARAMETERS)), "age_s": (n, len(PARAMETERS)), "scale_2": (n,), "who": (n, len(WHO))}
        for name, shape in shapes.items():
            if (found := getattr(self, name).shape) != shape:
                msg = f"observations of {n} people: {name} has the shape {found}, it must be {shape}"
                raise ValueError(msg)
        ahead = self.present & ~(self.age_s >= 0)
        if ahead.any():
            row, column = np.argwhere(ahead)[0]
            msg = f"{PARAMETERS[column]} is {self.age_s[row, column]} s old: 0 or more is allowed; leave out the future"
            raise ValueError(msg)

    @property
    def present(self) -> Bools:
        """(P, 7) whether there is a value at all."""
        return np.isfinite(self.value)

    @property
    def fresh(self) -> Bools:
        """(P, 7) whether there is a value that is not too old."""
        return self.present & (np.where(self.present, self.age_s, 0) <= [MAX_AGE_S[key] for key in PARAMETERS])


def oxygen_by_profile(home: bool | None, *, heard: bool, fresh: bool) -> bool | None:
    """Return whether somebody counts as on oxygen or on air where no reading says it, None where nobody knows.

    ``home``: what the profile says of oxygen at home. ``heard``: a flow was ever measured, ``fresh``: it counts still.
    None at home is no air once a flow was measured: what was too old or doubted may have been oxygen all the same.

    >>> oxygen_by_profile(True, heard=True, fresh=False), oxygen_by_profile(False, heard=True, fresh=False)
    (True, None)
    """
    if home is None or fresh:
        return None
    return home if home or not heard else None
