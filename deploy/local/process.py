"""Processes by exact identity: started in a session of their own, found again by pid and start time.

A pid alone may have been given to somebody else, so a pid file also holds the start time from ``/proc`` and
the boot's id. A zombie counts as dead: where init does not reap, killed servers stay as zombies for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.user import ServiceUser

POLL_S = 0.02
LOG_LIMIT = 10_000_000


class Detached(subprocess.Popen[bytes]):
    """A child meant to outlive us, so that leaving it running is nothing to warn about."""

    def __del__(self) -> None:
        """Leave it alone."""


# Children of this very process, kept so that they are reaped when they end.
_children: dict[int, Detached] = {}


@dataclass(frozen=True)
class Identity:
    """One process and no other: pid, start time in clock ticks since boot, boot id."""

    pid: int
    started: int
    boot: str


def boot_id() -> str:
    """Return the id of this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` from the state on, or None without such a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def identify(pid: int) -> Identity | None:
    """Return the identity of a live process, None when it is gone or a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
    fields = _stat(pid)
    if fields is None or (fields[0] in "ZX" and int(fields[17]) <= 1):
        return None  # while other threads end, a killed program still holds its ports and files
    return Identity(pid, int(fields[19]), boot_id())


def alive(who: Identity | None) -> bool:
    """Whether exactly this process still runs."""
    return who is not None and identify(who.pid) == who


def exit_code(child: Detached) -> str:
    """Return how a child ended, in words."""
    code = child.poll()
    if code is None:
        return "still runs"
    return f"killed by signal {-code}" if code < 0 else f"exited with {code}"


def spawn(
    argv: Sequence[str], *, user: ServiceUser, cwd: Path, log: Path, env: dict[str, str]
) -> tuple[Identity, Detached]:
    """Start a server that outlives us: own session, output appended to ``log``, as ``user``.

    Raises:
        StackError: the program cannot be started.
    """
    rotate(log)
    drop = {"user": user.uid, "group": user.gid, "extra_groups": []} if user.dropped else {}
    with log.open("ab") as out:
        try:
            child = Detached(  # type: ignore[call-overload]
                argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, umask=0o077, **drop,
            )  # fmt: skip
        except OSError as error:
            msg = f"{argv[0]} does not start: {error}; see `keepwell doctor`"
            raise StackError(msg) from error
    _children[child.pid] = child
    fields = _stat(child.pid)
    return Identity(child.pid, int(fields[19]) if fields else 0, boot_id()), child


def rotate(log: Path) -> None:
    """Move a log past its limit aside, keeping one old one."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))


def write_pid(path: Path, who: Identity) -> None:
    """Store an identity, atomically."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": who.pid, "started": who.started, "boot": who.boot}), "ascii")
    fresh.replace(path)


def read_pid(path: Path) -> Identity | None:
    """Return the live process a pid file names; None when it is stale, torn or missing."""
    try:
        entry = json.loads(path.read_text("ascii"))
        who = Identity(int(entry["pid"]), int(entry["started"]), str(entry["boot"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return who if alive(who) else None


def wait_until(done: Callable[[], bool], limit_s: float) -> bool:
    """Poll until ``done`` or the limit; return whether it was done."""
    end = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def send(who: Identity, number: signal.Signals) -> None:
    """Signal exactly this process; nothing happens when it is gone."""
    if alive(who):
        with contextlib.suppress(ProcessLookupError):
            os.kill(who.pid, number)


def stop(who: Identity, first: signal.Signals, limit_s: float) -> bool:
    """Ask a process to end, then kill it; return whether it ended when asked."""
    send(who, first)
    if wait_until(lambda: not alive(who), limit_s):
        return True
    kill(who)
    return False


def kill(who: Identity, limit_s: float = 5.0) -> None:
    """End a process at once, with ``kill -9``."""
    send(who, signal.SIGKILL)
    wait_until(lambda: not alive(who), limit_s)


def working_in(folder: Path) -> list[Identity]:
    """Return the live processes whose working folder is ``folder``: all of PostgreSQL's are in its data."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "cwd") != str(folder):
                continue
        except OSError:
            continue
        who = identify(int(entry.name))
        if who is not None:
            found.append(who)
    return found


def tail(log: Path, lines: int = 12, limit: int = 20_000) -> str:
    """Return the last lines of a log."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
