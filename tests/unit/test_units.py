"""Every accepted unit converts, and only accepted ones."""

from __future__ import annotations

import pytest

from ingest.catalogue import Metric, catalogue
from ingest.units import CONVERSIONS, accepted_units, conversion


@pytest.mark.parametrize("metric", catalogue().values(), ids=lambda metric: metric.key)
def test_every_unit_of_the_catalogue_has_a_conversion(metric: Metric) -> None:
    for unit in accepted_units(metric):
        factor, offset = conversion(metric, unit) or (0.0, 0.0)
        assert factor != 0.0, unit
        assert abs(offset) < 1e3


@pytest.mark.parametrize(
    ("metric", "unit", "sent", "kept"),
    [
        ("heart_rate", "Hz", 1.2, 72.0),
        ("body_temperature", "[degF]", 212.0, 100.0),
        ("body_temperature", "K", 310.15, 37.0),
        ("systolic_pressure", "kPa", 16.0, 120.00987),
        ("glucose", "mmol/L", 5.0, 90.078),
        ("weight", "[lb_av]", 150.0, 68.0388555),
        ("weight", "g", 70_000.0, 70.0),
        ("hrv_rmssd", "s", 0.042, 42.0),
        ("ecg", "uV", 1000.0, 1.0),
        ("acceleration_x", "m/s2", 9.80665, 1.0),
        ("spo2", "1", 0.97, 97.0),
    ],
)
def test_known_conversions(metric: str, unit: str, sent: float, kept: float) -> None:
    affine = conversion(catalogue()[metric], unit)
    assert affine is not None
    assert sent * affine.factor + affine.offset == pytest.approx(kept, rel=1e-6)


def test_a_unit_of_another_metric_is_not_accepted() -> None:
    assert conversion(catalogue()["heart_rate"], "kg") is None
    assert conversion(catalogue()["systolic_pressure"], "K") is None


def test_no_conversion_is_left_over() -> None:
    used = {(unit, metric.unit) for metric in catalogue().values() for unit in metric.units}
    assert set(CONVERSIONS) == used
