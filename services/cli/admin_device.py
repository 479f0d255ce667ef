"""``keepwell admin device``: whose a device was from when to when, of what class it is, and handing it on."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import typer

from detectors.device_classes import CLASSES
from services.cli import say
from services.cli.admin_desk import Desk, a_patient, desk, text_of
from services.cli.audited import noted_of
from services.cli.say import JSON, ORGANISATION, moment, refuse
from services.settings import load

HELP: Final = """Say whose a device was and is, of what class it is, and hand it to the next patient.

    keepwell admin device history watch-7
    keepwell admin device hand-over watch-7 p21                            from now on
    keepwell admin device hand-over watch-7 p21 --from 2026-12-01T07:00Z   when it really changed hands
    keepwell admin device class watch-7 wrist_optical                      what findings say of its accuracy goes by it

A reading belongs to whoever had the device at the reading's own time, also when it is sent days later. What is stored
already stays with the patient it was stored for.
"""
DEVICE = typer.Argument(..., help="key of the device, e.g. watch-7")


def register(admin: typer.Typer) -> None:
    """Add the ``admin device`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    admin.add_typer(group, name="device")
    group.command("history")(history)
    group.command("hand-over")(hand_over)
    group.command("class")(classify)


def history(device: str = DEVICE, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List the patients a device was and is assigned to, the last first (at most 1000)."""
    with desk(organisation) as at:
        number = _a_device(at, device)
        rows = at.connection.execute(
            """SELECT p.id, p.key, p.name, nullif(a.valid_from, '-infinity'), nullif(a.valid_to, 'infinity')
               FROM device_assignment a JOIN patient p ON p.id = a.patient_id
               WHERE a.device_id = %s ORDER BY a.valid_from DESC LIMIT 1000""",
            [number],
        ).fetchall()
        noted_of(at.connection, "device.history", list({row[0] for row in rows}), device=device)
    names = ("patient", "name", "from", "to")
    say.rows([dict(zip(names, row[1:], strict=True)) for row in rows], as_json, f"{device} was never assigned")


def hand_over(
    device: str = DEVICE,
    patient: str = typer.Argument(..., help="key of the patient who has it from then on, e.g. p21"),
    since: str = typer.Option(
        None, "--from", help="when it changed hands, RFC 3339 with an offset; now where left out"
    ),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Hand a device to a patient; whoever had it has it until then, and keeps their data.

    With --from in the past, frames that came since then are with the patient before and stay
    there; the answer says how many.
    """
    from services.devices import assign

    start = moment("--from", since)
    partitions = load().settings.kafka.partitions
    with desk(organisation) as at:
        number, patient_id = _a_device(at, device), a_patient(at, patient)
        start = start or at.now
        before = _wearer(at, number, start)
        if before == patient_id:
            refuse(f"{device} is {patient}'s at {start.isoformat()} already; `keepwell admin device history {device}`")
        assign(at.connection, device, patient, start, at.now, partitions=partitions)
        staying = _stored_since(at, number, start)
        people = [one for one in (before, patient_id) if one is not None]
        noted_of(at.connection, "device.hand_over", people, device=device, since=text_of(start))
    answer = {"device": device, "patient": patient, "from": text_of(start), "frames_that_stay": staying}
    say.told(answer, as_json)


def classify(
    device: str = DEVICE,
    device_class: str = typer.Argument(..., metavar="CLASS", help=f"one of {', '.join(CLASSES)}"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Say what kind of device it is, from now on; what was found before stays as it was told."""
    from services import devices

    partitions = load().settings.kafka.partitions
    with desk(organisation) as at:
        wearer = _wearer(at, _a_device(at, device), at.now)
        before = devices.classify(at.connection, organisation, device, device_class, at.now, partitions=partitions)
        noted_of(at.connection, "device.class", [wearer], device=device, device_class=device_class)
    say.told({"device": device, "class": device_class, "before": before}, as_json)


def _a_device(at: Desk, key: str) -> int:
    """Return a device's id, which nobody else hands over until this is done; else end with one plain sentence."""
    query = "SELECT id FROM device WHERE organisation_id = %s AND key = %s FOR NO KEY UPDATE"
    row = at.connection.execute(query, [at.organisation_id, key]).fetchone()
    if row is None:
        refuse(
            f"device = {key!r} is not known in {at.organisation}; "
            f"`keepwell enrol --patient KEY --device {key}` makes it"
        )
    return int(row[0])


def _wearer(at: Desk, device: int, instant: datetime) -> int | None:
    query = "SELECT patient_id FROM device_assignment WHERE device_id = %s AND valid_from <= %s AND valid_to > %s"
    row = at.connection.execute(query, [device, instant, instant]).fetchone()
    return None if row is None else int(row[0])


def _stored_since(at: Desk, device: int, start: datetime) -> int:
    """Return how many frames hold something from ``start`` on and are filed under whoever had the device before."""
    if start >= at.now:
        return 0
    query = "SELECT count(*) FROM frame_log WHERE device_id = %s AND t_last >= %s"
    (count,) = at.connection.execute(query, [device, start]).fetchone() or (0,)
    return int(count)
