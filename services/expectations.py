"""How far an event may move a metric, day by day: what the catalogue says of it, or what a person states of this one.

An effect is a dict as it is recorded: ``side`` (fall, rise), ``size`` in the metric's unit where one is known, ``over``
where it grows to that size over so many days, ``days`` where it ends before the event does, ``by`` the role of whoever
stated it. Any may be missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from detectors.protocol import DAY_MS
from detectors.windows import Window
from services.impossible import impossible

Effect = Mapping[str, Any]
SHIFTED_METRIC: Final = "heart_rate"  # the metric whose windows detection knows
MOST: Final = 10  # /min that a person may state: no class of medicine has more
STEP_DAYS: Final = 7  # what grows goes up by the week
_FIELDS: Final = ("side", "size", "days")
_EXAMPLE: Final = '{"heart_rate": {"side": "rise", "size": 6, "days": 10}}'


def size_on(effect: Effect, day: int) -> float | None:
    """Return how far it may go on its day ``day``, 0 the first; None where no size is known, or not any more.

    >>> grows = {"side": "rise", "size": 8, "over": 280}
    >>> [size_on(grows, day) for day in (0, 6, 7, 139, 300)]
    [0.2, 0.2, 0.4, 4.0, 8]
    >>> size_on({"side": "rise", "size": 6, "days": 10}, 10) is None
    True
    """
    if "size" not in effect or day >= effect.get("days", math.inf):
        return None
    size: float = effect["size"]
    if "over" not in effect:
        return size
    grown: float = round(size * STEP_DAYS * (day // STEP_DAYS + 1) / effect["over"], 2)
    return min(size, grown)


def windows(effect: Effect, from_ms: int, to_ms: int) -> Iterator[Window]:
    """Yield the windows an effect opens between where its event begins and ends: one, or one a week while it grows."""
    if "size" not in effect:
        return
    last = min(-(-(to_ms - from_ms) // DAY_MS), effect.get("days", math.inf))
    edges = [
        *range(0, min(last, effect.get("over", 1)), STEP_DAYS),
        last,
    ]  # the last one stays
    for first, end in pairwise(edges):
        size = float(size_on(effect, first) or 0)
        fall, rise = (size * (effect["side"] == side) for side in ("fall", "rise"))
        yield Window(from_ms + first * DAY_MS, min(from_ms + end * DAY_MS, to_ms), 0 - fall, rise)


def stated(
    wanted: object, effects: Mapping[str, Effect], days: int, role: str, why_not: str = "",
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return an event's effects with what a person states of it: ``{metric: {side, size, days}}``, days if fewer.

    Only of a metric the event bears on, and only where the catalogue has no size: that size is the mean that a source
    gives, and two for one thing would make what is told depend on who wrote it down. ``why_not``: why of this event
    nobody may state anything.

    >>> stated({"heart_rate": {"side": "rise", "size": 6}}, {"heart_rate": {}}, 28, "nurse")["heart_rate"]
    {'side': 'rise', 'size': 6, 'by': 'nurse'}

    Raises:
        ImpossibleError: it is misspelt, too large, too long, of another metric or side, the catalogue has a size, or
            it is an event of which nobody may.
    """
    if not isinstance(wanted, Mapping) or set(wanted) != {SHIFTED_METRIC}:
        raise impossible(_short(wanted), "expects", f"{SHIFTED_METRIC} alone, e.g. {_EXAMPLE}")
    effect, one = effects.get(SHIFTED_METRIC), wanted[SHIFTED_METRIC]
    field = f"expects.{SHIFTED_METRIC}"
    if effect is None:
        raise impossible(_short(one), field, "none with this event, which says nothing of it; leave it out")
    if why_not:
        raise impossible(_short(one), field, f"none with this event, leave it out: {why_not}")
    if "size" in effect:
        known = f"the {effect['side']} of up to {effect['size']} /min that its source gives"
        raise impossible(_short(one), field, f"none with this event: it has {known}; leave it out")
    if not isinstance(one, Mapping) or not {"side", "size"} <= set(one) <= set(_FIELDS):
        raise impossible(_short(one), field, f"side, size and, if fewer than the event's, days, e.g. {_EXAMPLE}")
    sides = [effect["side"]] if "side" in effect else ["fall", "rise"]
    if one["side"] not in sides:
        raise impossible(_short(one["side"]), f"{field}.side", " or ".join(sides))
    if not _number(one["size"]) or not 0 < one["size"] <= MOST:
        raise impossible(_short(one["size"]), f"{field}.size", f"more than 0 and at most {MOST} /min")
    size = round(one["size"], 1)
    if size <= 0:
        raise impossible(one["size"], f"{field}.size", "at least 0.1 /min: it is kept to one decimal")
    lasts = one.get("days", days)
    if not isinstance(lasts, int) or isinstance(lasts, bool) or not 1 <= lasts <= days:
        raise impossible(_short(lasts), f"{field}.days", f"whole days from 1 to {days}, as long as the event stands")
    shorter = {"days": lasts} if lasts < days else {}
    said = {"side": one["side"], "size": size, **shorter, "by": role}
    return {metric: dict(effect) for metric, effect in effects.items()} | {SHIFTED_METRIC: said}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> object:
    if isinstance(value, int | float | None):
        return value
    said = json.dumps(value, default=str) if isinstance(value, Mapping | list) else str(value)
    return said[:80]
