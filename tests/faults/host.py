"""Rows that break the machine a process runs on, or put more on it than it can bear."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import msgspec

from ingest.client import DoorClosed, NotDelivered
from ingest.doors import HttpDoor, HttpDoors
from ingest.frame import Frame, encode
from ingest.verdict import Busy
from services.api.stream import MAX_PER_PERSON, MAX_WATCHERS
from services.settings import Settings
from tests.faults.load import Story
from tests.faults.matrix import row
from tests.faults.measure import open_files, resident_mb
from tests.faults.trial import Trial, eventually_so
from tests.faults.watch import sign_in
from tests.fix_doors import Process

INJECTED: Final = Path(__file__).parent / "injected"
CGROUPS: Final = Path("/sys/fs/cgroup/memory")
STEPS_S: Final = (3600, 0, -3600, 0)
STEPPED_S: Final = 3  # the clock is looked at for silence each second
SLOW_READERS: Final = MAX_WATCHERS - 1  # the last place is of the one who reads
SLOW_S: Final = 8
MOST_GROWTH_MB: Final = 150
SPARE_FILES: Final = 3
SHORT_S: Final = 5
FLOOD_S: Final = 8
FLOODERS: Final = 48


def short_silence(settings: Settings) -> Settings:
    """Judge silence as in production: after two hours."""
    return settings.model_copy(update={"processor": settings.processor.model_copy(update={"silence_s": 7200})})


@row(
    19, "server clock step",
    how="every processor's wall clock (time.time in the process) jumps an hour ahead, then an hour back, twice; silence is told after two",
    figure="silences told by the clock", change=short_silence, slower=2,
)  # fmt: skip
async def clock_step(trial: Trial) -> None:
    trial.leave_out = []  # a silence in event time is told, here as offline
    offset = trial.folder / "offset"
    offset.write_text("0")
    for process in trial.processors:
        with trial.out_of_order(process):
            await asyncio.to_thread(process.stop)
            process.env = {"PYTHONPATH": str(INJECTED), "FAULTS_CLOCK": str(offset)}
            process.start()
    for seconds in STEPS_S:
        offset.write_text(str(seconds))
        await eventually_so(partial(_works_on, trial, seconds), 90, f"work on a clock that is {seconds} s off")
    await trial.load.finished(120)
    await eventually_so(trial.caught_up, 120, "processing everything")
    for seconds in STEPS_S:  # silence is judged by the clock only where nothing waits
        offset.write_text(str(seconds))
        await asyncio.sleep(STEPPED_S)
    (wrong,), (told,) = await trial.query(
        """SELECT count(*) FROM frame_log WHERE abs(extract(epoch FROM processed_at - received_at)) > 1800
           UNION ALL SELECT count(*) FROM silence_judgement"""
    )
    trial.read("frames processed on a wrong clock", int(wrong))
    trial.read("silences told by the clock", int(told))
    trial.require(told == 0, f"{told} patients were called silent because a clock was stepped")


async def _works_on(trial: Trial, seconds: int) -> bool:
    """Whether a frame was processed while the clock was so many seconds off, give or take half an hour."""
    asked = (
        "SELECT EXISTS (SELECT FROM frame_log WHERE abs(extract(epoch FROM processed_at - received_at) - %s) < 1800)"
    )
    return bool((await trial.query(asked, seconds))[0][0])


@row(
    20, "slow stream readers",
    how=f"{SLOW_READERS} watchers, as many as the API takes beside the one that reads, open the alert stream and never read",
    figure="API memory grown MB, the reading watcher's alert latency", moment=(0.05, 0.1), slower=2,
)  # fmt: skip
async def slow_readers(trial: Trial) -> None:
    before = resident_mb(trial.api.pid)
    let_in = 0
    with contextlib.ExitStack() as stack:
        for first in range(0, SLOW_READERS, MAX_PER_PERSON):
            token = await asyncio.to_thread(sign_in, trial.system, f"slow-{first}")
            count = min(MAX_PER_PERSON, SLOW_READERS - first)
            opened = [stack.enter_context(_never_reads(trial, token)) for _ in range(count)]
            let_in += await asyncio.to_thread(_let_in, opened)
        await asyncio.sleep(SLOW_S)
        grown = resident_mb(trial.api.pid) - before
    trial.read("slow readers", let_in)
    trial.read("API memory grown MB", round(grown, 1))
    trial.require(let_in == SLOW_READERS, f"only {let_in} of {SLOW_READERS} slow readers were let in")
    trial.require(grown < MOST_GROWTH_MB, f"the API grew by {grown:.0f} MB for {let_in} slow readers")


@contextmanager
def _never_reads(trial: Trial, token: str) -> Iterator[socket.socket]:
    port = trial.system.settings.api.port
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.settimeout(20)
        one.connect(("127.0.0.1", port))
        lines = (
            "GET /v1/alerts/stream?since=0-0 HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Authorization: Bearer {token}",
        )
        one.sendall("\r\n".join([*lines, "", ""]).encode())
        yield one


def _let_in(opened: Sequence[socket.socket]) -> int:
    """How many were answered 200; the answer stays unread."""
    return sum(one.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200" for one in opened)


@row(
    22, "memory limit", how="cgroup: the processor may take 1 MB more than it has; the kernel kills it (SIGKILL)",
    figure="killed by the kernel",
)  # fmt: skip
async def memory_limit(trial: Trial) -> None:
    processor = trial.system.processor
    killed = False
    with trial.out_of_order(processor), _group(1 << 20) as group:
        (group / "cgroup.procs").write_text(str(processor.pid))
        try:
            await eventually_so(partial(_ended, processor), 20, "running out of memory")
            killed = True
        except TimeoutError:
            processor.kill()
        processor.start()
    trial.read("killed by the kernel", "yes" if killed else "no")
    trial.require(killed, "the processor never needed more memory than the limit: nothing was tested")


@contextmanager
def _group(limit: int) -> Iterator[Path]:
    group = CGROUPS / f"keepwell-faults-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield group
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


async def _ended(process: Process) -> bool:
    return not process.alive()


@row(
    23, "no files, full log disk",
    how=f"RLIMIT_NOFILE of the gateway to what it has and {SPARE_FILES} more for {SHORT_S} s; then gateway and processor log to /dev/full",
    figure="frames accepted with the log disk full",
)  # fmt: skip
async def no_files(trial: Trial) -> None:
    gateway, processor = trial.system.gateway, trial.system.processor
    soft, hard = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (open_files(gateway.pid) + SPARE_FILES, hard))
    with contextlib.ExitStack() as stack:
        for _ in range(50):  # connections it cannot accept
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", trial.system.settings.gateway.port))
        await asyncio.sleep(SHORT_S)
    trial.require(gateway.alive(), "the gateway ended for want of files")
    if gateway.alive():
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (soft, hard))
    for process in (gateway, processor):
        with trial.out_of_order(process):
            await asyncio.to_thread(process.stop)
            process.log = Path("/dev/full")
            process.start()
    restarts, accepted = trial.system.restarts, trial.load.accepted
    await asyncio.sleep(SHORT_S)
    await trial.load.finished(120)
    trial.read("frames accepted with the log disk full", trial.load.accepted - accepted)
    trial.require(trial.system.restarts == restarts, "a process ended because it could not log")


def small_doors(settings: Settings) -> Settings:
    """A gateway that holds few requests at once, so that this machine can overload it."""
    return settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"max_in_flight": 24})})


def floods(story: Story) -> Story:
    """Add devices that will flood the door with waveforms; they send nothing with the rest."""
    frames, patients = dict(story.frames), dict(story.patients)
    for n in range(FLOODERS):
        frames[f"flood-{story.seed}-{n}"] = []
        patients[f"flood-{story.seed}-{n}"] = f"flood-{story.seed}-{n}"
    return Story(story.seed, frames, patients, story.over_mqtt)


@row(
    24, "overload",
    how=f"{FLOODERS} more devices send ECG frames over HTTPS, open loop, for {FLOOD_S} s; the gateway may hold 24 requests",
    figure="ECG frames kept a second, shed; vitals refused meanwhile; s to take everything again", change=small_doors, tell=floods,
)  # fmt: skip
async def overload(trial: Trial) -> None:
    trial.strangers = {key for key in trial.story.patients.values() if key.startswith("flood-")}
    kept: Counter[str] = Counter()
    model = next(frames[0] for key, frames in trial.story.frames.items() if key.endswith("-ecg"))
    before = trial.load.accepted
    url, ca = trial.system.url, trial.system.settings.tls.ca_file
    async with HttpDoors(url, ca, connections=2 * FLOODERS) as doors:
        async with asyncio.TaskGroup() as group:
            for key in sorted(trial.strangers):
                group.create_task(_flood(trial, doors.door(trial.load.credentials(key)), key, model, kept))
    over = time.monotonic()
    trial.read("ECG frames kept /s", round(kept["accepted"] / FLOOD_S, 1))
    trial.read("ECG requests shed %", round(100 * kept["refused"] / max(1, kept.total()), 1))
    trial.read("least frames of others accepted meanwhile", trial.load.accepted - before)
    shed = await _shed(trial)
    trial.read("refused by what they held", ", ".join(f"{what} {n:.0f}" for what, n in sorted(shed.items())) or "none")
    trial.require(shed["waveform"] >= shed["vitals"], f"more vitals than waveforms were refused: {dict(shed)}")
    trial.require(kept["refused"] > 0, "nothing was shed: the flood was no overload here")
    await eventually_so(partial(_takes, trial), 30, "taking frames again")
    trial.read("s to take everything again", time.monotonic() - over)


async def _shed(trial: Trial) -> Counter[str]:
    """Return what the gateway counts as refused for overload: frames with waveforms, with vitals, requests unread."""
    port = trial.metrics(trial.system.settings).gateway_port
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    found: Counter[str] = Counter()
    for holds, count in re.findall(r'^keepwell_door_shed_total\{.*holds="(\w+)".*\} (\S+)$', page, re.MULTILINE):
        found[holds] += int(float(count))
    return found


async def _takes(trial: Trial) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await trial.probe()).status_code == 202
    return False


async def _flood(trial: Trial, door: HttpDoor, key: str, model: Frame, kept: Counter[str]) -> None:
    """Send frame after frame for a while; what is refused stays in the book as sent and is sent again at the end."""
    until, seq = time.monotonic() + FLOOD_S, 0
    ledger = trial.load.ledger
    while time.monotonic() < until:
        moved = [msgspec.structs.replace(b, t0_ms=b.t0_ms + seq * 3_600_000) for b in model.blocks]
        frame = msgspec.structs.replace(model, session="flood", seq=seq, blocks=moved)
        body = encode(frame)
        (entry,) = ledger.add(f"{key}-watch", [(frame, body)])
        seq += 1
        while True:
            try:
                verdicts = await door.deliver(b"\x91" + body)
            except NotDelivered as error:
                kept["refused"] += 1
                await asyncio.sleep(min(error.retry_after_s or 0.05, 0.2 if time.monotonic() < until else 1.0))
            except DoorClosed as error:
                trial.require(False, f"a flooding device was shut out: {error}")
                return
            else:
                ledger.settle([entry], verdicts)
                if not isinstance(verdicts[0], Busy):
                    kept["accepted"] += 1
                    break
                kept["refused"] += 1
                await asyncio.sleep(0.05 if time.monotonic() < until else verdicts[0].retry_after_s)
