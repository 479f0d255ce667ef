"""The devices of a replay: one a person, each with its frames in the order of its file, all beginning together."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg

from ingest.client import Credentials, DeviceClient, Door
from ingest.clock import SystemClock, to_datetime
from ingest.doors import HttpDoors
from ingest.frame import FRAME_VERSION, Frame
from ingest.ledger import Ledger
from services import devices
from services.cli.demo_cast import gateway_url
from services.devices import Enrolment
from services.settings import Settings
from simulators.recording import Recording
from simulators.recordings_at import recordings_at
from simulators.reframe import reframed
from simulators.series import DAY_MS, HOUR_MS

ORGANISATION: Final = "replay"
ROUND_MS: Final = DAY_MS  # of the recording, sent by everyone before anyone goes on
PACED_ROUND_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Person:
    """One person of the recording; the same content has the same device, session and sequence numbers always."""

    patient: str
    device: str
    session: str
    recording: Recording
    reframe: int | None = None  # a seed: other frame boundaries, another session, rows shuffled


def read(path: Path, reframe: int | None = None) -> list[Person]:
    """Return the people of a folder of ``wearable_hr``'s format, or the one of a CSV file.

    Raises:
        NotARecording: there is nothing there, or something that can't be read.
    """
    return [_person(recording, reframe) for recording in recordings_at(path)]


def _person(recording: Recording, reframe: int | None) -> Person:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", recording.person).strip("-_.")[:40] or "person"
    session = recording.fingerprint() + ("" if reframe is None else f"-r{reframe}")
    return Person(name, f"replay-{name}", session, recording, reframe)


def identity(people: Sequence[Person]) -> str:
    """Return a name for this content: the same people with the same readings give the same one."""
    told = "".join(f"{person.device}/{person.session}\n" for person in people)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def enrol(settings: Settings, people: Sequence[Person], device_class: str) -> dict[str, str]:
    """Enrol everyone in the organisation ``replay`` and return device → a new token.

    Raises:
        EnrolmentError: a key is taken by somebody else.
    """
    now = to_datetime(SystemClock().now_ms())
    wanted = [
        Enrolment(
            one.patient, one.device, to_datetime(one.recording.span_ms[0]) - timedelta(days=1), model="recording",
            device_class=device_class,
        )
        for one in people
    ]  # fmt: skip
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        devices.create_organisation(connection, ORGANISATION, "Replayed recordings")
        enrolled = devices.enrol_many(
            connection, ORGANISATION, wanted, now, partitions=settings.kafka.partitions, renew=True
        )
    return {one.device: one.token or "" for one in enrolled}


async def connect(
    stack: AsyncExitStack, settings: Settings, people: Sequence[Person], tokens: dict[str, str], book: Ledger
) -> tuple[list[Player], Door]:
    """Return everyone's player, and a door to ask whether the gateway answers."""
    https = await stack.enter_async_context(HttpDoors(gateway_url(settings), settings.tls.ca_file))
    doors = [https.door(Credentials(one.device, tokens[one.device])) for one in people]
    players = [
        Player(one, DeviceClient(one.device, door, book, one.session)) for one, door in zip(people, doors, strict=True)
    ]
    return players, doors[0]


class Player:
    """Plays one person's recording through one device."""

    def __init__(self, person: Person, client: DeviceClient) -> None:
        self.person = person
        self.sent = 0  # frames
        self._client = client
        self._began_ms = person.recording.span_ms[0]
        self._frames = self._cut()
        self._next = next(self._frames, None)

    def _cut(self) -> Iterator[tuple[int, int, Frame]]:
        """Yield (end on the recording's own time line, readings, frame): an hour each, or as reframed."""
        person = self.person
        cut = (
            ((start_ms + HOUR_MS, packed) for start_ms, packed in person.recording.hours())
            if person.reframe is None
            else reframed(person.recording, person.reframe)
        )
        for seq, (end_ms, packed) in enumerate(cut):
            n = sum(len(block.values) // (2 if block.dtype == "i2" else 4) for block in packed)
            # the hour's end, not the present: the same content must give the same bytes
            offset = person.recording.offset_at(end_ms - 1)
            yield end_ms - self._began_ms, n, Frame(FRAME_VERSION, person.session, seq, end_ms, offset, packed)

    @property
    def over(self) -> bool:
        """Whether everything has been sent."""
        return self._next is None

    async def first(self) -> int:
        """Send the first frame; return how many readings that were."""
        return await self._send(1, None)

    async def until(self, elapsed_ms: int) -> int:
        """Send what was measured in the first ``elapsed_ms`` of the recording; return how many readings."""
        return await self._send(None, elapsed_ms)

    async def _send(self, most: int | None, elapsed_ms: int | None) -> int:
        frames: list[Frame] = []
        readings = 0
        while self._next is not None and len(frames) != most:
            end_ms, n, frame = self._next
            if elapsed_ms is not None and end_ms > elapsed_ms:
                break
            frames.append(frame)
            readings += n
            self._next = next(self._frames, None)
        if frames:
            await self._client.send(frames)
            self.sent += len(frames)
        return readings


async def play(
    players: Sequence[Player],
    speed: float | None,
    told: Callable[[int], None],
    room: Callable[[int], Awaitable[None]],
) -> None:
    """Send everything; ``speed`` None: as fast as it goes, else so many times faster than it was measured.

    Everyone begins together, whatever the dates, and goes round by round, so that the processor meets everybody
    in each batch. ``told`` hears how many readings each answer was for; ``room`` is asked before each round whether
    there is room after so many frames.

    Raises:
        NotDelivered, DoorClosed: the gateway does not take them.
    """
    round_ms = ROUND_MS if speed is None else max(HOUR_MS, int(speed * PACED_ROUND_S * 1000) // HOUR_MS * HOUR_MS)
    began = time.monotonic()
    elapsed_ms = 0
    while not all(player.over for player in players):
        elapsed_ms += round_ms
        if speed is not None:
            await asyncio.sleep(max(0.0, began + elapsed_ms / 1000 / speed - time.monotonic()))

        async def send(player: Player, until_ms: int) -> None:
            told(await player.until(until_ms))

        await room(sum(player.sent for player in players))
        await asyncio.gather(*(send(player, elapsed_ms) for player in players if not player.over))
