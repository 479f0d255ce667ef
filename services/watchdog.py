"""The watchdog: a process that has stalled ends itself loudly, so that its supervisor starts it again.

Two ways of stalling are watched from a thread of its own: the event loop does not turn (something blocks it), and
records wait without one being committed although broker and database answer. The second needs both to answer,
because waiting for a broker or database that is away is what a process should do, and a restart would not help.
A process that was stopped or a machine that slept is not taken for stalled: only time the watchdog itself saw counts.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.logs import write_line

EXIT_STALLED: Final = 86
TICK_S: Final = 0.5

log = structlog.get_logger(__name__)

# What is watched: seconds without progress, 0 while there is none to expect; read from the watchdog's thread.
Stuck = Callable[[], float]


class Watchdog:
    """Ends the process when the loop, or the work, has been stuck for ``stalled_s``."""

    def __init__(
        self,
        since_beat: Callable[[], float],
        stalled_s: float,
        stuck: Stuck | None = None,
        *,
        end: Callable[[int], object] = os._exit,
        tick_s: float = TICK_S,
    ) -> None:
        self._since_beat = since_beat
        self._stuck = stuck
        self._stalled_s = stalled_s
        self._end = end
        self._tick_s = tick_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch; 0 seconds switches it off."""
        if self._stalled_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2)

    def _watch(self) -> None:
        silent = idle = 0.0  # seconds seen by this thread
        last = time.monotonic()
        while not self._over.wait(self._tick_s):
            now = time.monotonic()
            seen = min(now - last, 2 * self._tick_s)  # asleep or stopped meanwhile: that was not the loop's fault
            last = now
            silent = silent + seen if self._since_beat() > self._tick_s + 1 else 0.0
            idle = idle + seen if self._stuck is not None and self._stuck() > 0 else 0.0
            if silent >= self._stalled_s:
                self._bark("loop_stalled", f"the event loop has not turned for {silent:.0f} s")
                return
            if idle >= self._stalled_s:
                self._bark("no_progress", f"records wait and none was committed for {idle:.0f} s")
                return

    def _bark(self, code: str, what: str) -> None:
        """Say what hangs, without the loop or any lock of the logger, and end the process."""
        said = {"level": "critical", "event": "stalled", "code": code, "detail": what, "exit": EXIT_STALLED}
        write_line(json.dumps(said))
        with contextlib.suppress(OSError, ValueError):  # closed stderr: the exit code still tells
            faulthandler.dump_traceback(2, all_threads=True)
        self._end(EXIT_STALLED)
