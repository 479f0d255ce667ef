"""What the band of somebody nobody knows yet holds: on day 1 the population's, then narrower by what each day tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from detectors.protocol import Bools, Doubles
from evaluation.budgets import RESAMPLED, interval, resampled, rounded

BAND: Final = 1.959964  # SDs to either side that hold 95 %
SPANS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"1": (1, 1), "2": (2, 2), "3 to 5": (3, 5), "6 to 14": (6, 14), "15 to 28": (15, 28)}
)
"""First and last valid day of a person."""


def held(
    said: Sequence[tuple[Doubles, Doubles]], healthy: Sequence[Bools], resamples: int = RESAMPLED
) -> dict[str, dict[str, Any]]:
    """Return, by a person's valid day, how many healthy days lay within 1.96 SDs, and how wide that band was, in /min.

    ``said``: (z, spread), (D,) each, a person; learned or not. The interval resamples people.
    """
    weights = resampled(len(said), resamples)
    found = {}
    for name, (first, last) in SPANS.items():
        judged = [
            well[first - 1 : last] & np.isfinite(z[first - 1 : last])
            for (z, _), well in zip(said, healthy, strict=True)
        ]
        inside = [
            int((np.abs(z[first - 1 : last][days]) <= BAND).sum()) for (z, _), days in zip(said, judged, strict=True)
        ]
        n = np.array([days.sum() for days in judged], np.float64)
        widths = [2 * BAND * spread[first - 1 : last][days] for (_, spread), days in zip(said, judged, strict=True)]
        with np.errstate(invalid="ignore"):
            shares = weights @ np.array(inside, np.float64) / (weights @ n)
        found[name] = {
            "n": int(n.sum()),
            "share": rounded(float(shares[0])) if n.sum() else None,
            "ci": interval(shares),
            "width": rounded(float(np.median(np.concatenate(widths)))) if n.sum() else None,
        }
    return found
