"""The local stack after a kill, a stop, or two starts at once: back, with its data, once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time

import psycopg
import pytest

from deploy.local import process
from deploy.local.mosquitto import write_passwords
from deploy.local.stack import SERVERS, Stack
from ingest.mqtt_password import password_hash
from services.settings import Settings
from tests.fix_stack import settings_of
from tests.integration.test_stack import CHECKOUT, CLI, consume, pids, produce
from tests.mqtt_client import SUCCESS, mqtt_client

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("victims", [[name] for name in SERVERS] + [list(SERVERS)], ids="+".join)
def test_killed_servers_come_back_with_their_data(whole: Stack, victims: list[str]) -> None:
    settings = settings_of(whole.home.path)
    mark = f"{'-'.join(victims)}-{time.monotonic_ns()}"
    asyncio.run(produce(settings.kafka.bootstrap, "kept", mark.encode()))
    with psycopg.connect(settings.postgres.conninfo("admin"), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (mark text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [mark])
    write_passwords(whole.home.path, {"watch-1": password_hash("w")})
    _queue_for_absent_bridge(settings, mark)
    # mosquitto saves right after it acknowledged; what a crash takes in between, the device sends again
    store = whole.home.data("mosquitto") / "mosquitto.db"
    assert process.wait_until(lambda: store.exists() and mark.encode() in store.read_bytes(), 5)

    before = pids(whole)
    for name in victims:
        whole.kill(name)
    assert {name for name, pid in pids(whole).items() if pid is None} == set(victims)
    again = whole.up()

    assert {one.name for one in again if one.started} == set(victims)
    after = pids(whole)
    assert {name: after[name] for name in SERVERS if name not in victims} == {
        name: before[name] for name in SERVERS if name not in victims
    }
    assert mark.encode() in asyncio.run(consume(settings.kafka.bootstrap, "kept"))
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        assert connection.execute("SELECT count(*) FROM kept WHERE mark = %s", [mark]).fetchone() == (1,)
    assert mark.encode() in _collect_as_bridge(settings)


def test_down_then_up_keeps_data_and_ports(whole: Stack) -> None:
    before, ports = pids(whole), whole.ports()
    assert sorted(whole.down()) == sorted(SERVERS)
    assert pids(whole) == dict.fromkeys(SERVERS)
    for pid in before.values():
        assert pid is not None
        assert process.identify(pid) is None
    assert process.working_in(whole.home.data("postgres") / "data") == []
    assert whole.down() == []
    assert all(one.started for one in whole.up())
    assert whole.ports() == ports


def test_pid_files_of_other_programs_are_not_believed(whole: Stack) -> None:
    """A pid given to somebody else: our own pid in the pid file and in PostgreSQL's lock file."""
    whole.kill("postgres")
    me = os.getpid()
    whole.home.pid_file("postgres").write_text(json.dumps({"pid": me, "started": 1, "boot": process.boot_id()}))
    lock_file = whole.home.data("postgres") / "data" / "postmaster.pid"
    lock_file.write_text(f"{me}\n{lock_file.parent}\n0\n{whole.ports()['postgres']}\n\n\n0 0\nready\n")
    assert whole.pid("postgres") is None
    assert whole.start("postgres").started


def test_two_ups_at_once_start_each_server_once(whole: Stack) -> None:
    """As two command lines, which also end before the servers do."""
    whole.down()
    home = str(whole.home.path)
    argv = [*CLI, "up", "--home", home, "--json"]
    both = [subprocess.Popen(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    told = [json.loads(one.communicate(timeout=120)[0]) for one in both]
    started = [one["name"] for document in told for one in document["servers"] if one["started"]]
    assert sorted(started) == sorted(SERVERS)
    for document in told:
        assert {one["name"]: one["pid"] for one in document["servers"]} == pids(whole)
    down = [*CLI, "down", "--home", home, "--json"]
    done = subprocess.run(down, cwd=CHECKOUT, capture_output=True, timeout=60, check=True)
    assert sorted(json.loads(done.stdout)["stopped"]) == sorted(SERVERS)
    assert pids(whole) == dict.fromkeys(SERVERS)


def _queue_for_absent_bridge(settings: Settings, mark: str) -> None:
    """Leave a message in the bridge's persistent session while the bridge is away."""
    with mqtt_client(settings, "bridge", settings.mqtt.bridge_password.get_secret_value(), session=3600) as bridge:
        bridge.subscribe("keepwell/v1/+/frames")
    with mqtt_client(settings, "watch-1", "w") as device:
        assert device.publish("keepwell/v1/watch-1/frames", mark.encode()) == SUCCESS


def _collect_as_bridge(settings: Settings) -> list[bytes]:
    with mqtt_client(settings, "bridge", settings.mqtt.bridge_password.get_secret_value(), session=3600) as bridge:
        found = [bridge.received.get(timeout=5)]
        while not bridge.received.empty():
            found.append(bridge.received.get())
        return found
