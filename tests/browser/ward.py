"""A believable ward for the screens: eight people, three weeks of a heart rate a minute, alerts of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.limits import Limits
from detectors.protocol import Finding
from detectors.weight_gain import WeightGain
from ingest.clock import to_ms
from tests.api_data import HOUR_MS, NOW, ApiData
from tests.browser.ward_alerts import alerts, judged

DAYS = 8
HOUR_BAND = {"asleep": (54.0, 3.0), "rest": (66.0, 5.0), "active": (88.0, 9.0)}


@dataclass
class Ward:
    """The rows made, as far as a test needs them."""

    data: ApiData
    nurse: int
    patients: dict[str, int]
    alerts: dict[str, str]


def context_of(hour: int) -> str:
    return "asleep" if hour < 6 or hour == 23 else "active" if hour in (8, 9, 12, 17, 18) else "rest"


def heart(seed: int, level: float = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A value a minute with nights, activity and charging breaks, in local time an hour ahead of UTC."""
    random = np.random.default_rng(seed)
    t_ms = to_ms(NOW) - np.arange(DAYS * 1440, dtype=np.int64)[::-1] * 60_000
    hours = ((t_ms // HOUR_MS + 1) % 24).astype(int)
    center = np.array([HOUR_BAND[context_of(h)][0] for h in range(24)])[hours]
    center = np.convolve(np.pad(center, 45, mode="edge"), np.ones(91) / 91, "valid")
    wander = np.convolve(random.normal(0, 1, len(t_ms) + 119), np.ones(120) / 11, "valid")
    value = center + level + 2.2 * wander + random.normal(0, 2.4, len(t_ms))
    charging = (hours == 21) & (t_ms // 60_000 % 60 < 50)
    return t_ms[~charging], np.round(value[~charging])


def bands(data: ApiData, patient: int, days: int = 14) -> None:
    """The own usual range of each closed hour: of heart rate by context, of oxygen saturation one for all."""
    now = to_ms(NOW) // HOUR_MS
    for hour in range(now - DAYS * 24, now):
        context = context_of((hour + 1) % 24)
        data.band(patient, "heart_rate", context, hour * HOUR_MS, *HOUR_BAND[context], days)
        data.band(patient, "spo2", context, hour * HOUR_MS, 96.4, 0.9, days)


def nights(data: ApiData, patient: int) -> None:
    """A hundred nights of heart rate asleep, 3 higher in the last four weeks, and of a breathing rate as ever."""
    today = NOW.date()
    rows = [
        (
            patient,
            metric,
            today - timedelta(days=99 - i),
            level + i % 3 - 1 + (3 if metric == 1 and i >= 72 else 0),
            level,
        )
        for metric, level in ((1, 54), (5, 15))
        for i in range(100)
    ]
    with data.connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO daily_value VALUES (%s, %s, 'asleep', %s, %s, 400, %s, 2, 14, 0, NULL, true)", rows
        )


def weights(data: ApiData, patient: int, device: int) -> list[Finding]:
    """A weight each morning of nine weeks, 2.6 kg up in the last three days; what is found in them."""
    t_ms = to_ms(NOW.replace(hour=6, minute=30)) - 24 * HOUR_MS * np.arange(63, dtype=np.int64)[::-1]
    value = 78 + np.random.default_rng(4).normal(0, 0.3, 63)
    value[-3:] = 77.9, 80.2, 80.5
    value = value.round(1)
    data.readings(patient, device, "weight", t_ms, value, rollups=False)
    return judged(WeightGain(), "weight", t_ms, value)


def make(data: ApiData) -> Ward:
    """Write the ward."""
    nurse = data.person("ada", "nurse", "Ada Nurse")
    names = {
        "p01": "Ines Albrecht", "p02": "Jonas Brandt", "p03": "Margarethe Conrad", "p04": "Yusuf Demir",
        "p05": "Elke Engel", "p06": "Piotr Filipek", "p07": "Rosa Graf", "p08": "Theo Hansen",
    }  # fmt: skip
    patients = {key: data.patient(key, name, days=DAYS + 14) for key, name in names.items()}
    found: dict[str, list[Finding]] = {}
    for seed, (key, patient) in enumerate(patients.items()):
        if key == "p08":
            continue
        device = data.device(f"{data.key}-band-{key}", patient, "Wristband", "wrist_optical")
        t_ms, value = heart(seed)
        if key == "p04":
            value[-35:] += np.linspace(20, 50, 35).round()
            value[-15:] += 55
        if key == "p03":
            value[-360:-240] += 18
        if key == "p02":
            value[-3 * 1380 :] += 9
            value[2000:2016] += 78
        if key == "p05":
            t_ms, value = t_ms[: -5 * 60], value[: -5 * 60]
        data.readings(patient, device, "heart_rate", t_ms, value)
        found[key] = judged(Limits(), "heart_rate", t_ms, value)
        if key in ("p04", "p02", "p07"):
            spo2 = np.round(96.4 + np.random.default_rng(seed).normal(0, 0.5, len(t_ms[::5])))
            if key == "p07":  # nothing of it came since
                spo2 = np.append(spo2[:-360], [84, 84])
                found[key] = judged(Limits(), "spo2", t_ms[::5][: len(spo2)], spo2)
            data.readings(patient, device, "spo2", t_ms[::5][: len(spo2)], spo2)
        if key in ("p04", "p02"):
            data.state(patient, "spo2", "normal", value=96.0, since=NOW - timedelta(days=2))
        bands(data, patient, 3 if key == "p06" else 14)
        if key == "p04":
            nights(data, patient)
            found[key] += weights(data, patient, device)
        state: dict[str, Any] = {"value": float(value[-1]), "at": NOW - timedelta(seconds=40)}
        if key == "p05":
            data.state(patient, "heart_rate", "unknown", "not_worn", value=state["value"], at=NOW - timedelta(hours=5))
        elif key == "p06":
            data.state(patient, "heart_rate", "learning", since=NOW - timedelta(days=3), **state)
        else:
            what = "unusual" if key in ("p04", "p02") else "normal"
            data.state(patient, "heart_rate", what, since=NOW - timedelta(hours=3), **state)
    return Ward(data, nurse, patients, alerts(data, patients, nurse, found))
