"""``keepwell gateway`` and ``keepwell bridge``: the two doors devices come in by."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import structlog
import typer
import uvicorn

from ingest.bridge import Bridge, Broker
from ingest.dead import DeadTopic
from ingest.devices import DeviceRegistry
from ingest.gateway import Limits, create_gateway, door_checks
from ingest.health import Health, NotReady
from ingest.intake import Intake
from ingest.load import Budget, Load
from ingest.publish import KafkaPublisher
from services import topics
from services.ops import watched
from services.runtime import CIPHERS, api_base, clock_for, is_loopback, run, stop_requested
from services.settings import Settings, SettingsError, load

MQTT_UNAVAILABLE = "mqtt_unavailable"
GRACE_S = 15  # how long a stop waits for what is in flight

log = structlog.get_logger(__name__)


def register(app: typer.Typer) -> None:
    """Add the ``gateway`` and ``bridge`` commands."""

    @app.command()
    def gateway(
        host: str = typer.Option(None, help="address to listen on (setting gateway.host)"),
        port: int = typer.Option(None, help="port to listen on (setting gateway.port)"),
        insecure: bool = typer.Option(False, "--insecure", help="plain HTTP, on a loopback address only"),
    ) -> None:
        """Take frames over HTTPS and put them on Kafka.

        POST /v1/frames takes 1 to 100 frames as JSON or msgpack, gzipped or
        not, at most 1 MiB, from a device that shows its token. It answers 202
        with a verdict for each frame after Kafka has acknowledged them, and
        503 with Retry-After when it can't. `keepwell enrol --patient p20`
        prints a token and a curl line to try.

        SIGTERM finishes what is in flight and stops.
        """
        settings = load({"gateway.host": host, "gateway.port": port}).settings
        config = server_config(settings, insecure=insecure)
        run(lambda: serve_gateway(settings, config))

    @app.command()
    def bridge() -> None:
        """Take the same frames over MQTT and put them on Kafka.

        Reads keepwell/v1/DEVICE/frames (QoS 1, persistent session),
        acknowledges to the MQTT broker only after Kafka has the frames, and
        answers verdicts on keepwell/v1/DEVICE/verdicts. Only a verdict tells a
        device that a frame is kept.

        SIGTERM leaves what is unacknowledged to the next start.
        """
        settings = load().settings
        run(lambda: serve_bridge(settings))


def server_config(settings: Settings, *, insecure: bool) -> dict[str, Any]:
    """Return uvicorn's settings for the gateway.

    Raises:
        SettingsError: no certificate, and plain HTTP was not asked for or would leave this machine.
    """
    if insecure and not is_loopback(settings.gateway.host):
        msg = f"--insecure on {settings.gateway.host}: plain HTTP is for loopback only; give a certificate"
        raise SettingsError(msg)
    if not insecure and (settings.tls.cert_file is None or settings.tls.key_file is None):
        msg = "the gateway needs tls.cert_file and tls.key_file; `keepwell up` makes them for this machine"
        raise SettingsError(msg)
    return {
        "host": settings.gateway.host,
        "port": settings.gateway.port,
        "ssl_certfile": None if insecure else settings.tls.cert_file,
        "ssl_keyfile": None if insecure else settings.tls.key_file,
        "ssl_ciphers": CIPHERS,
    }


async def serve_gateway(settings: Settings, config: dict[str, Any]) -> None:
    """Run the gateway until it is told to stop."""
    chosen = settings.gateway
    limits = Limits(budget_of(settings), chosen.frames_per_second, chosen.burst)
    devices = DeviceRegistry(settings.postgres.conninfo("gateway"))
    publisher = publisher_for(settings)
    health = Health("gateway", door_checks(devices, publisher))
    async with clock_for(settings, horizon=True) as clock, watched(settings, health, ("door",)):
        app = create_gateway(devices, publisher, clock, limits, api_base(settings), health)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                **config,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=1024,
                limit_concurrency=4 * chosen.max_in_flight,  # connections; requests are bounded inside
                timeout_keep_alive=65,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        await devices.start()
        await publisher.start()
        stop_requested()  # uvicorn raises its stop signal again when it is done; this keeps it from killing us
        log.info("gateway", host=settings.gateway.host, port=settings.gateway.port)
        try:
            await server.serve()
        finally:
            await publisher.stop()
            await devices.stop()


async def serve_bridge(settings: Settings) -> None:
    """Run the bridge until it is told to stop."""
    mqtt = settings.mqtt
    if not mqtt.host:
        msg = "the bridge needs mqtt.host; `keepwell up` starts a broker and writes it down"
        raise SettingsError(msg)
    stop = stop_requested()
    devices = DeviceRegistry(settings.postgres.conninfo("gateway"))
    publisher = publisher_for(settings)
    dead = DeadTopic(settings.kafka.bootstrap, topics.named(topics.DEAD, settings.kafka))
    broker = Broker(
        mqtt.host,
        mqtt.port,
        mqtt.bridge_user,
        mqtt.bridge_password.get_secret_value(),
        mqtt.ca_file,
        f"keepwell-bridge-{settings.kafka.prefix}".strip("-."),
        trial=bool(settings.kafka.prefix),  # a prefix shares a broker for a while: a demo, a test
    )
    async with clock_for(settings, horizon=True) as clock:
        intake = Intake(publisher, clock, api_base(settings), Load("mqtt", budget_of(settings)))
        bridge = Bridge(broker, devices, intake, dead)

        async def mqtt_broker() -> None:
            if not bridge.connected.is_set():
                raise NotReady(MQTT_UNAVAILABLE, f"not connected to the MQTT broker at {mqtt.host}:{mqtt.port}")

        health = Health("bridge", {**door_checks(devices, publisher), "mqtt": mqtt_broker})
        await devices.start()
        await publisher.start()
        carrying = asyncio.create_task(bridge.run(), name="bridge")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            async with watched(settings, health, ("door",)):
                await asyncio.wait((carrying, stopping), return_when=asyncio.FIRST_COMPLETED)
            if carrying.done():
                await carrying
        finally:
            for task in (carrying, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await dead.stop()
            await publisher.stop()
            await devices.stop()


def budget_of(settings: Settings) -> Budget:
    """Return what one door may hold at once."""
    chosen = settings.gateway
    return Budget(chosen.max_waiting_mb << 20, chosen.max_waiting_frames, chosen.max_in_flight)


def publisher_for(settings: Settings) -> KafkaPublisher:
    """Return the publisher to ``readings.v1`` and ``backfill.v1``.

    Raises:
        SettingsError: no broker is named.
    """
    if not settings.kafka.bootstrap:
        msg = "no broker: set kafka.bootstrap, or start the local stack with `keepwell up`"
        raise SettingsError(msg)
    return KafkaPublisher(
        settings.kafka.bootstrap,
        topics.named(topics.READINGS, settings.kafka),
        topics.named(topics.BACKFILL, settings.kafka),
        settings.kafka.partitions,
        settings.processor.history_after_s * 1000,
    )
