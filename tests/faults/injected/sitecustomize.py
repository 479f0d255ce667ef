"""What is wrong with a process that the harness starts with this folder on its path; the environment says what.

``FAULTS_DETECTOR=raise``: every detection fails. ``FAULTS_CLOCK=file``: the wall clock is off by the seconds in it.
"""

from __future__ import annotations

import os
import time


def _fail_detection() -> None:
    from services.processor import safety

    def judge(*_: object, **__: object) -> None:
        msg = "a bad deploy: this version cannot judge anything"
        raise ValueError(msg)

    safety.judge = judge


def _step_clock(path: str) -> None:
    real_time, real_ns = time.time, time.time_ns

    def offset_s() -> int:
        try:
            with open(path, encoding="ascii") as file:
                return int(file.read() or 0)
        except OSError:
            return 0

    time.time = lambda: real_time() + offset_s()
    time.time_ns = lambda: real_ns() + offset_s() * 1_000_000_000


if os.environ.get("FAULTS_DETECTOR") == "raise":
    _fail_detection()
if "FAULTS_CLOCK" in os.environ:
    _step_clock(os.environ["FAULTS_CLOCK"])
