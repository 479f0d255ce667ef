"""Which days may teach a baseline, and which nights of another device may teach how it differs.

Source: the "an alarmed span never enters the baseline" rule of the literature on wearables; what counts as clean is
written at ``clean``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors import devices, persist, rise, travel, wearer
from detectors.baseline import LEARNED, NIGHT_SKIN, PAIR_METRIC, PAIRS, Usual
from detectors.nights import NIGHT_RULES
from detectors.protocol import DAY_MS, Bools, Doubles, Longs, State
from detectors.sums import dirty

CLEAN_Z, FIRST_CLEAN_Z = 3.0, 6.0
"""A day further out is not learned from; wider while learning, when the population is all there is."""

ALARMING_MINUTES = 5
"""A day with so many minutes beyond a safety limit is not learned from, in that metric."""

MOST_DAYS_APART = 28
"""So long at the most nothing is learned because several vitals are told together: they may never be measured again."""

SURE: Final = 1 / 3
"""Of a night's variance, as much may be doubt about its device where the night is learned from."""

_HEARTS = np.isin(np.arange(len(PAIRS)), rise.HEART_PAIRS)


def clean(state: State, z: Doubles, expected: Usual, frozen: Bools) -> Bools:
    """Return (R, P) which values may enter the baseline.

    Not one that is far out, nor of a day with an hour far out or with minutes beyond a safety limit in the
    metric, nor any while it is ``frozen`` (R,) by a rise of the resting heart rate, while several vitals are told to
    differ together, while nobody knows who wore the device, or of a body in another time zone.
    """
    bound = np.where(expected.n >= LEARNED, CLEAN_Z, FIRST_CLEAN_Z)
    with np.errstate(invalid="ignore"):
        near = np.abs(z) <= bound
    return np.asarray(near & calm(state) & unsuspected(state, frozen))


def calm(state: State) -> Bools:
    """Return (R, P) of which days nothing is amiss of themselves, however far out they are.

    No hour was far out, few minutes were beyond a limit, no alert of the night's metric itself stands, and the body's
    clock is the local one.
    """
    calm = ~dirty(state["day"]) & (state["day"]["alarming"][:, PAIR_METRIC] < ALARMING_MINUTES)
    for pair, _, name in NIGHT_RULES:
        calm[:, pair] &= state[name]["active"] == 0
    return np.asarray(calm & ~travel.abroad(state)[:, None])


def unsuspected(state: State, frozen: Bools) -> Bools:
    """Return (R, 1) of whom nothing is suspected, neither of the heart, nor of several vitals, nor of who it was."""
    lately = state["open_day"] - state["together"]["since"].astype(np.int32) < MOST_DAYS_APART
    asked = (state["wearer"]["active"] == wearer.ASKED) | (state["together"]["active"] == 1) & lately
    return np.asarray(~(frozen | asked)[:, None])


def before_the_device(state: State, night: devices.Night, frozen: Bools, began: Longs) -> Bools:
    """Return (R, P) where something was suspected before another device came, in that device's first fortnight.

    Such nights are judged as if the devices measured alike, and teach nothing of how they differ, else a device would
    end an alert, or hide what is about to be told. A rise that is told is left out of the latter: see ``missed``.
    """
    of_skin = state["open_day"] + (persist.start_ms(state["skin"]) - began) // DAY_MS
    suspicions = (
        (frozen, state["rise"]["since"], devices.WATCHED),
        (state["together"]["active"] == 1, state["together"]["since"], devices.WATCHED),
        (state["wearer"]["active"] == wearer.ASKED, state["wearer"]["since"], devices.WATCHED),
        (state["skin"]["active"] == 1, of_skin, (NIGHT_SKIN,)),
    )
    came = night.since.astype(np.int64)
    young = (came > 0) & (state["open_day"][:, None] - came < devices.NIGHTS)
    found = np.zeros((len(state), len(PAIRS)), bool)
    for suspected, since, pairs in suspicions:
        for place, pair in enumerate(devices.WATCHED):
            if pair in pairs:
                found[:, pair] |= young[:, place] & suspected & (since < came[:, place])
    return found


def learn_of_devices(
    state: State, night: devices.Night, missed: Doubles, normal: Usual, calm: Bools, suspected: Bools
) -> Doubles:
    """Let R patients' devices learn from the night, in place; return (R, P) what to take off now.

    What was suspected before the device came teaches nothing, but for a rise that is told: it has a level of its own.
    """
    told = (state["rise"]["active"] == 1)[:, None] & _HEARTS
    return devices.learn(state, night, missed, normal.widened(night.doubt).day ** 2, calm & (~suspected | told))


def missed(state: State, values: Doubles, expected: Usual) -> Doubles:
    """Return (R, P) what values missed the usual by; while a rise is told, or its level, whichever is nearer.

    So a device that is changed during an illness does not take the illness for its own, nor its end.
    """
    missed, pairs = values - expected.center, list(rise.HEART_PAIRS)
    level = state["again"]["level"]
    of_level = values[:, pairs] - level
    nearer = (level > 0) & (np.abs(of_level) < np.abs(missed[:, pairs]))  # while no rise is told there is no level
    missed[:, pairs] = np.where(nearer, of_level, missed[:, pairs])
    return missed
