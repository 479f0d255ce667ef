"""The two ways from a device to Keepwell: HTTPS requests, and messages on the device's own MQTT topic."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

import aiomqtt
import httpx
import msgspec
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest import frame as wire
from ingest.client import Credentials, DoorClosed, NotDelivered, Unread
from ingest.verdict import Verdict, decode_verdicts

TIMEOUT_S = 20.0
CONNECT_S = 5.0  # aiomqtt does not notice that a connection is lost before the broker's answer: this ends the wait
RECONNECT_S = 0.5
BAD_PASSWORD, NOT_AUTHORISED = 0x86, 0x87  # MQTT 5 reason codes
MAX_REFUSALS = 6
TOPIC_FRAMES = "keepwell/v1/{device}/frames"
TOPIC_VERDICTS = "keepwell/v1/{device}/verdicts"


class HttpDoors:
    """HTTPS to one gateway, shared by many devices: ``async with HttpDoors(url, ca) as doors``.

    ``zipped`` compresses bodies; ``connections`` bounds the requests at once.
    """

    def __init__(self, url: str, ca_file: Path | None = None, *, zipped: bool = False, connections: int = 16) -> None:
        verify: ssl.SSLContext | bool = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
        self._client = httpx.AsyncClient(
            base_url=url,
            verify=verify,
            timeout=httpx.Timeout(TIMEOUT_S, pool=10 * TIMEOUT_S),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=False,
        )
        self._zipped = zipped

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def door(self, credentials: Credentials) -> HttpDoor:
        """Return one device's way in."""
        return HttpDoor(self._client, credentials, zipped=self._zipped)


class HttpDoor:
    """One device over HTTPS."""

    def __init__(self, client: httpx.AsyncClient, credentials: Credentials, *, zipped: bool) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {credentials.token}", "Content-Type": wire.CONTENT_TYPE}
        self._zipped = zipped
        if zipped:
            self._headers["Content-Encoding"] = "gzip"

    async def deliver(self, body: bytes) -> list[Verdict]:
        """Post the body; see `ingest.client.Door`."""
        content = gzip.compress(body, 1) if self._zipped else body
        try:
            answer = await self._client.post("/v1/frames", content=content, headers=self._headers)
        except httpx.HTTPError as error:
            msg = f"no answer: {error!r}"
            raise NotDelivered(msg) from error
        if answer.status_code in (202, 422):
            try:
                return decode_verdicts(answer.content)
            except msgspec.DecodeError as error:
                raise Unread(answer.text) from error
        if answer.status_code == 503:
            with contextlib.suppress(msgspec.DecodeError):  # an overloaded door that read them says it frame by frame
                return decode_verdicts(answer.content)
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            after = answer.headers.get("retry-after", "")
            raise NotDelivered(answer.text, float(after) if after.isdigit() else None)
        raise DoorClosed(answer.text)


class MqttDoor:
    """One device over MQTT 5: publishes on its own topic, and the verdict on its own topic is what counts.

    ``async with MqttDoor(...) as door``; it connects by itself, and again whenever the broker was away.
    """

    def __init__(self, host: str, port: int, credentials: Credentials, ca_file: Path | None) -> None:
        self._host = host
        self._port = port
        self._credentials = credentials
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._client: aiomqtt.Client | None = None
        self._connected = asyncio.Event()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._refused: str | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"mqtt {self._credentials.device}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def deliver(self, body: bytes) -> list[Verdict]:
        """Publish the body and wait for its verdicts; see `ingest.client.Door`."""
        correlation = os.urandom(8)  # an answer to an earlier run must not be taken for ours
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # may have no reader
        self._waiting[correlation] = answer
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._connected.wait()
                if self._client is None:
                    raise DoorClosed(self._refused)
                return _verdicts(await self._answer_to(self._client, body, correlation, answer))
        except (TimeoutError, aiomqtt.MqttError) as error:
            msg = f"no verdict: {error!r}"
            raise NotDelivered(msg) from error
        finally:
            del self._waiting[correlation]

    async def _answer_to(
        self, client: aiomqtt.Client, body: bytes, correlation: bytes, answer: asyncio.Future[bytes]
    ) -> bytes:
        topic, properties = TOPIC_FRAMES.format(device=self._credentials.device), _correlated(correlation)
        publishing = asyncio.create_task(client.publish(topic, body, qos=1, properties=properties, timeout=TIMEOUT_S))
        try:  # of a lost connection only the answer is told: the broker's acknowledgement is waited for in vain
            await asyncio.wait((publishing, answer), return_when=asyncio.FIRST_COMPLETED)
            if publishing.done():
                publishing.result()
            return await answer
        finally:
            publishing.cancel()

    async def _keep_connected(self) -> None:
        device, token = self._credentials
        refusals = 0
        while True:
            client = aiomqtt.Client(
                self._host,
                self._port,
                username=device,
                password=token,
                identifier=f"device-{device}",
                protocol=aiomqtt.ProtocolVersion.V5,
                clean_start=True,
                tls_context=self._tls,
                timeout=CONNECT_S,
            )
            try:
                async with client:
                    await client.subscribe(TOPIC_VERDICTS.format(device=device), qos=1)
                    self._client = client
                    self._connected.set()
                    async for message in client.messages:
                        self._answered(message)
            except MqttConnectError as error:
                refusals += 1  # the broker may be about to read a new password file
                if refusals >= MAX_REFUSALS and getattr(error.rc, "value", 0) in (
                    BAD_PASSWORD,
                    NOT_AUTHORISED,
                ):
                    self._refused = f"the MQTT broker refuses {device}: {error}"
                    self._client = None
                    self._connected.set()
                    return
            except aiomqtt.MqttError:
                refusals = 0
            self._connected.clear()
            self._fail_waiting()
            await asyncio.sleep(RECONNECT_S)

    def _fail_waiting(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(aiomqtt.MqttError("the connection was lost"))

    def _answered(self, message: aiomqtt.Message) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"")
        waiting = self._waiting.get(correlation)
        if waiting is not None and not waiting.done() and isinstance(message.payload, bytes):
            waiting.set_result(message.payload)


def _verdicts(answer: bytes) -> list[Verdict]:
    try:
        return decode_verdicts(answer)
    except msgspec.DecodeError as error:
        raise Unread(answer.decode("utf-8", "replace")) from error


def _correlated(correlation: bytes) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.CorrelationData = correlation
    return properties
