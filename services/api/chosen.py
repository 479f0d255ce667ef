"""What somebody chose of the rules against the own normal, as it is shown: bounds of drifts and the alert budget."""

from __future__ import annotations

from typing import Any, Final

from detectors.choices import Choice
from detectors.protocol import Rule
from detectors.rules import RULES
from services import adaptive
from services.api import words

WHOSE: Final = {
    "organisation": "the organisation's", "programme": "the programme's", "profile": "by the profile",
    "patient": "this patient's own",
}  # fmt: skip
"""Whose a number is, in words for the care team; nobody chose what is ``everybody``'s."""
_FOR: Final = {"organisation": "everybody here", "programme": "your programme", "patient": "you"}


def drift(choice: Choice, rule: Rule) -> dict[str, Any]:
    """Return from which difference on a drift is told, and how far that may be moved; nothing of another rule."""
    if rule.id not in adaptive.DRIFT_BOUNDS:
        return {}
    return {
        "metric": rule.metric,
        "unit": words.unit_of(rule.metric),
        "bound": adaptive.bounds_of(choice)[rule.id],
        "bounds": {"bound": adaptive.DRIFT_BOUNDS[rule.id]},
    }


def budget(choice: Choice, usual: str | None) -> dict[str, Any]:
    """Return the budget of all adaptive rules in the shape of a rule; ``usual``: of whom nobody set one."""
    return {
        "rule": adaptive.TOGETHER,
        "title": adaptive.TITLE,
        "kind": "adaptive",
        "unit": adaptive.UNIT,
        "alert_budget": choice.budget or usual,
        "bounds": {"alert_budget": adaptive.BUDGETS},
        "state": "on",
        "off_since": None,
        "off_reason": None,
    }


def origin(choice: Choice, rule: str) -> str:
    """Return which layer says what holds of a rule."""
    return choice.set_by.get(rule, "everybody")


def patient_sentence(choice: Choice) -> str:
    """Return which bounds were chosen, for the patient; the budget is between the team and itself.

    >>> patient_sentence(Choice(bounds=(None, 1.5, None, None), set_by={"spo2_drift": "patient"}))
    ' Told when it has changed from your first weeks: oxygen saturation at night by 1.5 % (set for you).'
    """
    bounds, by = adaptive.bounds_of(choice), choice.set_by
    said = [
        f"{_subject(rule)} by {bounds[rule]:g} {words.unit_of(RULES[rule].metric)} (set for {_FOR[by[rule]]})"
        for rule in adaptive.DRIFT_BOUNDS
        if rule in by
    ]
    return f" Told when it has changed from your first weeks: {', '.join(said)}." if said else ""


def _subject(drift: str) -> str:
    return RULES[drift].title.partition(":")[0].lower()


def sentence(choice: Choice) -> str:
    """Return what was chosen as a sentence that follows another; empty where nothing was.

    >>> sentence(Choice(budget="0.2", set_by={"adaptive_rules": "programme"}))
    " Against the own normal: alert budget 0.2 incidents a patient-week (the programme's)."
    """
    bounds, by = adaptive.bounds_of(choice), choice.set_by
    said = [
        f"drift of {_subject(rule)} told from {bounds[rule]:g} {words.unit_of(RULES[rule].metric)} ({WHOSE[by[rule]]})"
        for rule in adaptive.DRIFT_BOUNDS
        if rule in by
    ]
    if choice.budget is not None:
        said.append(f"alert budget {choice.budget} {adaptive.UNIT} ({WHOSE[by[adaptive.TOGETHER]]})")
    return f" Against the own normal: {', '.join(said)}." if said else ""
