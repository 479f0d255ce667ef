"""Health says which part is missing and when the loop is stuck, and is served from a thread while it is."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
from prometheus_client import generate_latest

from ingest.health import Health, NotReady
from ingest.problems import BROKER_UNAVAILABLE
from services import metrics
from services.ops import OpsServer, _listen
from services.settings import Settings
from services.settings_sections import MetricsSettings
from tests.fix_doors import free_port


async def fine() -> dict[str, Any]:
    return {"revision": "7"}


async def away() -> None:
    raise NotReady(BROKER_UNAVAILABLE, "no broker is connected")


async def broken() -> None:
    raise ZeroDivisionError


def test_nothing_is_ready_before_it_was_looked_at() -> None:
    ready, document = Health("x", {"a": fine}).ready()
    assert not ready
    assert document["parts"]["a"]["code"] == "not_checked"


def test_each_part_says_what_it_lacks() -> None:
    health = Health("x", {"a": fine, "broker": away, "c": broken})
    asyncio.run(health.look())
    ready, document = health.ready()
    assert not ready
    assert document["parts"]["a"] == {"ready": True, "revision": "7"}
    assert document["parts"]["broker"]["code"] == "broker_unavailable"
    assert document["parts"]["c"] == {"ready": False, "code": "check_failed", "detail": "ZeroDivisionError"}
    assert health.part_ready("a")
    assert not health.part_ready("a", "broker")


def test_a_loop_that_does_not_turn_is_not_alive() -> None:
    now = 100.0
    health = Health("x", {}, lambda: now)
    assert health.alive()[0]
    now += 6
    assert not health.alive()[0]
    assert health.alive()[1]["code"] == "loop_stalled"
    assert health.ready()[1]["parts"]["loop"]["code"] == "loop_stalled"
    health.beat()
    assert health.alive()[0]


def serve(health: Health, port: int) -> OpsServer:
    settings = Settings(metrics=MetricsSettings(gateway_port=port))
    server = _listen(settings.metrics, health, ("door",), settings)
    assert server is not None
    return server


async def test_it_is_answered_while_the_loop_hangs() -> None:
    health = Health("gateway", {"a": fine})
    port = free_port()
    server = serve(health, port)
    running = asyncio.create_task(health.run())
    try:
        await asyncio.sleep(0.2)
        url = f"http://127.0.0.1:{port}"

        def ask(path: str) -> httpx.Response:
            return httpx.get(url + path, trust_env=False)

        assert (await asyncio.to_thread(ask, "/healthz")).status_code == 200
        assert (await asyncio.to_thread(ask, "/readyz")).json()["status"] == "ready"
        assert "keepwell_door_frames_total" in (await asyncio.to_thread(ask, "/metrics")).text
        assert (await asyncio.to_thread(ask, "/none")).status_code == 404
        health._beat_at = time.monotonic() - 7
        answer = ask("/healthz")  # asked inside the loop: it hangs until this is answered
        assert answer.status_code == 503
        assert answer.json()["code"] == "loop_stalled"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.shutdown()
        server.server_close()


def test_a_second_process_of_a_kind_takes_the_next_port() -> None:
    port = free_port()
    first, second = serve(Health("gateway", {}), port), serve(Health("gateway", {}), port)
    try:
        assert second.server_address[1] != first.server_address[1]
    finally:
        for server in (first, second):
            server.shutdown()
            server.server_close()


def test_zero_switches_it_off() -> None:
    settings = Settings(metrics=MetricsSettings(gateway_port=0))
    assert _listen(settings.metrics, Health("gateway", {}), ("door",), settings) is None


def test_no_label_names_a_patient_a_device_or_a_person() -> None:
    forbidden = ("patient", "device", "person", "name", "token", "session", "frame_id", "email")
    labels = {label for one in metrics.ALL for label in one.labels}
    assert not [label for label in labels if any(word in label for word in forbidden)]


def test_each_metric_is_explained_and_exposed_once() -> None:
    names = [one.name for one in metrics.ALL]
    assert len(set(names)) == len(names)
    for one in metrics.ALL:
        assert one.meaning
        assert one.action
        assert one.name.startswith("keepwell_")
        assert one.name.endswith("_total") == (one.kind == "counter")
    exposed = generate_latest(metrics.registry_for(("door", "processor", "api"))).decode()
    for one in metrics.ALL:
        assert f"# HELP {one.name}" in exposed
    assert "process_resident_memory_bytes" in exposed
    json.dumps([one[:6] for one in metrics.ALL])
