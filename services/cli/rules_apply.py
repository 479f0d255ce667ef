"""``keepwell rules apply``: set a layer as a file says it, after showing what changes for how many people."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console

from services.cli import say
from services.cli.patient_write import SINCE, now
from services.cli.rules_file import FILE, opened
from services.cli.rules_layer import WRITE, Desk, desk
from services.cli.say import JSON, ORGANISATION, moment, refuse

if TYPE_CHECKING:
    from datetime import datetime

    from services.layer import Setting
    from services.rules.form import RulesFile
    from services.rules.layers import Standing

AT_ONCE: Final = 500  # patients whose changes are looked at together


def apply(
    file: Path = FILE,
    reason: str = typer.Option(..., help="why, in words; kept with the version"),
    since: str = SINCE,
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Set a layer as a file says it: as a new version, told to everybody it concerns.

    Refused where the file's version does not follow on the one there is: somebody else
    changed the layer since. Nothing is done where it says already what the file says.
    """
    one, effective = opened(file), moment("--from", since)
    if not reason.strip():
        refuse("--reason is empty; say why, in words")
    if effective is not None and one.aim.layer == "programme":
        refuse(f"--from = {since!r} is not taken for a programme; its limits hold from the moment they are set")
    with desk(organisation, one.aim) as at:
        before = at.layer()
        if before.rules == one.rules:
            say.told({"for": str(one.aim), "version": before.version, "changed": False}, as_json)
            return
        _must_follow(one, before)
        _preview(at, one, before, effective or now())
    if not yes:  # no transaction waits for an answer
        typer.confirm(f"Set version {one.version} of the limits of {one.aim}?", abort=True, err=True)
    with desk(organisation, one.aim) as at:
        version = _written(at, one, at.layer(), reason.strip(), effective)
    say.told({"for": str(one.aim), "version": version, "changed": True, "patients_told": len(at.patients)}, as_json)


def _must_follow(one: RulesFile, before: Standing) -> None:
    if one.version != before.version + 1:
        refuse(
            f"version = {one.version} does not follow: the limits of {one.aim} are at version {before.version}. "
            f"Look at them (`keepwell rules export {one.aim}`), then write version: {before.version + 1}"
        )


def _preview(at: Desk, one: RulesFile, before: Standing, effective: datetime) -> None:
    """Say on stderr what the file changes, rule by rule, and for how many people."""
    from ingest.clock import to_ms
    from services.rules.effect import rules_changed

    people: Counter[str] = Counter()
    patients = list(at.patients)
    for begin in range(0, len(patients), AT_ONCE):
        for changes in at.changes(patients[begin : begin + AT_ONCE]).values():
            rules = rules_changed(changes, one.aim.subject, one.rules, to_ms(effective))
            people.update([*rules, *(["anything"] if rules else [])])
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for rule in [rule for rule in {**before.rules, **one.rules} if before.rules.get(rule) != one.rules.get(rule)]:
        was, becomes = _words(before.rules.get(rule)), _words(one.rules.get(rule))
        console.print(f"  {rule}: {was} → {becomes}, for {people[rule]} of {len(patients)} people")
    console.print(f"  in all something changes for {people['anything']} of {len(patients)} people it concerns")


def _words(setting: Setting | None) -> str:
    if setting is None:
        return "as elsewhere"
    said = [", ".join(f"{level:g}" for level in setting.levels)] if setting.levels else []
    said += [] if setting.persist_s is None else [f"{setting.persist_s} s"]
    said += [] if setting.bound is None else [f"bound {setting.bound:g}"]
    return "; ".join(said + ([] if setting.alert_budget is None else [f"alert budget {setting.alert_budget}"]))


def _written(at: Desk, one: RulesFile, before: Standing, reason: str, effective: datetime | None) -> int:
    """Write the version with its audit entry; what stands in its way ends with one plain sentence."""
    from services.impossible import ImpossibleError
    from services.rules import layers
    from services.store.changes import StaleVersionError
    from services.store.programmes import StaleError, Who
    from services.store.steps import run

    at_ = now()
    who = Who(at.organisation_id, None, None, reason, at_, at.settings.kafka.partitions, one.version - 1)
    patients = list(at.patients)
    try:
        version = run(at.connection, layers.replace(who, one.aim, before, one.rules, patients, effective or at_))
    except (ImpossibleError, StaleError, StaleVersionError) as error:
        at.connection.rollback()
        refuse(str(error))
    at.noted(WRITE, version=version, told=len(patients))
    return version
