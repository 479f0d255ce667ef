"""``keepwell replay PATH``: recordings through the whole way, as they are, and the books checked at the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, Final

import psycopg
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evaluation import checker
from ingest.client import Credentials, DeviceClient
from ingest.clock import SystemClock, to_datetime
from ingest.doors import HttpDoors
from ingest.frame import FRAME_VERSION, Frame
from ingest.ledger import Ledger
from services import devices
from services.cli.demo import running_stack
from services.cli.demo_cast import gateway_url
from services.cli.demo_run import Processes, RunError, counted, until_processed
from services.devices import Enrolment
from services.settings import Settings, load
from services.store.migrate import migrate
from simulators.recording import NotARecording, Recording, read_csv, read_folder
from simulators.series import DAY_MS

ORGANISATION: Final = "replay"
PROCESSED_S: Final = 600.0
READY_S: Final = 60.0
BOOKS_KEPT: Final = 2
FAILED: Final = 1
COUNTS: Final = ("stored", "duplicate", "conflict", "quarantined", "late")

_FATES: Final = """
    SELECT coalesce(sum(f.stored), 0)::bigint, coalesce(sum(f.duplicate), 0)::bigint,
           coalesce(sum(f.conflict), 0)::bigint, coalesce(sum(f.quarantined), 0)::bigint,
           coalesce(sum(f.late), 0)::bigint
    FROM frame_log f JOIN device d ON d.id = f.device_id WHERE d.key = ANY(%s)"""
_ALERTS: Final = """
    SELECT a.id, p.key, a.rule, a.kind, a.priority, a.late, a.started_at, a.raised_at, a.sentence
    FROM alert a JOIN patient p ON p.id = a.patient_id JOIN device_assignment s ON s.patient_id = p.id
    JOIN device d ON d.id = s.device_id WHERE d.key = ANY(%s) ORDER BY a.started_at, a.rule"""


@dataclass(frozen=True)
class Plan:
    """One person's recording, on the way: the same content gives the same device, session and numbers."""

    recording: Recording

    @property
    def patient(self) -> str:
        """The patient's key."""
        return self.recording.person.lower()

    @property
    def device(self) -> str:
        """The device's key."""
        return f"replay-{self.patient}"

    def days(self) -> Iterator[list[Frame]]:
        """Yield each day's frames, an hour in each, in the order of the file."""
        session = f"r-{self.recording.fingerprint()}"
        numbered = enumerate(self.recording.hours())
        for _, hours in groupby(numbered, key=lambda item: item[1][0] // DAY_MS):
            yield [Frame(FRAME_VERSION, session, seq, SystemClock().now_ms(), 0, cut) for seq, (_, cut) in hours]


def register(app: typer.Typer) -> None:
    """Add the ``replay`` command."""

    @app.command()
    def replay(
        path: Path = typer.Argument(..., help="a folder like wearable_hr, or a CSV with the columns time,metric,value"),
        speed: str = typer.Option("max", help="max, or how many recorded seconds pass in one"),
        json_file: Path = typer.Option(None, "--json", help="write what it came to into this file"),
    ) -> None:
        """Send recordings as they are, over HTTPS, and account for every reading.

        Nothing is repaired: clocks that went back and instants that come twice are sent as they stand. Times
        without a zone are taken as UTC. Sent again, the same files store nothing twice and raise nothing new.
        A gateway and a processor are started where no gateway answers. Exits with 1 unless all is accounted for.
        """
        if speed != "max" and not (speed.replace(".", "", 1).isdigit() and float(speed) > 0):
            raise typer.BadParameter(f"speed {speed!r}: allowed is max or a number above 0, e.g. 3600")  # noqa: EM102
        raise typer.Exit(_main(path, None if speed == "max" else float(speed), json_file))


def _main(path: Path, speed: float | None, json_file: Path | None) -> int:
    from deploy.local.errors import StackError

    console = Console(highlight=False)
    try:
        plans = [Plan(recording) for recording in (read_folder(path) if path.is_dir() else [read_csv(path)])]
        console.print(
            f"{len(plans)} people, {sum(plan.recording.n for plan in plans):,} readings; local time taken as UTC"
        )
        with running_stack(console) as home:
            document = uvloop.run(_replay(home, plans, speed, console))
    except (NotARecording, RunError, StackError, OSError) as error:
        console.print(f"keepwell: {error}", style="red", markup=False)
        return FAILED
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1), "utf-8")
    for name in (
        "readings",
        "sent",
        "rejected",
        "accepted",
        "stored",
        "duplicate",
        "conflict",
        "dead",
        "quarantined",
        "late",
    ):
        console.print(f"  {name:12}{document[name]:>12,}")
    console.print(
        f"  alerts      {len(document['alerts']):>12,}, {document['new_alerts']} of them new; {document['wall_s']} s"
    )
    for problem in document["broken"]:
        console.print(f"broken: {problem}", style="red", markup=False)
    return FAILED if document["broken"] else 0


async def _replay(home: Path, plans: Sequence[Plan], speed: float | None, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    settings = load({"stack.home": home}).settings
    await migrate(settings)
    tokens = _enrol(settings, plans)
    keys = [plan.device for plan in plans]
    before = _fates(settings, keys)
    known = {row[0] for row in counted(settings, _ALERTS, keys)}
    folder = home / "replay" / to_datetime(SystemClock().now_ms()).strftime("%Y%m%d%H%M%S")
    with ExitStack() as stack:
        await _serve(settings, folder, stack, console)
        book = stack.enter_context(Ledger(folder / "devices.book"))
        await _send(settings, plans, tokens, book, speed, console)
        sent_s = time.monotonic() - began
        await until_processed(settings, PROCESSED_S)
    wall_s = time.monotonic() - began
    report = _report(settings, plans, folder / "devices.book", before, known)
    _forget_old_books(folder.parent)
    return report | {"sent_s": round(sent_s, 2), "wall_s": round(wall_s, 2)}


def _enrol(settings: Settings, plans: Sequence[Plan]) -> dict[str, str]:
    now = to_datetime(SystemClock().now_ms())
    wanted = [
        Enrolment(
            plan.patient,
            plan.device,
            to_datetime(plan.recording.span_ms[0] - DAY_MS),
            plan.recording.person,
            "recording",
        )
        for plan in plans
    ]
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        devices.create_organisation(connection, ORGANISATION, "Replayed recordings")
        return {
            one.device: one.token or "" for one in devices.enrol_many(connection, ORGANISATION, wanted, now, renew=True)
        }


async def _serve(settings: Settings, folder: Path, stack: ExitStack, console: Console) -> None:
    """Start a gateway and a processor for as long as ``stack`` is open, unless a gateway answers already."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _, writer = await asyncio.open_connection(settings.gateway.host, settings.gateway.port)
        writer.close()
        console.print(f"using the gateway that answers on port {settings.gateway.port}, and its processor")
    except OSError:
        told = {"KEEPWELL_STACK__HOME": str(settings.stack.home), "KEEPWELL_GATEWAY__BURST": "100000"}
        processes = Processes(folder, told)
        stack.callback(processes.stop)
        for name in ("gateway", "processor"):
            processes.start(name, [name])
        async with asyncio.timeout(READY_S):
            while not await _answers(settings):
                processes.check()
                await asyncio.sleep(0.1)


async def _answers(settings: Settings) -> bool:
    try:
        _, writer = await asyncio.open_connection(settings.gateway.host, settings.gateway.port)
    except OSError:
        return False
    writer.close()
    return True


async def _send(
    settings: Settings,
    plans: Sequence[Plan],
    tokens: dict[str, str],
    book: Ledger,
    speed: float | None,
    console: Console,
) -> None:
    """Send day by day, everybody's first day first, so that the people stay side by side."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} readings"))
    async with HttpDoors(gateway_url(settings), settings.tls.ca_file, connections=len(plans)) as doors:
        clients = [DeviceClient(p.device, doors.door(Credentials(p.device, tokens[p.device])), book, "") for p in plans]
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("sending", total=sum(plan.recording.n for plan in plans))
            began, days = time.monotonic(), 0
            for of_day in zip_longest(*(plan.days() for plan in plans), fillvalue=None):
                async with asyncio.TaskGroup() as group:
                    for client, frames in zip(clients, of_day, strict=True):
                        if frames:
                            group.create_task(client.send(frames))
                days += 1
                progress.advance(task, sum(_readings(frame) for frames in of_day for frame in frames or ()))
                if speed is not None:
                    await asyncio.sleep(max(0.0, began + days * DAY_MS / 1000 / speed - time.monotonic()))


def _readings(frame: Frame) -> int:
    return sum(len(block.values) // (4 if block.dtype == "f4" else 2) for block in frame.blocks)


def _fates(settings: Settings, keys: list[str]) -> dict[str, int]:
    return dict(zip(COUNTS, counted(settings, _FATES, keys)[0], strict=True))


def _report(
    settings: Settings, plans: Sequence[Plan], book: Path, before: dict[str, int], known: set[Any]
) -> dict[str, Any]:
    keys = [plan.device for plan in plans]
    fates = {name: count - before[name] for name, count in _fates(settings, keys).items()}
    verdict = checker.check([book], settings.postgres.conninfo("writer"), only_booked=True)
    sent = checker.sent_readings([book])
    alerts = counted(settings, _ALERTS, keys)
    readings = sum(plan.recording.n for plan in plans)
    broken = list(verdict.problems)
    if sum(sent.values()) != readings:
        broken.append(f"{readings} readings are in the files, {sum(sent.values())} were sent")
    told = sum(fates[name] for name in ("stored", "duplicate", "conflict", "quarantined")) + verdict.dead
    if told != sent["accepted"]:
        broken.append(f"{sent['accepted']} readings were accepted, the frames' fates tell of {told}: {fates}")
    return {
        "people": len(plans),
        "readings": readings,
        "sent": sum(sent.values()),
        "rejected": sent["rejected"],
        "accepted": sent["accepted"],
        "dead": verdict.dead,
        **fates,
        "in_database": {"stored": verdict.stored, "conflict": verdict.conflict, "quarantined": verdict.quarantined},
        "hash": {"accepted": verdict.accepted_hash, "kept": verdict.kept_hash},
        "new_alerts": sum(row[0] not in known for row in alerts),
        "alerts": [
            {
                "patient": patient, "rule": rule, "kind": kind, "priority": priority, "late": late,
                "started": started.isoformat(), "raised": raised.isoformat(), "sentence": sentence,
                "new": number not in known,
            }
            for number, patient, rule, kind, priority, late, started, raised, sentence in alerts
        ],
        "broken": broken,
    }  # fmt: skip


def _forget_old_books(folder: Path) -> None:
    """Keep the books of the last few replays; each holds all that was sent."""
    for old in sorted(folder.glob("*/devices.book"))[:-BOOKS_KEPT]:
        for file in old.parent.glob("devices.book*"):
            file.unlink()
