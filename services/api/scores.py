"""The clinical scores of a patient as they stand: what is known of each, what it is made of, what is missing.

They are shown to the care team, never to patients; a NEWS2 that lasts is told too (`detectors.early_warning`). A
partial score is told as "at least".
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

import numpy as np

from detectors.scores import SCORES
from detectors.scores.clinical import STATES, UNSCORED, ClinicalScore, Scored
from detectors.scores.observations import MAX_AGE_S, PARAMETERS, WHO, Observations, oxygen_by_profile
from ingest.catalogue import catalogue
from services import profile
from services.api import individual, observed, score_words, withheld, words
from services.api.export import fhir
from services.api.observed import Observed
from services.api.patients import Patient
from services.api.scope import Scope
from services.api.times import rfc3339

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
    sees_steps = "activity" not in await withheld.classes(scope, patient.id)
    found = await observed.newest(scope.connection, patient.id, now, sees_steps=sees_steps)
    if (at_home := _oxygen_by_profile(one.profile, found.get(OXYGEN), now)) is not None:
        found[OXYGEN] = Observed(float(at_home), None)
    seen = _observations(found, one.profile, one.at_ms, now)
    return {
        "patient": patient.brief(),
        "at": rfc3339(now),
        "notes": score_words.notes(one.profile, sees_steps=sees_steps),
        "scores": [_score(score, score.work_out(seen), found, now, one.profile) for score in SCORES],
    }


def _oxygen_by_profile(who: profile.Profile | None, heard: Observed | None, now: datetime) -> bool | None:
    """Return whether somebody counts as on oxygen or on air by the profile, None where that says nothing."""
    if who is None or who.oxygen is None:
        return None
    fresh = heard is not None and heard.doubt is None and heard.age_s(now) <= MAX_AGE_S[OXYGEN]
    return oxygen_by_profile(who.oxygen.home, heard=heard is not None, fresh=fresh)


def _observations(found: dict[str, Observed], who: profile.Profile | None, at_ms: int, now: datetime) -> Observations:
    """Return a patient as the scores see them: one row."""
    there = [found.get(key) for key in PARAMETERS]
    value = [one.value if one is not None and one.doubt is None else math.nan for one in there]
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
    off_reason = score_words.OFF[WHO[scored.off[0]]] if state == "off" else None
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
    return shown | {"sentence": score_words.sentence(shown, score.decimals)}


def _state(scored: Scored, total: float | None) -> str:
    if scored.off[0] != UNSCORED:
        return "off"
    return "unknown" if total is None else "complete" if scored.complete[0] else "partial"


def _parameter(key: str, state: str, points: int, one: Observed | None, now: datetime) -> dict[str, Any]:
    metric = catalogue()[key]
    if one is not None and one.doubt is not None:
        state = one.doubt
    return {
        "metric": words.metric(metric.id) | {"title": score_words.title(key)},
        "code": fhir.code(metric),
        "state": state,
        "points": None if points == UNSCORED else points,
        "value": None if one is None or one.at is None else one.value,
        "words": None if one is None else score_words.value(key, one.value, from_profile=one.at is None),
        "at": None if one is None else rfc3339(one.at),
        "age_s": None if one is None or one.at is None else int(one.age_s(now)),
        "max_age_s": MAX_AGE_S[key],
        "source": None if one is None else "profile" if one.at is None else "reading",
    }
