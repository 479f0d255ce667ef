"""What else could have caused what is unusual, and what became of each cause: for the care team, beside a finding.

"Ruled out" means that the data exclude it, no more: readings in a minute with steps or in the ten after it are no
readings at rest, what a device doubts itself is not counted, the device is the one that was learned, and so on. Where
nobody knows, that is said: a cause that cannot be looked at is never ruled out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from detectors import devices, wearer
from detectors.protocol import Bools, Evidence, State
from detectors.rise import LEAST_STEPS_MINUTES

Verdict = Literal["ruled_out", "possible", "unknown", "none_recorded"]

NAMES: Final[Mapping[str, str]] = {
    "activity": "activity",
    "signal": "a weak signal",
    "device": "another device",
    "time_zone": "another time zone",
    "wearer": "somebody else wearing it",
    "medication": "a medicine or event",
}
"""Each cause as people call it, in the order in which it is said."""

WORDS: Final[Mapping[Verdict, str]] = {
    "ruled_out": "Ruled out",
    "possible": "Possible",
    "unknown": "Not known",
    "none_recorded": "None recorded",
}


def of_day(state: State, doubted: Bools, i: int) -> Evidence:
    """Return what was considered of the closing day of patient ``i``; ``doubted`` (R,) by whom the device was worn.

    >>> from detectors.pipeline import Pipeline
    >>> told = of_day(Pipeline().new_state(1), np.array([False]), 0)["considered"]
    >>> told["activity"], told["device"]
    ('unknown', 'ruled_out')
    """
    row = state[i : i + 1]
    steps_known = bool(row["day"]["steps_minutes"][0] >= LEAST_STEPS_MINUTES)
    return {
        "considered": {
            "activity": "ruled_out" if steps_known else "unknown",
            "signal": "ruled_out",
            "device": _unless(bool(np.any(devices.young(row["devices"])))),
            "time_zone": _unless(bool(row["zone_since"][0])),
            "wearer": _unless(bool(doubted[i])),
        }
    }


def of_hour(state: State, i: int) -> Evidence:
    """Return the same of an hour at rest: steps were reported, else it would not have been judged."""
    told = of_day(state, state["wearer"]["active"] == wearer.ASKED, i)["considered"]
    return {"considered": told | {"activity": "ruled_out"}}


def with_medication(told: Mapping[str, Any], recorded: bool) -> Evidence:
    """Return what was considered with whether a medicine or event is ``recorded`` that bears on it.

    That none is does not rule it out: hardly anybody writes down every tablet.
    """
    if "considered" not in told:
        return {}
    verdict: Verdict = "possible" if recorded else "none_recorded"
    return {"considered": told["considered"] | {"medication": verdict}}


def in_words(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the causes by what became of them, e.g.

    >>> in_words({"considered": {"activity": "unknown", "signal": "ruled_out", "device": "ruled_out"}})
    [('Ruled out', 'a weak signal, another device'), ('Not known', 'activity')]
    """
    found = told.get("considered", {})
    of = {verdict: [NAMES[cause] for cause in NAMES if found.get(cause) == verdict] for verdict in WORDS}
    return [(WORDS[verdict], ", ".join(causes)) for verdict, causes in of.items() if causes]


def _unless(possible: bool) -> Verdict:
    return "possible" if possible else "ruled_out"
