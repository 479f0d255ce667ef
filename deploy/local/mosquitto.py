"""The MQTT broker: TLS on loopback, a password for each device, and topics only the device itself may use."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiomqtt

from deploy.local import debian, paths, process, user
from deploy.local.errors import StackError
from deploy.local.server import Context, NotReadyError
from ingest.mqtt_password import password_hash, password_matches

FRAMES = "keepwell/v1/{user}/frames"
VERDICTS = "keepwell/v1/{user}/verdicts"
PROBE_TOPIC = "keepwell/probe"
SYSTEM_USERS = ("bridge", "probe")
MAX_MESSAGE = 1 << 20
RELOAD = signal.SIGHUP

CONFIG = """\
per_listener_settings false
listener {port} {address}
certfile {data}/server.pem
keyfile {data}/server.key
tls_version tlsv1.2
allow_anonymous false
password_file {data}/passwords
acl_file {data}/acl
persistence true
persistence_location {data}/
autosave_on_changes true
autosave_interval 1
persistent_client_expiration 7d
max_packet_size {max_message}
max_inflight_messages 200
max_queued_messages 20000
max_queued_bytes 67108864
max_connections 5000
set_tcp_nodelay true
connection_messages false
log_dest stderr
log_type error
log_type warning
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""

ACL = f"""\
# A device publishes its frames and reads its verdicts; %u is the user it logged in as.
pattern write {FRAMES.format(user="%u")}
pattern read {VERDICTS.format(user="%u")}

user bridge
topic read {FRAMES.format(user="+")}
topic write {VERDICTS.format(user="+")}

user probe
topic readwrite {PROBE_TOPIC}
"""


class Mosquitto:
    """The broker devices publish to."""

    name = "mosquitto"
    stop_signal = signal.SIGTERM
    ready_s = 15.0
    stop_s = 10.0

    def __init__(self, context: Context) -> None:
        self._context = context
        self._data = context.home.data(self.name)
        self._port = context.state.ports["mqtt"]

    def prepare(self) -> None:
        """Write configuration, access list, passwords (devices' entries are kept) and the certificate."""
        hand_over = self._context.hand_over
        hand_over(self._data / "mosquitto.conf", configuration(self._port, "127.0.0.1", str(self._data)))
        hand_over(self._data / "acl", ACL)
        write_password_file(self._context, read_devices(self._data))
        self.copy_certificate()

    def copy_certificate(self) -> None:
        """Give the broker its own copy: the home's key is readable by its owner only."""
        for name in ("server.pem", "server.key"):
            text = (self._context.home.tls / name).read_text("ascii")
            self._context.hand_over(self._data / name, text)

    def recover(self) -> None:
        """Remove a half-written copy of the store; the store itself is replaced atomically and is whole."""
        for left in self._data.glob("*.db.new"):
            left.unlink()

    def argv(self) -> list[str]:
        """Return the command to start."""
        program = debian.tree(self._context.programs) / "usr/sbin/mosquitto"
        return [str(program), "-c", str(self._data / "mosquitto.conf")]

    async def probe(self) -> None:
        """Publish one message and receive it back."""
        await probe(
            "127.0.0.1", self._port, "probe", self._context.state.secrets["probe"],
            self._context.home.tls / "ca.pem", PROBE_TOPIC,
        )  # fmt: skip


def configuration(port: int, address: str, data: str) -> str:
    """Return mosquitto's configuration for files below ``data``."""
    return CONFIG.format(port=port, address=address, data=data, max_message=MAX_MESSAGE)


async def probe(host: str, port: int, username: str, password: str, ca_file: Path | None, topic: str) -> None:
    """Publish one message to ``topic`` and receive it back.

    Raises:
        NotReadyError: refused, not answering, or the message did not come back.
    """
    tls = ssl.create_default_context(cafile=str(ca_file)) if ca_file else None
    try:
        async with asyncio.timeout(5):
            async with aiomqtt.Client(
                host,
                port,
                username=username,
                password=password,
                protocol=aiomqtt.ProtocolVersion.V5,
                tls_context=tls,
            ) as client:
                await client.subscribe(topic, qos=1)
                await client.publish(topic, b"up", qos=1)
                async for _ in client.messages:
                    return
    except (aiomqtt.MqttError, OSError, TimeoutError) as error:
        msg = f"no publish on {host}:{port} yet: {error or type(error).__name__}"
        raise NotReadyError(msg) from error


def write_passwords(home: Path, devices: Mapping[str, str]) -> None:
    """Make ``devices`` (user → `ingest.mqtt_password.password_hash`) the broker's devices, at once.

    The mapping is the whole set: who is not in it can no longer log in, and is disconnected. The bridge's and
    the probe's own entries stay. The broker is reloaded when it runs.

    Raises:
        StackError: the stack was never up, or a user name or hash is not one.
    """
    from deploy.local import docker, state

    account = user.choose()
    where = paths.home(home, account)
    known = state.load(where)
    if known is None:
        msg = f"no stack in {where.path}; run `keepwell up` first"
        raise StackError(msg)
    for name, line in devices.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) or name in SYSTEM_USERS:
            msg = f"MQTT user {name!r} is not possible: 1 to 64 of A-Z a-z 0-9 . _ - and none of {SYSTEM_USERS}"
            raise StackError(msg)
        if not re.fullmatch(r"\$7\$\d+\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+", line):
            msg = f"the entry of {name!r} is not a $7$ hash; make it with ingest.mqtt_password.password_hash"
            raise StackError(msg)
    context = Context(where, account, known, where.path, lambda *_: None)
    write_password_file(context, devices)
    running = process.read_pid(where.pid_file("mosquitto"))
    if running is not None:
        process.send(running, RELOAD)
    else:
        docker.reload_mosquitto(context)


def read_devices(data: Path) -> dict[str, str]:
    """Return the devices' entries of the password file, user → hash."""
    try:
        lines = (data / "passwords").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    entries = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: line for name, line in entries.items() if name not in SYSTEM_USERS}


def write_password_file(context: Context, devices: Mapping[str, str]) -> None:
    """Replace the password file atomically: our own users, then the devices."""
    path = context.home.data("mosquitto") / "passwords"
    old = (
        dict(line.split(":", 1) for line in path.read_text("utf-8").splitlines() if ":" in line)
        if path.exists()
        else {}
    )
    own = {}
    for name in SYSTEM_USERS:
        secret = context.state.secrets[name]
        known = old.get(name)
        own[name] = known if known and password_matches(secret, known) else password_hash(secret)
    context.hand_over(path, "".join(f"{name}:{line}\n" for name, line in {**own, **devices}.items()))
