"""Made-up people: they stay as they were frozen, vary as the real ones they stand in for, and are whole to a detector."""

from __future__ import annotations

import doctest
import hashlib

import numpy as np

import evaluation.made_up
from detectors.protocol import VITALS, Doubles
from evaluation.made_up import nights
from evaluation.made_up_hours import bodies, hours

NIGHTS = "e048f15446b4a192"
BODIES = "3c99b22feeb20058"


def digest(*columns: Doubles) -> str:
    """Digest to a hundredth: the last bits of a logarithm differ from machine to machine."""
    found = hashlib.sha256()
    for column in columns:
        found.update(np.rint(np.nan_to_num(column) * 100).astype("<i8").tobytes())
    return found.hexdigest()[:16]


def test_they_are_as_they_were_frozen() -> None:
    assert digest(*(one.value for one in nights(3, 60))) == NIGHTS
    of = bodies(3, 5)
    assert digest(of.night, of.rest, of.steps, of.breath, of.skin, of.spo2, of.rmssd, of.falls) == BODIES


def test_the_docstring_runs() -> None:
    assert doctest.testmod(evaluation.made_up).failed == 0


def test_their_days_vary_as_real_ones_do() -> None:
    """The figures of the 58 real people stand beside ``HEART``."""
    rates = [one.value[:, 0] for one in nights(150, 110)]
    apart = [(rate - rate.mean()) / rate.std() for rate in rates]
    assert 3.5 < np.median([rate.std() for rate in rates]) < 4.5
    for lag, alike in ((1, 0.56), (2, 0.32), (3, 0.24), (7, 0.15)):
        found = np.median([(z[lag:] * z[:-lag]).mean() for z in apart])
        assert abs(found - alike) < 0.06
    changes = [np.diff(z) / (1.4826 * np.median(np.abs(np.diff(z)))) for z in apart]
    far = np.concatenate(changes)
    assert 0.008 < (np.abs(far) > 3).mean() < 0.016
    assert (far > 3).sum() > 1.5 * (far < -3).sum()


def test_a_body_is_the_same_whoever_is_beside_and_has_every_vital() -> None:
    of, more = bodies(2, 4), bodies(5, 4)
    assert np.array_equal(of.night, more.night[:2])
    assert np.array_equal(of.skin, more.skin[:2])
    every = list(hours(more))
    assert len(every) == 4 * 24
    assert [hour.hour_ms[0] for hour in every] == sorted(hour.hour_ms[0] for hour in every)
    heard = {name: sum(int(hour.good[:, :, place].sum()) for hour in every) for place, name in enumerate(VITALS)}
    without = {name for name, n in heard.items() if not n}
    assert without == {"body_temperature"}


def test_a_night_without_the_device_has_no_reading() -> None:
    of = bodies(40, 5)
    row, day = (int(which[0]) for which in np.nonzero(~of.worn))
    taken = [hour for number, hour in enumerate(hours(of)) if number // 24 == day]
    assert sum(int(hour.good[row].sum()) for hour in taken[12:22]) == 0  # 22:00 to 08:00
    assert sum(int(hour.good[row].sum()) for hour in taken[:12]) > 0
