"""What else could have caused what is unusual, and what became of each cause: for the care team, beside a finding.

"Ruled out" means that the data exclude it, no more: readings in a minute with steps (active), or in the ten after it
(recovering), are no readings at rest, what a device doubts itself is not counted, the device is the one that was
learned, and so on. Where nobody knows, that is said: a cause that cannot be looked at is never ruled out, as another
device is not of oxygen or breathing, whose devices are not told apart, nor somebody else by day, or by one vital.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from detectors import devices, wearer
from detectors.baseline import PAIR_CONTEXT, PAIRS, REST_HEART
from detectors.context import SLEEP_FROM, SLEEP_TO
from detectors.protocol import ASLEEP, CONTEXTS, Bools, Evidence, State
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

NIGHT_STEPS_MINUTES: Final = SLEEP_FROM - SLEEP_TO + 300
"""With steps reported, for them to be known of a night: of half of it even where they are of the whole day before."""

WORDS: Final[Mapping[Verdict, str]] = {
    "ruled_out": "Ruled out",
    "possible": "Possible",
    "unknown": "Not known",
    "none_recorded": "None recorded",
}


def of_day(state: State, doubted: Bools, i: int, told: Mapping[str, Any]) -> Evidence:
    """Return what was considered of the closing day of patient ``i``, where a finding is ``told``.

    ``doubted`` (R,) by whom the device was worn.

    >>> import numpy as np
    >>> from detectors.pipeline import Pipeline
    >>> night = {"metric": "heart_rate", "context": "asleep"}
    >>> told = of_day(Pipeline().new_state(1), np.array([False]), 0, night)["considered"]
    >>> told["activity"], told["device"], told["time_zone"]
    ('unknown', 'unknown', 'ruled_out')
    """
    row, pairs = state[i : i + 1], _pairs(told)
    needed = NIGHT_STEPS_MINUTES if ASLEEP in PAIR_CONTEXT[pairs] else LEAST_STEPS_MINUTES
    nobody_else: Verdict = "ruled_out" if wearer.alike(row)[0] else "unknown"
    return {
        "considered": {
            "activity": "ruled_out" if row["day"]["steps_minutes"][0] >= needed else "unknown",
            "signal": "ruled_out",
            "device": _device(row, pairs),
            "time_zone": "possible" if row["zone_since"][0] else "ruled_out",
            "wearer": "possible" if doubted[i] else nobody_else,
        }
    }


def of_hour(state: State, i: int) -> Evidence:
    """Return the same of an hour at rest: steps were reported, else it would not have been judged."""
    doubted = state["wearer"]["active"] == wearer.ASKED
    at_rest = {"metric": PAIRS[REST_HEART].metric, "context": CONTEXTS[PAIR_CONTEXT[REST_HEART]]}
    of_its_day = of_day(state, doubted, i, at_rest)["considered"]
    by_day: Verdict = "possible" if doubted[i] else "unknown"
    return {"considered": of_its_day | {"activity": "ruled_out", "wearer": by_day}}


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


def _pairs(told: Mapping[str, Any]) -> list[int]:
    """Return the baselines that a finding is about: its own, that of its other context, and those of its vitals."""
    about = {(told["metric"], told[key]) for key in ("context", "other_context") if key in told}
    about |= {(one["metric"], told["context"]) for one in told.get("vitals", ())}
    return [at for at, pair in enumerate(PAIRS) if (pair.metric, CONTEXTS[PAIR_CONTEXT[at]]) in about]


def _device(row: State, pairs: list[int]) -> Verdict:
    """Return whether another device may have measured what a finding on one patient (1,) is about."""
    if devices.strange(row["devices"])[0, pairs].any():
        return "possible"
    return "ruled_out" if devices.told_apart(row["devices"])[0, pairs].all() else "unknown"
