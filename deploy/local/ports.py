"""Which ports a stack uses: fixed offsets from its base port, or a free base chosen once and kept."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

from deploy.local.errors import StackError

OFFSETS = {"kafka": 92, "controller": 93, "postgres": 32, "mqtt": 83, "gateway": 43, "api": 80}
OF_SERVER = {"kafka": ("kafka", "controller"), "postgres": ("postgres",), "mosquitto": ("mqtt",)}
DEFAULT_BASE = 29000
# Below the range the kernel takes for outgoing connections, so that a kept port stays free.
CHOICES = range(20000, 32000, 100)


def of_base(base: int) -> dict[str, int]:
    """Return every port for a base port.

    Raises:
        StackError: the base leaves no room, or its ports would need root.
    """
    highest = 65535 - max(OFFSETS.values())
    if not 1024 <= base <= highest:
        msg = f"base port {base} is not possible: choose 1024 to {highest}, or 0 for free ports"
        raise StackError(msg)
    return {name: base + offset for name, offset in OFFSETS.items()}


def choose() -> dict[str, int]:
    """Return the ports of a random base that are all free now.

    Raises:
        StackError: no base has all its ports free.
    """
    for base in random.sample(CHOICES, len(CHOICES)):
        ports = of_base(base)
        if all(map(is_free, ports.values())):
            return ports
    msg = f"no free base port between {CHOICES.start} and {CHOICES.stop}; stop something or give --base-port"
    raise StackError(msg)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_free(server: str, ports: dict[str, int]) -> None:
    """Check that a server's ports are free.

    Raises:
        StackError: one is taken; the text names the port, its holder where that can be seen, and the way out.
    """
    for name in OF_SERVER[server]:
        port = ports[name]
        if not is_free(port):
            msg = (
                f"port {port} ({name}) is taken{holder(port)}; stop that program, or give another base port: "
                f"keepwell up --base-port {_other_base(port)} (0 chooses free ports)"
            )
            raise StackError(msg)


def _other_base(port: int) -> int:
    return 31000 if port < 30000 else 21000


def holder(port: int) -> str:
    """Return `` by NAME (pid N)`` for the process listening on a port, nothing where that is hidden."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if any(os.readlink(fd) in inodes for fd in (entry / "fd").iterdir()):
                return f" by {(entry / 'comm').read_text('utf-8').strip()} (pid {entry.name})"
    return ""
