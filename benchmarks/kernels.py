"""What detection costs: CPU time of each kernel, in batches of 500 patients over 10,000, and the bytes of a patient.

10,000 rows of state are 500 made-up people (`benchmarks/watch.py`) who have worn a watch for a fortnight, twenty times
over; the batches take turns minute by minute, so that none finds its rows where the last call left them. A sample is
the CPU time of one batch. Beside it, in the same run, stand libraries that take an event at a time, if `make kernels`
has installed them (`benchmarks/rivals.py`). `python -m benchmarks.kernels --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks import memory
from benchmarks.costs import CADENCE, Us, figures, markdown
from benchmarks.watch import START_MS, readings_of, scored_of, worn_hour
from detectors.apart import HOURS
from detectors.daily import CHANNELS, LIMITS, Channel, Daily
from detectors.early_warning import EarlyWarning
from detectors.limits import Limits
from detectors.novelty import DAYS as SHAPE_DAYS
from detectors.pipeline import Pipeline
from detectors.protocol import HOUR_MS, Doubles, HourSlice, Ints, Readings, Rows, State
from detectors.shape import Shape
from evaluation.page import PAGE, with_part
from ingest.clock import SystemClock, to_datetime

BATCH, BATCHES, RACING = 500, 20, 5
LEARNED_HOURS: Final = 14 * 24 + 9  # the hour that is measured ends a day, at 10:00
DAYS = 20  # of the daily detector; the last one is measured
RIVALS: Final = Path("build/rivals/bin/python")

Call = tuple[Any, ...]  # what is called, and with what


def learned() -> tuple[State, HourSlice, HourSlice]:
    """Return 10,000 rows of state, and the next two hours of one batch."""
    pipeline = Pipeline()
    state = pipeline.new_state(BATCH)
    for hour in range(LEARNED_HOURS):
        pipeline.settle(state, worn_hour(range(BATCH), START_MS + hour * HOUR_MS))
    now_ms = START_MS + LEARNED_HOURS * HOUR_MS
    return np.tile(state, BATCHES), worn_hour(range(BATCH), now_ms), worn_hour(range(BATCH), now_ms + HOUR_MS)


def measure(rounds: int) -> Us:
    """Return the CPU microseconds a patient of each kernel's calls, a sample a round and batch."""
    us: Us = {}
    state, hour, after = learned()
    for _ in range(rounds):
        _live(us, state.copy(), hour, after)
        _settle(us, "hour_at_once", Pipeline(), state.copy(), hour, (0, 60))
        _days(us)
        _shapes(us)
    return us


def _live(us: Us, state: State, hour: HourSlice, after: HourSlice) -> None:
    """An hour minute by minute, then its close (its last minute goes unmeasured), then that of the day."""
    pipeline, limits = Pipeline(), Limits()
    seldom, often = limits.new_state(len(state)), limits.new_state(len(state))
    early = EarlyWarning()
    scored, scored_often, told = (early.new_state(len(state)) for _ in range(3))
    minutes: Us = {}
    for minute in range(59):
        _settle(minutes, "minute", pipeline, state, hour, (minute, minute + 1))
        one, many = (readings_of(hour, minute, heart_rates, RACING) for heart_rates in CADENCE)
        _judge(minutes, "limits", limits, seldom, one)
        _judge(minutes, "limits_often", limits, often, many)
        _judge(minutes, "news2", early, scored, scored_of(one))
        _judge(minutes, "news2_often", early, scored_often, scored_of(many))
        _judge(minutes, "news2_told", early, told, scored_of(one, low=True))
    for name, spent in minutes.items():
        us.setdefault(name, []).extend(np.reshape(spent, (-1, BATCHES)).mean(axis=0).tolist())
    _settle(us, "hour_close", pipeline, state, hour, (60, 60))
    _settle(us, "day_close", pipeline, state, after, (0, 0))


def _days(us: Us) -> None:
    """Daily values, one day after the other."""
    daily, rng = Daily(), np.random.default_rng(1)
    prior = Channel(*np.array([CHANNELS[name] for name in daily.channels]).T)
    state = daily.new_state(BATCH * BATCHES)
    for day in range(DAYS):
        spent: Us = us if day == DAYS - 1 else {}
        _advance(spent, daily, state, day, prior.center + prior.day * rng.normal(size=(BATCH, len(daily.channels))))


def _shapes(us: Us) -> None:
    """The courses of days, one day after the other, until four weeks are remembered."""
    shape, rng = Shape(), np.random.default_rng(1)
    state = shape.new_state(BATCH * BATCHES)
    asleep = np.where((np.arange(HOURS) >= 13) & (np.arange(HOURS) < 21), -15.0, 0.0)
    for day in range(SHAPE_DAYS + 1):
        spent: Us = us if day == SHAPE_DAYS else {}
        on, rates = np.full(BATCH, 20_000 + day, np.int32), 70 + asleep + 3 * rng.normal(size=(BATCH, HOURS))
        _course(spent, shape, state, on, rates)


def _course(us: Us, shape: Shape, state: State, on: Ints, rates: Doubles) -> None:
    _each(us, "shape", lambda rows: (shape.advance, state, rows, on, rates))


def _settle(us: Us, name: str, pipeline: Pipeline, state: State, hour: HourSlice, span: tuple[int, int]) -> None:
    first, last = (np.full(BATCH, minute, np.int16) for minute in span)
    _each(us, name, lambda rows: (pipeline.settle, state, replace(hour, rows=rows, first=first, last=last)))


def _judge(us: Us, name: str, rules: Limits | EarlyWarning, state: State, readings: Readings) -> None:
    _each(us, name, lambda rows: (rules.advance, state, replace(readings, row=readings.row + rows[0])))


def _advance(us: Us, daily: Daily, state: State, day: int, values: Doubles) -> None:
    on = np.full(BATCH, day, np.int32)
    _each(us, "daily", lambda rows: (daily.advance, state, rows, on, values, LIMITS["0.1"]))


def _each(us: Us, name: str, prepared: Callable[[Rows], Call]) -> None:
    """Make every batch's call; add the CPU microseconds a patient that it took."""
    samples = us.setdefault(name, [])
    for batch in range(BATCHES):
        function, *arguments = prepared(np.arange(batch * BATCH, (batch + 1) * BATCH))
        began = time.process_time_ns()
        function(*arguments)
        samples.append((time.process_time_ns() - began) / 1000 / BATCH)


def rivals(samples: int) -> dict[str, Any] | None:
    """Return what the other libraries cost; None where they are not installed."""
    if not RIVALS.exists():
        return None
    words = [str(RIVALS), "-m", "benchmarks.rivals", "--samples", str(samples)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def machine() -> dict[str, Any]:
    """Return what the figures depend on; the load average is that of the minute before."""
    about = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in about.splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(), "cpus": os.cpu_count(), "system": platform.platform(),
        "python": platform.python_version(), "numpy": np.__version__, "load_1m": [round(os.getloadavg()[0], 2)],
    }  # fmt: skip


def main() -> int:
    """Measure, print, and write the page's part; exit with 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="samples of each batch")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--no-page", action="store_true", help="leave docs/detection.md as it is")
    chosen = parser.parse_args()
    about = machine()
    us, beside = measure(chosen.rounds), rivals(chosen.rounds * BATCHES)
    about["load_1m"].append(round(os.getloadavg()[0], 2))
    remembered = {heart_rates: memory.measure(heart_rates) for heart_rates in CADENCE}
    document = {
        "date": to_datetime(SystemClock().now_ms()).isoformat()[:10], "machine": about,
        "batch": BATCH, "patients": BATCH * BATCHES, "racing": RACING, **figures(us, beside, remembered),
    }  # fmt: skip
    text = markdown(document)
    Console(highlight=False, markup=False, soft_wrap=True).print(text)
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if not chosen.no_page:
        PAGE.write_text(with_part(PAGE.read_text("utf-8"), "costs", "kernels", text), "utf-8")
    return 0 if document["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
