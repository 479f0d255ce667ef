"""What the three servers have in common: the shape the stack starts, watches and stops."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local.errors import Report
from deploy.local.paths import Home
from deploy.local.state import State
from deploy.local.user import ServiceUser


@dataclass(frozen=True)
class Context:
    """All a server needs to know about the stack it belongs to."""

    home: Home
    user: ServiceUser
    state: State
    programs: Path
    report: Report

    def environ(self, name: str) -> dict[str, str]:
        """Return a small environment: nothing of the caller's, no secrets."""
        return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.home.data(name)), "TZ": "UTC"}

    def hand_over(self, path: Path, text: str, mode: int = 0o600) -> None:
        """Write a configuration file of a server and give it to the servers' account, atomically."""
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=mode)
        fresh.write_text(text, "utf-8")
        self.user.own(fresh)
        fresh.replace(path)


class NotReadyError(RuntimeError):
    """A probe did not succeed yet; asking again may help."""


class Server(Protocol):
    """One server of the stack."""

    name: str
    stop_signal: signal.Signals
    ready_s: float
    stop_s: float

    def prepare(self) -> None:
        """Write configuration and, the first time, the data folder; may take seconds.

        Raises:
            StackError: a tool failed.
        """
        ...

    def recover(self) -> None:
        """Remove what a killed server left behind and would stop a new one from starting."""
        ...

    def argv(self) -> list[str]:
        """Return the command to start."""
        ...

    async def probe(self) -> None:
        """Use the server once as a client would.

        Raises:
            NotReadyError: not yet.
            StackError: it will never succeed.
        """
        ...
