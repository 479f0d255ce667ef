"""What a process says of its own health: whether its event loop turns, and which of the parts it needs is not there.

`Health.run` beats and checks inside the event loop; `alive` and `ready` only read what it left, so that another
thread can answer while the loop is stuck, and say so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

BEAT_S: Final = 0.25
STALLED_S: Final = 5.0  # a loop that has not turned for this long answers nobody
CHECK_EVERY_S: Final = 2.0
CHECK_LIMIT_S: Final = 4.0

LOOP_STALLED: Final = "loop_stalled"
NOT_CHECKED: Final = "not_checked"
NO_ANSWER: Final = "no_answer"
CHECK_FAILED: Final = "check_failed"


class NotReady(Exception):
    """A part is not ready: ``code`` is stable, ``detail`` is for a reader."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


# Looks at one part; returns figures worth showing, or raises NotReady.
Check = Callable[[], Awaitable[Mapping[str, Any] | None]]


class Health:
    """One process's health; ``checks`` names its parts. ``monotonic`` gives seconds and is there for tests."""

    def __init__(
        self, process: str, checks: Mapping[str, Check], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.process = process
        self.checks = dict(checks)
        self._monotonic = monotonic
        self._beat_at = self._began_at = monotonic()
        self._looked_at: float | None = None
        self._parts: dict[str, dict[str, Any]] = {
            name: {"ready": False, "code": NOT_CHECKED, "detail": "not looked at yet"} for name in checks
        }
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Beat and look at the parts until cancelled."""
        checking = asyncio.create_task(self._keep_looking(), name="health")
        try:
            while True:
                self.beat()
                await asyncio.sleep(BEAT_S)
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    def beat(self) -> None:
        """The loop has turned."""
        self._beat_at = self._monotonic()

    @property
    def since_beat_s(self) -> float:
        """Seconds since the loop last turned."""
        return self._monotonic() - self._beat_at

    def part_ready(self, *names: str) -> bool:
        """Whether these parts were ready when last looked at."""
        return all(self._parts.get(name, {}).get("ready", False) for name in names)

    async def look(self) -> None:
        """Look at every part; who comes while somebody looks waits for that look. Never raises."""
        looking = self._looking.locked()
        async with self._looking:
            if looking:
                return
            found = await asyncio.gather(*(_look_at(check) for check in self.checks.values()))
            self._parts = dict(zip(self.checks, found, strict=True))
            self._looked_at = self._monotonic()
            self.beat()  # whoever could look turns

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the loop turns, and the document that says so."""
        since = self.since_beat_s
        alive = since < STALLED_S
        document: dict[str, Any] = {
            "status": "alive" if alive else "stalled",
            "process": self.process,
            "up_s": round(self._monotonic() - self._began_at, 1),
        }
        if not alive:
            document |= {"code": LOOP_STALLED, "detail": f"the event loop has not turned for {since:.1f} s"}
        return alive, document

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Return whether every part is ready, and the document that names those that are not."""
        alive, _ = self.alive()
        parts = dict(self._parts)
        if not alive:
            detail = f"the event loop has not turned for {self.since_beat_s:.1f} s"
            parts = {"loop": {"ready": False, "code": LOOP_STALLED, "detail": detail}, **parts}
        ready = all(part["ready"] for part in parts.values())
        looked = self._looked_at
        return ready, {
            "status": "ready" if ready else "not_ready",
            "process": self.process,
            "parts": parts,
            "looked_s_ago": None if looked is None else round(self._monotonic() - looked, 1),
        }

    async def _keep_looking(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(CHECK_EVERY_S)


async def _look_at(check: Check) -> dict[str, Any]:
    try:
        async with asyncio.timeout(CHECK_LIMIT_S):
            figures = await check()
    except NotReady as error:
        return {"ready": False, "code": error.code, "detail": error.detail}
    except TimeoutError:
        return {"ready": False, "code": NO_ANSWER, "detail": f"no answer within {CHECK_LIMIT_S:g} s"}
    except Exception as error:  # a check that breaks must not end the checking
        return {"ready": False, "code": CHECK_FAILED, "detail": type(error).__name__}
    return {"ready": True, **(figures or {})}
