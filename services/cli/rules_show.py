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
    from detectors.limit_sets import LimitSet


def show(whom: list[str] = WHOM, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """Show the limits that hold for a patient, in a programme or for everybody, and which layer each comes from."""
    aim = named(whom)
    with desk(organisation, aim) as at:
        at.noted(READ)
        own = _of(at)
    say.rows([_shown(limit, own) for limit in own.limits], as_json, "")


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


def _of(at: Desk) -> LimitSet:
    """Return the limits of a patient, or of somebody of whom only the layer is known."""
    from ingest.clock import to_ms
    from services import limits
    from services.rules.effect import limits_at
    from services.rules.form import Aim
    from services.rules.layers import standing
    from services.store.steps import run

    now_ms = to_ms(now())
    if at.aim.layer == "patient":
        (changes,) = at.changes(list(at.patients)).values()
        return limits_at(changes, now_ms)
    everybody = run(at.connection, standing(at.organisation_id, Aim("organisation"), [], now_ms)).rules
    programmes = [at.layer().rules] if at.aim.layer == "programme" else []
    return limits.effective(everybody, programmes, {}, None, frozenset({"no_oxygen_target"}))


def _shown(limit: Limit, own: LimitSet) -> dict[str, Any]:
    from detectors.rules import WHY_OFF

    side = f"{'at or ' if limit.inclusive else ''}{limit.side}"
    return {
        "rule": limit.rule,
        "levels": ", ".join(f"{side} {threshold:g} {priority}" for threshold, priority in limit.levels),
        "clear": limit.clear,
        "persist_s": limit.persist_s,
        "clear_s": limit.clear_s,
        "from": own.origin.get(limit.rule, "everybody"),
        "state": f"off: {'; '.join(WHY_OFF[each] for each in limit.not_for)}" if limit.rule in own.off else "on",
    }
