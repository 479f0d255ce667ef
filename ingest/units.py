"""Unit normalisation: an allow-list of UCUM units per metric, each an exact affine conversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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
