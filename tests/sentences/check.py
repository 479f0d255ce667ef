"""Every sentence of a database against what SQL finds.

Written from docs/detection.md and the schema; it shares no code with what made the sentences. What is taken from the
alert itself: whom it is about, its rule, where it started, the instants of its changes and the wearer's UTC offset.
Of the stored daily values only their `used` mark is read: which days the baseline had taken in.

    tokens of the sentence (numbers, months)  ==  tokens expected from SQL, in order and without remainder
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import psycopg

from tests.sentences.families import expected
from tests.sentences.patient import Patient, Told
from tests.sentences.words import Untrue, compare

SENTENCES: Final = """
    SELECT a.rule, e.change, a.started_at, e.at, (a.evidence->>'utc_offset_min')::int, e.sentence, a.sentence,
           a.patient_sentence, a.state, e.id = max(e.id) FILTER (WHERE e.sentence <> '') OVER (PARTITION BY a.id)
    FROM alert a JOIN alert_event e ON e.alert_id = a.id
    WHERE a.patient_id = %s AND e.change IN ('raised', 'settled', 'worsened', 'resolved') ORDER BY e.id"""


@dataclass(slots=True)
class Report:
    """What was checked; ``problems`` is empty when every number is true."""

    sentences: int = 0
    numbers: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)  # reason → sentences
    problems: list[str] = field(default_factory=list)


def check_sentences(connection: psycopg.Connection[Any]) -> Report:
    """Recompute every number of every sentence in ``alert`` and ``alert_event``.

    ``connection`` must see all rows (the schema's owner); temporary tables are made and dropped in it.

    Raises:
        psycopg.Error: the database can't be read.
    """
    report = Report()
    devices = sorted((str(row[0]) for row in connection.execute("SELECT key FROM device")), key=len, reverse=True)
    for (number,) in connection.execute("SELECT DISTINCT patient_id FROM alert ORDER BY 1").fetchall():
        with connection.transaction():
            patient = Patient(connection, number)
            for told in _sentences(patient, devices, report):
                _check(patient, told, report)
            patient.forget()
    return report


def _sentences(patient: Patient, devices: list[str], report: Report) -> list[Told]:
    """Return what is said to the care team, and to the patient where it is the latest of its alert."""
    found = []
    rows = patient.connection.execute(SENTENCES, [patient.number]).fetchall()
    for rule, change, start, at, offset, text, latest, to_patient, state, last in rows:
        if not text:
            continue
        if state == "withdrawn":
            report.left_out["withdrawn: later data removed its evidence"] += 1
            continue
        if rule == "clock_fault":
            report.left_out["clock_fault: about a frame's stamp, not about readings"] += 1
            continue
        if last and text != latest:
            report.problems.append(f"patient {patient.number} {rule}: the alert says {latest!r}, its history {text!r}")
        for said, to_team in [(text, True), *([(to_patient, False)] if last else [])]:
            bare = said
            for device in devices:
                bare = bare.replace(device, "")
            found.append(Told(rule, change, start, at, timedelta(minutes=offset or 0), said, bare, to_team))
    return found


def _check(patient: Patient, told: Told, report: Report) -> None:
    report.sentences += 1
    report.rules[told.rule] += 1
    report.numbers += len(told.tokens)
    try:
        compare(told.tokens, expected(patient, told))
    except Untrue as error:
        problem = f"patient {patient.number} {told.rule} {told.change}: {error}; it says {told.said!r}"
        report.problems.append(problem)
