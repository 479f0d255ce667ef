"""The clinical scores of a patient as they stand: what is known of each, what it is made of, what is missing.

They are shown, never alerted on (docs/detection.md), and never to patients. A partial score is told as "at least".
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

import numpy as np

from detectors.protocol import Condition
from detectors.scores import SCORES
from detectors.scores.clinical import STATES, UNSCORED, ClinicalScore, Scored, rounded
from detectors.scores.observations import CONSCIOUSNESS, MAX_AGE_S, PARAMETERS, WHO, Observations
from ingest.catalogue import catalogue
from services import profile
from services.api import individual, observed, withheld, words
from services.api.access import Scope
from services.api.export import fhir
from services.api.observed import Observed
from services.api.patients import Patient
from services.api.times import rfc3339

OFF: Final[dict[Condition, str]] = {
    "under_16": "its table is for people of 16 and over",
    "pregnant": "its table does not hold in pregnancy",
}
OXYGEN: Final = "supplemental_oxygen"


async def deny_withheld(scope: Scope, patient: Patient) -> None:
    """Refuse the scores where the patient's consent withholds what they are made of.

    Raises:
        Problem: so it does.
    """
    for data_class in sorted({catalogue()[key].data_class for key in PARAMETERS}):
        of_class = next(key for key in PARAMETERS if catalogue()[key].data_class == data_class)
        await withheld.deny_metric(scope, patient.id, catalogue()[of_class].id)


async def open_to(scope: Scope, patient: Patient) -> bool:
    """Tell whether somebody who sees the patient sees the scores too."""
    needed = {catalogue()[key].data_class for key in PARAMETERS}
    return scope.may("scores.read") and not needed & set(await withheld.classes(scope, patient.id))


async def document(scope: Scope, patient: Patient, now: datetime) -> dict[str, Any]:
    """Return every score at an instant."""
    one = await individual.read(scope.connection, patient.id, now)
    found = await observed.newest(scope.connection, patient.id, now)
    if one.profile is not None and one.profile.oxygen is not None and not _counts(found.get(OXYGEN), now):
        found[OXYGEN] = Observed(float(one.profile.oxygen.home), None)
    seen = _observations(found, one.profile, one.at_ms, now)
    return {
        "patient": patient.brief(),
        "at": rfc3339(now),
        "notes": _notes(one.profile),
        "scores": [_score(score, score.work_out(seen), found, now, one.profile) for score in SCORES],
    }


def _counts(one: Observed | None, now: datetime) -> bool:
    return one is not None and one.counts and one.age_s(now) <= MAX_AGE_S[OXYGEN]


def _observations(found: dict[str, Observed], who: profile.Profile | None, at_ms: int, now: datetime) -> Observations:
    """Return a patient as the scores see them: one row."""
    there = [found.get(key) for key in PARAMETERS]
    value = [one.value if one is not None and one.counts else math.nan for one in there]
    age_s = [0.0 if one is None else one.age_s(now) for one in there]
    holds = profile.conditions(who, at_ms)
    return Observations(
        np.array([value]), np.array([age_s]), np.array([profile.on_scale_2(who)]),
        np.array([[condition in holds for condition in WHO]]),
    )  # fmt: skip


def _score(
    score: ClinicalScore, scored: Scored, found: dict[str, Observed], now: datetime, who: profile.Profile | None
) -> dict[str, Any]:
    known, of = int(scored.known[0].sum()), len(score.parameters)
    total = None if np.isnan(scored.total[0]) else round(float(scored.total[0]), score.decimals or None)
    state = _state(scored, total)
    band = None if scored.band[0] == UNSCORED else score.bands[scored.band[0]]
    at_least = state == "partial" and band is not score.bands[-1]  # nothing is above the last
    off_reason = OFF[WHO[scored.off[0]]] if state == "off" else None
    shown = {
        "score": score.key,
        "version": score.version,
        "title": score.title,
        "code": {"coding": [{"system": f"{fhir.OURS}score", "code": score.key}], "text": score.title},
        "source": score.source,
        "validity": score.validity,
        "state": state,
        "off_reason": off_reason,
        "total": total,
        "known": known,
        "of": of,
        "band": band and {"key": band.key, "title": band.title, "at_least": at_least},
        "red": [key for key, red in zip(score.parameters, scored.red[0], strict=True) if red],
        "parameters": [
            _parameter(key, STATES[scored.states[0, place]], int(scored.points[0, place]), found.get(key), now)
            for place, key in enumerate(score.parameters)
        ],
    }
    if score.key == "news2":
        shown["spo2_scale"] = 2 if profile.on_scale_2(who) else 1
    return shown | {"sentence": _sentence(shown, score.decimals)}


def _state(scored: Scored, total: float | None) -> str:
    if scored.off[0] != UNSCORED:
        return "off"
    return "unknown" if total is None else "complete" if scored.complete[0] else "partial"


def _sentence(shown: dict[str, Any], decimals: int) -> str:
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


def _parameter(key: str, state: str, points: int, one: Observed | None, now: datetime) -> dict[str, Any]:
    metric = catalogue()[key]
    if one is not None and not one.counts:
        state = "doubted"
    return {
        "metric": words.metric(metric.id) | {"title": observed.title(key)},
        "code": fhir.code(metric),
        "state": state,
        "points": None if points == UNSCORED else points,
        "value": None if one is None or one.at is None else one.value,
        "words": None if one is None else _value(key, one),
        "at": None if one is None else rfc3339(one.at),
        "age_s": None if one is None or one.at is None else int(one.age_s(now)),
        "max_age_s": MAX_AGE_S[key],
        "source": None if one is None else "profile" if one.at is None else "reading",
    }


def _value(key: str, one: Observed) -> str:
    """Return a value in words, rounded as it is scored: 38.05 °C is not shown as 38.0 and scored as 38.1."""
    metric = catalogue()[key]
    steps = int(rounded(np.array(one.value), 10.0**-metric.decimals))
    text = f"{words.number(steps / 10**metric.decimals, metric.decimals)} {words.unit(metric.unit)}"
    if key == "consciousness":
        return CONSCIOUSNESS[steps]
    if key != OXYGEN:
        return text
    if one.at is None:
        return "oxygen at home, by the profile" if steps else "air: no oxygen at home, by the profile"
    return f"on oxygen, {text}" if steps else "air"


def _notes(who: profile.Profile | None) -> list[str]:
    """Return what of the profile bears on the scores, in words."""
    said = []
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
