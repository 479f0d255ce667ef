"""A blocking MQTT 5 client, to see which reason code the broker gives each publish."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from services.settings import Settings

SUCCESS, NO_MATCHING_SUBSCRIBERS, NOT_AUTHORIZED = 0, 16, 135


class MqttClient:
    """A blocking MQTT 5 client that tells each publish's reason code."""

    def __init__(self, settings: Settings, user: str | None, password: str | None, session: int = 0) -> None:
        self.received: queue.Queue[bytes] = queue.Queue()
        self.disconnected = threading.Event()
        self._answers: queue.Queue[int] = queue.Queue()
        self._connected: queue.Queue[int] = queue.Queue()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"test-{user}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.username_pw_set(user, password) if user else None
        self._client.tls_set(ca_certs=str(settings.mqtt.ca_file))
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_publish_list
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session
        self._client.connect(settings.mqtt.host, settings.mqtt.port, clean_start=session == 0, properties=properties)
        self._client.loop_start()
        code = self._connected.get(timeout=5)
        if code != SUCCESS:
            self.close()
            msg = f"refused with {code}"
            raise ConnectionRefusedError(msg)

    def publish(self, topic: str, payload: bytes = b"x") -> int:
        self.send(topic, payload)
        return self._answers.get(timeout=5)

    def send(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1)

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)
        self._answers.get(timeout=5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, _c: object, _u: object, _f: object, code: ReasonCode, _p: object) -> None:
        self._connected.put(code.value)

    def _on_publish(self, _c: object, _u: object, _mid: int, code: ReasonCode, _p: object) -> None:
        self._answers.put(code.value)

    def _on_publish_list(self, _c: object, _u: object, _mid: int, codes: list[ReasonCode], _p: object) -> None:
        self._answers.put(codes[0].value)

    def _on_message(self, _c: object, _u: object, message: mqtt.MQTTMessage) -> None:
        self.received.put(bytes(message.payload))

    def _on_disconnect(self, _c: object, _u: object, _f: object, _code: ReasonCode, _p: object) -> None:
        self.disconnected.set()


@contextmanager
def mqtt_client(settings: Settings, user: str | None, password: str | None, session: int = 0) -> Iterator[MqttClient]:
    client = MqttClient(settings, user, password, session)
    try:
        yield client
    finally:
        client.close()
