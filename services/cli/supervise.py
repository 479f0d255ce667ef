"""The processes of a run, their logs, and their supervisor: what dies is started again, a few times."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

STOP_S: Final = 20.0
LOG_LINES: Final = 15
MAX_RESTARTS: Final = 3  # of one process; a process that dies more often than that has a reason to be read
RESTART_AFTER_S: Final = 1.0
WRONG_USE: Final = 2  # exit code of a wrong setting or command: starting again would not help


class RunError(RuntimeError):
    """A run cannot go on; the text names what failed, where its log is, and the next step."""


class Processes:
    """The processes of a run, their logs in ``folder``: started together, watched, stopped in the opposite order.

    A process that dies, be it that its watchdog ended it or that it was killed, is started again after a second, up
    to `MAX_RESTARTS` times; ``told`` is called with a sentence each time.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        told: Callable[[str], object] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "services.cli.main"),
    ) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._told = told
        self._program = program
        self._commands: dict[str, Sequence[str]] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._dead_since: dict[str, float] = {}
        self.restarts: dict[str, int] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start ``keepwell COMMAND`` under ``name``; its log is ``NAME.log`` in the folder."""
        self._commands[name] = command
        self.restarts[name] = 0
        self._spawn(name)

    def log(self, name: str) -> Path:
        """Return where a process writes."""
        return self._folder / f"{name}.log"

    def pid(self, name: str) -> int:
        """Return the pid of a process, dead or alive."""
        return self._children[name].pid

    def check(self) -> None:
        """Start again what has died for a second; raise RunError where that is no use, with the end of its log."""
        for name, child in self._children.items():
            code = child.poll()
            if code is None:
                continue
            if code == WRONG_USE or self.restarts[name] >= MAX_RESTARTS:
                tail = self.log(name).read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
                times = f", started again {self.restarts[name]} times" if self.restarts[name] else ""
                msg = f"{name} died with exit code {code}{times}; the end of {self.log(name)}:\n" + "\n".join(tail)
                raise RunError(msg)
            if time.monotonic() - self._dead_since.setdefault(name, time.monotonic()) >= RESTART_AFTER_S:
                self._restart(name, code)

    async def watch(self) -> None:
        """Look after them until one cannot be helped, which raises RunError."""
        while True:
            self.check()
            await asyncio.sleep(0.25)

    def stop(self) -> None:
        """Ask each to stop, the last started first, and end what does not within `STOP_S`."""
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        until = time.monotonic() + STOP_S
        for child in self._children.values():
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(5)
        self._children.clear()

    def _restart(self, name: str, code: int) -> None:
        del self._dead_since[name]
        self.restarts[name] += 1
        if self._told is not None:
            self._told(f"{name} ended with exit code {code} and was started again; see {self.log(name)}")
        self._spawn(name)

    def _spawn(self, name: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            self._children[name] = subprocess.Popen(
                [*self._program, *self._commands[name]],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which stops them in order
            )
