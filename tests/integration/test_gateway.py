"""The HTTPS door on real parts: kept before it is promised, revoked within a second, back by itself."""

from __future__ import annotations

import asyncio
import json
import shlex
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from ingest.client import Credentials, DeviceClient, DoorClosed, NotDelivered
from ingest.clock import SystemClock, to_datetime
from ingest.doors import HttpDoors
from ingest.frame import Block
from ingest.ledger import Ledger
from ingest.verdict import Accepted
from services import devices
from services.cli.enrol import curl_line
from services.settings import Settings
from tests.fix_doors import Doors, Process, free_port, is_ready, wait_until

pytestmark = pytest.mark.stack

MINUTE_MS = 60_000


def heart_rate(t0_ms: int, n: int = 60, base: float = 70) -> Block:
    values = (base + np.arange(n) % 7).astype("<f4").tobytes()
    return Block("heart_rate", "/min", t0_ms, 1_000_000, "f4", values)


def now_ms() -> int:
    return SystemClock().now_ms()


def request(settings: Settings, token: str, **body: object) -> httpx.Response:
    url = f"https://127.0.0.1:{settings.gateway.port}/v1/frames"
    context = ssl.create_default_context(cafile=settings.tls.ca_file)
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(url, json=body, headers=headers, verify=context, trust_env=False)


def one_frame(seq: int, **block: object) -> dict[str, object]:
    reading = {"metric": "heart_rate", "t0": now_ms(), "values": [72], **block}
    return {"session": "json", "seq": seq, "blocks": [reading]}


async def test_what_is_accepted_is_on_kafka_under_its_patient(doors: Doors, gateway_url: str, tmp_path: Path) -> None:
    (watch,) = doors.enrol(("gw1", "gw-watch-1"))
    start = now_ms() - 3 * 3_600_000
    with Ledger(tmp_path / "book.db") as ledger:
        async with HttpDoors(gateway_url, doors.settings.tls.ca_file) as https:
            client = DeviceClient(watch.device, https.door(watch), ledger, "a")
            frames = [client.frame([heart_rate(start + i * MINUTE_MS)], now_ms()) for i in range(150)]
            verdicts = await client.send(frames)
        assert all(isinstance(verdict, Accepted) for verdict in verdicts)
        assert ledger.counts() == {"sent": 0, "accepted": 150, "rejected": 0}
        booked = sum(len(readings.values) for readings in ledger.readings())
    published = [frame for frame in await doors.published() if frame.frame_id.startswith("gw-watch-1~a~")]
    assert {frame.frame_id for frame in published} == {v.frame_id for v in verdicts if isinstance(v, Accepted)}
    assert len({frame.patient_id for frame in published}) == 1
    assert booked == 150 * 60 == sum(len(frame.blocks[0].values) // 4 for frame in published)


async def test_zipped_requests_and_bad_frames_among_good_ones(doors: Doors, gateway_url: str, tmp_path: Path) -> None:
    (watch,) = doors.enrol(("gw2", "gw-watch-2"))
    with Ledger(tmp_path / "book.db") as ledger:
        async with HttpDoors(gateway_url, doors.settings.tls.ca_file, zipped=True) as https:
            client = DeviceClient(watch.device, https.door(watch), ledger, "z")
            good = client.frame([heart_rate(now_ms() - MINUTE_MS)], now_ms())
            wrong_unit = client.frame([Block("heart_rate", "kg", now_ms(), 0, "f4", b"\x00\x00\x90\x42")], now_ms())
            verdicts = await client.send([good, wrong_unit, b"\xc1", good])
            spoiled = await client.send_body(b"\x93\x01")
        kinds = [type(verdict).__name__ for verdict in [*verdicts, *spoiled]]
        states = [entry.state for entry in ledger.entries()]
    # 0xc1 is never msgpack: as one of several it spoils the whole body
    assert kinds == ["Refused"] * 5
    assert states == ["rejected"] * 5


async def test_a_revoked_token_is_refused_within_a_second(doors: Doors, gateway_url: str) -> None:
    (watch,) = doors.enrol(("gw3", "gw-watch-3"))
    assert request(doors.settings, watch.token, frames=[one_frame(1)]).status_code == 202
    with doors.admin() as connection:
        assert devices.revoke(connection, watch.device, to_datetime(now_ms())) == 1
    revoked = time.monotonic()
    while request(doors.settings, watch.token, frames=[one_frame(2)]).status_code != 401:
        assert time.monotonic() - revoked < 1.0
        await asyncio.sleep(0.02)
    async with HttpDoors(gateway_url, doors.settings.tls.ca_file) as https:
        with pytest.raises(DoorClosed, match="unauthenticated"):
            await https.door(watch).deliver(b"\x91\x90")


def test_a_device_writes_for_its_own_patient_only(doors: Doors, gateway_url: str) -> None:
    one, two = doors.enrol(("gw4", "gw-watch-4"), ("gw5", "gw-watch-5"))
    for watch in (one, two):
        assert request(doors.settings, watch.token, frames=[one_frame(1)]).status_code == 202
    with doors.admin() as connection:
        query = """SELECT d.key, a.patient_id FROM device d JOIN device_assignment a ON a.device_id = d.id
                   WHERE d.key LIKE 'gw-watch-%%'"""
        owner = {str(key): patient for key, patient in connection.execute(query).fetchall()}
    published = asyncio.run(doors.published())
    for watch in (one, two):
        theirs = [frame for frame in published if frame.frame_id.startswith(f"{watch.device}~")]
        assert theirs
        assert {frame.patient_id for frame in theirs} == {owner[watch.device]}


def test_readings_from_before_the_assignment_are_refused(doors: Doors, gateway_url: str) -> None:
    (watch,) = doors.enrol(("gw6", "gw-watch-6"), since_days=1)
    early = one_frame(1, t0=now_ms() - 2 * 86_400_000)
    answer = request(doors.settings, watch.token, frames=[early, one_frame(2)])
    assert answer.status_code == 202
    assert [frame["verdict"] for frame in answer.json()["frames"]] == ["rejected", "accepted"]
    assert "assign gw-watch-6" in answer.json()["frames"][0]["hint"]


def test_a_handed_over_device_splits_at_the_hour_of_hand_over(doors: Doors, gateway_url: str) -> None:
    (watch, _) = doors.enrol(("gw7", "gw-watch-7"), ("gw8", "gw-watch-8"))
    handed_over = now_ms() - 30_000
    with doors.admin() as connection:
        devices.assign(connection, "gw-watch-7", "gw8", to_datetime(handed_over), to_datetime(now_ms()), partitions=12)
    frame = one_frame(9, t0=handed_over - 20_000, step_s=10, values=[70, 71, 72, 73])
    answer = request(doors.settings, watch.token, frames=[frame])
    assert answer.status_code == 202, answer.text
    published = asyncio.run(doors.published())
    parts = sorted(
        (frame.frame_id, len(frame.blocks[0].values) // 4)
        for frame in published
        if frame.frame_id.startswith("gw-watch-7~json~9")
    )
    assert parts == [("gw-watch-7~json~9", 2), ("gw-watch-7~json~9~2", 2)]


def test_the_curl_line_works(doors: Doors, gateway_url: str) -> None:
    (watch,) = doors.enrol(("gw9", "gw-watch-9"))
    line = curl_line(doors.settings, watch.token, now_ms())
    done = subprocess.run(shlex.split(line) + ["-sS"], capture_output=True, timeout=20, check=True)
    (verdict,) = json.loads(done.stdout)["frames"]
    assert verdict["verdict"] == "accepted"
    assert verdict["href"].endswith(f"/v1/frames/{verdict['frame_id']}")


def test_without_the_database_nobody_is_let_in(doors: Doors, gateway_url: str) -> None:
    (watch,) = doors.enrol(("gw10", "gw-watch-10"))
    assert request(doors.settings, watch.token, frames=[one_frame(1)]).status_code == 202
    doors.stack.kill("postgres")
    try:
        time.sleep(1)
        answer = request(doors.settings, watch.token, frames=[one_frame(2)])
        assert answer.status_code == 503
        assert answer.json()["code"] == "registry_unavailable"
        assert answer.headers["retry-after"]
    finally:
        doors.stack.start("postgres")
    wait_until(
        lambda: request(doors.settings, watch.token, frames=[one_frame(3)]).status_code == 202,
        "the gateway's recovery from the database's death",
    )


@pytest.mark.slow
async def test_nothing_accepted_is_lost_when_broker_and_gateway_are_killed(
    doors: Doors, gateway_process: Process, gateway_url: str, tmp_path: Path
) -> None:
    watches = doors.enrol(*[(f"kill{i}", f"kill-watch-{i}") for i in range(6)])
    start = now_ms() - 20 * 3_600_000
    stop = asyncio.Event()

    async def keep_sending(watch: Credentials, https: HttpDoors, ledger: Ledger) -> None:
        client = DeviceClient(watch.device, https.door(watch), ledger, "k", give_up_after_s=90)
        while not stop.is_set():
            first = start + client.next_seq * MINUTE_MS
            frames = [client.frame([heart_rate(first + i * MINUTE_MS)], now_ms()) for i in range(5)]
            await client.send(frames)
            await asyncio.sleep(0.02)

    with Ledger(tmp_path / "book.db") as ledger:
        async with HttpDoors(gateway_url, doors.settings.tls.ca_file) as https:
            sending = [asyncio.create_task(keep_sending(watch, https, ledger)) for watch in watches]
            await asyncio.sleep(2)
            await asyncio.to_thread(doors.stack.kill, "kafka")
            await asyncio.sleep(1)
            await asyncio.to_thread(doors.stack.start, "kafka")
            await asyncio.sleep(3)
            gateway_process.kill()
            await asyncio.sleep(0.5)
            gateway_process.start()
            await asyncio.to_thread(wait_until, lambda: is_ready(gateway_url, doors.settings), "the gateway's restart")
            await asyncio.sleep(2)
            stop.set()
            await asyncio.gather(*sending)
        assert ledger.counts()["sent"] == 0
        accepted = {(e.device, e.session, e.seq) for e in ledger.entries("accepted")}
    assert len(accepted) > 200
    published = await doors.published()
    held = {(f.frame_id.split("~")[0], f.session, f.seq) for f in published if f.frame_id.startswith("kill-watch-")}
    assert accepted - held == set()


async def test_a_client_gives_up_in_bounded_time_and_sends_later(
    doors: Doors, gateway_url: str, tmp_path: Path
) -> None:
    (watch,) = doors.enrol(("gw11", "gw-watch-11"))
    with Ledger(tmp_path / "book.db") as ledger:
        async with HttpDoors("https://127.0.0.1:9", doors.settings.tls.ca_file) as nowhere:
            client = DeviceClient(watch.device, nowhere.door(watch), ledger, "g", give_up_after_s=1)
            frames = [client.frame([heart_rate(now_ms() - MINUTE_MS)], now_ms())]
            began = time.monotonic()
            with pytest.raises(NotDelivered):
                await client.send(frames)
            assert time.monotonic() - began < 5
        assert ledger.counts()["sent"] == 1
    with Ledger(tmp_path / "book.db") as ledger:  # as after a crash
        async with HttpDoors(gateway_url, doors.settings.tls.ca_file) as https:
            assert await DeviceClient(watch.device, https.door(watch), ledger, "g2").resend_unsettled() == 1
        assert ledger.counts() == {"sent": 0, "accepted": 1, "rejected": 0}
        (entry,) = ledger.entries()
        assert isinstance(entry.body, bytes)
        assert (entry.session, entry.seq) == ("g", 0)


def test_a_stopped_gateway_ends_well(doors: Doors, migrated: Settings, tmp_path: Path) -> None:
    (watch,) = doors.enrol(("gw12", "gw-watch-12"))
    port = free_port()
    other = migrated.model_copy(update={"gateway": migrated.gateway.model_copy(update={"port": port})})
    with Process(other, ["gateway"], tmp_path / "gateway.log") as process:
        wait_until(lambda: is_ready(f"https://127.0.0.1:{port}", other), "the second gateway's readiness")
        assert request(other, watch.token, frames=[one_frame(1)]).status_code == 202
        assert process.stop() == 0
