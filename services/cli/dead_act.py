"""What an operator does with dead letters: ``keepwell dead fix | redrive | give-up | skip``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from services import topics
from services.cli import say
from services.cli.audited import noted_of
from services.cli.dead_find import MAX_LISTED, TOPIC, find_letter
from services.cli.say import JSON
from services.settings import load


def fix(
    topic: str = TOPIC,
    partition: int = typer.Argument(...),
    offset: int = typer.Argument(...),
    file: Path = typer.Option(
        None, help="the whole record as JSON: `decoded` of `keepwell dead show --json`, corrected"
    ),
    assign: list[str] = typer.Option(
        None, "--set", help="PATH=VALUE, e.g. patient_id=7 or blocks[0].values[3]=61.5; may be repeated"
    ),
    note: str = typer.Option(None, help="who found out what; kept with the letter"),
    as_json: bool = JSON,
) -> None:
    """Write a corrected record beside the original; `keepwell dead redrive` sends it.

    It is judged by what the processor decodes with and refused where it would be dead again. The original bytes are
    never changed. Fixing again begins from the fixed record.
    """
    from services.cli import dead_form, dead_letters

    if (file is None) == (not assign):
        say.refuse("give either --file or --set")
    with dead_letters.connect(load().settings) as connection:
        letter = find_letter(connection, topic, partition, offset)
        if letter.state not in dead_letters.OPEN:
            say.refuse(f"{topic} {partition} {offset} is {letter.state}; only what is open or fixed can be fixed")
        try:
            document = dead_form.readable(letter.fixed or letter.record) if file is None else _document(file)
            if document is None:
                say.refuse("its bytes are no msgpack: nothing to set fields of; give the whole record with --file")
            key, record = dead_form.written(topic, dead_form.changed(document, assign or ()))
        except dead_form.NotFixed as error:
            say.refuse(str(error))
        patient = int(key)
        if connection.execute("SELECT 1 FROM patient WHERE id = %s", [patient]).fetchone() is None:
            say.refuse(f"patient {patient} is not enrolled: it would be dead again (unknown_patient)")
        dead_letters.mark(connection, letter, "fixed", note=note, fixed=record)
        noted_of(connection, "dead.fix", [letter.patient, patient], topic=topic, partition=partition, offset=offset)
    say.told({"topic": topic, "partition": partition, "offset": offset, "state": "fixed", "patient_id": patient,
           "bytes": len(record)}, as_json)  # fmt: skip


def redrive(
    topic: str | None = typer.Argument(None, help="with PARTITION and OFFSET: only this one"),
    partition: int | None = typer.Argument(None),
    offset: int | None = typer.Argument(None),
    reason: str = typer.Option(None, help="only letters of this reason"),
    limit: int = typer.Option(100, min=1, max=100_000, help="at most so many, the oldest first"),
    rate: float = typer.Option(50.0, min=0.1, max=10_000, help="records a second"),
    dry_run: bool = typer.Option(False, "--dry-run", help="say what would be sent, send nothing"),
    as_json: bool = JSON,
) -> None:
    """Send open and fixed letters to their topic again: the fixed record where there is one, else the original.

    Works while the processors are stopped. What is sent twice (a crash in between) is stored once.
    """
    from services.cli import dead_letters

    settings = load().settings
    with dead_letters.connect(settings) as connection:
        if topic is None:
            letters = dead_letters.find(
                connection, states=dead_letters.OPEN, reason=reason, limit=limit, oldest_first=True, ours=True
            )
        else:
            letter = find_letter(connection, topic, partition, offset)
            if letter.state not in dead_letters.OPEN:
                say.refuse(f"{topic} {partition} {offset} is {letter.state} already")
            if topic not in topics.CO_PARTITIONED:
                say.refuse(f"{topic} {partition} {offset} never was a record of ours; its sender has to send again")
            letters = [letter]
        noted_of(connection, "dead.list" if dry_run else "dead.redrive", [letter.patient for letter in letters])
        connection.commit()  # before any is sent: a crash must not hide that they were
        sent = 0 if dry_run else asyncio.run(dead_letters.redrive(settings, connection, letters, rate))
    if as_json:
        say.told({"chosen": len(letters), "redriven": sent, "letters": [letter.brief() for letter in letters]}, True)
        return
    if dry_run:
        say.rows([letter.brief() for letter in letters], False, "nothing to redrive")
    Console().print(f"{sent} of {len(letters)} chosen letters sent again", highlight=False)


def give_up(
    topic: str = TOPIC,
    partition: int = typer.Argument(...),
    offset: int = typer.Argument(...),
    note: str = typer.Option(..., help="why nothing in it is worth keeping; kept with the letter"),
    as_json: bool = JSON,
) -> None:
    """Close a letter for good; its bytes and the note stay."""
    from services.cli import dead_letters

    with dead_letters.connect(load().settings) as connection:
        letter = find_letter(connection, topic, partition, offset)
        if letter.state == "redriven":
            say.refuse(f"{topic} {partition} {offset} was redriven; there is nothing to give up")
        dead_letters.mark(connection, letter, "given_up", note=note)
        noted_of(connection, "dead.give_up", [letter.patient], topic=topic, partition=partition, offset=offset)
    say.told({"topic": topic, "partition": partition, "offset": offset, "state": "given_up"}, as_json)


def skip(
    topic: str = TOPIC,
    partition: int = typer.Argument(...),
    offset: int = typer.Argument(..., help="where the partition stands"),
    count: int = typer.Option(1, min=1, max=MAX_LISTED, help="how many records to step over"),
) -> None:
    """Step over the record at OFFSET, when a partition stands there and it stops every processor.

    Stop the processors first. The record's bytes are filed as a dead letter, so that nothing is lost.
    """
    from ingest.clock import SystemClock, to_datetime
    from services.cli import dead_letters
    from services.reasons import DeadReason

    settings = load().settings
    found = [asyncio.run(dead_letters.fetch(settings, topic, partition, at)) for at in range(offset, offset + count)]
    now = to_datetime(SystemClock().now_ms())
    with dead_letters.connect(settings) as connection:
        moved = connection.execute(
            """UPDATE partition_position SET next_offset = %s, epoch = epoch + 1
               WHERE topic = %s AND partition = %s AND next_offset = %s RETURNING 1""",
            [offset + count, topic, partition, offset],
        ).fetchone()
        if moved is None:
            row = connection.execute(
                "SELECT next_offset FROM partition_position WHERE topic = %s AND partition = %s", [topic, partition]
            ).fetchone()
            stands = f"stands at {row[0]}" if row else "is not known"
            say.refuse(f"{topic} {partition} {stands}, not at {offset}; only that one may be skipped")
        for place, (key, value) in enumerate(found, offset):
            connection.execute(
                """INSERT INTO dead_letter
                       (topic, partition, record_offset, reason, detail, record_key, record, recorded_at)
                   VALUES (%s, %s, %s, %s, 'skipped by an operator', %s, %s, %s) ON CONFLICT DO NOTHING""",
                [topic, partition, place, DeadReason.SKIPPED.value, key, value, now],
            )
        patients = [dead_letters.patient_of(key) for key, _ in found]
        noted_of(connection, "dead.skip", patients, topic=topic, partition=partition, offset=offset, count=count)
    what = "the record is" if count == 1 else f"the {count} records are"
    Console().print(f"{topic}/{partition} goes on at {offset + count}; {what} filed as dead", highlight=False)


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        say.refuse(f"{file}: {error}")
    if not isinstance(document, dict):
        say.refuse(f"{file} holds no JSON object; begin from `decoded` of `keepwell dead show --json`")
    return document
