"""The local stack itself: idempotent, side by side, recovering, honest about trouble, closed to strangers."""

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from deploy.local import plan, process
from deploy.local.errors import StackError
from deploy.local.mosquitto import write_passwords
from deploy.local.ports import OFFSETS
from deploy.local.stack import SERVERS, Stack
from ingest.mqtt_password import password_hash
from services.settings import Settings, load
from tests.fix_stack import LiveStack, settings_of

pytestmark = pytest.mark.stack

CHECKOUT = Path(__file__).parents[2]
CLI = [
    sys.executable,
    "-c",
    "import typer; from services.cli.stack import register; app = typer.Typer(); register(app); app()",
]
SUCCESS, NO_MATCHING_SUBSCRIBERS, NOT_AUTHORIZED = 0, 16, 135


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A second stack of this module's own, to be killed at will and erased at the end."""
    stack = Stack(tmp_path_factory.mktemp("side") / "a 'home' with ä", 0)
    stack.up()
    try:
        yield stack
    finally:
        stack.erase()


@pytest.fixture
def whole(side: Stack) -> Iterator[Stack]:
    """The second stack with everything running, before and after."""
    side.up()
    yield side
    side.up()


def pids(stack: Stack) -> dict[str, int | None]:
    return {name: stack.pid(name) for name in SERVERS}


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
    asyncio.run(_produce(mine.kafka.bootstrap, "side.only", b"here"))
    assert asyncio.run(_topics(mine.kafka.bootstrap)) >= {"side.only"}
    assert "side.only" not in asyncio.run(_topics(stack.bootstrap))
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


# -- recovery ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victims", [[name] for name in SERVERS] + [list(SERVERS)], ids="+".join)
def test_killed_servers_come_back_with_their_data(whole: Stack, victims: list[str]) -> None:
    settings = settings_of(whole.home.path)
    mark = f"{'-'.join(victims)}-{time.monotonic_ns()}"
    asyncio.run(_produce(settings.kafka.bootstrap, "kept", mark.encode()))
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
    assert mark.encode() in asyncio.run(_consume(settings.kafka.bootstrap, "kept"))
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


# -- who may say what to whom over MQTT ----------------------------------------------------------------------


def test_broker_refuses_foreign_topics(whole: Stack) -> None:
    settings = settings_of(whole.home.path)
    write_passwords(whole.home.path, {"watch-1": password_hash("one"), "watch-2": password_hash("two")})
    with _client(settings, "watch-1", "one") as device:
        assert device.publish("keepwell/v1/watch-1/frames") in (SUCCESS, NO_MATCHING_SUBSCRIBERS)
        for foreign in (
            "keepwell/v1/watch-2/frames",
            "keepwell/v1/watch-1/verdicts",
            "keepwell/probe",
            "other",
        ):
            assert device.publish(foreign) == NOT_AUTHORIZED
    with _client(settings, "bridge", settings.mqtt.bridge_password.get_secret_value()) as bridge:
        assert bridge.publish("keepwell/v1/watch-1/verdicts") in (SUCCESS, NO_MATCHING_SUBSCRIBERS)
        assert bridge.publish("keepwell/v1/watch-1/frames") == NOT_AUTHORIZED


def test_device_reads_its_own_verdicts_only(whole: Stack) -> None:
    settings = settings_of(whole.home.path)
    write_passwords(whole.home.path, {"watch-1": password_hash("one"), "watch-2": password_hash("two")})
    secret = settings.mqtt.bridge_password.get_secret_value()
    with (
        _client(settings, "watch-1", "one") as own,
        _client(settings, "watch-2", "two") as other,
        _client(settings, "bridge", secret) as bridge,
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
        with pytest.raises(ConnectionRefusedError), _client(settings, user, password):
            pass
    with _client(settings, "watch-1", "one") as device:
        write_passwords(whole.home.path, {})
        assert device.disconnected.wait(1)
    with pytest.raises(ConnectionRefusedError), _client(settings, "watch-1", "one"):
        pass


def test_too_large_message_ends_the_connection(whole: Stack) -> None:
    settings = settings_of(whole.home.path)
    write_passwords(whole.home.path, {"watch-1": password_hash("one")})
    with _client(settings, "watch-1", "one") as device:
        assert device.publish("keepwell/v1/watch-1/frames", bytes(900_000)) in (
            SUCCESS,
            NO_MATCHING_SUBSCRIBERS,
        )
        device.send("keepwell/v1/watch-1/frames", bytes(1_200_000))
        assert device.disconnected.wait(5)


class _Client:
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
def _client(settings: Settings, user: str | None, password: str | None, session: int = 0) -> Iterator[_Client]:
    client = _Client(settings, user, password, session)
    try:
        yield client
    finally:
        client.close()


def _queue_for_absent_bridge(settings: Settings, mark: str) -> None:
    """Leave a message in the bridge's persistent session while the bridge is away."""
    with _client(settings, "bridge", settings.mqtt.bridge_password.get_secret_value(), session=3600) as bridge:
        bridge.subscribe("keepwell/v1/+/frames")
    with _client(settings, "watch-1", "w") as device:
        assert device.publish("keepwell/v1/watch-1/frames", mark.encode()) == SUCCESS


def _collect_as_bridge(settings: Settings) -> list[bytes]:
    with _client(settings, "bridge", settings.mqtt.bridge_password.get_secret_value(), session=3600) as bridge:
        found = [bridge.received.get(timeout=5)]
        while not bridge.received.empty():
            found.append(bridge.received.get())
        return found


async def _produce(bootstrap: str, topic: str, value: bytes) -> None:
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


async def _topics(bootstrap: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def _consume(bootstrap: str, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:
        batches = await consumer.getmany(timeout_ms=10_000)
        return [record.value for batch in batches.values() for record in batch]
    finally:
        await consumer.stop()


def test_a_database_that_speaks_no_tls_is_refused_where_tls_is_asked_for(stack: LiveStack) -> None:
    plain = stack.settings.postgres
    with psycopg.connect(plain.conninfo("api", "postgres")):
        pass
    for mode in ("require", "verify-full"):
        asked = plain.model_copy(update={"sslmode": mode}).conninfo("api", "postgres")
        with pytest.raises(psycopg.OperationalError, match="SSL"):
            psycopg.connect(asked).close()
