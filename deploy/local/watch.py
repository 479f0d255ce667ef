"""Waiting for a server to be ready, with a limit, and without waiting for the dead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from deploy.local import process
from deploy.local.errors import StackError
from deploy.local.server import NotReadyError, Server

ASK_EVERY_S = 0.05


async def until_ready(server: Server, who: process.Identity, log: Path, child: process.Detached | None = None) -> float:
    """Probe a server until it answers as to a client; return the seconds that took.

    Raises:
        StackError: its process died (noticed within some 20 ms), or ``server.ready_s`` passed.
    """
    began = time.monotonic()
    asked = asyncio.create_task(_ask(server))
    died = asyncio.create_task(_death(who))
    try:
        done, _ = await asyncio.wait({asked, died}, timeout=server.ready_s, return_when=asyncio.FIRST_COMPLETED)
        if asked in done:
            asked.result()
            return time.monotonic() - began
        if died in done:
            how = process.exit_code(child) if child is not None else "is gone"
            msg = f"{server.name} (pid {who.pid}) {how} before it was ready; {_told(log)}"
            raise StackError(msg)
        msg = (
            f"{server.name} (pid {who.pid}) runs but did not answer a client within {server.ready_s:.0f} s "
            f"({_last.get(server.name, 'no reason known')}); `keepwell down`, then `up` again; {_told(log)}"
        )
        raise StackError(msg)
    finally:
        for task in (asked, died):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, NotReadyError, StackError):
                await task


_last: dict[str, str] = {}


def _told(log: Path) -> str:
    return f"see {log}, which ends:\n{process.tail(log)}"


async def _ask(server: Server) -> None:
    while True:
        try:
            await server.probe()
        except NotReadyError as error:
            _last[server.name] = str(error)
            await asyncio.sleep(ASK_EVERY_S)
        else:
            return


async def _death(who: process.Identity) -> None:
    while process.alive(who):
        await asyncio.sleep(process.POLL_S)
