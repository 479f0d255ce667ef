"""``keepwell admin patients import``: many patients at once, with their devices and the devices' tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from detectors.device_classes import UNKNOWN
from services.cli import admin_export, say
from services.cli.admin_desk import Desk, a_team, desk
from services.cli.admin_import import CHECK, FILE, end_with, rows_of, teams_of
from services.cli.audited import noted_of
from services.cli.say import JSON, ORGANISATION
from services.settings import load

if TYPE_CHECKING:
    from services.roster import Cells
    from services.roster_rules import Patients

HELP: Final = """Enrol many patients at once, and give one a copy of all their data.

    keepwell admin patients import patients.csv --check    says what is wrong, writes nothing
    keepwell admin patients import patients.csv --json     what became of each, with the devices' tokens
    keepwell admin patients export p20 --out p20.zip       a copy for the patient, who has a right to it

One patient alone: `keepwell enrol`.
"""


def register(admin: typer.Typer) -> None:
    """Add the ``admin patients`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    admin.add_typer(group, name="patients")
    group.command("import")(patients)
    group.command("export")(admin_export.export)


def patients(file: Path = FILE, check: bool = CHECK, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """Enrol patients from a CSV with the columns key,name,time_zone,team,device,model.

    A column device_class may be there as well: what kind of device it is. An empty team is
    the default one, an empty device watch-KEY. A new device's token is printed once.
    Everything is checked before anything is written. Who is there already stays as they are,
    so the same file can be imported again; one that says otherwise is refused.
    """
    from services import devices
    from services.cli.enrol import tell_mqtt
    from services.roster import MAY_BE, PATIENTS
    from services.roster_rules import bad_patients, device_of

    settings = load().settings
    rows, bad = rows_of(file, PATIENTS, MAY_BE)
    with desk(organisation) as at:
        there = _there(at, [device_of(row.cells) for row in rows])
        end_with([*bad, *bad_patients(rows, there)], file, as_json)
        done = _enrol(at, [row.cells for row in rows], there, settings.kafka.partitions)
        passwords = devices.mqtt_passwords(at.connection)
        if check:
            at.connection.rollback()
        else:
            changed = [one["id"] for one in done if one["state"] != "there"]
            noted_of(at.connection, "patients.import", changed, file=file.name)
    note = "" if check else tell_mqtt(settings.stack.home, passwords)
    if note:
        typer.echo(note, err=True)
    for one in done:
        del one["id"]
        one["token"] = one["token"] and ("to be made" if check else one["token"])
    if as_json:
        say.rows(done, as_json, "")
        return
    shown = [{name: one[name] for name in ("patient", "device", "state")} for one in done]
    say.rows(shown, as_json, f"{file} has no rows")
    for one in done:
        if one["token"]:
            say.told({"device": one["device"], "token": one["token"]}, as_json)
    say.told({"checked" if check else "imported": len(done)}, as_json)


def _there(at: Desk, wanted: Sequence[str]) -> Patients:
    from services.roster_rules import Device, Patients

    patients = at.connection.execute(
        "SELECT key, id, name, time_zone FROM patient WHERE organisation_id = %s AND erased_at IS NULL",
        [at.organisation_id],
    ).fetchall()
    devices = at.connection.execute(
        """SELECT d.key, d.organisation_id = %s, d.model, d.class, p.key
           FROM device d LEFT JOIN device_assignment a ON a.device_id = d.id AND a.valid_to = 'infinity'
           LEFT JOIN patient p ON p.id = a.patient_id WHERE d.key = ANY(%s)""",
        [at.organisation_id, list(wanted)],
    ).fetchall()
    return Patients(
        teams_of(at), {key: (number, name, zone) for key, number, name, zone in patients},
        {key: Device(own, model, of, wearer) for key, own, model, of, wearer in devices},
    )  # fmt: skip


def _enrol(at: Desk, rows: Iterable[Cells], there: Patients, partitions: int) -> list[dict[str, Any]]:
    """Enrol who is missing, a team at a time, and say what became of each row, in the file's order."""
    from services import devices, teams
    from services.roster_rules import device_of

    done: dict[str, dict[str, Any]] = {}
    missing: dict[str, list[devices.Enrolment]] = {}
    for cells in rows:
        key, device, team = cells["key"], device_of(cells), cells["team"]
        known, worn = there.patients.get(key), there.devices.get(device)
        done[key] = {"id": known and known[0], "patient": key, "device": device, "state": "there", "token": None}
        if known is not None and team and teams.add_patients(at.connection, a_team(at, team), [known[0]], at.now):
            done[key]["state"] = "taken into the team's care"
        if known is None or worn is None or worn.patient is None:
            one = devices.Enrolment(
                key, device, at.now - timedelta(hours=1), cells["name"], cells["model"] or "unknown",
                cells["time_zone"], cells["device_class"] or UNKNOWN,
            )  # fmt: skip
            missing.setdefault(team, []).append(one)
    for team, wanted in missing.items():
        for made in devices.enrol_many(
            at.connection, at.organisation, wanted, at.now, partitions=partitions, team=team or None
        ):
            state = "enrolled" if made.patient not in there.patients else "given the device"
            done[made.patient] |= {"id": made.patient_id, "state": state, "token": made.token}
    return list(done.values())
