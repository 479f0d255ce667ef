"""What kinds of devices there are, and by how much published sources say each may be off.

A closed list, so that what is said of accuracy never rests on a free text. ``unknown`` is a class like the others:
said, and never taken for a good one. A figure is here only with its source; where none was found nothing is stated.
Where a source gives several, the smallest is the figure and the note holds the others: a finding is never called
doubtful by more than every source supports. Deviations: figures of some devices of a class stand for the whole class;
those of a standard say what is permitted, not what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

DeviceClass = Literal[
    "wrist_optical", "ring_optical", "chest_strap", "patch_ecg", "finger_oximeter", "cuff", "thermometer", "scale",
    "cgm", "glucose_meter", "phone", "unknown",
]  # fmt: skip
CLASSES: Final[tuple[DeviceClass, ...]] = get_args(DeviceClass)
UNKNOWN: Final[DeviceClass] = "unknown"

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "wrist_optical": "wrist sensor",
        "ring_optical": "ring sensor",
        "chest_strap": "chest strap",
        "patch_ecg": "ECG patch",
        "finger_oximeter": "finger oximeter",
        "cuff": "blood pressure cuff",
        "thermometer": "thermometer",
        "scale": "scale",
        "cgm": "continuous glucose monitor",
        "glucose_meter": "glucose meter",
        "phone": "phone",
        "unknown": "kind of device not known",
    }
)
MDC: Final[Mapping[str, int]] = MappingProxyType(
    {
        "chest_strap": 528525,  # MDC_DEV_SUB_SPEC_PROFILE_HR
        "patch_ecg": 528524,  # MDC_DEV_SUB_SPEC_PROFILE_ECG
        "finger_oximeter": 528388,  # MDC_DEV_SPEC_PROFILE_PULS_OXIM
        "cuff": 528391,  # MDC_DEV_SPEC_PROFILE_BP
        "thermometer": 528392,  # MDC_DEV_SPEC_PROFILE_TEMP
        "scale": 528399,  # MDC_DEV_SPEC_PROFILE_SCALE
        "cgm": 528409,  # MDC_DEV_SPEC_PROFILE_CGM
        "glucose_meter": 528401,  # MDC_DEV_SPEC_PROFILE_GLUCOSE
    }
)
"""ISO/IEEE 11073-10101 device specialisations, as HL7's Personal Health Device guide lists them; a worn optical sensor
and a phone have none."""


def with_article(device_class: str) -> str:
    """Return a class as it stands in a sentence.

    >>> with_article("patch_ecg"), with_article("cuff")
    ('an ECG patch', 'a blood pressure cuff')
    """
    name = NAMES[device_class]
    return f"an {name}" if name[0] in "AEIO" else f"a {name}"


class Accuracy(NamedTuple):
    """By how much one class may miss one metric."""

    error: float
    relative: bool  # the error is in % of the value, else in the metric's own unit
    measure: str  # what the figure is
    source: str
    note: str = ""

    def off(self, value: float) -> float:
        """Return by how much a value may be off, in the metric's unit.

        >>> STATED["cgm", "glucose", "reading"].off(60)
        6.6
        """
        return round(self.error * abs(value) / 100, 4) if self.relative else self.error


Over = Literal["reading", "night"]  # of single readings, or of a night's mean

_DIAL: Final = "Dial et al. 2025, 13 adults, 536 nights, as summarised at openscience.ink"
_PRESSURE: Final = Accuracy(
    8, False, "SD of the error permitted, beside a mean error of 5",
    "ANSI/AAMI/ISO 81060-2:2013, as in Biomed Eng Lett 2019;9:37, table 3",
)  # fmt: skip
STATED: Final[Mapping[tuple[str, str, Over], Accuracy]] = MappingProxyType(
    {
        ("wrist_optical", "heart_rate", "reading"): Accuracy(
            15, False, "limits of agreement with a chest strap", "Sartor et al. 2018 (PMC5984393), 199 adults",
            "in dark skin -34 to 33, in light -16 to 14 (Singh et al. 2024, JMIR e62769)",
        ),
        ("wrist_optical", "heart_rate", "night"): Accuracy(
            2.71, True, "mean absolute error of a night's mean", _DIAL, "2.71 to 3.00 by make"
        ),
        ("wrist_optical", "spo2", "reading"): Accuracy(
            6, False, "limits of agreement with an oximeter", "Digital Health 2022;8:1-9, Apple Watch 6, 24 adults",
            "up to 8 where it reads below 90",
        ),
        ("wrist_optical", "respiratory_rate", "reading"): Accuracy(
            1.62, False, "root mean square error asleep", "Sensors 2023;23:7976, 195 of a sleep clinic"
        ),
        ("wrist_optical", "respiratory_rate", "night"): Accuracy(
            1.13, False, "root mean square error of a night's mean", "Sensors 2023;23:7976, 195 of a sleep clinic"
        ),
        ("ring_optical", "heart_rate", "night"): Accuracy(
            1.67, True, "mean absolute error of a night's mean", _DIAL, "1.67 to 1.94 by make"
        ),
        ("ring_optical", "spo2", "reading"): Accuracy(
            3.55, False, "root mean square difference to a finger oximeter at rest",
            "Morinaga et al., journal Digital Life, 10 active adults",
        ),
        ("chest_strap", "rr_interval", "reading"): Accuracy(
            4.33, False, "95 % limits of agreement lying down", "Giles et al. 2016 (Eur J Appl Physiol 116), 20 adults"
        ),
        ("patch_ecg", "heart_rate", "reading"): Accuracy(
            2, True, "mean absolute error, less than", "Kim et al. 2023 (Ann Rehabil Med), 44 with coronary disease"
        ),
        ("finger_oximeter", "spo2", "reading"): Accuracy(
            4, False, "Arms permitted from 70 to 100 %", "ISO 80601-2-61, as in JMIR Form Res 2024 e54256",
            "3.96, 4.71 and 4.15 in light, medium and dark skin (Singh et al. 2024, JMIR e62769)",
        ),
        ("cuff", "systolic_pressure", "reading"): _PRESSURE,
        ("cuff", "diastolic_pressure", "reading"): _PRESSURE,
        ("scale", "weight", "reading"): Accuracy(
            0.3, False, "median error, at most", "Frija-Masson et al. 2021 (JMIR mHealth e22487), three makes"
        ),
        ("cgm", "glucose", "reading"): Accuracy(
            11, True, "mean absolute relative difference", "Marak et al. 2023 (PMC10771867), 53 people at home",
            "13.6 in the first 12 hours",
        ),
    }
)  # fmt: skip


def accuracy(device_class: str, metric: str, over: Over = "reading") -> Accuracy | None:
    """Return what is stated of a class and metric; of a night's mean that of single readings where no other is.

    >>> accuracy("scale", "weight").error, accuracy("unknown", "heart_rate")
    (0.3, None)
    """
    return STATED.get((device_class, metric, over)) or STATED.get((device_class, metric, "reading"))


def told(device: str, device_class: str, metric: str, over: Over) -> dict[str, Any]:
    """Return what evidence says of one device that a finding's readings came from; ``accuracy`` None: not known."""
    stated = accuracy(device_class, metric, over)
    return {"device": device, "class": device_class, "accuracy": None if stated is None else stated._asdict()}


def within(devices: Iterable[Mapping[str, Any]], value: float, apart: float) -> tuple[str, float] | None:
    """Return which class may be off, and by how much, where that is no less than ``apart``; None where it is less.

    Of several devices the most exact one decides, and one of which nothing is stated explains nothing away.

    >>> watch, other = (told(one, one, "heart_rate", "reading") for one in ("wrist_optical", "unknown"))
    >>> within([watch], 140, 10), within([watch], 150, 20), within([watch, other], 140, 10)
    (('wrist_optical', 15), None, None)
    """
    found = [(Accuracy(**one["accuracy"]).off(value), one["class"]) for one in devices if one["accuracy"] is not None]
    if not found or len(found) < len(list(devices)):
        return None
    off, which = min(found)
    return (which, off) if apart <= off else None
