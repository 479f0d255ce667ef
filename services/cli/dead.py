"""``keepwell dead``: records that could not be processed, and values that could not be true."""

from __future__ import annotations

from typing import Final

import typer
from rich.console import Console

from services.cli import dead_act, say
from services.cli.audited import noted_of
from services.cli.dead_find import MAX_LISTED, TOPIC, find_letter
from services.cli.say import JSON
from services.settings import load

HELP: Final = """Look at records that could not be processed; mend them, send them again or give them up.

    keepwell dead list                                  what is there, and why
    keepwell dead show readings.v1 3 1204               all of it: fields, reason, bytes
    keepwell dead fix readings.v1 3 1204 --set patient_id=7
    keepwell dead redrive --reason unprocessable        after a mended version: send them again
"""


def register(app: typer.Typer) -> None:
    """Add the ``dead`` commands."""
    dead = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(dead, name="dead")
    for command in (show, dead_act.fix, dead_act.redrive, dead_act.give_up, dead_act.skip, quarantined, reasons):
        dead.command(command.__name__.replace("_", "-"))(command)
    dead.command("list")(list_)


def list_(
    reason: str = typer.Option(None, help="only this reason; `keepwell dead reasons` explains them"),
    everything: bool = typer.Option(False, "--all", help="also those that were redriven or given up"),
    limit: int = typer.Option(100, min=1, max=MAX_LISTED),
    as_json: bool = JSON,
) -> None:
    """List the dead letters that wait for somebody, newest first, with the reason of each."""
    from services.cli import dead_letters

    states = dead_letters.STATES if everything else dead_letters.OPEN
    with dead_letters.connect(load().settings) as connection:
        letters = dead_letters.find(connection, states=states, reason=reason, limit=limit, oldest_first=False)
        noted_of(connection, "dead.list", [letter.patient for letter in letters])
    say.rows([letter.brief() for letter in letters], as_json, "no dead letters")


def show(
    topic: str = TOPIC,
    partition: int = typer.Argument(...),
    offset: int = typer.Argument(...),
    most: int = typer.Option(512, "--bytes", min=0, help="how many of the original bytes to show"),
    as_json: bool = JSON,
) -> None:
    """Show one dead letter: reason, what to do, its fields as far as they decode, its original bytes."""
    from services.cli import dead_form, dead_letters
    from services.reasons import explain

    with dead_letters.connect(load().settings) as connection:
        letter = find_letter(connection, topic, partition, offset)
        noted_of(connection, "dead.show", [letter.patient], topic=topic, partition=partition, offset=offset)
    about = explain(letter.reason)
    told = letter.brief() | {
        "meaning": about.meaning, "action": about.action, "key": letter.key,
        "handled_at": letter.handled_at and letter.handled_at.isoformat(),
        "decoded": dead_form.readable(letter.record),
        "fixed": None if letter.fixed is None else dead_form.readable(letter.fixed),
        "record": letter.record,
    }  # fmt: skip
    console = Console(highlight=False, markup=False)
    if as_json:
        print(dead_form.as_json(told))  # noqa: T201 - one document on stdout, not wrapped
        return
    for name in ("topic", "partition", "offset", "state", "reason", "meaning", "detail", "action", "note", "key"):
        console.print(f"{name:10} {told[name]}", soft_wrap=True)
    for name in ("decoded", "fixed"):
        if told[name] is not None:
            console.print(f"{name}:")
            console.print_json(dead_form.as_json(told[name]))
    console.print(f"original bytes ({len(letter.record):,}):")
    for line in dead_form.hexdump(letter.record, most):
        console.print(line, soft_wrap=True)


def quarantined(
    reason: str = typer.Option(None, help="only this reason"),
    limit: int = typer.Option(100, min=1, max=MAX_LISTED),
    as_json: bool = JSON,
) -> None:
    """List the values that could not be true: never readings, never lost. Newest first."""
    from services.cli import dead_letters

    with dead_letters.connect(load().settings) as connection:
        rows = connection.execute(
            """SELECT p.id, p.key AS patient, d.key AS device, m.key AS metric, q.t::text AS at, q.value, m.unit,
                      q.reason, q.frame_id
               FROM quarantined_reading q JOIN patient p ON p.id = q.patient_id JOIN device d ON d.id = q.device_id
               JOIN metric m ON m.id = q.metric_id
               WHERE %s::text IS NULL OR q.reason = %s ORDER BY q.t DESC, q.metric_id LIMIT %s""",
            [reason, reason, limit],
        ).fetchall()
        noted_of(connection, "quarantine.list", [row[0] for row in rows])
    names = ("patient", "device", "metric", "at", "value", "unit", "reason", "frame_id")
    shown = [dict(zip(names, row[1:], strict=True)) for row in rows]
    say.rows(shown, as_json, "nothing is quarantined")


def reasons(as_json: bool = JSON) -> None:
    """Explain every reason: what it means, and what to do."""
    from services.reasons import ABOUT

    say.rows([{"reason": str(code), "meaning": about.meaning, "what to do": about.action}
           for code, about in ABOUT.items()], as_json, "")  # fmt: skip
