"""What a stack remembers between runs: its ports and the passwords made at the first ``up``."""

from __future__ import annotations

import base64
import fcntl
import json
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local import ports
from deploy.local.errors import StackError
from deploy.local.paths import Home

SECRETS = ("admin", "writer", "api", "gateway", "bridge", "probe", "identity")
LOCK_S = 300.0


@dataclass
class State:
    """Ports by name, secrets by user, the Kafka cluster's id; ``chosen`` when the base port was 0."""

    ports: dict[str, int]
    chosen: bool = False
    cluster_id: str = ""
    secrets: dict[str, str] = field(default_factory=dict)

    def complete(self) -> None:
        """Make what is still missing."""
        for name in SECRETS:
            self.secrets.setdefault(name, secrets.token_urlsafe(24))
        if not self.cluster_id:
            self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii")[:22].replace("-", "A")


def load(home: Home) -> State | None:
    """Return what the home remembers, None at the first ``up``.

    Raises:
        StackError: the file is not what we wrote.
    """
    try:
        return State(**json.loads(home.state.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        msg = f"{home.state} cannot be read ({error}); restore it, or start anew: `keepwell down --erase`"
        raise StackError(msg) from error


def save(home: Home, state: State) -> None:
    """Store it, readable by us only."""
    write_private(home.state, json.dumps(asdict(state), indent=1) + "\n")


def with_ports(known: State | None, base_port: int | None) -> State:
    """Return the state with its ports settled: the remembered ones, or those of another ``base_port``."""
    wanted = None if base_port is None or base_port == 0 else ports.of_base(base_port)
    if known is None:
        chosen = base_port == 0
        fresh = ports.choose() if chosen else wanted or ports.of_base(ports.DEFAULT_BASE)
        return State(fresh, chosen)
    if wanted is not None and wanted != known.ports:
        known.ports, known.chosen = wanted, False
    return known


def write_stack_toml(home: Home, state: State, local: tuple[str, ...]) -> None:
    """Write ``stack.toml`` with the sections of the servers this stack runs itself, and the key that seals secrets."""
    sections: dict[str, Mapping[str, str | int]] = {}
    secret, port = state.secrets, state.ports
    if "kafka" in local:
        sections["kafka"] = {"bootstrap": f"127.0.0.1:{port['kafka']}"}
    if "postgres" in local:
        sections["postgres"] = {
            "host": "127.0.0.1",
            "port": port["postgres"],
            "database": "keepwell",
            "admin_user": "keepwell_admin",
            **{f"{role}_password": secret[role] for role in ("admin", "writer", "api", "gateway")},
        }
        write_private(home.identity_key, secret["identity"] + "\n")
    if "mosquitto" in local:
        sections["mqtt"] = {
            "host": "127.0.0.1",
            "port": port["mqtt"],
            "bridge_user": "bridge",
            "bridge_password": secret["bridge"],
            "ca_file": str(home.tls / "ca.pem"),
        }
    sections["tls"] = {
        "ca_file": str(home.tls / "ca.pem"),
        "cert_file": str(home.tls / "server.pem"),
        "key_file": str(home.tls / "server.key"),
    }
    sections["gateway"] = {"port": port["gateway"]}
    sections["api"] = {"port": port["api"]}
    lines = ["# Written by `keepwell up`; say what should differ in keepwell.toml, which overrides this."]
    for name, entries in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in entries.items())]
    write_private(home.stack_toml, "\n".join(lines) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically, mode 0600; an unchanged one is left alone."""
    if path.exists() and path.read_text("utf-8") == text:
        path.chmod(0o600)
        return
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text, "utf-8")
    fresh.replace(path)


@contextmanager
def locked(path: Path, what: str, limit_s: float = LOCK_S) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it when the holder dies.

    Raises:
        StackError: somebody else held it for ``limit_s``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        end = time.monotonic() + limit_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    msg = f"another keepwell works on {what} since {limit_s:.0f} s (lock {path}); wait for it"
                    raise StackError(msg) from None
                time.sleep(0.05)
            else:
                break
        yield
