"""The MQTT door: frames on a device's own topic, acknowledged to the broker only after Kafka has them.

The MQTT broker authenticates the device and refuses foreign topics, so the topic's device is who sent it. A
PUBACK to the device says only that the MQTT broker holds the message; what counts is the verdict on the
device's own topic. A crash before the acknowledgement delivers the message again, and what is stored twice
is a duplicate.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiomqtt
import paho.mqtt.client as paho
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest import frame as wire
from ingest import metrics, parse
from ingest.assign import Device
from ingest.dead import DeadLetters, Unanswered
from ingest.devices import Devices, RegistryUnavailable
from ingest.frame import StampedFrame
from ingest.intake import Intake
from ingest.publish import BrokerUnavailable
from ingest.validate import Rejected, refuse
from ingest.verdict import Verdict, encode_verdicts, refused

TOPIC = "keepwell/v1/+/frames"
SESSION_KEPT_S = 7 * 86_400  # the MQTT broker keeps what comes meanwhile; a longer outage needs a person
TRIAL_KEPT_S = 600
IN_FLIGHT = 64  # messages the MQTT broker hands over before one is acknowledged
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 5.0
RECONNECT_S = 0.5
MAX_TOPIC = 200
REASONS = {"body": "undecodable", "device": "unknown_device"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Broker:
    """The MQTT broker and the bridge's own account there; ``identifier`` names its persistent session.

    ``trial``: a run that ends for good, whose session would otherwise collect other runs' messages for days.
    """

    host: str
    port: int
    user: str
    password: str
    ca_file: Path | None
    identifier: str = "keepwell-bridge"
    trial: bool = False


class _Judged(NamedTuple):
    message: aiomqtt.Message
    device: str
    verdicts: list[Verdict]
    stamped: list[StampedFrame]
    dead: Unanswered | None = None

    @property
    def size(self) -> int:
        return len(self.message.payload) if isinstance(self.message.payload, bytes) else 0


class Bridge:
    """Carries messages until it is cancelled; reconnects by itself.

    A message that is no frames, or of no device we know, is refused to whoever listens on its topic, and filed.
    """

    def __init__(self, broker: Broker, devices: Devices, intake: Intake, dead: DeadLetters) -> None:
        self._broker = broker
        self._devices = devices
        self._intake = intake
        self._dead = dead
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Subscribe and carry; every disconnection is followed by another try, for ever."""
        while True:
            try:
                async with self._client() as client:
                    try:
                        await self._carry(client)
                    except asyncio.CancelledError:
                        if self._broker.trial:
                            _paho(client).disconnect(properties=_expiring(PacketTypes.DISCONNECT, 0))
                        raise
            except aiomqtt.MqttError as error:
                log.warning("no MQTT broker", host=self._broker.host, port=self._broker.port, error=str(error))
            finally:
                self.connected.clear()
            await asyncio.sleep(RECONNECT_S)

    def _client(self) -> aiomqtt.Client:
        kept_s = TRIAL_KEPT_S if self._broker.trial else SESSION_KEPT_S
        properties = _expiring(PacketTypes.CONNECT, kept_s)
        properties.ReceiveMaximum = IN_FLIGHT
        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.user,
            password=self._broker.password,
            identifier=self._broker.identifier,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
            tls_context=ssl.create_default_context(cafile=self._broker.ca_file),
            max_queued_incoming_messages=2 * IN_FLIGHT,
            max_inflight_messages=IN_FLIGHT,
            timeout=10,
        )
        client.pending_calls_threshold = 2 * IN_FLIGHT
        _paho(client).manual_ack_set(True)
        return client

    async def _carry(self, client: aiomqtt.Client) -> None:
        granted = await client.subscribe(TOPIC, qos=1)
        log.info("carrying", topic=TOPIC, granted=str(granted))
        self.connected.set()
        messages = client.messages
        async for message in messages:
            batch = [message]
            while len(messages) and len(batch) < IN_FLIGHT:
                batch.append(await anext(messages))
            await self._carry_batch(client, batch)

    async def _carry_batch(self, client: aiomqtt.Client, batch: Sequence[aiomqtt.Message]) -> None:
        """Publish a batch, acknowledge it in the order received, answer its verdicts."""
        began = time.monotonic()
        in_flight = metrics.IN_FLIGHT.labels("mqtt")
        in_flight.set(len(batch))
        judged = await self._publish(await asyncio.gather(*(self._judge(message) for message in batch)))
        if letters := [one.dead for one in judged if one.dead is not None]:
            await self._dead.file(letters)
        for one in judged:
            code = _paho(client).ack(one.message.mid, one.message.qos)
            if code != paho.MQTT_ERR_SUCCESS:
                raise aiomqtt.MqttCodeError(code)
        await asyncio.gather(*(self._answer(client, one) for one in judged if one.device))
        in_flight.set(0)
        for one in judged:
            self._intake.count(one.verdicts, one.stamped, one.size)
            metrics.REQUESTS.labels("mqtt", "verdicts").inc()
            metrics.SECONDS.labels("mqtt").observe(time.monotonic() - began)

    async def _judge(self, message: aiomqtt.Message) -> _Judged:
        device_key = device_of(message.topic.value)
        try:
            verdicts, stamped = await self._read(device_key, message.payload)
        except Rejected as error:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            detail = f"{error.field} must be {error.allowed}: {error.hint}"
            dead = Unanswered(REASONS.get(error.field, "refused"), detail, device_key or message.topic.value, payload)
            return _Judged(message, device_key, [refused(error, None, None)], [], dead)
        return _Judged(message, device_key, verdicts, stamped)

    async def _read(self, device_key: str, payload: object) -> tuple[list[Verdict], list[StampedFrame]]:
        if not isinstance(payload, bytes) or len(payload) > wire.MAX_REQUEST_BYTES:
            refuse("body", None, f"{wire.MAX_REQUEST_BYTES} bytes", "send fewer frames in one message")
        device = await self._device(device_key)
        if device is None:
            refuse("device", device_key, "an enrolled device", "enrol it with `keepwell enrol`")
        form = parse.form_of(payload)
        try:
            raws = parse.split(payload, form)
        except (parse.Unreadable, parse.TooMany) as error:
            refuse("body", None, "1 to 100 frames", str(error))
        return self._intake.judge(raws, form, device)

    async def _device(self, key: str) -> Device | None:
        backoff = FIRST_BACKOFF_S
        while True:
            try:
                return await self._devices.by_key(key)
            except RegistryUnavailable as error:
                metrics.REGISTRY_FAILURES.inc()
                log.warning("devices cannot be looked up", error=str(error))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LAST_BACKOFF_S)

    async def _publish(self, judged: list[_Judged]) -> list[_Judged]:
        """Publish until the broker has acknowledged; meanwhile nothing is acknowledged to the MQTT broker.

        Where the broker does not take them at once, frames with waveforms are answered busy: they would hold the
        vitals up when it is back. What waits meanwhile is bounded by the MQTT broker's own queue.
        """
        backoff = FIRST_BACKOFF_S
        while True:
            frames = [frame for one in judged for frame in one.stamped]
            try:
                await self._intake.publish(frames)
            except BrokerUnavailable as error:
                judged = [self._without_waveforms(one) for one in judged]
                log.warning("frames not kept yet", frames=len(frames), error=str(error))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LAST_BACKOFF_S)
            else:
                return judged

    def _without_waveforms(self, one: _Judged) -> _Judged:
        verdicts, stamped = self._intake.without_waveforms(one.verdicts, one.stamped)
        return one._replace(verdicts=verdicts, stamped=stamped)

    async def _answer(self, client: aiomqtt.Client, one: _Judged) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        correlation = getattr(one.message.properties, "CorrelationData", None)
        if correlation is not None:
            properties.CorrelationData = correlation
        topic = f"keepwell/v1/{one.device}/verdicts"
        await client.publish(topic, encode_verdicts(one.verdicts), qos=1, properties=properties)


def device_of(topic: str) -> str:
    """Return the device's key in ``keepwell/v1/<device>/frames``, "" where it can be none."""
    parts = topic.split("/")
    key = parts[2] if len(parts) == 4 else ""
    return key if wire.NAME_PATTERN.fullmatch(key) else ""


def _expiring(packet: int, after_s: int) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = after_s
    return properties


def _paho(client: aiomqtt.Client) -> paho.Client:
    return client._client  # noqa: SLF001 - aiomqtt has no door of its own to manual acknowledgement
