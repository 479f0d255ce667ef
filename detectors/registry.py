"""Every detector that is installed, by name: ours, and those of other packages.

A package offers one as an entry point, in its pyproject.toml::

    [project.entry-points."keepwell.detectors"]
    long_sitting = "my_package:LongSitting"

Nothing is imported before it is asked for, so one that is broken keeps no other from working.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import numpy as np

from detectors.protocol import KINDS, DayValues, Detector

GROUP: Final = "keepwell.detectors"
SAID: Final = ("Source:", "Units:", "Valid:", "State:")  # what a docstring tells
NEXT_STEP: Final = "docs/detectors.md shows a whole one"


class NotADetector(ValueError):
    """What is offered under a name can't be had, or is no detector; the text says whose it is and what is missing."""


def names() -> list[str]:
    """Return the names of all detectors that are installed.

    >>> {"limits", "pipeline", "daily"} <= set(names())
    True
    """
    return sorted({point.name for point in entry_points(group=GROUP)})


def load(name: str) -> type[Detector[Any]]:
    """Return the class of one detector.

    >>> load("limits").__name__
    'Limits'

    Raises:
        NotADetector: no such name, two packages offer it, it can't be imported, or it does not fit the protocol.
    """
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        msg = f"no detector is called {name!r}; installed are {', '.join(names())}"
        raise NotADetector(msg)
    if len({point.value for point in points}) > 1:
        msg = f"two detectors are called {name!r}: {' and '.join(map(_whose, points))}; uninstall one"
        raise NotADetector(msg)
    try:
        found = points[0].load()
    except Exception as error:
        msg = f"detector {name!r} ({_whose(points[0])}) can't be imported: {type(error).__name__}: {error}"
        raise NotADetector(msg) from error
    wrong = list(_wrong_with(found))
    if wrong:
        msg = f"{name!r} ({_whose(points[0])}) is no detector: {'; '.join(wrong)}. {NEXT_STEP}"
        raise NotADetector(msg)
    return found  # type: ignore[no-any-return]  # looked at above


def _whose(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value


def _wrong_with(found: object) -> Iterator[str]:
    """Yield what a class lacks to be a detector, in words."""
    if not isinstance(found, type):
        yield f"it is {found!r}, not a class"
        return
    missing = [word for word in SAID if word not in (found.__doc__ or "")]
    if missing:
        yield f"its docstring lacks {', '.join(missing)}"
    try:
        made = found()
    except Exception as error:  # somebody else's code
        yield f"it can't be made without arguments: {type(error).__name__}: {error}"
        return
    lacking = [name for name in ("takes", "dtype", "new_state", "reset", "update") if not hasattr(made, name)]
    if lacking:
        yield f"it has no {', '.join(lacking)}"
        return
    if made.takes not in KINDS:
        yield f"takes is {made.takes!r}; allowed are {', '.join(kind.__name__ for kind in KINDS)}"
    if made.takes is DayValues and not hasattr(made, "channels"):
        yield "it takes DayValues and has no channels, the names of their columns"
    if not isinstance(made.dtype, np.dtype) or made.dtype.names is None or made.dtype.hasobject:
        yield f"dtype is {made.dtype!r}; allowed is a structured dtype without objects"
