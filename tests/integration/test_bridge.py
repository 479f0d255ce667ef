"""The MQTT door on real parts: verdicts on the own topic, kept before acknowledged, foreign topics refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import numpy as np
import pytest
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from ingest.client import Credentials, DeviceClient, DoorClosed, NotDelivered, Unread
from ingest.clock import SystemClock, to_datetime
from ingest.doors import MqttDoor
from ingest.frame import FRAME_VERSION, Block, Frame, encode
from ingest.ledger import Ledger
from ingest.verdict import Accepted, Refused
from services import devices
from tests.faults.proxy import Proxy
from tests.fix_doors import Doors, Process, wait_until

pytestmark = pytest.mark.stack

MINUTE_MS = 60_000
NOT_AUTHORISED = 0x87


def now_ms() -> int:
    return SystemClock().now_ms()


def heart_rate(t0_ms: int) -> Block:
    return Block("heart_rate", "/min", t0_ms, 1_000_000, "f4", (70 + np.arange(60) % 7).astype("<f4").tobytes())


def door(doors: Doors, watch: Credentials) -> MqttDoor:
    mqtt = doors.settings.mqtt
    return MqttDoor(mqtt.host, mqtt.port, watch, mqtt.ca_file)


@asynccontextmanager
async def plain_client(doors: Doors, watch: Credentials) -> AsyncIterator[aiomqtt.Client]:
    """A device that knows nothing of our client: MQTT 3.1.1, JSON."""
    mqtt = doors.settings.mqtt
    context = ssl.create_default_context(cafile=mqtt.ca_file)
    async with aiomqtt.Client(
        mqtt.host, mqtt.port, username=watch.device, password=watch.token, tls_context=context
    ) as client:
        yield client


async def test_frames_get_their_verdicts_and_are_on_kafka(
    doors: Doors, bridge_process: Process, tmp_path: Path
) -> None:
    (watch,) = doors.enrol(("br1", "br-watch-1"))
    with Ledger(tmp_path / "book.db") as ledger:
        async with door(doors, watch) as way_in:
            client = DeviceClient(watch.device, way_in, ledger, "a")
            start = now_ms() - 3 * 3_600_000
            good = [client.frame([heart_rate(start + i * MINUTE_MS)], now_ms()) for i in range(120)]
            bad = client.frame([Block("spo2", "kg", now_ms(), 0, "f4", b"\x00\x00\xc0\x42")], now_ms())
            verdicts = await client.send([*good, bad])
            poison = await client.send_body(b"\xc1poison")
        counts = ledger.counts()
    assert [isinstance(verdict, Accepted) for verdict in verdicts] == [True] * 120 + [False]
    assert isinstance(poison[0], Refused)
    assert poison[0].field == "body"
    assert counts == {"sent": 0, "accepted": 120, "rejected": 2}
    published = [frame for frame in await doors.published() if frame.frame_id.startswith("br-watch-1~")]
    assert {frame.frame_id for frame in published} == {v.frame_id for v in verdicts if isinstance(v, Accepted)}


async def test_json_from_a_plain_client(doors: Doors, bridge_process: Process) -> None:
    (watch,) = doors.enrol(("br2", "br-watch-2"))
    block = {"metric": "heart_rate", "t0": now_ms(), "values": [72]}
    body = json.dumps({"frames": [{"session": "j", "seq": 1, "blocks": [block]}]})
    async with asyncio.timeout(20), plain_client(doors, watch) as client:
        await client.subscribe("keepwell/v1/br-watch-2/verdicts", qos=1)
        await client.publish("keepwell/v1/br-watch-2/frames", body, qos=1)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            (verdict,) = json.loads(message.payload)["frames"]
            break
    assert (verdict["verdict"], verdict["frame_id"]) == ("accepted", "br-watch-2~j~1")


async def test_the_broker_refuses_foreign_topics(doors: Doors, bridge_process: Process) -> None:
    one, two = doors.enrol(("br3", "br-watch-3"), ("br4", "br-watch-4"))
    codes = await asyncio.to_thread(
        _publish_codes, doors, one, [f"keepwell/v1/{two.device}/frames", f"keepwell/v1/{one.device}/frames"]
    )
    assert codes == [NOT_AUTHORISED, 0]
    async with plain_client(doors, two) as listener, plain_client(doors, one) as spy:
        await spy.subscribe(f"keepwell/v1/{two.device}/verdicts", qos=1)
        await listener.subscribe(f"keepwell/v1/{two.device}/verdicts", qos=1)
        await listener.publish(f"keepwell/v1/{two.device}/frames", b"{}", qos=1)
        async with asyncio.timeout(10):
            await anext(aiter(listener.messages))
        await asyncio.sleep(0.3)
        assert len(spy.messages) == 0


def _publish_codes(doors: Doors, watch: Credentials, targets: list[str]) -> list[int]:
    """Publish to each target with MQTT 5 and return the reason codes of the acknowledgements."""
    codes: dict[int, int] = {}

    def published(_client: Paho, _data: object, mid: int, code: ReasonCode, _properties: object) -> None:
        codes[mid] = int(code.value)

    mqtt = doors.settings.mqtt
    client = Paho(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.tls_set_context(ssl.create_default_context(cafile=mqtt.ca_file))
    client.username_pw_set(watch.device, watch.token)
    client.on_publish = published
    client.connect(mqtt.host, mqtt.port)
    client.loop_start()
    try:
        sent: list[MQTTMessageInfo] = [client.publish(topic, b"{}", qos=1) for topic in targets]
        wait_until(lambda: len(codes) == len(targets), "the acknowledgements")
    finally:
        client.disconnect()
        client.loop_stop()
    return [codes[one.mid] for one in sent]


async def test_a_connection_lost_before_the_acknowledgement_is_told_at_once(
    doors: Doors, bridge_process: Process
) -> None:
    (watch,) = doors.enrol(("p01", "watch-p01"))
    mqtt = doors.settings.mqtt
    body = b"\x91" + encode(Frame(FRAME_VERSION, "s", 0, now_ms(), 60, [heart_rate(now_ms() - 2 * MINUTE_MS)]))
    async with Proxy(mqtt.port) as way, MqttDoor(mqtt.host, way.port, watch, mqtt.ca_file) as device:
        assert await device.deliver(body)
        way.hold()
        sending = asyncio.create_task(device.deliver(body))
        await asyncio.sleep(0.5)
        way.reset()
        way.free()
        with pytest.raises(NotDelivered, match="the connection was lost"):
            async with asyncio.timeout(5):
                await sending
        assert await device.deliver(body)


async def test_a_revoked_device_is_turned_away(doors: Doors, bridge_process: Process) -> None:
    (watch,) = doors.enrol(("br5", "br-watch-5"))
    async with door(doors, watch) as way_in:
        await way_in.deliver(b"\x90")  # answered, so it is connected
        with doors.admin() as connection:
            devices.revoke(connection, watch.device, to_datetime(now_ms()))
        doors.tell_mqtt()
        with pytest.raises(DoorClosed, match="br-watch-5"):
            await _send_until_turned_away(way_in)


async def _send_until_turned_away(way_in: MqttDoor) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(NotDelivered, Unread):
                await way_in.deliver(b"\x90")
            await asyncio.sleep(0.1)


async def test_while_the_broker_is_away_waveforms_are_answered_busy_and_vitals_wait(
    doors: Doors, bridge_process: Process
) -> None:
    (watch,) = doors.enrol(("br6", "br-watch-6"))
    samples = np.zeros(900, "<i2").tobytes()
    ecg = Frame(
        FRAME_VERSION, "s", 1, now_ms(), 0, [Block("ecg", "mV", now_ms() - 4000, 4_000, "i2", samples, scale=0.01)]
    )
    vitals = Frame(FRAME_VERSION, "s", 2, now_ms(), 0, [heart_rate(now_ms() - MINUTE_MS)])
    async with asyncio.timeout(90), plain_client(doors, watch) as client:
        await client.subscribe(f"keepwell/v1/{watch.device}/verdicts", qos=1)
        await asyncio.to_thread(doors.stack.kill, "kafka")
        try:
            await client.publish(f"keepwell/v1/{watch.device}/frames", encode([ecg, vitals]), qos=1)
            await asyncio.sleep(13)  # longer than an acknowledgement is waited for
            assert len(client.messages) == 0  # nothing is promised, and nothing acknowledged
        finally:
            await asyncio.to_thread(doors.stack.start, "kafka")
        message = await anext(aiter(client.messages))
        assert isinstance(message.payload, bytes)
        busy, kept = json.loads(message.payload)["frames"]
        assert (busy["verdict"], busy["reason"], busy["seq"]) == ("busy", "broker", 1)
        assert busy["retry_after_s"] >= 1
        assert (kept["verdict"], kept["frame_id"]) == ("accepted", "br-watch-6~s~2")
    held = {one.frame_id for one in await doors.published() if one.frame_id.startswith("br-watch-6~")}
    assert "br-watch-6~s~2" in held  # the other may be there too: busy promises nothing, sent again it is a duplicate


@pytest.mark.slow
async def test_nothing_is_lost_when_broker_bridge_and_kafka_are_killed(
    doors: Doors, bridge_process: Process, tmp_path: Path
) -> None:
    watches = doors.enrol(*[(f"brk{i}", f"brk-watch-{i}") for i in range(4)])
    stop = asyncio.Event()
    start = now_ms() - 20 * 3_600_000

    async def keep_sending(watch: Credentials, ledger: Ledger) -> None:
        async with door(doors, watch) as way_in:
            client = DeviceClient(watch.device, way_in, ledger, "k", give_up_after_s=120)
            while not stop.is_set():
                first = start + client.next_seq * MINUTE_MS
                await client.send([client.frame([heart_rate(first + i * MINUTE_MS)], now_ms()) for i in range(5)])
                await asyncio.sleep(0.02)

    def restart_bridge() -> None:
        bridge_process.kill()
        before = bridge_process.log.read_text().count('"carrying"')
        bridge_process.start()
        wait_until(lambda: bridge_process.log.read_text().count('"carrying"') > before, "the bridge's restart")

    with Ledger(tmp_path / "book.db") as ledger:
        sending = [asyncio.create_task(keep_sending(watch, ledger)) for watch in watches]
        await asyncio.sleep(2)
        await asyncio.to_thread(restart_bridge)
        await asyncio.sleep(1)
        await asyncio.to_thread(doors.stack.kill, "mosquitto")
        await asyncio.to_thread(doors.stack.start, "mosquitto")
        await asyncio.sleep(3)
        await asyncio.to_thread(doors.stack.kill, "kafka")
        await asyncio.sleep(1)
        await asyncio.to_thread(doors.stack.start, "kafka")
        await asyncio.sleep(3)
        stop.set()
        await asyncio.gather(*sending)
        assert ledger.counts()["sent"] == 0
        accepted = {(e.device, e.session, e.seq) for e in ledger.entries("accepted")}
    assert len(accepted) > 100
    published = await doors.published()
    held = {(f.frame_id.split("~")[0], f.session, f.seq) for f in published if f.frame_id.startswith("brk-")}
    assert accepted - held == set()


def test_a_stopped_bridge_ends_well(bridge_process: Process) -> None:
    assert bridge_process.stop() == 0
    assert "Traceback" not in bridge_process.log.read_text()
