"""From the text of a rules file to the layer it is, or to everything that is wrong in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from detectors.rules import RESTING_HEART
from detectors.rules import RULES as ALL
from services import adaptive, limits
from services.impossible import ImpossibleError
from services.layer import Setting
from services.limits import BOUNDS
from services.rules import text
from services.rules.examples import examples_of
from services.rules.form import FOR, Aim, RulesFile, aim_of
from services.rules.trouble import Check, Place, RulesFileError, Trouble, nearest

KEYS: Final = ("for", "version", "rules", "examples")
RULES: Final = (*BOUNDS, *adaptive.RULES)
# What people look for in a rule and don't find, and why.
NOT_SET: Final[Mapping[str, str]] = {
    "clear": "it keeps its distance from the mildest level by itself",
    "clear_s": "how long it takes an alert to end is the same for everybody",
    "off": "a {kind} is moved, never off; the profile says for whom it does not hold (docs/profile.md)",
    "reason": "one is given when the file is applied (`keepwell rules apply FILE --reason …`)",
}
MISPLACED: Final[Mapping[str, str]] = {
    "alert_budget": "write it under rules, as adaptive_rules: {alert_budget: 0.2}",
    "bound": "write it under the rule it is of, as spo2_drift: {bound: 1.5}",
    RESTING_HEART.id: "leave it out: its limit follows the alert budget, adaptive_rules: {alert_budget: 0.2}",
}
SAME: Final = "leave it out: the limit of {} is the same for everybody"
_BEGIN: Final = "begin as the example in docs/rules.md does"


def read(said: str) -> RulesFile:
    """Return the layer that a text describes.

    Raises:
        RulesFileError: something in it is not allowed; all of it that can be told at once, by line.
    """
    document = text.parse(said)
    if not isinstance(document.said, dict):
        raise RulesFileError([Trouble(1, "the file", document.said, f"a map with the keys {', '.join(KEYS)}", _BEGIN)])
    check = Check(document)
    check.keys((), document.said, KEYS, MISPLACED)
    file = RulesFile(_aim(check), _version(check), _rules(check), examples_of(check))
    if check.troubles:
        raise RulesFileError(sorted(check.troubles, key=lambda trouble: trouble.line))
    return file


def _aim(check: Check) -> Aim:
    said = check.document.said.get("for")
    aim = aim_of(said)
    if aim is None:
        check.refuse(("for",), said, FOR, "say whose limits these are")
    return aim or Aim("organisation")


def _version(check: Check) -> int:
    said = check.document.said.get("version")
    if type(said) is int and said >= 1:
        return said
    next_step = "write one more than there is (`keepwell rules history`), 1 where there is none"
    check.refuse(("version",), said, "a whole number from 1 on, the version that this file makes", next_step)
    return 1


def _rules(check: Check) -> dict[str, Setting]:
    said = check.document.said.get("rules")
    if not isinstance(said, dict):
        check.refuse(("rules",), said, "a map of rules, {} to have all as they are elsewhere", _BEGIN)
        return {}
    found: dict[str, Setting] = {}
    for rule, setting in said.items():
        found |= _rule(check, rule, setting)
    return found


def _rule(check: Check, rule: str, setting: Any) -> dict[str, Setting]:
    """Return one rule as `services.limits` takes it; what that refuses is told at the line where it is said."""
    place: Place = ("rules", rule)
    fields = limits.fields_of(rule)
    if not fields:
        check.refuse(place, ..., ", ".join(RULES), MISPLACED.get(rule) or _as_for_all(rule))
        return {}
    extra = [key for key in setting if key not in fields] if isinstance(setting, dict) else []
    for key in extra:
        why = NOT_SET.get(key, "").format(kind="safety limit" if rule in BOUNDS else "bound or budget")
        next_step = f"leave it out: {why}" if why else nearest(key, fields)
        check.refuse((*place, key), setting[key], " and ".join(fields), next_step)
    if extra:
        return {}
    try:
        return limits.checked({rule: setting})
    except ImpossibleError as error:
        next_step = "write what is allowed, or leave the rule out to have it as it is elsewhere"
        check.refuse(_place(error.field), error.value, error.allowed, next_step)
    return {}


def _as_for_all(rule: str) -> str:
    """Return the next step where a rule is not one of those a file can set."""
    return SAME.format(rule) if rule in ALL else nearest(rule, RULES)


def _place(field: str) -> Place:
    """Return the place in a file of a field as `services.limits` names it.

    >>> _place("fever.levels[1]"), _place("fever")
    (('rules', 'fever', 'levels', 1), ('rules', 'fever'))
    """
    rule, _, rest = field.partition(".")
    name, _, number = rest.removesuffix("]").partition("[")
    place: Place = ("rules", rule, name, int(number)) if number else ("rules", rule, name)
    return place if name else place[:2]
