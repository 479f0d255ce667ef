"""The clinical scores in plain words: totals, values, and what of a profile bears on them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from detectors.protocol import Condition
from detectors.scores.clinical import rounded
from detectors.scores.observations import CONSCIOUSNESS
from ingest.catalogue import catalogue
from services import profile
from services.api import words

OFF: Final[dict[Condition, str]] = {
    "under_16": "its table is for people of 16 and over",
    "pregnant": "its table does not hold in pregnancy",
}


def sentence(shown: dict[str, Any], decimals: int) -> str:
    """Return a score in words: of a partial one no more than what it is at least."""
    of = f"{shown['known']} of {shown['of']} parameters known"
    if shown["state"] == "off":
        return f"Off: {shown['off_reason']}"
    if shown["state"] == "unknown":
        return f"Not known: {of}"
    total, band = words.number(shown["total"], decimals), shown["band"]
    if shown["state"] == "complete":
        return f"{total}, complete: {band['title']}"
    if band is None:
        return f"At least {total}, {of}: what is missing could raise it, so no risk is told"
    return f"At least {total}, {of}: {'at least ' if band['at_least'] else ''}{band['title']}"


def value(key: str, number: float, *, from_profile: bool) -> str:
    """Return a value in words, rounded as it is scored: 38.05 °C is not shown as 38.0 and scored as 38.1."""
    metric = catalogue()[key]
    steps = int(rounded(np.array(number), 10.0**-metric.decimals))
    text = f"{words.number(steps / 10**metric.decimals, metric.decimals)} {words.unit(metric.unit)}"
    if key == "consciousness":
        return CONSCIOUSNESS[steps]
    if key != "supplemental_oxygen":
        return text
    if from_profile:
        return "oxygen at home, by the profile" if steps else "air: no oxygen at home, by the profile"
    return f"on oxygen, {text}" if steps else "air"


def notes(who: profile.Profile | None, *, sees_steps: bool) -> list[str]:
    """Return what of the profile and of consent bears on the scores, in words."""
    said = []
    if not sees_steps:
        said.append("Activity is withheld by the patient's consent: pulse and breathing are not known to be at rest.")
    if who is None or (who.birth_date is None and who.age_band is None):
        said.append("Age not known: these scores are for people of 16 and over who are not pregnant.")
    if who is None:
        return said
    if who.oxygen is not None:
        low, high = who.oxygen.target
        scale = "scale 2" if profile.on_scale_2(who) else "scale 1, because scale 2 is for 88 to 92 % only"
        said.append(f"NEWS2 takes SpO2 {scale}: {low} to {high} % wanted, set by {who.oxygen.set_by}.")
    if who.pacemaker or who.rate_limiting_drugs:
        said.append("A pacemaker or drugs hold the pulse: its points and the shock index may be too low.")
    return said


def title(key: str) -> str:
    """Return how a parameter is called, without what its codes mean."""
    return catalogue()[key].title.partition(",")[0].partition(" (")[0]
