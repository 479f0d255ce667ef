"""The local stack itself: idempotent, side by side, honest about trouble, closed to strangers."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import plan, process
from deploy.local.errors import StackError
from deploy.local.ports import OFFSETS
from deploy.local.stack import SERVERS, Stack
from services.settings import load
from tests.fix_stack import LiveStack, settings_of

pytestmark = pytest.mark.stack

CHECKOUT = Path(__file__).parents[2]
CLI = [
    sys.executable,
    "-c",
    "import typer; from services.cli.stack import register; app = typer.Typer(); register(app); app()",
]


def pids(stack: Stack) -> dict[str, int | None]:
    return {name: stack.pid(name) for name in SERVERS}


async def produce(bootstrap: str, topic: str, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    try:
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await producer.start()
        await asyncio.wait_for(producer.send_and_wait(topic, value), 20)
    finally:
        await producer.stop()
        await admin.close()


async def topics(bootstrap: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def consume(bootstrap: str, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:
        batches = await consumer.getmany(timeout_ms=10_000)
        return [record.value for batch in batches.values() for record in batch]
    finally:
        await consumer.stop()


# -- up ------------------------------------------------------------------------------------------------------


def test_up_again_leaves_everything_alone(whole: Stack) -> None:
    before = pids(whole)
    again = whole.up()
    assert [one.started for one in again] == [False, False, False]
    assert pids(whole) == before
    assert None not in before.values()


def test_two_stacks_share_nothing(stack: LiveStack, whole: Stack) -> None:
    assert not set(stack.local.ports().values()) & set(whole.ports().values())
    assert not set(pids(stack.local).values()) & set(pids(whole).values())
    mine = settings_of(whole.home.path)
    asyncio.run(produce(mine.kafka.bootstrap, "side.only", b"here"))
    assert asyncio.run(topics(mine.kafka.bootstrap)) >= {"side.only"}
    assert "side.only" not in asyncio.run(topics(stack.bootstrap))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(mine.postgres.conninfo("admin"), port=stack.settings.postgres.port, dbname="postgres").close()


def test_no_server_runs_as_root(stack: LiveStack) -> None:
    data = stack.local.home.data("postgres") / "data"
    everyone = [pid for pid in pids(stack.local).values() if pid] + [who.pid for who in process.working_in(data)]
    assert len(everyone) > len(SERVERS)
    for pid in everyone:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert set(uids) == {str(stack.local.user.uid)}
        assert "0" not in uids


def test_secrets_are_readable_by_their_owner_only(stack: LiveStack) -> None:
    for path in (stack.home / "stack.toml", stack.home / "state.json", stack.home / "tls" / "server.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    passwords = stack.local.home.data("mosquitto") / "passwords"
    secret = stack.settings.mqtt.bridge_password.get_secret_value()
    assert secret not in passwords.read_text("ascii")


def test_certificate_is_valid_for_this_machine(stack: LiveStack) -> None:
    context = ssl.create_default_context(cafile=str(stack.settings.tls.ca_file))
    for name in ("localhost", "127.0.0.1"):
        with (
            socket.create_connection(("127.0.0.1", stack.settings.mqtt.port), 5) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert secure.version() in ("TLSv1.2", "TLSv1.3")


# -- trouble is told -----------------------------------------------------------------------------------------


def alone_taken(name: str) -> socket.socket:
    """Take a server's port where nobody happens to have one of the others'."""
    for _ in range(50):
        taken = socket.create_server(("127.0.0.1", 0))
        base = taken.getsockname()[1] - OFFSETS[name]
        try:
            for other, offset in OFFSETS.items():
                if other != name:
                    socket.create_server(("127.0.0.1", base + offset)).close()
        except OSError:
            taken.close()
        else:
            return taken
    pytest.fail("no free ports beside each other in 50 tries")


@pytest.mark.parametrize("name", ["kafka", "postgres", "mqtt"])
def test_taken_port_is_named_with_its_holder(tmp_path: Path, name: str) -> None:
    with alone_taken(name) as other:
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port} \({name}\) is taken by \S+ \(pid {os.getpid()}\)"):
            Stack(tmp_path / "home", port - OFFSETS[name]).up()
    assert not (tmp_path / "home" / "stack.toml").exists()


def test_server_that_cannot_start_is_noticed_at_once_with_its_log(whole: Stack) -> None:
    whole.stop("mosquitto")
    store = whole.home.data("mosquitto") / "mosquitto.db"
    kept = store.read_bytes() if store.exists() else b""
    store.write_bytes(b"this is not a store of mosquitto")
    whole.user.own(store)
    began = time.monotonic()
    try:
        with pytest.raises(StackError, match=r"(?s)mosquitto \(pid \d+\) exited with \d+ .*mosquitto\.log.*[Ff]ormat"):
            whole.start("mosquitto")
        assert time.monotonic() - began < 3
    finally:
        store.write_bytes(kept) if kept else store.unlink()


def test_server_killed_while_starting_is_noticed_at_once(whole: Stack) -> None:
    whole.stop("kafka")
    failed: queue.Queue[tuple[str, float]] = queue.Queue()

    def start() -> None:
        try:
            whole.start("kafka")
        except StackError as error:
            failed.put((str(error), time.monotonic()))

    starting = threading.Thread(target=start)
    starting.start()
    assert process.wait_until(lambda: whole.pid("kafka") is not None, 20)
    whole.kill("kafka")
    killed_at = time.monotonic()
    text, told_at = failed.get(timeout=10)
    starting.join(10)
    assert f"killed by signal {signal.SIGKILL.value}" in text
    assert told_at - killed_at < 1


def test_status_tells_a_frozen_server_from_a_dead_one(whole: Stack) -> None:
    argv = [*CLI, "status", "--home", str(whole.home.path), "--json"]
    frozen, dead = whole.pid("postgres"), whole.pid("mosquitto")
    assert frozen
    assert dead
    os.kill(frozen, signal.SIGSTOP)
    whole.kill("mosquitto")
    try:
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, timeout=60, check=False)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert done.returncode == 3
    states = {one["name"]: one["state"] for one in json.loads(done.stdout)["servers"]}
    assert states == {"kafka": "up", "postgres": "silent", "mosquitto": "down"}


def test_named_servers_are_used_and_only_checked(stack: LiveStack, tmp_path: Path) -> None:
    named = stack.settings
    flags = {
        "stack.home": tmp_path / "unused",
        "kafka.bootstrap": named.kafka.bootstrap,
        "postgres.host": named.postgres.host,
        "postgres.port": named.postgres.port,
        "postgres.admin_password": named.postgres.admin_password.get_secret_value(),
        "mqtt.host": named.mqtt.host,
        "mqtt.port": named.mqtt.port,
        "mqtt.bridge_password": named.mqtt.bridge_password.get_secret_value(),
        "mqtt.ca_file": named.mqtt.ca_file,
    }
    loaded = load(flags, environ={"KEEPWELL_CONFIG": os.devnull})
    opened, choices = plan.open_stack(loaded)
    assert [choice.how for choice in choices] == ["named"] * 3
    assert opened.servers == ()
    for choice in choices:
        assert plan.check_named(loaded.settings, choice.server)
    wrong = load({**flags, "postgres.port": 1}, environ={"KEEPWELL_CONFIG": os.devnull})
    with pytest.raises(StackError, match=r"postgres named by postgres\.host does not answer"):
        plan.check_named(wrong.settings, "postgres")


def test_a_database_that_speaks_no_tls_is_refused_where_tls_is_asked_for(stack: LiveStack) -> None:
    plain = stack.settings.postgres
    with psycopg.connect(plain.conninfo("api", "postgres")):
        pass
    for mode in ("require", "verify-full"):
        asked = plain.model_copy(update={"sslmode": mode}).conninfo("api", "postgres")
        with pytest.raises(psycopg.OperationalError, match="SSL"):
            psycopg.connect(asked).close()
