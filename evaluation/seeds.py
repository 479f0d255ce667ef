"""Detection judged over many seeds drawn anew: what was found, missed and falsely raised, with intervals.

Runs the demo itself (``keepwell demo --once``) seed after seed on one running stack, so that what is judged is the
whole path, doors to database. Intervals are exact: Clopper-Pearson for shares, Garwood for rates.

    python -m evaluation.seeds --count 20 --json seeds.json
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, chi2

RUN_S: Final = 400  # a run takes about a minute; one that takes this long is broken
SAFETY: Final = ("desaturation", "tachycardia", "fever")
INFECTIONS: Final = 0.8  # 16 of 20
FALSE_PER_WEEK: Final = 0.3
KEEPWELL: Final = Path(sys.executable).with_name("keepwell")


@dataclass
class Tally:
    """One scenario over all runs."""

    expected: int = 0
    raised: int = 0
    false_clinical: int = 0
    patient_weeks: float = 0.0
    missing: list[str] = field(default_factory=list)

    def add(self, truth: Mapping[str, Any], seed: int) -> None:
        """Take one run's truth in."""
        self.expected += truth["expected"]
        self.raised += truth["raised"]
        self.false_clinical += truth["false_clinical"]
        self.patient_weeks += truth["patient_weeks"]
        self.missing += [f"seed {seed} {one}" for one in truth["missing"]]


def share_interval(found: int, of: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share.

    >>> [round(x, 3) for x in share_interval(16, 20)]
    [0.563, 0.943]
    """
    interval = binomtest(found, of).proportion_ci(0.95, "exact")
    return float(interval.low), float(interval.high)


def rate_interval(events: int, weeks: float) -> tuple[float, float]:
    """Return the exact (Garwood) 95 % interval of a rate of independent events a week.

    >>> [round(x, 3) for x in rate_interval(3, 30)]
    [0.021, 0.292]
    """
    low = chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
    return float(low / weeks), float(chi2.ppf(0.975, 2 * events + 2) / 2 / weeks)


def run_seed(seed: int, folder: Path) -> tuple[dict[str, Any], int]:
    """Run the demo once with this seed; return what it wrote and its exit code.

    Raises:
        RuntimeError: it wrote nothing; the end of its output is in the text.
    """
    out = folder / f"{seed}.json"
    command = [str(KEEPWELL), "demo", "--once", "--no-screen", "--seed", str(seed), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    if not out.exists():
        msg = f"seed {seed} ended with {done.returncode} and wrote nothing:\n{(done.stdout + done.stderr)[-2000:]}"
        raise RuntimeError(msg)
    return json.loads(out.read_text("utf-8")), done.returncode


def verdict(tallies: Mapping[str, Tally], broken: Sequence[str]) -> list[str]:
    """Return what is not as it must be; empty when all is well."""
    wrong = list(broken)
    for name in SAFETY:
        if tallies[name].raised < tallies[name].expected:
            wrong.append(f"{name}: {tallies[name].missing} not found")
    infection = tallies["infection"]
    if infection.raised < INFECTIONS * infection.expected:
        wrong.append(f"infection: {infection.raised} of {infection.expected} found, {INFECTIONS:.0%} wanted")
    healthy = tallies["healthy"]
    if healthy.false_clinical > FALSE_PER_WEEK * healthy.patient_weeks:
        wrong.append(f"healthy: more than {FALSE_PER_WEEK} clinical alerts a patient-week")
    if tallies["device_off"].false_clinical:
        wrong.append("device_off: a silent device raised a clinical alert")
    if tallies["late_burst"].raised < tallies["late_burst"].expected:
        wrong.append(f"late_burst: {tallies['late_burst'].missing} not listed as a late finding")
    return wrong


def table(tallies: Mapping[str, Tally]) -> Table:
    """Return the figures as a table."""
    out = Table("scenario", "found", "95 %", "false clinical / patient-week", "95 %", box=None)
    for name, tally in tallies.items():
        found, interval = "-", ""
        if tally.expected:
            low, high = share_interval(tally.raised, tally.expected)
            found, interval = f"{tally.raised} of {tally.expected}", f"{low:.2f} to {high:.2f}"
        low, high = rate_interval(tally.false_clinical, tally.patient_weeks)
        rate = f"{tally.false_clinical / tally.patient_weeks:.3f} ({tally.false_clinical} in {tally.patient_weeks:.0f})"
        out.add_row(name, found, interval, rate, f"{low:.3f} to {high:.3f}")
    return out


def main() -> int:
    """Run the seeds and print the table; return 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(description="Judge detection over seeds drawn anew, on the real parts.")
    parser.add_argument("--count", type=int, default=20, help="how many seeds (default 20)")
    parser.add_argument(
        "--seed", type=int, action="append", help="run these seeds instead of new ones; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    seeds = arguments.seed or [secrets.randbelow(2**31) for _ in range(arguments.count)]
    console = Console(highlight=False)
    subprocess.run([str(KEEPWELL), "up"], check=True, timeout=RUN_S)
    tallies: dict[str, Tally] = {}
    broken: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        for number, seed in enumerate(seeds, start=1):
            status.update(f"seed {seed} ({number} of {len(seeds)}, {time.monotonic() - began:.0f} s)")
            document, code = run_seed(seed, Path(folder))
            for name, truth in document["truth"].items():
                tallies.setdefault(name, Tally()).add(truth, seed)
            broken += [f"seed {seed}: {what}" for what in document["broken"]]
            console.print(
                f"seed {seed}: exit {code}, {document['stored']:,} readings, {document['wall_s']['total']:.0f} s"
            )
    wrong = verdict(tallies, broken)
    console.print(table(tallies))
    for what in wrong:
        console.print(f"not as it must be: {what}", style="red")
    if arguments.json:
        figures = {name: vars(tally) for name, tally in tallies.items()}
        arguments.json.write_text(json.dumps({"seeds": seeds, "scenarios": figures, "wrong": wrong}, indent=1), "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
