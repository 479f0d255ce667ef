"""Statements about weeks as documents: numbers as far as they are sure, and a sentence for whoever reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.apart import LEAST_HOURS
from detectors.courses import Recovery
from detectors.shape import LEAST_DAYS
from detectors.trends import Change
from detectors.wear import ENOUGH_HOURS, Wear
from detectors.weights import GAIN_DAYS, GAIN_KG, Gain
from services.api.weeks import plain as to_patients
from services.api.weeks import words as to_the_team
from services.api.weeks.quantities import QUANTITIES, Quantity, iso
from services.api.weeks.shapes import Novelty


def change(key: str, said: Change, *, plain: bool) -> dict[str, Any]:
    """Return a comparison with its sentence; of the unknown there is no difference."""
    quantity, found = QUANTITIES[key], said.change
    return {
        "quantity": key,
        "title": quantity.title,
        "unit": quantity.unit,
        "decimals": quantity.decimals,
        "kind": said.kind,
        "state": said.state,
        "value": _round(said.value, quantity),
        "reference": _round(said.reference, quantity),
        "change": _round(found.value if found else None, quantity),
        "low": _round(found.low if found else None, quantity),
        "high": _round(found.high if found else None, quantity),
        "p": round(found.p, 6) if found else None,
        "since": iso(said.since),
        "days": said.days,
        "days_needed": said.days_needed,
        "compared_days": said.compared_days,
        "compared_needed": said.compared_needed,
        "sentence": (to_patients if plain else to_the_team).change(quantity, said),
    }


def recovery(key: str, said: Recovery, start: int, *, plain: bool) -> dict[str, Any]:
    """Return what became of an episode that began on local day ``start``, with its sentence."""
    quantity = QUANTITIES[key]
    return {
        "quantity": key,
        "title": quantity.title,
        "unit": quantity.unit,
        "decimals": quantity.decimals,
        "state": said.state,
        "usual": _round(said.usual, quantity),
        "worst": _round(said.worst, quantity),
        "now": _round(said.now, quantity),
        "share": None if said.share is None else round(said.share, 2),
        "since": iso(said.since),
        "days": said.days,
        "sentence": (to_patients if plain else to_the_team).recovery(quantity, said, start),
    }


def wear(said: Wear, *, heard: bool, plain: bool) -> dict[str, Any]:
    """Return on how many days there is enough data, with its sentence; ``heard``: a heart rate was ever received."""
    return {
        "state": said.state,
        "days_with_enough": said.enough,
        "days_expected": said.expected,
        "hours_needed": ENOUGH_HOURS,
        "longest_gap_days": said.longest_gap,
        "gap_since": iso(said.gap_since),
        "hours": said.hours,
        "hours_before": said.hours_before,
        "sentence": to_patients.wear(said) if plain else to_the_team.wear(said, heard=heard),
    }


def gain(said: Gain, *, plain: bool) -> dict[str, Any]:
    """Return whether the weight has risen fast, with its sentence; of the unknown there is no change."""
    quantity, known = QUANTITIES["weight"], said.state != "unknown"
    return {
        "state": said.state,
        "bound": GAIN_KG,
        "within_days": GAIN_DAYS,
        "day": iso(said.day),
        "value": _round(said.value, quantity),
        "from_day": iso(said.from_day),
        "from_value": _round(said.from_value, quantity),
        "change": said.kilograms if known else None,
        "sentence": (to_patients if plain else to_the_team).gain(said),
    }


def day_shape(said: Novelty) -> dict[str, Any]:
    """Return how unlike the course of the last day was, with its sentence; for the team alone."""
    course, known = said.course, bool(np.isfinite(said.course.p[0]))
    return {
        "state": "unknown" if not known else "unlike" if course.unlike[0] else "not_unlike",
        "day": iso(said.day),
        "hours": int(course.hours[0]),
        "hours_needed": LEAST_HOURS,
        "days": int(course.days[0]),
        "days_needed": LEAST_DAYS,
        "distance": round(float(course.distance[0]), 3) if known else None,
        "p": round(float(course.p[0]), 4) if known else None,
        "most_alike": iso(int(course.nearest[0])) if known else None,
        "since": iso(said.since),
        "most_at_hour": said.hour,
        "most_by": None if said.by is None else round(said.by, 1),
        "turned_hours": int(course.turned[0]) or None,
        "sentence": to_the_team.day_shape(said),
    }


def _round(value: float | None, quantity: Quantity) -> float | None:
    return round(value, quantity.decimals + 2) if value is not None else None
