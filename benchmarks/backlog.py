"""Live latency beside a backlog of history: append → committed, without and with 50,000 frames in ``backfill.v1``.

Live devices send at a steady rate. A round goes to and fro between its two parts, with a piece of the backlog and as
long without, so that what else the machine does meets both. In each slice a second processor joins, and leaves after
it; patients are spread over the hour, so that as many hours are closed in each. Latency is real and monotonic: from
handing a record to the producer (its acknowledgement included) until its position is committed in the database, seen
by polling each 2 ms. The promise: p99 with the backlog at most twice p99 without, each over all slices of its part.

Runs on servers of its own (``--home``), which it stops at its end. `python -m benchmarks.backlog --help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.backlog_bench import Bench, Part, bench_on
from benchmarks.backlog_figures import show, summary
from deploy.local.stack import Stack
from services.settings import load


async def measure_round(bench: Bench, seconds: float, frames: int, slices: int) -> tuple[Part, Part]:
    """Measure with a piece of the backlog and as long without, by turns; it is appended while the processor runs."""
    without, beside = Part("without"), Part("with")
    bench.start()
    await bench.owned()
    await bench.measure(Part("warming up"), 3, until_drained=False)
    for piece in range(slices):
        await bench.append_history(frames * (piece + 1) // slices - frames * piece // slices)
        before = beside.seconds
        await bench.measure(beside, seconds, until_drained=True)
        await bench.measure(without, beside.seconds - before, until_drained=False)
    return without, beside


def main() -> int:
    """Run the rounds, print the table; exit with 1 when the promise is not kept or nothing is shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".keepwell/bench"), help="folder of its own servers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=5, help="of each part in a round")
    parser.add_argument("--seconds", type=float, default=20, help="of each slice at least")
    parser.add_argument("--frames", type=int, default=50_000, help="of the backlog")
    parser.add_argument("--rate", type=int, default=250, help="live frames a second")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    home = chosen.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    stack = Stack(home, 0)
    stack.up()
    rounds = []
    try:
        settings = load({"stack.home": home}, environ={"KEEPWELL_CONFIG": os.devnull}).settings
        for number in range(chosen.rounds):
            with bench_on(settings, home, chosen.rate) as bench:
                parts = asyncio.run(measure_round(bench, chosen.seconds, chosen.frames, chosen.slices))
                rounds.append({part.name: part.figures() for part in parts})
            Console(stderr=True).print(f"round {number + 1} of {chosen.rounds}: {rounds[-1]}", highlight=False)
    finally:
        stack.down()
    document = summary(rounds, vars(chosen))
    show(document)
    if chosen.json:
        chosen.json.write_text(json.dumps(document, indent=2, default=str) + "\n", "utf-8")
    return 0 if document["kept"] and document["carried"] else 1


if __name__ == "__main__":
    sys.exit(main())
