"""What a layer makes of a patient's rules: the same changes with another layer in the place of the one there is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from detectors.choices import Choice
from detectors.limit_sets import LimitSet
from detectors.limits import Limits
from detectors.protocol import Condition
from services import adaptive, layer, profile
from services.layer import Own
from services.processor import individual
from services.processor.change import PatientChange

EVERYBODY: Final = Limits().everybody
_NEW: Final = 1 << 62  # id of a change nobody wrote: after all that were written at the same instant


def as_now(changes: Sequence[PatientChange], from_ms: int, now_ms: int) -> list[PatientChange]:
    """Return a patient's changes as if the layers had been from an instant on what they are now.

    Up to there, and in everything but the layers, they are as they were. ``changes`` is by (effective, id).
    """
    kept = [one for one in changes if one.kind != "limits" or one.effective_ms < from_ms]
    present = {one.subject: one for one in changes if one.kind == "limits" and one.effective_ms <= now_ms}
    moved = [one._replace(effective_ms=from_ms) for one in present.values() if one.effective_ms >= from_ms]
    return sorted([*kept, *moved])


def with_layer(changes: Sequence[PatientChange], subject: str, rules: Own, from_ms: int) -> list[PatientChange]:
    """Return a patient's changes with one layer as it would be from an instant on."""
    others = [one for one in changes if (one.kind, one.subject) != ("limits", subject) or one.effective_ms < from_ms]
    return sorted([*others, PatientChange(from_ms, _NEW, "limits", subject, {"rules": layer.plain(rules)}, None)])


def limits_at(changes: Sequence[PatientChange], at_ms: int) -> LimitSet:
    """Return the limits that hold for a patient at an instant."""
    timeline = individual.timeline(changes)
    place = bisect_right(timeline, at_ms, key=lambda entry: entry[0])
    return timeline[place - 1][1] if place else EVERYBODY


def choice_at(changes: Sequence[PatientChange], at_ms: int) -> Choice:
    """Return the bounds of drifts and the alert budget that hold for a patient at an instant."""
    timeline = individual.choices(changes)
    place = bisect_right(timeline, at_ms, key=lambda entry: entry[0])
    return timeline[place - 1][1] if place else Choice()


def conditions_at(changes: Sequence[PatientChange], at_ms: int) -> frozenset[Condition]:
    """Return what holds of a patient, by the profile, that rules ask for at an instant."""
    return profile.conditions(individual.profile_at(changes, at_ms), at_ms)


def rules_changed(changes: Sequence[PatientChange], subject: str, rules: Own, at_ms: int) -> list[str]:
    """Return the rules that become others for a patient with a layer, and that hold for the patient."""
    tried = with_layer(changes, subject, rules, at_ms)
    before, after = limits_at(changes, at_ms), limits_at(tried, at_ms)
    moved = [new.rule for old, new in zip(before.limits, after.limits, strict=True) if old != new]
    moved += adaptive.changed(choice_at(changes, at_ms), choice_at(tried, at_ms))
    return [rule for rule in moved if rule not in after.off]
