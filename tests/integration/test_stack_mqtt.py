"""The local stack's broker: who may say what to whom over MQTT."""

from __future__ import annotations

import time

import pytest

from deploy.local.mosquitto import write_passwords
from deploy.local.stack import Stack
from ingest.mqtt_password import password_hash
from tests.fix_stack import settings_of
from tests.mqtt_client import NO_MATCHING_SUBSCRIBERS, NOT_AUTHORIZED, SUCCESS, mqtt_client

pytestmark = pytest.mark.stack


def test_broker_refuses_foreign_topics(whole: Stack) -> None:
    settings = settings_of(whole.home.path)
    write_passwords(whole.home.path, {"watch-1": password_hash("one"), "watch-2": password_hash("two")})
    with mqtt_client(settings, "watch-1", "one") as device:
        assert device.publish("keepwell/v1/watch-1/frames") in (SUCCESS, NO_MATCHING_SUBSCRIBERS)
        for foreign in (
            "keepwell/v1/watch-2/frames",
            "keepwell/v1/watch-1/verdicts",
            "keepwell/probe",
            "other",
        ):
            assert device.publish(foreign) == NOT_AUTHORIZED
    with mqtt_client(settings, "bridge", settings.mqtt.bridge_password.get_secret_value()) as bridge:
        assert bridge.publish("keepwell/v1/watch-1/verdicts") in (SUCCESS, NO_MATCHING_SUBSCRIBERS)
        assert bridge.publish("keepwell/v1/watch-1/frames") == NOT_AUTHORIZED


def test_device_reads_its_own_verdicts_only(whole: Stack) -> None:
    settings = settings_of(whole.home.path)
    write_passwords(whole.home.path, {"watch-1": password_hash("one"), "watch-2": password_hash("two")})
    secret = settings.mqtt.bridge_password.get_secret_value()
    with (
        mqtt_client(settings, "watch-1", "one") as own,
        mqtt_client(settings, "watch-2", "two") as other,
        mqtt_client(settings, "bridge", secret) as bridge,
    ):
        own.subscribe("keepwell/v1/watch-1/verdicts")
        other.subscribe("keepwell/v1/+/verdicts")
        bridge.publish("keepwell/v1/watch-1/verdicts", b"for one")
        bridge.publish("keepwell/v1/watch-2/verdicts", b"for two")
        assert own.received.get(timeout=5) == b"for one"
        assert other.received.get(timeout=5) == b"for two"
        time.sleep(0.2)
        assert own.received.empty()
        assert other.received.empty()


def test_strangers_and_revoked_devices_are_refused(whole: Stack) -> None:
    settings = settings_of(whole.home.path)
    write_passwords(whole.home.path, {"watch-1": password_hash("one")})
    for user, password in ((None, None), ("watch-1", "wrong"), ("nobody", "one")):
        with pytest.raises(ConnectionRefusedError), mqtt_client(settings, user, password):
            pass
    with mqtt_client(settings, "watch-1", "one") as device:
        write_passwords(whole.home.path, {})
        assert device.disconnected.wait(1)
    with pytest.raises(ConnectionRefusedError), mqtt_client(settings, "watch-1", "one"):
        pass


def test_too_large_message_ends_the_connection(whole: Stack) -> None:
    settings = settings_of(whole.home.path)
    write_passwords(whole.home.path, {"watch-1": password_hash("one")})
    with mqtt_client(settings, "watch-1", "one") as device:
        assert device.publish("keepwell/v1/watch-1/frames", bytes(900_000)) in (
            SUCCESS,
            NO_MATCHING_SUBSCRIBERS,
        )
        device.send("keepwell/v1/watch-1/frames", bytes(1_200_000))
        assert device.disconnected.wait(5)
