"""A patient's own safety limits: organisation, then programme, then profile, then patient; each within safe bounds.

A layer is a document ``{rule: {"levels": [mildest, …], "persist_s": seconds}}`` of the rules it sets otherwise; what it
says of the rules against the own normal is in ``services.adaptive``. What a layer leaves out comes from the one before
it, at last from the adults' limits. The clear threshold keeps the distance from the mildest level that it has there, so
that no limit flickers. Nobody can switch a limit off: bounds say how far it can be moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from detectors.adult_limits import Limit
from detectors.limit_sets import LimitSet
from detectors.limits import DEFAULT_LIMITS
from detectors.protocol import Condition
from detectors.rules import RULES
from services import adaptive
from services.impossible import impossible
from services.layer import Own, Setting, Span, decoded, encoded
from services.profile import Oxygen


class Bounds(NamedTuple):
    """How far a limit may be moved: each level's lowest and highest threshold, and the persistence, in seconds."""

    levels: tuple[Span, ...]
    persist_s: Span


# Engineering choices about the published levels: the mild side never past what the next level is for, the severe side
# never past what no clinic leaves unseen. No figure has been validated on patients.
BOUNDS: Final[Mapping[str, Bounds]] = MappingProxyType(
    {
        "spo2_low": Bounds(((80, 94), (75, 92)), (60, 900)),
        "tachycardia_at_rest": Bounds(((100, 150), (120, 170)), (120, 1800)),
        "tachycardia_extreme": Bounds(((160, 210),), (60, 600)),
        "bradycardia": Bounds(((30, 50), (25, 45)), (120, 1800)),
        "respiratory_rate_high": Bounds(((20, 30), (24, 36)), (120, 1800)),
        "respiratory_rate_low": Bounds(((6, 12),), (120, 1800)),
        "fever": Bounds(((37.5, 39), (38, 40)), (300, 3600)),
        "hypothermia": Bounds(((34, 36), (33, 35.5)), (300, 3600)),
        "glucose_low": Bounds(((60, 90), (54, 70)), (60, 900)),
        "glucose_high": Bounds(((180, 350),), (900, 7200)),
        "systolic_high": Bounds(((140, 200),), (0, 0)),
        "systolic_low": Bounds(((80, 110),), (0, 0)),
        "spo2_high_on_oxygen": Bounds(((93, 96), (95, 98)), (300, 1800)),
    }
)
LIMITS: Final[Mapping[str, Limit]] = MappingProxyType({limit.rule: limit for limit in DEFAULT_LIMITS})


def fields_of(rule: str) -> tuple[str, ...]:
    """Return what a layer can say of a rule; nothing where it can say nothing of it."""
    if rule in BOUNDS:
        return ("levels", "persist_s")
    return adaptive.fields_of(rule) if rule in adaptive.RULES else ()


def checked(document: Mapping[str, Any]) -> dict[str, Setting]:
    """Return a layer from its document.

    Raises:
        ImpossibleError: a rule that no layer says anything of, a shape that is none, or a number out of bounds.
    """
    found = {}
    for rule, said in document.items():
        fields = fields_of(rule)
        if not fields:
            raise impossible(rule, "rules", ", ".join((*BOUNDS, *adaptive.RULES)))
        for field in said if isinstance(said, Mapping) else ():
            if field not in fields:
                raise impossible(said[field], f"{rule}.{field}", " and ".join(fields))
        try:
            setting = msgspec.convert(said, Setting)
        except msgspec.ValidationError as error:
            shape = ", ".join(f'"{field}": {"[…]" if field == "levels" else "…"}' for field in fields)
            raise impossible(said, rule, f"{{{shape}}}; {error}") from error
        if rule in BOUNDS:
            _check(rule, setting)
        found[rule] = setting if rule in BOUNDS else adaptive.checked(rule, setting)
    return found


def _check(rule: str, setting: Setting) -> None:
    bounds, limit = BOUNDS[rule], LIMITS[rule]
    if setting == Setting():
        raise impossible({}, rule, "levels, persist_s or both; leave the rule out to have it as it is elsewhere")
    if setting.levels and len(setting.levels) != len(bounds.levels):
        raise impossible(list(setting.levels), f"{rule}.levels", f"{len(bounds.levels)} thresholds, the mildest first")
    for place, (value, (low, high)) in enumerate(zip(setting.levels, bounds.levels, strict=False)):
        if not low <= value <= high:
            raise impossible(
                value, f"{rule}.levels[{place}]", f"{low:g} to {high:g}, {limit.levels[place][1]} priority"
            )
    if setting.persist_s is not None and not bounds.persist_s[0] <= setting.persist_s <= bounds.persist_s[1]:
        allowed = f"{bounds.persist_s[0]:g} to {bounds.persist_s[1]:g} seconds"
        raise impossible(setting.persist_s, f"{rule}.persist_s", allowed)
    try:
        applied(limit, setting)
    except ValueError as error:
        raise impossible(
            list(setting.levels), f"{rule}.levels", "the mildest first, each worse than the last"
        ) from error


def must_hold(own: Own, who: frozenset[Condition]) -> None:
    """Refuse a patient's own limits of rules for adults where the patient is under 16.

    Raises:
        ImpossibleError: there is such a rule.
    """
    for rule in own:
        if "under_16" in who and rule in LIMITS and "under_16" in LIMITS[rule].not_for:
            raise impossible(rule, "rules", "for somebody under 16 only limits that hold under 16: this one is off")


def applied(limit: Limit, setting: Setting) -> Limit:
    """Return a limit with a layer's numbers; the clear threshold moves with the mildest level.

    Raises:
        ValueError: the levels are not in order.
    """
    if setting.levels:
        priorities = [priority for _, priority in limit.levels]
        clear = round(limit.clear + setting.levels[0] - limit.levels[0][0], 3)
        limit = replace(limit, levels=tuple(zip(setting.levels, priorities, strict=True)), clear=clear)
    return limit if setting.persist_s is None else replace(limit, persist_s=setting.persist_s)


def tighter(one: Setting, other: Setting, rule: str) -> Setting:
    """Return what two programmes of one patient make of a rule: of each number the one that speaks sooner."""
    sooner = min if LIMITS[rule].side == "above" else max
    levels = one.levels or other.levels
    if one.levels and other.levels:
        levels = tuple(sooner(pair) for pair in zip(one.levels, other.levels, strict=True))
    both = [each for each in (one.persist_s, other.persist_s) if each is not None]
    return Setting(levels, min(both, default=None))


def joined(programmes: Iterable[Own]) -> dict[str, Setting]:
    """Return the layer of all programmes of a patient."""
    found: dict[str, Setting] = {}
    for own in programmes:
        for rule, setting in own.items():
            if rule in found:
                both = found[rule], setting
                found[rule] = tighter(*both, rule) if rule in LIMITS else adaptive.sooner(*both)
            else:
                found[rule] = setting
    return found


def of_oxygen(oxygen: Oxygen) -> dict[str, Setting]:
    """Return what a target range makes of the limits of oxygen saturation.

    Source: NEWS2, SpO2 scale 2 (RCP 2017): of a target 88 to 92 %, 84 and 85 score two points, 83 and less three; on
    oxygen 95 and 96 score two, 97 and more three. Taken relative to the target, so that other ranges keep their
    meaning: medium below low - 2, high below low - 4, clear at low; on oxygen medium from high + 3, high from high + 5.
    """
    low, high = oxygen.target
    return {"spo2_low": Setting((low - 2, low - 4)), "spo2_high_on_oxygen": Setting((high + 3, high + 5))}


@lru_cache(maxsize=4096)
def _effective(layers: tuple[tuple[str, bytes], ...], oxygen: Oxygen | None, who: frozenset[Condition]) -> LimitSet:
    limits, origin = dict(LIMITS), {}
    said = [(name, decoded(document)) for name, document in layers]
    if oxygen is not None:
        own = of_oxygen(oxygen)
        said.insert(next((i for i, (name, _) in enumerate(said) if name == "patient"), len(said)), ("profile", own))
    for name, rules in said:
        for rule, setting in rules.items():
            limits[rule] = applied(limits[rule], setting)
            origin[rule] = name
    off = frozenset(rule.id for rule in RULES.values() if who & set(rule.not_for))
    return LimitSet(tuple(limits.values()), off, MappingProxyType(origin))


def effective(
    organisation: Own, programmes: Iterable[Own], patient: Own, oxygen: Oxygen | None, who: frozenset[Condition]
) -> LimitSet:
    """Return the limits of a person: the same object for the same numbers, so that arrays of them are shared."""
    layers = in_order(organisation, programmes, patient)
    said = [(name, {rule: own[rule] for rule in own if rule in LIMITS}) for name, own in layers]
    return _effective(tuple((name, encoded(own)) for name, own in said if own), oxygen, who)


def in_order(organisation: Own, programmes: Iterable[Own], patient: Own) -> tuple[tuple[str, Own], ...]:
    """Return the layers of a person, each over the one before, those of the programmes joined to one."""
    return ("organisation", organisation), ("programme", joined(programmes)), ("patient", patient)
