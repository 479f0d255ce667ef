"""Every process says how it is, on real parts: what is missing is named, comes back by itself, and is counted."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingest.client import Credentials, DeviceClient
from ingest.clock import SystemClock
from ingest.doors import HttpDoors
from ingest.frame import Block, Frame
from ingest.ledger import Ledger
from ingest.verdict import Accepted
from services import metrics
from services.settings import Settings
from services.settings_sections import MetricsSettings
from tests.databases import drop_database
from tests.fix_doors import Doors, Process, environment, free_port, migrated_settings, wait_until
from tests.fix_stack import LiveStack

pytestmark = pytest.mark.stack

NAME = "Zephyrine Quillfeather"
VALUE = 61.34375  # nobody else's, and exact in float32
PROCESSES = ("gateway", "bridge", "processor", "api")


class Site:
    """The four processes of a small installation, each with a metrics port of its own."""

    def __init__(self, stack: LiveStack, folder: Path) -> None:
        ports = {f"{name}_port": free_port() for name in PROCESSES}
        self.stack = stack
        self.settings = migrated_settings(stack).model_copy(update={"metrics": MetricsSettings(**ports)})
        self.doors = Doors(stack, self.settings)
        self.watch = self.doors.enrol(("zq", "watch-zq"))[0]
        with self.doors.admin() as connection:
            connection.execute("UPDATE patient SET name = %s", [NAME])
        self.processes = {name: Process(self.settings, [name], folder / f"{name}.log") for name in PROCESSES}

    def ask(self, name: str, path: str) -> httpx.Response:
        port = getattr(self.settings.metrics, f"{name}_port")
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)

    def parts(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.ask(name, "/readyz").json()["parts"]
        except httpx.HTTPError:
            return {}
        return found

    def ready(self, name: str) -> bool:
        parts = self.parts(name)
        return bool(parts) and all(part["ready"] for part in parts.values())

    def lacks(self, name: str, part: str, code: str) -> bool:
        found = self.parts(name).get(part, {})
        return not found.get("ready", True) and found["code"] == code

    def value(self, name: str, metric: str, **labels: str) -> float:
        total = 0.0
        for family in text_string_to_metric_families(self.ask(name, "/metrics").text):
            for sample in family.samples:
                if sample.name == metric and labels.items() <= sample.labels.items():
                    total += sample.value
        return total


@pytest.fixture(scope="module")
def site(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(stack, tmp_path_factory.mktemp("site"))
    for process in site.processes.values():
        process.start()
    try:
        for name in PROCESSES:
            wait_until(lambda name=name: site.ready(name), f"{name} ready: {site.parts(name)}", 60)  # type: ignore[misc]
        yield site
    finally:
        for process in site.processes.values():
            if process.alive():
                process.kill()
        drop_database(site.settings)


def frames(client: DeviceClient, n: int, back_min: int = 30) -> list[Frame]:
    now = SystemClock().now_ms()
    values = np.full(60, VALUE, "<f4").tobytes()
    return [
        client.frame([Block("heart_rate", "/min", now - back_min * 60_000 + i * 60_000, 1_000_000, "f4", values)], now)
        for i in range(n)
    ]


async def send(site: Site, watch: Credentials, session: str, folder: Path, n: int = 5) -> int:
    with Ledger(folder / f"{session}.book") as ledger:
        async with HttpDoors(f"https://127.0.0.1:{site.settings.gateway.port}", site.settings.tls.ca_file) as https:
            client = DeviceClient(watch.device, https.door(watch), ledger, session, give_up_after_s=90)
            verdicts = await client.send(frames(client, n))
    return sum(isinstance(verdict, Accepted) for verdict in verdicts)


def test_each_process_answers_for_itself(site: Site) -> None:
    for name in PROCESSES:
        alive = site.ask(name, "/healthz")
        assert (alive.status_code, alive.json()["status"], alive.json()["process"]) == (200, "alive", name)
        assert alive.json()["pid"] == site.processes[name].pid
    assert site.parts("processor").keys() == {
        "broker", "database", "storing", "partitions", "caught_up", "outbox", "disk",
    }  # fmt: skip
    assert site.parts("processor")["partitions"]["owned"] == site.settings.kafka.partitions
    assert site.parts("bridge").keys() == {"broker", "registry", "mqtt"}


def test_the_command_asks_them_all(site: Site) -> None:
    command = [sys.executable, "-m", "services.cli.main", "health"]
    env = {**environment(site.settings), "COLUMNS": "300"}
    done = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, timeout=30, check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["well"], told["absent"]) == (0, True, []), told
    assert sorted(one["process"] for one in told["processes"]) == sorted(PROCESSES)
    shown = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False).stdout
    assert shown.count("ready") == len(PROCESSES)
    elsewhere = {**env, "KEEPWELL_POSTGRES__DATABASE": "another"}
    other = subprocess.run([*command, "--json"], env=elsewhere, capture_output=True, text=True, timeout=30, check=False)
    assert other.returncode == 1  # another installation on the same machine: these processes are not its own
    assert sorted(json.loads(other.stdout)["absent"]) == sorted(PROCESSES)


def test_what_was_sent_is_counted_at_each_station(site: Site, tmp_path: Path) -> None:
    before = {fate: site.value("processor", "keepwell_processor_readings_total", fate=fate) for fate in ("stored",)}
    readings = site.value("gateway", "keepwell_door_readings_total")
    assert asyncio.run(send(site, site.watch, "counted", tmp_path)) == 5
    assert site.value("gateway", "keepwell_door_readings_total") - readings == 300
    wait_until(
        lambda: site.value("processor", "keepwell_processor_readings_total", fate="stored") - before["stored"] == 300,
        "300 readings counted as stored",
    )
    wait_until(lambda: site.value("processor", "keepwell_processor_behind_records") == 0, "caught up")
    assert site.value("processor", "keepwell_processor_partitions") == site.settings.kafka.partitions
    assert site.value("processor", "keepwell_processor_epoch", partition="0") >= 1
    assert site.value("processor", "keepwell_processor_batch_seconds_count") > 0
    assert site.value("processor", "keepwell_processor_patients", state="all") >= 0
    assert site.value("processor", "keepwell_kafka_retention_seconds", topic="readings.v1") > 3600
    assert site.value("gateway", "keepwell_publish_seconds_count") > 0
    assert site.value("gateway", "process_resident_memory_bytes") > 1e6
    token = {"Authorization": "Bearer nobody"}
    base = f"http://127.0.0.1:{site.settings.api.port}"
    assert httpx.get(f"{base}/v1/patients/zq", headers=token, trust_env=False).status_code == 401
    routes = {
        sample.labels["route"]
        for family in text_string_to_metric_families(site.ask("api", "/metrics").text)
        for sample in family.samples
        if sample.name == "keepwell_api_requests_total"
    }
    assert any("{" in route for route in routes), routes
    assert not any("zq" in route for route in routes)


def test_every_metric_of_the_list_is_exposed_by_its_process(site: Site) -> None:
    of_part = {"door": "gateway", "processor": "processor", "api": "api", "process": "bridge"}
    for one in metrics.ALL:
        assert f"# TYPE {one.name.removesuffix('_total')}" in site.ask(of_part[one.part], "/metrics").text, one.name


def test_a_database_that_is_gone_is_named_and_everything_comes_back(site: Site, tmp_path: Path) -> None:
    site.stack.kill("postgres")
    try:
        wait_until(lambda: site.lacks("processor", "database", "database_unavailable"), "the processor's word")
        wait_until(lambda: site.lacks("gateway", "registry", "registry_unavailable"), "the gateway's word")
        wait_until(lambda: site.lacks("api", "database", "database_unavailable"), "the API's word")
        assert all(site.ask(name, "/healthz").status_code == 200 for name in PROCESSES)
        assert site.ask("processor", "/readyz").status_code == 503
    finally:
        site.stack.start("postgres")
    for name in PROCESSES:
        wait_until(lambda name=name: site.ready(name), f"{name} ready again", 60)  # type: ignore[misc]
    assert asyncio.run(send(site, site.watch, "after-database", tmp_path)) == 5


def test_a_broker_that_is_gone_is_named_and_everything_comes_back(site: Site, tmp_path: Path) -> None:
    site.stack.kill("kafka")
    try:
        # records that were sent meanwhile are refused before any promise
        answer = asyncio.run(refused(site))
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        wait_until(lambda: site.lacks("processor", "broker", "broker_unavailable"), "the processor's word", 60)
    finally:
        site.stack.start("kafka")
    for name in PROCESSES:
        wait_until(lambda name=name: site.ready(name), f"{name} ready again", 90)  # type: ignore[misc]
    assert asyncio.run(send(site, site.watch, "after-broker", tmp_path)) == 5


async def refused(site: Site) -> httpx.Response:
    url = f"https://127.0.0.1:{site.settings.gateway.port}"
    async with HttpDoors(url, site.settings.tls.ca_file) as https:
        door = https.door(site.watch)
        body = {"frames": [{"session": "r", "seq": 1, "status": {"worn": True}}]}
        return await door._client.post(
            "/v1/frames", json=body, headers={"Authorization": f"Bearer {site.watch.token}"}, timeout=40
        )


def test_logs_are_json_and_tell_nothing_of_people(site: Site, tmp_path: Path) -> None:
    """After all that trouble: no name, no token, no password, no reading in any log, one JSON object a line."""
    asyncio.run(send(site, site.watch, "logged", tmp_path))
    base = f"http://127.0.0.1:{site.settings.api.port}"
    for path in ("/v1/patients/zq", "/login?token=" + site.watch.token, "/v1/patients/zq/readings?from=x%0d%0ay"):
        httpx.get(base + path, headers={"Authorization": f"Bearer {site.watch.token}"}, trust_env=False)
    postgres = site.settings.postgres
    secrets = [
        site.watch.token, NAME, "Quillfeather", str(VALUE), "61.34",
        *(getattr(postgres, f"{role}_password").get_secret_value() for role in ("admin", "writer", "api", "gateway")),
        site.settings.mqtt.bridge_password.get_secret_value(),
    ]  # fmt: skip
    for name, process in site.processes.items():
        text = process.log.read_text()
        assert "\x1b" not in text
        lines = text.splitlines()
        assert lines, name
        for line in lines:
            entry = json.loads(line)
            assert {"event", "level", "timestamp"} <= entry.keys(), line
        for secret in secrets:
            assert secret not in text, (name, secret)


def test_a_log_that_cannot_be_written_stops_nothing(stack: LiveStack, site: Site, tmp_path: Path) -> None:
    ports = MetricsSettings(gateway_port=free_port(), bridge_port=0, processor_port=0, api_port=0)
    gateway = site.settings.gateway.model_copy(update={"port": free_port()})
    settings = site.settings.model_copy(update={"metrics": ports, "gateway": gateway})
    with Process(settings, ["gateway"], Path("/dev/full")) as process:
        url = f"http://127.0.0.1:{ports.gateway_port}"

        def ready() -> bool:
            try:
                return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(lambda: ready() or not process.alive(), "a gateway with a full log disk", 40)
        assert process.alive()
        lost = re.search(
            r"^keepwell_log_lines_lost_total (\S+)", httpx.get(f"{url}/metrics", trust_env=False).text, re.M
        )
        assert lost is not None
        assert float(lost[1]) > 0
        assert asyncio.run(send_to(settings, site.watch, tmp_path)) == 2


async def send_to(settings: Settings, watch: Credentials, folder: Path) -> int:
    with Ledger(folder / "full.book") as ledger:
        async with HttpDoors(f"https://127.0.0.1:{settings.gateway.port}", settings.tls.ca_file) as https:
            client = DeviceClient(watch.device, https.door(watch), ledger, f"full-{time.monotonic_ns()}")
            return sum(isinstance(verdict, Accepted) for verdict in await client.send(frames(client, 2)))
