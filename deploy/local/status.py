"""How each server of a stack is right now: does its process live, and does it answer a client."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from deploy.local import ports, process, state
from deploy.local.errors import StackError
from deploy.local.server import NotReadyError
from deploy.local.stack import Stack, server_of

ANSWER_S = 8.0


@dataclass(frozen=True)
class Status:
    """One server: ``state`` is ``up``, ``down``, or ``silent`` (it runs and does not answer)."""

    name: str
    state: str
    pid: int | None
    port: int
    memory_mb: int
    uptime_s: int
    note: str


def of(stack: Stack) -> list[Status]:
    """Return the status of every server the stack runs itself; empty when it was never up."""
    known = state.load(stack.home)
    if known is None:
        return []
    return asyncio.run(_all(stack, known))


async def _all(stack: Stack, known: state.State) -> list[Status]:
    return list(await asyncio.gather(*(_one(stack, known, name) for name in stack.servers)))


async def _one(stack: Stack, known: state.State, name: str) -> Status:
    pid, port = stack.pid(name), known.ports[ports.OF_SERVER[name][0]]
    if pid is None and not stack.in_containers:
        crashed = stack.home.pid_file(name).exists()
        note = "it died; `keepwell up` brings it back" if crashed else "stopped"
        return Status(name, "down", None, port, 0, 0, note)
    memory, uptime = (_memory_mb(pid), _uptime_s(pid)) if pid else (0, 0)
    try:
        await asyncio.wait_for(server_of(name, stack.context(known)).probe(), ANSWER_S)
    except (NotReadyError, StackError, TimeoutError) as error:
        return Status(name, "silent", pid, port, memory, uptime, str(error) or f"no answer within {ANSWER_S:.0f} s")
    return Status(name, "up", pid, port, memory, uptime, "")


def _memory_mb(pid: int) -> int:
    """Return the resident memory of a process and, for PostgreSQL, not of its children."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def _uptime_s(pid: int) -> int:
    who = process.identify(pid)
    if who is None:
        return 0
    host = float(Path("/proc/uptime").read_text("ascii").split()[0])
    return int(host - who.started / os.sysconf("SC_CLK_TCK"))
