"""Unit normalisation: an allow-list of UCUM units per metric, each an exact affine conversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.catalogue import Metric


class Affine(NamedTuple):
    """``kept = sent * factor + offset``."""

    factor: float
    offset: float = 0.0


SAME = Affine(1.0)

# (unit sent, unit kept) → conversion. mg/dL per mmol/L of glucose: molar mass 180.156 g/mol.
CONVERSIONS: Mapping[tuple[str, str], Affine] = {
    ("{beats}/min", "/min"): SAME,
    ("{breaths}/min", "/min"): SAME,
    ("Hz", "/min"): Affine(60.0),
    ("1", "%"): Affine(100.0),
    ("1", "{steps}"): SAME,
    ("1", "{stage}"): SAME,
    ("1", "{worn}"): SAME,
    ("[degF]", "Cel"): Affine(5.0 / 9.0, -160.0 / 9.0),
    ("K", "Cel"): Affine(1.0, -273.15),
    ("kPa", "mm[Hg]"): Affine(7.500616827),
    ("mmol/L", "mg/dL"): Affine(18.0156),
    ("g", "kg"): Affine(0.001),
    ("[lb_av]", "kg"): Affine(0.45359237),
    ("s", "ms"): Affine(1000.0),
    ("uV", "mV"): Affine(0.001),
    ("m/s2", "g"): Affine(1.0 / 9.80665),
}


def accepted_units(metric: Metric) -> tuple[str, ...]:
    """Return the units accepted for a metric, the kept one first."""
    return (metric.unit, *metric.units)


def conversion(metric: Metric, unit: str) -> Affine | None:
    """Return how ``unit`` becomes the metric's own unit, or None when it isn't accepted for it.

    >>> from ingest.catalogue import catalogue
    >>> conversion(catalogue()["body_temperature"], "K")
    Affine(factor=1.0, offset=-273.15)
    """
    if unit == metric.unit:
        return SAME
    return CONVERSIONS[unit, metric.unit] if unit in metric.units else None


class Suspicion(NamedTuple):
    """What a value in an impossible place may have been: ``sent`` in ``unit`` would be ``otherwise`` if in ``other``.

    ``otherwise`` is in the metric's own unit.
    """

    sent: float
    unit: str
    other: str
    otherwise: float


def suspicion(metric: Metric, kept: float) -> Suspicion | None:
    """Return which wrong unit would explain ``kept`` (in the metric's own unit), None where none does.

    Only values outside the hard range are suspected. Inside it, a number alone does not tell: 21 may be a glucose in
    either unit, 154 a weight in either; such a value stays a reading, and safety limits judge it at its word.

    >>> from ingest.catalogue import catalogue
    >>> suspicion(catalogue()["body_temperature"], 98.6)
    Suspicion(sent=98.6, unit='Cel', other='[degF]', otherwise=37.0)
    """
    if metric.hard[0] <= kept <= metric.hard[1]:
        return None
    for unit in metric.confused:
        factor, offset = CONVERSIONS[unit, metric.unit]
        otherwise = round(kept * factor + offset, 4)
        if metric.soft[0] <= otherwise <= metric.soft[1]:
            return Suspicion(kept, metric.unit, unit, otherwise)
        sent = round((kept - offset) / factor, 4)  # said to be in ``unit``, and was in the metric's own
        if metric.soft[0] <= sent <= metric.soft[1]:
            return Suspicion(sent, unit, metric.unit, sent)
    return None


def suspected(metric: Metric, kept: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each value of shape (n,), in the metric's own unit, whether `suspicion` explains it."""
    return np.array([suspicion(metric, value) is not None for value in kept.tolist()], bool)
