"""Who takes part in a demo: synthetic patients with their stories, and people from real recordings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg

from ingest.client import Credentials, DeviceClient, Door
from ingest.clock import to_datetime
from ingest.doors import HttpDoors, MqttDoor
from ingest.ledger import Ledger
from services import devices, people
from services.cli.enrol import tell_mqtt
from services.cli.supervise import RunError
from services.devices import Enrolment
from services.settings import Settings
from simulators.link import SimulatedDevice
from simulators.patients import Patient
from simulators.recording import ending_at, read_folder
from simulators.scenarios import Scenario, Span, cast
from simulators.sending import RecordedDevice, Sender, Source

ORGANISATION: Final = "demo"
NURSE: Final = "nurse"
CONNECTIONS: Final = 6  # of all devices together; httpx looks at each of them for each request
WATCH: Final = "wrist_optical"  # all of them wear one, or wore one when they were recorded
MQTT_EVERY: Final = 4  # each fourth device sends over MQTT
NAMES: Final = (
    "Ada Berg", "Bruno Costa", "Chiara Diaz", "Dilan Ege", "Eva Fischer", "Farid Gul", "Greta Holm", "Hugo Ito",
    "Ines Jovic", "Jan Kovac", "Kira Lund", "Leo Moreau", "Mina Nowak", "Nils Okoro", "Olga Petrov", "Paul Quist",
    "Rosa Silva", "Samir Tan", "Tea Ullman", "Uwe Vogel", "Vera Wolf", "Xaver Young", "Yara Zeman",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One device in the play, and whose it is; ``story`` None: a real recording."""

    patient: str
    name: str
    time_zone: str
    source: Source
    model: str
    story: Scenario | None


def assemble(seed: int, span: Span, patients: int, *, recordings: bool = True) -> list[Part]:
    """Return everyone who takes part, made-up patients first."""
    parts = []
    for story in cast(seed, span, patients):
        patient = Patient(story.profile, story.effects)
        name = NAMES[(story.profile.index - 1) % len(NAMES)] + " (made up)"
        device = SimulatedDevice(patient, story.troubles)
        parts.append(Part(story.patient, name, story.profile.time_zone, device, "simulated watch", story))
    if recordings:
        with resources.as_file(resources.files("simulators") / "recordings") as folder:
            for number, recording in enumerate(read_folder(folder), start=1):
                played = RecordedDevice(f"watch-r{number:02d}", ending_at(recording, span.end_ms))
                parts.append(
                    Part(f"r{number:02d}", f"Recording {recording.person}", "UTC", played, "Fitbit, recorded", None)
                )
    return parts


def enrol(settings: Settings, parts: Sequence[Part], span: Span) -> tuple[dict[str, str], str]:
    """Enrol everyone and a nurse; return each device's token and the nurse's login token.

    Raises:
        RunError: the MQTT broker could not be told.
    """
    since, now = to_datetime(span.start_ms) - timedelta(days=1), to_datetime(span.end_ms)
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        devices.create_organisation(connection, ORGANISATION, "Demo care team")
        wanted = [Enrolment(p.patient, p.source.key, since, p.name, p.model, p.time_zone, WATCH) for p in parts]
        enrolled = devices.enrol_many(connection, ORGANISATION, wanted, now, partitions=settings.kafka.partitions)
        people.create_person(connection, ORGANISATION, NURSE, "Nurse on duty", "nurse")
        login = people.login_token(connection, ORGANISATION, NURSE, now)
        passwords = devices.mqtt_passwords(connection)
    if trouble := tell_mqtt(settings.stack.home, passwords):
        raise RunError(trouble)
    return {one.device: one.token or "" for one in enrolled}, login


async def connect(
    stack: AsyncExitStack, settings: Settings, parts: Sequence[Part], tokens: dict[str, str], book: Ledger
) -> tuple[list[Sender], list[Door]]:
    """Return a sender for each part, and one door of each way by which the time can be asked."""
    # httpcore asks for this optional module at each request; where it is missing, the search costs a millisecond
    if find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]
    ca = settings.tls.ca_file
    https = await stack.enter_async_context(HttpDoors(gateway_url(settings), ca, connections=CONNECTIONS))
    senders = []
    asked: dict[str, Door] = {}
    for number, part in enumerate(parts):
        credentials = Credentials(part.source.key, tokens[part.source.key])
        door: Door
        if number % MQTT_EVERY == MQTT_EVERY - 1:
            way, mqtt = "mqtt", settings.mqtt
            door = await stack.enter_async_context(MqttDoor(mqtt.host, mqtt.port, credentials, mqtt.ca_file))
        else:
            way, door = "https", https.door(credentials)
        asked.setdefault(way, door)
        senders.append(Sender(part.source, DeviceClient(part.source.key, door, book, "main"), way))
    return senders, list(asked.values())


def gateway_url(settings: Settings) -> str:
    """Return the address of the gateway."""
    scheme = "https" if settings.tls.cert_file is not None else "http"
    return f"{scheme}://{settings.gateway.host}:{settings.gateway.port}"


def book_path(folder: Path, name: str = "devices") -> Path:
    """Return where a run's devices keep their book."""
    return folder / f"{name}.book"
