"""Ten times more than the broker takes: waveforms are shed, vitals get through, memory stays, and it passes by itself."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from ingest import frame as wire
from ingest.client import Credentials, DeviceClient, array_of
from ingest.clock import SystemClock
from ingest.doors import HttpDoors
from ingest.frame import Block, Frame
from ingest.ledger import Ledger
from ingest.verdict import Accepted, Busy, decode_verdicts
from services import topics
from services.settings import Settings
from services.settings_sections import MetricsSettings
from tests.databases import drop_database
from tests.faults.kafka_proxy import KafkaProxy
from tests.fix_doors import Doors, Process, free_port, is_ready, migrated_settings, wait_until
from tests.fix_stack import LiveStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(200)]

BROKER_BYTES_S = 200_000  # what the way to the broker takes
ECG_DEVICES, ECG_BYTES = 40, 100_000  # a frame each 2 s: ten times as much
VITALS_DEVICES = 60  # a frame each 3 s
FLOOD_S = 14.0
HELD_MB = 8
MORE_MEMORY_MB = 150  # bodies held, their stamped and encoded copies, 100 TLS connections, what Python keeps


def ecg(session: str, seq: int, blocks: int = 50) -> Frame:
    now = SystemClock().now_ms()
    raw = np.random.default_rng(seq).integers(-500, 500, wire.MAX_SAMPLES, dtype=np.int16).astype("<i2").tobytes()
    made = [Block("ecg", "mV", now - (blocks - i) * 3_600, 4_000, "i2", raw, scale=0.005) for i in range(blocks)]
    return Frame(wire.FRAME_VERSION, session, seq, now, 0, made)


def vitals(session: str, seq: int) -> Frame:
    now = SystemClock().now_ms()
    return Frame(
        wire.FRAME_VERSION, session, seq, now, 0,
        [Block("heart_rate", "/min", now - 60_000, 1_000_000, "f4", np.full(60, 70, "<f4").tobytes())],
    )  # fmt: skip


class Flood:
    """Sends on time whatever the answers are, and counts them."""

    def __init__(self, url: str, settings: Settings) -> None:
        context = ssl.create_default_context(cafile=settings.tls.ca_file)
        limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
        self._client = httpx.AsyncClient(base_url=url, verify=context, limits=limits, timeout=30, trust_env=False)
        self._tasks: set[asyncio.Task[None]] = set()
        self.frames: Counter[tuple[str, str]] = Counter()
        self.slowest_vitals_s = 0.0

    async def close(self) -> None:
        await asyncio.gather(*self._tasks)
        await self._client.aclose()

    async def device(self, kind: str, watch: Credentials, every_s: float, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        due, until = time.monotonic(), time.monotonic() + FLOOD_S
        seq = 0
        while due < until:
            frame = (ecg if kind == "ecg" else vitals)("flood", seq := seq + 1)
            task = asyncio.create_task(self._post(kind, watch, array_of([wire.encode(frame)])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            due += every_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _post(self, kind: str, watch: Credentials, body: bytes) -> None:
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {watch.token}", "Content-Type": wire.CONTENT_TYPE}
        try:
            answer = await self._client.post("/v1/frames", content=body, headers=headers)
        except httpx.HTTPError:
            self.frames[kind, "no answer"] += 1
            return
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
        try:
            for verdict in decode_verdicts(answer.content):
                name = (
                    "accepted"
                    if isinstance(verdict, Accepted)
                    else verdict.reason
                    if isinstance(verdict, Busy)
                    else "?"
                )
                self.frames[kind, name] += 1
        except msgspec.DecodeError:
            self.frames[kind, f"unread {answer.status_code} {answer.json()['code']}"] += 1
        if kind == "vitals" and answer.status_code == 202:
            self.slowest_vitals_s = max(self.slowest_vitals_s, time.monotonic() - began)


@pytest.fixture
def small(stack: LiveStack) -> Iterator[Settings]:
    base = migrated_settings(stack)
    ports = MetricsSettings(gateway_port=free_port(), bridge_port=0, processor_port=0, api_port=0)
    gateway = base.gateway.model_copy(update={"max_waiting_mb": HELD_MB})
    yield base.model_copy(update={"metrics": ports, "gateway": gateway})
    drop_database(base)


@asynccontextmanager
async def slow_broker(settings: Settings) -> AsyncIterator[tuple[KafkaProxy, Settings]]:
    host, _, port = settings.kafka.bootstrap.rpartition(":")
    async with KafkaProxy(int(port)) as proxy:
        kafka = settings.kafka.model_copy(update={"bootstrap": f"{host}:{proxy.port}"})
        yield proxy, settings.model_copy(update={"kafka": kafka})


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def figure(settings: Settings, metric: str, **labels: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{settings.metrics.gateway_port}/metrics", trust_env=False).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


async def test_ten_times_overload(stack: LiveStack, small: Settings, tmp_path: Path) -> None:
    doors = Doors(stack, small)
    strips = await asyncio.to_thread(doors.enrol, *[(f"e{i}", f"ecg-{i}") for i in range(ECG_DEVICES)])
    watches = await asyncio.to_thread(doors.enrol, *[(f"v{i}", f"vit-{i}") for i in range(VITALS_DEVICES)])
    (mixed,) = await asyncio.to_thread(doors.enrol, ("m", "mixed"))
    url = f"https://127.0.0.1:{small.gateway.port}"
    async with slow_broker(small) as (proxy, settings):
        with Process(settings, ["gateway"], tmp_path / "gateway.log") as gateway:
            await asyncio.to_thread(wait_until, lambda: is_ready(url, settings), "the gateway's readiness")
            before_mb, most_mb = memory_mb(gateway.pid), 0.0
            proxy.up.bytes_per_s = BROKER_BYTES_S
            flood = Flood(url, settings)
            sending = [
                *(asyncio.create_task(flood.device("ecg", w, 2.0, i / 20)) for i, w in enumerate(strips)),
                *(asyncio.create_task(flood.device("vitals", w, 3.0, i / 20)) for i, w in enumerate(watches)),
            ]
            client_at_work = asyncio.create_task(device_at_work(url, settings, mixed, tmp_path))
            worst = 0.0
            while not all(task.done() for task in sending):
                most_mb = max(most_mb, memory_mb(gateway.pid))
                worst = max(worst, await asyncio.to_thread(figure, settings, "keepwell_door_shedding"))
                await asyncio.sleep(0.25)
            await flood.close()
            assert gateway.alive()

            proxy.up.bytes_per_s = 0.0
            eased = time.monotonic()
            while await asyncio.to_thread(figure, settings, "keepwell_door_shedding"):
                assert time.monotonic() - eased < 20, "the door is still shedding"
                await asyncio.sleep(0.2)
            counts, accepted = await asyncio.wait_for(client_at_work, 60)
            shed = await asyncio.to_thread(figure, settings, "keepwell_door_shed_total", holds="waveform")
            async with HttpDoors(url, settings.tls.ca_file) as https:
                verdicts = await https.door(strips[0]).deliver(array_of([wire.encode(ecg("after", 1))]))
            assert [type(verdict) for verdict in verdicts] == [Accepted]

    told = dict(flood.frames)
    of = {kind: sum(n for (one, _), n in told.items() if one == kind) for kind in ("ecg", "vitals")}
    print(told, f"memory {before_mb:.0f} → {most_mb:.0f} MB, slowest vitals {flood.slowest_vitals_s:.1f} s")  # noqa: T201
    assert worst >= 1, told
    assert of["ecg"] * 90_000 > 5 * BROKER_BYTES_S * FLOOD_S, "this was no overload"
    assert told["vitals", "accepted"] >= 0.95 * of["vitals"], told
    assert told.get(("ecg", "accepted"), 0) < 0.5 * of["ecg"], told
    assert shed > 0
    assert most_mb - before_mb < MORE_MEMORY_MB, (before_mb, most_mb)
    assert counts["sent"] == 0
    assert counts["rejected"] == 0
    published = [one for one in await doors.published() if one.frame_id.startswith("mixed~")]
    assert {one.frame_id for one in published} == accepted
    in_order = [one.seq for one in published if one.session == "vitals"]
    assert list(dict.fromkeys(in_order)) == sorted(set(in_order))


async def device_at_work(
    url: str, settings: Settings, watch: Credentials, folder: Path
) -> tuple[dict[str, int], set[str]]:
    """One whole device: vitals are sent as they come, waveforms that are refused wait in its book until later."""
    accepted: set[str] = set()
    with Ledger(folder / "mixed.book") as book:
        async with HttpDoors(url, settings.tls.ca_file) as https:
            client = DeviceClient(watch.device, https.door(watch), book, "mixed", give_up_after_s=90)
            for seq in range(12):
                verdicts = await client.send([ecg("ecg", seq, 20), vitals("vitals", seq)], defer_busy=True)
                assert isinstance(verdicts[1], Accepted)
                accepted |= {one.frame_id for one in verdicts if isinstance(one, Accepted)}
                await asyncio.sleep(1)
            waiting = book.counts()["sent"]
            assert waiting > 0, "no waveform was refused"
            await client.resend_unsettled()
            for entry in book.entries("accepted"):
                accepted.add(f"{watch.device}~{entry.session}~{entry.seq}")
            return book.counts(), accepted


PILE_MB, FETCHED_MB = 96, 80


async def pile_up(settings: Settings) -> None:
    """Put records on every partition of the live topic that nobody gets to process."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap, max_batch_size=1 << 20, linger_ms=20)
    await producer.start()
    try:
        topic, body = topics.named(topics.READINGS, settings.kafka), bytes(16_000)
        for start in range(0, PILE_MB * 1_000_000 // len(body), 500):
            sent = [
                await producer.send(topic, body, partition=i % settings.kafka.partitions)
                for i in range(start, start + 500)
            ]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


def test_without_its_database_the_processor_leaves_what_comes_in_kafka(stack: LiveStack, tmp_path: Path) -> None:
    base = migrated_settings(stack)
    port = free_port()
    ports = MetricsSettings(gateway_port=0, bridge_port=0, processor_port=port, api_port=0)
    settings = base.model_copy(update={"metrics": ports})

    def missing() -> set[str]:
        try:
            parts = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).json()["parts"]
        except httpx.HTTPError:
            return {"process"}
        return {name for name, part in parts.items() if not part["ready"]}

    try:
        with Process(settings, ["processor"], tmp_path / "processor.log") as processor:
            wait_until(lambda: not missing(), "the processor's readiness", 40)
            before_mb = memory_mb(processor.pid)
            stack.kill("postgres")
            try:
                asyncio.run(pile_up(settings))
                wait_until(lambda: {"database", "storing"} <= missing(), "its word on the database")
                most_mb = max(_sampled(processor, 8))
                assert processor.alive()
                assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
            finally:
                processor.kill()
                stack.start("postgres")
        print(f"{PILE_MB} MB wait, memory {before_mb:.0f} → {most_mb:.0f} MB")  # noqa: T201
        assert most_mb - before_mb < FETCHED_MB
    finally:
        drop_database(base)


def _sampled(process: Process, seconds: float) -> Iterator[float]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield memory_mb(process.pid)
        time.sleep(0.2)
