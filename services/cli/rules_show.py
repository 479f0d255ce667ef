"""``keepwell rules show``, ``history`` and ``export``: what holds, which layer says so, and what the layers were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.cli import say
from services.cli.patient_write import now
from services.cli.rules_file import WHOM, named
from services.cli.rules_layer import READ, Desk, desk
from services.cli.say import JSON, ORGANISATION

if TYPE_CHECKING:
    from detectors.adult_limits import Limit
    from detectors.choices import Choice
    from detectors.limit_sets import LimitSet
    from detectors.protocol import Condition

    Conditions = frozenset[Condition]


def show(whom: list[str] = WHOM, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """Show what holds for a patient, in a programme or for everybody, and which layer each comes from."""
    aim = named(whom)
    with desk(organisation, aim) as at:
        at.noted(READ)
        own, choice, who = _of(at)
        budget = at.settings.processor.alert_budget
    rows = [_shown(limit, own) for limit in own.limits]
    shown = [row | {"state": _state(row["rule"], own, who)} for row in (*rows, *_drifts(choice))]
    say.rows([*shown, _budget(choice, budget)], as_json, "")


def history(whom: list[str] = WHOM, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List the versions of a layer, the newest first: its numbers, from when on, by whom and why."""
    from services.rules import layers
    from services.store.steps import run

    aim = named(whom)
    with desk(organisation, aim) as at:
        versions = run(at.connection, layers.history(at.organisation_id, aim))
        at.noted(READ)
    rows: list[dict[str, Any]] = [one._asdict() for one in versions]
    say.rows(rows, as_json, f"nobody ever set the limits of {aim}; the first file that does is version 1")


def export(whom: list[str] = WHOM, organisation: str = ORGANISATION) -> None:
    """Print a layer as a rules file, ready to be changed: it names the version that comes next."""
    from services.rules import form

    aim = named(whom)
    with desk(organisation, aim) as at:
        at.noted(READ)
        layer = at.layer()
    file = form.RulesFile(aim, layer.version + 1, layer.rules)
    print(form.written(file), end="")  # noqa: T201 - a file on stdout, not wrapped


def _of(at: Desk) -> tuple[LimitSet, Choice, Conditions]:
    """Return what holds for a patient, or for somebody of whom only the layer is known, and what holds of them."""
    from ingest.clock import to_ms
    from services import adaptive, limits
    from services.rules.effect import choice_at, conditions_at, limits_at
    from services.rules.form import Aim
    from services.rules.layers import standing
    from services.store.steps import run

    now_ms = to_ms(now())
    if at.aim.layer == "patient":
        (changes,) = at.changes(list(at.patients)).values()
        return limits_at(changes, now_ms), choice_at(changes, now_ms), conditions_at(changes, now_ms)
    everybody = run(at.connection, standing(at.organisation_id, Aim("organisation"), [], now_ms)).rules
    programmes = [at.layer().rules] if at.aim.layer == "programme" else []
    who: Conditions = frozenset({"no_oxygen_target"})
    own = limits.effective(everybody, programmes, {}, None, who)
    return own, adaptive.effective(limits.in_order(everybody, programmes, {})), who


def _shown(limit: Limit, own: LimitSet) -> dict[str, Any]:
    side = f"{'at or ' if limit.inclusive else ''}{limit.side}"
    return {
        "rule": limit.rule,
        "levels": ", ".join(f"{side} {threshold:g} {priority}" for threshold, priority in limit.levels),
        "clear": limit.clear,
        "persist_s": limit.persist_s,
        "clear_s": limit.clear_s,
        "from": own.origin.get(limit.rule, "everybody"),
    }


def _drifts(choice: Choice) -> list[dict[str, Any]]:
    """Return the drifts in the shape of limits: told at the bound and at twice of it, over at half of it."""
    from services import adaptive

    return [
        {
            "rule": rule,
            "levels": f"drifted by {bound:g} low, {2 * bound:g} medium",
            "clear": bound / 2,
            "persist_s": None,
            "clear_s": None,
            "from": choice.set_by.get(rule, "everybody"),
        }
        for rule, bound in adaptive.bounds_of(choice).items()
    ]


def _budget(choice: Choice, usual: str) -> dict[str, Any]:
    from services import adaptive

    said = f"alert budget {choice.budget or usual} {adaptive.UNIT}"
    by = choice.set_by.get(adaptive.TOGETHER, "everybody")
    nothing = {"clear": None, "persist_s": None, "clear_s": None}
    return {"rule": adaptive.TOGETHER, "levels": said, **nothing, "from": by, "state": "on"}


def _state(rule: str, own: LimitSet, who: Conditions) -> str:
    """Return whether a rule is on, else why not: what holds of the person, of all it is not for."""
    from detectors.rules import RULES, WHY_OFF

    why = "; ".join(WHY_OFF[each] for each in RULES[rule].not_for if each in who)
    return f"off: {why}" if rule in own.off else "on"
