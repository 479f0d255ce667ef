"""The starter set of safety limits for adults, as data.

Sources: NEWS2 red scores (Royal College of Physicians, 2017) for breathing, pulse and temperature; the
international consensus on glucose (Battelino 2019) for 54, 70 and 250 mg/dL; ACC/AHA 2017 for a systolic
pressure of 180. Persistence and the space between threshold and clear threshold are engineering choices
for wearables, which report more often and less exactly than bedside devices. So is the longest gap, a day and a half:
what is measured once a day, at another hour each time, is compared with the day before. "Limits not individualised"
holds for every patient until a clinician set a profile. Breathing, pulse and blood pressure of a child are others
than an adult's (NEWS2 is for people of 16 and over), so these limits do not hold under 16; low oxygen, temperature
and glucose do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from detectors.protocol import LIMIT_METRICS, Condition, Priority, Rule

MAX_LEVELS = 2
ONCE_A_DAY_S: Final = 129_600  # the longest gap: a day and a half
ADULTS: Final[tuple[Condition, ...]] = ("under_16",)  # `not_for` of a limit for adults


@dataclass(frozen=True, slots=True)
class Limit:
    """One safety limit: it is never learned, and nothing can switch it off by being frequent.

    A good reading is *beyond* a level when it is past its threshold (``inclusive``: or exactly on it), and,
    with ``at_rest_only``, was taken at rest. A run is a row of beyond readings without a good reading that is
    not beyond and without a step longer than ``longest_gap_s``. The level is reached at the first reading at which
    the run has lasted ``persist_s`` (exactly that is enough) and has ``min_readings``.

    Of a step longer than ``max_gap_s`` nobody knows what was between. Towards a level of high priority, and the worse
    of two, it counts all the same: one good repeat is enough, however seldom a device measures. Towards any other it
    counts as ``max_gap_s``, or as half of ``persist_s`` where that is more: then the third reading in a row is enough.
    An episode ends when good readings at ``clear`` or on its healthy side have lasted ``clear_s`` by the same counting,
    in which the first step longer than ``max_gap_s`` is a gap and does not count; a second one says that readings come
    seldom, and it counts in full, as do those after it: three in a row end an episode there.
    """

    rule: str
    title: str
    metric: str
    side: Literal["above", "below"]
    levels: tuple[tuple[float, Priority], ...]  # (threshold, priority), mildest first
    clear: float
    persist_s: int
    clear_s: int
    max_gap_s: int
    longest_gap_s: int = ONCE_A_DAY_S
    inclusive: bool = False
    min_readings: int = 2
    at_rest_only: bool = False
    version: int = 1
    not_for: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError where the limit contradicts itself."""
        if self.metric not in LIMIT_METRICS:
            msg = f"limit {self.rule}: metric {self.metric!r} is not one of {', '.join(LIMIT_METRICS)}"
            raise ValueError(msg)
        if not 1 <= len(self.levels) <= MAX_LEVELS:
            msg = f"limit {self.rule}: {len(self.levels)} levels given, 1 to {MAX_LEVELS} are allowed"
            raise ValueError(msg)
        sign = 1 if self.side == "above" else -1
        if not 0 < self.max_gap_s <= self.longest_gap_s:
            msg = f"limit {self.rule}: max_gap_s must be above 0 and no more than longest_gap_s, {self.longest_gap_s}"
            raise ValueError(msg)
        ordered = [self.clear * sign, *(threshold * sign for threshold, _ in self.levels)]
        if ordered != sorted(set(ordered)):
            msg = f"limit {self.rule}: clear and levels must be in this order, each worse than the last"
            raise ValueError(msg)

    def about(self) -> Rule:
        """Return what is said about this limit as a rule."""
        priorities = tuple(priority for _, priority in self.levels)
        return Rule(self.rule, self.version, "safety", priorities, self.metric, self.title, self.not_for)


ADULT_LIMITS: tuple[Limit, ...] = (
    Limit(
        "spo2_low", "Low oxygen saturation", "spo2", "below", ((90, "medium"), (85, "high")), clear=92,
        persist_s=300, clear_s=600, max_gap_s=900, version=3,
    ),
    Limit(
        "tachycardia_at_rest", "Fast heart rate at rest", "heart_rate", "above",
        ((130, "medium"), (150, "high")), clear=120, persist_s=600, clear_s=600, max_gap_s=300,
        at_rest_only=True, version=2,
        not_for=ADULTS,
    ),
    Limit(
        "tachycardia_extreme", "Very fast heart rate", "heart_rate", "above", ((190, "high"),), clear=170,
        persist_s=300, clear_s=600, max_gap_s=300, version=2,
        not_for=ADULTS,
    ),
    Limit(
        "bradycardia", "Slow heart rate", "heart_rate", "below", ((38, "medium"), (32, "high")), clear=42,
        persist_s=600, clear_s=600, max_gap_s=300, version=2,
        not_for=ADULTS,
    ),
    Limit(
        "respiratory_rate_high", "Fast breathing at rest", "respiratory_rate", "above",
        ((25, "medium"), (30, "high")), clear=22, persist_s=600, clear_s=600, max_gap_s=900,
        inclusive=True, at_rest_only=True, version=2,
        not_for=ADULTS,
    ),
    Limit(
        "respiratory_rate_low", "Slow breathing", "respiratory_rate", "below", ((8, "high"),), clear=10,
        persist_s=600, clear_s=600, max_gap_s=900, inclusive=True, version=2,
        not_for=ADULTS,
    ),
    Limit(
        "fever", "High body temperature", "body_temperature", "above", ((38.5, "medium"), (39.5, "high")),
        clear=38.0, persist_s=600, clear_s=1800, max_gap_s=3600, inclusive=True, version=2,
    ),
    Limit(
        "hypothermia", "Low body temperature", "body_temperature", "below", ((35, "medium"), (34, "high")),
        clear=35.5, persist_s=600, clear_s=1800, max_gap_s=3600, version=2,
    ),
    Limit(
        "glucose_low", "Low glucose", "glucose", "below", ((70, "medium"), (54, "high")), clear=80,
        persist_s=300, clear_s=900, max_gap_s=1800, version=2,
    ),
    Limit(
        "glucose_high", "High glucose", "glucose", "above", ((250, "medium"),), clear=220,
        persist_s=3600, clear_s=1800, max_gap_s=1800, version=2,
    ),
    Limit(
        "systolic_high", "High systolic blood pressure", "systolic_pressure", "above", ((180, "medium"),),
        clear=170, persist_s=0, clear_s=0, max_gap_s=1800, inclusive=True, version=2,
        not_for=ADULTS,
    ),
    Limit(
        "systolic_low", "Low systolic blood pressure", "systolic_pressure", "below", ((90, "medium"),),
        clear=100, persist_s=0, clear_s=0, max_gap_s=1800, inclusive=True, version=2,
        not_for=ADULTS,
    ),
)  # fmt: skip
"""The limits every adult is watched with until somebody set them otherwise."""

OXYGEN_LIMITS: tuple[Limit, ...] = (
    Limit(
        "spo2_high_on_oxygen", "High oxygen saturation on oxygen", "spo2", "above", ((95, "medium"), (97, "high")),
        clear=92, persist_s=600, clear_s=600, max_gap_s=900, inclusive=True, version=3,
        not_for=("no_oxygen_target",),
    ),
)  # fmt: skip
"""For people on oxygen whose target ends at 92 %: too much of it is a danger of its own (NEWS2, SpO2 scale 2)."""
