"""Which servers are used, and why: those named in the settings, unpacked packages, or docker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiomqtt
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.local import debian, docker, postgres
from deploy.local.errors import Report, StackError, silent
from deploy.local.server import NotReadyError
from deploy.local.stack import SERVERS, Stack
from services.settings import Loaded, Settings

KEYS = {"kafka": "kafka.bootstrap", "postgres": "postgres.host", "mosquitto": "mqtt.host"}
CHECK_S = 10.0


@dataclass(frozen=True)
class Choice:
    """How one server is provided, and why."""

    server: str
    how: Literal["named", "unpacked", "docker"]
    why: str


def decide(loaded: Loaded) -> list[Choice]:
    """Return the choice for each server.

    Raises:
        StackError: a server is not named, this is not Debian and docker does not answer.
    """
    choices = [_named(server, loaded) for server in SERVERS]
    if all(choices):
        return [choice for choice in choices if choice]
    how: Literal["unpacked", "docker"]
    system = debian.os_release().get("PRETTY_NAME", "this system")
    if debian.is_debian():
        how, why = (
            "unpacked",
            f"{system}: its packages are unpacked into a folder of their own, docker is not needed",
        )
    elif docker.answers():
        how, why = "docker", f"{system} is not Debian and docker answers: deploy/compose.yaml is used"
    else:
        msg = (
            f"{system} is not Debian and docker (with compose) does not answer; install docker, or name "
            f"your own servers in keepwell.toml: {', '.join(KEYS.values())}"
        )
        raise StackError(msg)
    return [choice or Choice(server, how, why) for server, choice in zip(SERVERS, choices, strict=True)]


def _named(server: str, loaded: Loaded) -> Choice | None:
    key = KEYS[server]
    origin = loaded.origin[key]
    section, name = key.split(".")
    value = getattr(getattr(loaded.settings, section), name)
    if not value or origin == "default" or Path(origin).name == "stack.toml":
        return None
    return Choice(server, "named", f"{key} = {value} in {origin}: used as it is, only checked")


def open_stack(loaded: Loaded, report: Report = silent) -> tuple[Stack, list[Choice]]:
    """Return the stack the settings describe (home, base port, servers) and the choices behind it.

    Raises:
        StackError: see `decide`.
    """
    choices = decide(loaded)
    own = [choice.server for choice in choices if choice.how != "named"]
    kind = docker.ComposeStack if any(choice.how == "docker" for choice in choices) else Stack
    told = loaded.origin["stack.base_port"] != "default"
    base = loaded.settings.stack.base_port if told else None
    return kind(loaded.settings.stack.home, base, own, report), choices


def check_named(settings: Settings, server: str) -> str:
    """Ask a named server whether it is there and fit; return what it said.

    Raises:
        StackError: it does not answer, or lacks something; the text says what.
    """
    try:
        return asyncio.run(asyncio.wait_for(_CHECKS[server](settings), CHECK_S))
    except (NotReadyError, OSError, TimeoutError, KafkaError, aiomqtt.MqttError) as error:
        msg = f"{server} named by {KEYS[server]} does not answer ({error or 'too slow'}); check the address"
        raise StackError(msg) from error


async def _check_kafka(settings: Settings) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap, request_timeout_ms=5000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        return f"{len(cluster['brokers'])} broker(s) answer at {settings.kafka.bootstrap}"
    finally:
        await admin.close()


async def _check_postgres(settings: Settings) -> str:
    await postgres.probe(settings.postgres.conninfo("admin"))
    return f"TimescaleDB answers at {settings.postgres.host}:{settings.postgres.port}"


async def _check_mosquitto(settings: Settings) -> str:
    mqtt = settings.mqtt
    tls = aiomqtt.TLSParameters(ca_certs=str(mqtt.ca_file)) if mqtt.ca_file else None
    async with aiomqtt.Client(
        mqtt.host, mqtt.port, username=mqtt.bridge_user, password=mqtt.bridge_password.get_secret_value(),
        protocol=aiomqtt.ProtocolVersion.V5, tls_params=tls,
    ):  # fmt: skip
        return f"the broker lets {mqtt.bridge_user} in at {mqtt.host}:{mqtt.port}"


_CHECKS = {"kafka": _check_kafka, "postgres": _check_postgres, "mosquitto": _check_mosquitto}
