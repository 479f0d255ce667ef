"""What a layer can say of the rules against the own normal: from which difference on a drift is told, and the budget.

The same layers as of the limits (``services.limits``), each over the one before; of two programmes of a patient the
one that speaks sooner counts. Neither can be switched off, and no safety limit knows of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, cast

from detectors.choices import ALL_TOGETHER, Choice
from detectors.daily import LIMITS, Budget
from detectors.drift import WATCHED
from detectors.rules import DRIFTS
from ingest.catalogue import catalogue
from services.impossible import impossible
from services.layer import Own, Setting, Span, decoded, encoded

# Engineering choices about everybody's bounds: the near side no nearer than where what a night misses the usual by is
# told in many well people, the far side no further than twice or nearly so. No figure has been validated on patients.
DRIFT_BOUNDS: Final[Mapping[str, Span]] = MappingProxyType(
    {"heart_rate_drift": (5, 15), "spo2_drift": (1, 4), "respiratory_rate_drift": (2, 6), "hrv_rmssd_drift": (8, 30)}
)
TOGETHER: Final = ALL_TOGETHER  # stands in a layer where a rule would
BUDGETS: Final = tuple(LIMITS)
USUAL_BOUNDS: Final[Mapping[str, float]] = MappingProxyType(
    {rule.id: float(one.bound) for rule, one in zip(DRIFTS, WATCHED, strict=True)}
)
RULES: Final = (*DRIFT_BOUNDS, TOGETHER)
_METRIC: Final = {rule.id: rule.metric for rule in DRIFTS}
TITLE: Final = "Alert budget of all rules against the own normal together"
UNIT: Final = "incidents a patient-week"


def fields_of(rule: str) -> tuple[str, ...]:
    """Return what a layer can say of one of these rules."""
    return ("alert_budget",) if rule == TOGETHER else ("bound",)


def checked(rule: str, setting: Setting) -> Setting:
    """Return what a layer says of a rule, the budget as text.

    Raises:
        ImpossibleError: out of range, or nothing at all.
    """
    if setting == Setting():
        raise impossible({}, rule, f"{fields_of(rule)[0]}; leave the rule out to have it as it is elsewhere")
    if rule == TOGETHER:
        said = setting.alert_budget
        budget = str(said) if isinstance(said, float) else said
        if budget not in BUDGETS:
            raise impossible(said, f"{rule}.alert_budget", f"{', '.join(BUDGETS)} {UNIT}")
        return Setting(alert_budget=budget)
    (low, high), bound = DRIFT_BOUNDS[rule], setting.bound
    if bound is None or not low <= bound <= high:
        raise impossible(bound, f"{rule}.bound", f"{low:g} to {high:g} {unit_of(rule)}")
    return setting


def unit_of(drift: str) -> str:
    """Return the unit of a drift's bound."""
    return catalogue()[_METRIC[drift]].unit


def sooner(one: Setting, other: Setting) -> Setting:
    """Return what two programmes of one patient make of a rule: the tighter bound, or the larger budget."""
    bounds = [each.bound for each in (one, other) if each.bound is not None]
    budgets = [cast(Budget, each.alert_budget) for each in (one, other) if each.alert_budget is not None]
    return Setting(bound=min(bounds, default=None), alert_budget=max(budgets, key=float, default=None))


def said_in(payloads: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether any of these stored layers says something of these rules."""
    return any(rule in payload.get("rules", {}) for payload in payloads for rule in RULES)


def effective(layers: Iterable[tuple[str, Own]]) -> Choice:
    """Return what holds of layers, (name, what it says) in order: the same object for the same numbers."""
    said = [(name, {rule: own[rule] for rule in RULES if rule in own}) for name, own in layers]
    return _effective(tuple((name, encoded(own)) for name, own in said if own))


@lru_cache(maxsize=4096)
def _effective(layers: tuple[tuple[str, bytes], ...]) -> Choice:
    held, set_by = dict[str, Setting](), dict[str, str]()
    for name, document in layers:
        for rule, setting in decoded(document).items():
            held[rule], set_by[rule] = setting, name
    budget = cast(Budget | None, held.get(TOGETHER, Setting()).alert_budget)
    bounds = tuple(held.get(rule.id, Setting()).bound for rule in DRIFTS)
    return Choice(budget, bounds, MappingProxyType(set_by))


def bounds_of(choice: Choice) -> dict[str, float]:
    """Return each drift's bound as it holds for a person, in its metric's unit."""
    pairs = zip(USUAL_BOUNDS.items(), choice.bounds, strict=True)
    return {rule: usual if own is None else own for (rule, usual), own in pairs}


def changed(before: Choice, after: Choice) -> list[str]:
    """Return the rules that are others by the second choice than by the first."""
    old, new = bounds_of(before), bounds_of(after)
    budget = [TOGETHER] if before.budget != after.budget else []
    return [rule for rule in DRIFT_BOUNDS if old[rule] != new[rule]] + budget
