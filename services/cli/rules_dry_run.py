"""``keepwell rules dry-run``: what a file would have found in what is stored, beside what the present rules find."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from services.cli import say
from services.cli.audited import noted_of
from services.cli.patient_write import now
from services.cli.rules_file import FILE, opened
from services.cli.rules_layer import desk
from services.cli.say import JSON, ORGANISATION, moment, refuse

if TYPE_CHECKING:
    from services.rules.dry_run import Plan
    from services.rules.form import RulesFile
    from services.settings_sections import ProcessorSettings

ACTION: Final = "rules.dry_run"
BURDEN: Final[Mapping[str, str]] = {
    "alerts": "alerts",
    "incidents": "incidents",
    "incidents_per_patient_week": "incidents a patient-week",
    "incidents_per_week_of_patient_at_95_percent": "incidents a week, the patient at 95 %",
}


def dry_run(
    file: Path = FILE,
    since: str = typer.Option(..., "--from", help="from when the file would have held, RFC 3339 with an offset"),
    until: str = typer.Option(None, "--to", help="up to when; now where left out"),
    show: int = typer.Option(20, min=0, max=1000, help="how many alerts gained, and lost, to name"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Replay what is stored of the patients a file concerns, with the present rules and with the file's.

    Nothing is written but the entry in the audit. Both instants are taken as full hours.
    """
    one = opened(file)
    with desk(organisation, one.aim) as at:
        at.layer()  # a programme that is not there is told before anything is read
        plan = _plan(one, since, until, at.settings.processor)
        patients, conninfo = at.patients, at.settings.postgres.conninfo("admin")
        if patients:
            noted_of(at.connection, ACTION, list(patients), layer=one.aim.subject, begins=since, ends=until)
    document = _run(one, plan, patients, conninfo, show)
    if as_json:
        say.told(document, as_json)
    else:
        _print(document)


def _plan(one: RulesFile, since: str, until: str | None, chosen: ProcessorSettings) -> Plan:
    from ingest.clock import to_ms
    from services.processor.batch import Bounds
    from services.processor.core import HOUR_MS
    from services.rules.dry_run import Plan

    first, last, present = moment("--from", since), moment("--to", until) or now(), now()
    assert first is not None  # noqa: S101 - the option is required
    from_ms, until_ms = (to_ms(each) // HOUR_MS * HOUR_MS for each in (first, last))
    if from_ms >= until_ms:
        refuse(f"--from = {since!r} is not an hour before --to ({last:%Y-%m-%dT%H:%MZ}); name an earlier instant")
    return Plan(
        one.aim.subject, one.rules, from_ms, until_ms, to_ms(present), Bounds.of(chosen).silence_ms, chosen.alert_budget
    )


def _run(one: RulesFile, plan: Plan, patients: Mapping[int, str], conninfo: str, show: int) -> dict[str, Any]:
    from ingest.clock import to_datetime
    from services.rules.compare import Comparison
    from services.rules.dry_run import dry_run

    comparison = Comparison(show)
    with _progress(len(patients)) as done:
        asyncio.run(dry_run(conninfo, plan, patients, comparison, done))
    span = {"from": to_datetime(plan.from_ms), "to": to_datetime(plan.to_ms)}
    return {"for": str(one.aim), **span, **comparison.document()}


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=total)
        yield lambda _: progress.advance(bar)


def _print(document: dict[str, Any]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    span = " to ".join(f"{document[end]:%Y-%m-%d %H:%M}" for end in ("from", "to"))
    weeks = f"{document['patient_weeks']:g} patient-weeks with readings"
    console.print(f"{document['for']}: {document['patients']} patients, {span} UTC, {weeks}")
    table = Table("", "present rules", "with the file", box=None)
    for key, words in BURDEN.items():
        table.add_row(words, *("-" if (n := document[side][key]) is None else f"{n:g}" for side in ("before", "after")))
    console.print(table)
    if document["busiest"]:
        console.print("who has most with the file, incidents a week (with the present rules):")
    for one in document["busiest"]:
        console.print(f"  {one['patient']}: {one['incidents_per_week']:g} ({one['incidents_per_week_before']:g})")
    for what in ("gained", "lost"):
        difference = document[what]
        rules = ", ".join(f"{rule} {n}" for rule, n in difference["by_rule"].items())
        n, people = difference["alerts"], difference["patients"]
        console.print(f"{what}: {n} alerts of {people} patients{f' ({rules})' if rules else ''}")
        for alert in difference["shown"]:
            end = "open" if alert["to"] is None else f"{alert['to']:%Y-%m-%d %H:%M}"
            told = f"{alert['rule']} {alert['priority']}, {alert['from']:%Y-%m-%d %H:%M} to {end}"
            console.print(f"  {alert['patient']}: {told}")
        if n > len(difference["shown"]):
            console.print(f"  … and {n - len(difference['shown'])} more (--show)")
