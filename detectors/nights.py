"""Skin temperature and breathing far above the usual two nights in a row.

Source: the k-in-a-row rule of Alavi 2022 (NightSignal) over a robust score; deviations in ``persist``.

Units: °C, /min, SDs. Valid: adults who sleep at night, from five clean nights on.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors import persist
from detectors.baseline import NIGHT_BREATH, NIGHT_SKIN
from detectors.protocol import Bools, Doubles, Longs, State
from detectors.rules import NIGHT_BREATH_RISE, NIGHT_SKIN_RISE

NIGHT_Z, CALM_NIGHT_Z = 4.0, 2.0
"""From which z on a night counts, and below which it is calm."""

NIGHT_RULES: Final = ((NIGHT_SKIN, NIGHT_SKIN_RISE, "skin"), (NIGHT_BREATH, NIGHT_BREATH_RISE, "breath"))
"""The baseline, its rule, and where in the row what it counts is kept."""


def judge(state: State, name: str, z: Doubles, known: Bools, began: Longs) -> tuple[Longs, Bools, Bools]:
    """Count a night for one rule, in place; return (start of the episode, raised, cleared).

    >>> state, one = np.zeros(1, [("skin", persist.PERSIST_DTYPE)]), np.array([True])
    >>> [judge(state, "skin", np.array([z]), one, np.array([86_400_000]))[1].tolist() for z in (4.2, 4.5, 4.1)]
    [[False], [True], [False]]
    """
    raised, cleared = np.zeros(len(z), bool), np.zeros(len(z), bool)
    which = np.flatnonzero(known)
    part = state[name][which]
    never = np.zeros(len(which), bool)
    raised[which], cleared[which] = persist.count(
        part, z[which] >= NIGHT_Z, z[which] < CALM_NIGHT_Z, never, began[which]
    )
    state[name][which] = part
    return persist.start_ms(state[name]), raised, cleared
