"""Fixtures: a database and topics of this session's own, the real gateway and bridge, enrolled devices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import httpx
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from deploy.local import mosquitto
from ingest.client import Credentials
from ingest.clock import SystemClock, to_datetime
from ingest.frame import StampedFrame, decode_stamped
from services import devices, topics
from services.devices import Enrolment
from services.settings import Settings
from services.store.migrate import migrate_topics
from tests.databases import copy_database, drop_database
from tests.fix_stack import LiveStack

ORGANISATION = "tests"
START_S = 30.0


@dataclass
class Doors:
    """A migrated database with its topics, and the means to enrol and to look into Kafka."""

    stack: LiveStack
    settings: Settings

    def enrol(self, *pairs: tuple[str, str], since_days: float = 60) -> list[Credentials]:
        """Enrol (patient, device) pairs, over HTTP and MQTT, and return the devices' credentials."""
        now = to_datetime(SystemClock().now_ms())
        wanted = [Enrolment(patient, device, now - timedelta(days=since_days)) for patient, device in pairs]
        with self.admin() as connection:
            devices.create_organisation(connection, ORGANISATION, "Tests")
            done = devices.enrol_many(
                connection, ORGANISATION, wanted, now, partitions=self.settings.kafka.partitions, renew=True
            )
        self.tell_mqtt()
        return [Credentials(one.device, one.token or "") for one in done]

    def tell_mqtt(self) -> None:
        """Give the shared broker our devices' passwords beside those of other sessions."""
        with self.admin() as connection:
            ours = devices.mqtt_passwords(connection)
            known = {row[0] for row in connection.execute("SELECT key FROM device")}
        others = mosquitto.read_devices(_mosquitto_data(self.stack))
        mosquitto.write_passwords(
            self.stack.home, {key: line for key, line in others.items() if key not in known} | ours
        )

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection as the owner of the schema."""
        return psycopg.connect(self.settings.postgres.conninfo("admin"))

    async def published(self) -> list[StampedFrame]:
        """Everything on ``readings.v1`` and ``backfill.v1``, partition by partition."""
        names = [topics.named(topic, self.settings.kafka) for topic in (topics.READINGS, topics.BACKFILL)]
        partitions = [TopicPartition(name, i) for name in names for i in range(self.settings.kafka.partitions)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka.bootstrap, group_id=None, auto_offset_reset="earliest"
        )
        await consumer.start()
        frames: list[StampedFrame] = []
        try:
            consumer.assign(partitions)
            end = await consumer.end_offsets(partitions)
            async with asyncio.timeout(START_S):
                while any([await consumer.position(p) < end[p] for p in partitions]):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        frames += [decode_stamped(record.value) for record in records]
        finally:
            await consumer.stop()
        return frames


class Process:
    """One ``keepwell`` command, started and stopped like a real one; its log is kept for failures."""

    def __init__(self, settings: Settings, words: list[str], log: Path) -> None:
        self.settings = settings
        self._words = words
        self.env: dict[str, str] = {}  # beside the settings; looked at at each start
        self.log = log
        self._running: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive():
            self.kill()

    @property
    def pid(self) -> int:
        """The pid while it runs."""
        assert self._running is not None
        return self._running.pid

    def start(self) -> None:
        """Start it; does not wait until it is ready."""
        with self.log.open("ab") as out:
            argv = [sys.executable, "-m", "services.cli.main", *self._words]
            env = environment(self.settings) | self.env
            self._running = subprocess.Popen(argv, stdout=out, stderr=out, env=env)

    def kill(self) -> None:
        """``kill -9``."""
        assert self._running is not None
        self._running.kill()
        self._running.wait(10)

    def stop(self) -> int:
        """SIGTERM, and return the exit code."""
        assert self._running is not None
        self._running.terminate()
        return self._running.wait(30)

    def alive(self) -> bool:
        """Whether it runs."""
        return self._running is not None and self._running.poll() is None


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a ``keepwell`` process sees exactly these settings."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("KEEPWELL_")}
    env["KEEPWELL_CONFIG"] = os.devnull
    for section in type(settings).model_fields:
        for name, value in getattr(settings, section):
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            if plain is not None:
                text = json.dumps(plain) if isinstance(plain, (tuple, dict)) else str(plain)
                env[f"KEEPWELL_{section}__{name}".upper()] = text
    return env


def free_port() -> int:
    """Return a port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def migrated_settings(stack: LiveStack) -> Settings:
    """Return the stack's settings with a fresh database, topics of its own and free ports, migrated."""
    name = secrets.token_hex(4)
    base = stack.settings
    settings = base.model_copy(
        update={
            "kafka": base.kafka.model_copy(update={"prefix": f"t{name}."}),
            "postgres": base.postgres.model_copy(update={"database": f"kw_test_{name}"}),
            "gateway": base.gateway.model_copy(update={"port": free_port()}),
            "api": base.api.model_copy(update={"port": free_port()}),
        }
    )
    copy_database(settings.postgres)
    asyncio.run(migrate_topics(settings.kafka))
    return settings


async def drop_topics(settings: Settings) -> None:
    """Remove a test's topics: a broker that keeps those of hundreds of tests takes a minute to start again.

    Raises:
        KafkaError: the broker did not do it.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
        await admin.delete_topics([topics.named(name, settings.kafka) for name in topics.ALL], timeout_ms=10_000)
    finally:
        await admin.close()


def wait_until(check: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Poll ``check`` until it holds."""
    until = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > until:
            pytest.fail(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def migrated(stack: LiveStack) -> Iterator[Settings]:
    """Settings of a migrated database and topics of this session's own."""
    settings = migrated_settings(stack)
    yield settings
    drop_database(settings)


@pytest.fixture(scope="session")
def doors(stack: LiveStack, migrated: Settings) -> Doors:
    """The means to enrol devices and to read what was published."""
    return Doors(stack, migrated)


@pytest.fixture(scope="session")
def gateway_process(migrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The real gateway over TLS, ready."""
    url = f"https://127.0.0.1:{migrated.gateway.port}"
    with Process(migrated, ["gateway"], tmp_path_factory.mktemp("logs") / "gateway.log") as process:
        wait_until(lambda: is_ready(url, migrated) or not process.alive(), "the gateway's readiness")
        assert process.alive(), process.log.read_text()
        yield process


@pytest.fixture(scope="session")
def gateway_url(gateway_process: Process, migrated: Settings) -> str:
    """The address of the real gateway."""
    assert gateway_process.alive()
    return f"https://127.0.0.1:{migrated.gateway.port}"


@pytest.fixture(scope="module")  # a bridge that stays would answer other tests' devices on the shared broker
def bridge_process(migrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The real bridge, subscribed."""
    with Process(migrated, ["bridge"], tmp_path_factory.mktemp("logs") / "bridge.log") as process:
        wait_until(lambda: '"carrying"' in process.log.read_text() or not process.alive(), "the bridge's start")
        assert process.alive(), process.log.read_text()
        yield process


def is_ready(url: str, settings: Settings) -> bool:
    """Whether a process answers ``/readyz`` with 200."""
    with contextlib.suppress(httpx.HTTPError):
        context = ssl.create_default_context(cafile=settings.tls.ca_file)
        return httpx.get(f"{url}/readyz", verify=context, trust_env=False).status_code == 200
    return False


def _mosquitto_data(stack: LiveStack) -> Path:
    from deploy.local import paths, user

    return paths.home(stack.home, user.choose()).data("mosquitto")
