"""From what was changed about a patient to the limits, bounds and budget that hold for it, instant by instant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from detectors.choices import Choice
from detectors.early_occasions import Holds
from detectors.limit_sets import LimitSet
from detectors.rules import NEWS2_HIGH
from services import adaptive, layer, limits, profile
from services.layer import Own
from services.life_events import Over
from services.processor.change import PatientChange

KINDS: Final = ("profile", "limits")
NEVER_MS: Final = 1 << 62  # later than anything
PROGRAMME: Final = "programme/"  # how the subject of a programme's limits begins; its key follows


def timeline(changes: Sequence[PatientChange]) -> list[tuple[int, LimitSet]]:
    """Return from which instant on which limits hold: one entry for each instant at which something may change.

    ``changes``: of one patient, ordered by (effective, id). Before the first entry everybody's limits hold.
    """
    own = [change for change in changes if change.kind in KINDS]
    marks = {change.effective_ms for change in own}
    if not own:
        return []
    first_ms = min(marks)
    for change in own:
        if change.kind == "profile":
            marks |= {mark for mark in profile.edges(profile.of(change.payload)) if mark > first_ms}
    return [(mark, _at(own, mark)) for mark in sorted(marks)]


def scoring(changes: Sequence[PatientChange]) -> list[tuple[int, Holds]]:
    """Return from which instant on what holds of NEWS2; ``changes`` as in `timeline`, and so the entries."""
    return [(mark, _holds(profile_at(changes, mark), mark)) for mark, _ in timeline(changes)]


def choices(changes: Sequence[PatientChange]) -> list[tuple[int, Choice]]:
    """Return from which instant on what somebody chose of the rules against the own normal; nothing where nobody did.

    ``changes`` as in `timeline`. Before the first entry, what holds for everybody does.
    """
    said = [change for change in changes if change.kind == "limits"]
    if not adaptive.said_in(change.payload for change in said):
        return []
    marks = sorted({change.effective_ms for change in said})
    return [(mark, adaptive.effective(limits.in_order(*_layers(said, mark)))) for mark in marks]


def _holds(who: profile.Profile | None, at_ms: int) -> Holds:
    off = not profile.conditions(who, at_ms).isdisjoint(NEWS2_HIGH.not_for)
    return Holds(profile.on_scale_2(who), off, None if who is None or who.oxygen is None else who.oxygen.home)


def profile_at(changes: Sequence[PatientChange], at_ms: int) -> profile.Profile | None:
    """Return the profile that holds at an instant; ``changes`` as in `timeline`."""
    said = [one for one in changes if one.kind == "profile" and one.effective_ms <= at_ms]
    return profile.of(said[-1].payload) if said else None


def pregnancies_over(changes: Sequence[PatientChange]) -> list[Over]:
    """Return where the profiles tell that a pregnancy has ended: its last day is over, or a later one has it no more.

    ``changes`` as in `timeline`. One whose end was written down later ends when that takes effect.
    """
    said = [one for one in changes if one.kind == "profile"]
    found = []
    for one, then in zip_longest(said, said[1:]):
        who, until_ms = profile.of(one.payload), NEVER_MS if then is None else then.effective_ms
        if who.pregnancy is None or one.effective_ms >= until_ms:
            continue
        begins_ms, end_ms = profile.edges(who)[:2]
        if max(end_ms, one.effective_ms) < until_ms:
            found.append(Over(end_ms, max(end_ms, one.effective_ms)))
        elif begins_ms < until_ms and "pregnant" not in profile.conditions(profile_at(changes, until_ms), until_ms):
            found.append(Over(until_ms, until_ms))
    return found


def _at(own: Sequence[PatientChange], at_ms: int) -> LimitSet:
    who = profile_at(own, at_ms)
    oxygen = None if who is None else who.oxygen
    return limits.effective(*_layers(own, at_ms), oxygen, profile.conditions(who, at_ms))


def _layers(own: Sequence[PatientChange], at_ms: int) -> tuple[Own, list[Own], Own]:
    """Return the organisation's, the programmes' and the patient's own layer as they hold at an instant."""
    said = [change for change in own if change.kind == "limits" and change.effective_ms <= at_ms]
    layers = {change.subject: layer.of(change.payload) for change in said}
    programmes = [one for subject, one in sorted(layers.items()) if subject.startswith(PROGRAMME)]
    return layers.get("organisation", {}), programmes, layers.get("patient", {})
