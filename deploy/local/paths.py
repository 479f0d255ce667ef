"""Where things lie: a stack's home, the servers' data, the downloads and what is unpacked from them.

The home holds what people and programs read (``stack.toml``, ``tls/``, ``logs/``). The servers' data are in
``<home>/servers``, or, where the servers' account cannot enter the home (a clone below a 0700 folder such as
root's), in ``/var/lib/keepwell/<id>``. The same goes for unpacked programs and ``/var/cache/keepwell``.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from deploy.local.user import ServiceUser

ROOT_DATA = Path("/var/lib/keepwell")
ROOT_CACHE = Path("/var/cache/keepwell")


@dataclass(frozen=True)
class Home:
    """One stack's folders; ``note`` says why the data lie elsewhere, and is empty when they do not."""

    path: Path
    servers: Path
    note: str

    @property
    def stack_toml(self) -> Path:
        """What the settings loader reads."""
        return self.path / "stack.toml"

    @property
    def identity_key(self) -> Path:
        """The key that seals the secrets of people's apps, 0600; the settings loader finds it by its name."""
        return self.path / "identity.key"

    @property
    def state(self) -> Path:
        """Ports and secrets of this stack, 0600."""
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        """Held by whoever changes the stack."""
        return self.path / "lock"

    @property
    def tls(self) -> Path:
        """CA, server certificate and key."""
        return self.path / "tls"

    def log(self, name: str) -> Path:
        """Return the log file of one server."""
        return self.path / "logs" / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        """Return the pid file of one server."""
        return self.path / "run" / f"{name}.json"

    def data(self, name: str) -> Path:
        """Return the data folder of one server, owned by the servers' account."""
        return self.servers / name

    def make(self, user: ServiceUser) -> None:
        """Create the folders; each is private to whoever needs it."""
        for folder in (self.path, self.path / "logs", self.path / "run", self.tls, self.servers):
            folder.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o755)
        self.servers.chmod(0o755)
        for private in (self.path / "logs", self.path / "run", self.tls):
            private.chmod(0o700)
        for name in ("kafka", "postgres", "mosquitto"):
            self.data(name).mkdir(exist_ok=True)
            self.data(name).chmod(0o700)
            user.own(self.data(name))


def home(path: Path, user: ServiceUser) -> Home:
    """Return the folders of the stack at ``path``, choosing for its data a place ``user`` can enter."""
    path = path.absolute()
    blocked = user.blocked_by(path)
    if blocked is None:
        return Home(path, path / "servers", "")
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    servers = ROOT_DATA / digest
    return Home(path, servers, f"data are in {servers}: {user.name} cannot enter {blocked}")


def downloads() -> Path:
    """Return the folder of downloads: ``$XDG_CACHE_HOME/keepwell`` or ``~/.cache/keepwell``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "keepwell"


def programs(user: ServiceUser) -> Path:
    """Return the folder of unpacked programs: beside the downloads, or where ``user`` can enter."""
    folder = downloads()
    return folder if user.can_enter(folder) else ROOT_CACHE


def maven_repository() -> Path | None:
    """Return the repository ``MAVEN_OPTS`` names, if it does."""
    found = re.search(r"-Dmaven\.repo\.local=(\S+)", os.environ.get("MAVEN_OPTS", ""))
    return Path(found.group(1)) if found else None
