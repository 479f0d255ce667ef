"""``keepwell enrol``, ``revoke`` and ``login``: patients with their devices, and people with their links."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import typer
from rich.console import Console

from detectors.device_classes import CLASSES, UNKNOWN
from ingest.clock import SystemClock, to_datetime
from services import devices, people
from services.cli.audited import noted, noted_of
from services.cli.say import ORGANISATION, connected, refuse
from services.devices import Enrolment, EnrolmentError
from services.runtime import api_base
from services.settings import Settings, load


def register(app: typer.Typer) -> None:
    """Add the ``enrol``, ``revoke`` and ``login`` commands."""

    @app.command()
    def enrol(
        patient: str = typer.Option(..., help="key of the patient, e.g. p20"),
        name: str = typer.Option("", help="what the care team calls the patient"),
        device: str = typer.Option("", help="key of the device; watch-PATIENT where left out"),
        device_class: str = typer.Option(UNKNOWN, help=f"what kind of device it is: {', '.join(CLASSES)}"),
        organisation: str = ORGANISATION,
        time_zone: str = typer.Option("UTC", help="the patient's time zone, e.g. Europe/Berlin"),
        team: str = typer.Option("", help="care team that looks after a new patient; made where missing"),
        renew: bool = typer.Option(False, "--renew", help="revoke the device's token and make a new one"),
    ) -> None:
        """Enrol a patient with a device and print the device's token, once, with a curl line to try it.

        Makes patient, device, assignment and token where they are missing. A new
        patient is looked after by the organisation's default care team, or by --team. The
        answer to the curl line names the frame's page, which tells what became
        of it.
        """
        settings = load().settings
        console = Console()
        now_ms = SystemClock().now_ms()
        now = to_datetime(now_ms)
        device = device or f"watch-{patient}"
        wanted = Enrolment(
            patient, device, now - timedelta(hours=1), name, time_zone=time_zone, device_class=device_class
        )
        with _connected(settings) as connection:
            devices.create_organisation(connection, organisation, organisation)
            if team:
                devices.create_team(connection, organisation, team, team)
            (done,) = devices.enrol_many(
                connection, organisation, [wanted], now, partitions=settings.kafka.partitions, renew=renew,
                team=team or None,
            )  # fmt: skip
            noted_of(connection, "patient.enrol", [done.patient_id], device=done.device, renew=renew)
            passwords = devices.mqtt_passwords(connection)
        note = tell_mqtt(settings.stack.home, passwords)
        console.print(f"patient {done.patient} wears device {done.device}", highlight=False)
        if done.token is None:
            console.print("it has a token already, which is not stored; --renew makes a new one", highlight=False)
            return
        console.print(f"token (shown once): {done.token}", highlight=False, soft_wrap=True)
        if note:
            console.print(note, highlight=False)
        console.print("\nSend a reading; the answer's href tells what became of it:\n", highlight=False)
        console.print(curl_line(settings, done.token, now_ms), highlight=False, soft_wrap=True, markup=False)

    @app.command()
    def revoke(device: str = typer.Option(..., help="key of the device, e.g. watch-p20")) -> None:
        """Revoke a device's tokens: over HTTPS within a second, over MQTT at once."""
        settings = load().settings
        now = to_datetime(SystemClock().now_ms())
        with _connected(settings) as connection:
            count = devices.revoke(connection, device, now)
            noted_of(connection, "device.revoke", _wearers(connection, device) or [None], device=device)
            passwords = devices.mqtt_passwords(connection)
        note = tell_mqtt(settings.stack.home, passwords)
        Console().print(f"{count} token{'' if count == 1 else 's'} of {device} revoked", highlight=False)
        if note:
            Console().print(note, highlight=False)

    @app.command()
    def login(
        person: str = typer.Option(..., help="key of the person, e.g. nurse"),
        organisation: str = ORGANISATION,
    ) -> None:
        """Print a link that logs a person in: it works once, within 15 minutes."""
        settings = load().settings
        now = to_datetime(SystemClock().now_ms())
        with _connected(settings) as connection:
            token = people.login_token(connection, organisation, person, now)
            query = "SELECT id FROM organisation WHERE key = %s"
            (organisation_id,) = connection.execute(query, [organisation]).fetchone() or (None,)
            noted(connection, "person.login_link", organisation_id=organisation_id, person=person)
        Console().print(login_link(settings, token), highlight=False, soft_wrap=True)


def _wearers(connection: psycopg.Connection[Any], device: str) -> list[int]:
    """Return everybody a device was ever assigned to."""
    query = "SELECT DISTINCT a.patient_id FROM device_assignment a JOIN device d ON d.id = a.device_id WHERE d.key = %s"
    return [patient for (patient,) in connection.execute(query, [device]).fetchall()]


def login_link(settings: Settings, token: str) -> str:
    """Return the address that logs a person in."""
    return f"{api_base(settings)}/login?token={token}"


def curl_line(settings: Settings, token: str, at_ms: int) -> str:
    """Return a ready curl command that sends one reading."""
    block = {
        "metric": "heart_rate",
        "times": [to_datetime(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")],
        "values": [72],
    }
    frame = {"session": f"curl-{at_ms // 1000}", "seq": 1, "blocks": [block]}
    authority = ["--cacert", str(settings.tls.ca_file)] if settings.tls.ca_file is not None else []
    scheme = "https" if settings.tls.cert_file is not None else "http"
    words = ["curl", *authority, f"{scheme}://{settings.gateway.host}:{settings.gateway.port}/v1/frames"]
    words += ["-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"]
    return shlex.join([*words, "-d", json.dumps({"frames": [frame]})])


def tell_mqtt(home: Path, passwords: dict[str, str]) -> str:
    """Give the local MQTT broker its devices' passwords; return why not, or "" when done."""
    from deploy.local.errors import StackError
    from deploy.local.mosquitto import write_passwords

    try:
        write_passwords(home, passwords)
    except StackError as error:
        return f"the local MQTT broker was not told: {error}"
    return ""


@contextmanager
def _connected(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """One transaction as the admin role; what can't be enrolled ends with one plain sentence."""
    try:
        with connected(settings) as connection:
            yield connection
    except EnrolmentError as error:
        refuse(str(error))
