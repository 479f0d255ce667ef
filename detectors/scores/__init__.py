"""Published clinical scores that never adapt, worked out for many people at once; NEWS2 of 5 and more is told too."""

from typing import Final

from detectors.scores.clinical import ClinicalScore
from detectors.scores.mews import MEWS
from detectors.scores.news2 import NEWS2
from detectors.scores.qsofa import QSOFA
from detectors.scores.shock_index import SHOCK_INDEX

SCORES: Final[tuple[ClinicalScore, ...]] = (NEWS2, MEWS, QSOFA, SHOCK_INDEX)
