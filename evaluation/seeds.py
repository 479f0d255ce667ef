"""The demo on seeds drawn anew, judged together: ``python -m evaluation.seeds --count 20 --json seeds.json``.

Each seed is one whole `keepwell demo --once` on one running stack; this script only reads what they wrote. It
exits with 1 unless every safety scenario was found, enough infections were, healthy patients were left alone,
silence stayed technical, late bursts became late findings and every invariant held.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta, chi2

SAFETY: Final = ("desaturation", "tachycardia", "fever")
ILL: Final = (*SAFETY, "infection", "late_burst")  # whoever has none of these should hear nothing clinical
ENOUGH_INFECTIONS: Final = 0.8
MOST_FALSE: Final = 0.3  # clinical alerts per patient-week of patients who are well
RUN_S: Final = 400.0
RESAMPLED: Final = 2000
LOG_WIDTH: Final = 140

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def share(found: int, of: int) -> Interval:
    """Return a share with its exact (Clopper-Pearson) interval."""
    low = float(beta.ppf(0.025, found, of - found + 1)) if found else 0.0
    high = float(beta.ppf(0.975, found + 1, of - found)) if found < of else 1.0
    return Interval(found / of if of else 0.0, low, high)


def rate(events: int, exposure: float) -> Interval:
    """Return events per unit of exposure with the exact Poisson interval."""
    low = float(chi2.ppf(0.025, 2 * events)) / 2 if events else 0.0
    high = float(chi2.ppf(0.975, 2 * events + 2)) / 2
    return Interval(events / exposure, low / exposure, high / exposure)


def rate_by_seed(events: Sequence[int], exposure: Sequence[float]) -> Interval:
    """Return a rate with an interval that resamples whole seeds: alerts of one run may hang together."""
    counts, weeks = np.array(events, float), np.array(exposure, float)
    picks = np.random.default_rng(0).integers(len(counts), size=(RESAMPLED, len(counts)))
    rates = counts[picks].sum(axis=1) / weeks[picks].sum(axis=1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return Interval(float(counts.sum() / weeks.sum()), float(low), float(high))


def run(seed: int, folder: Path, more: Sequence[str]) -> Document:
    """Run one demo and return what it wrote.

    Raises:
        RuntimeError: it wrote nothing; the text is the end of its output.
    """
    result = folder / f"seed-{seed}.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "services.cli.main", "demo", "--once", "--no-screen", "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--json", str(result), *more], capture_output=True, text=True, timeout=RUN_S, check=False
    )
    if not result.exists():
        msg = f"seed {seed} ended with {done.returncode} and wrote nothing:\n{(done.stdout + done.stderr)[-2000:]}"
        raise RuntimeError(msg)
    document: Document = json.loads(result.read_text("utf-8"))
    return document


def judge(documents: Sequence[Document]) -> tuple[dict[str, Any], list[str]]:
    """Return the figures over all seeds, and what is not as it must be."""
    figures: dict[str, Any] = {"seeds": [document["seed"] for document in documents]}
    wrong = [f"seed {document['seed']}: {problem}" for document in documents for problem in document["broken"]]
    names = list(dict.fromkeys(name for document in documents for name in document["truth"]))
    for name in names:
        truths = [document["truth"][name] for document in documents if name in document["truth"]]
        expected, raised = (sum(truth[key] for truth in truths) for key in ("expected", "raised"))
        false, incidents = ([truth[key] for truth in truths] for key in ("false_clinical", "false_incidents"))
        weeks = [truth["patient_weeks"] for truth in truths]
        figures[name] = {
            "expected": expected,
            "raised": raised,
            "found": None if not expected else vars(share(raised, expected)),
            "false_clinical": sum(false),
            "patient_weeks": round(sum(weeks), 1),
            "false_rate": vars(rate(sum(false), sum(weeks))),
            "false_incidents": sum(incidents),
            "false_incident_rate": vars(rate(sum(incidents), sum(weeks))),
        }
    for name in (*SAFETY, "late_burst", "device_off"):
        if figures[name]["raised"] < figures[name]["expected"]:
            wrong.append(f"{name}: {figures[name]['raised']} of {figures[name]['expected']} found; all must be")
    infections = figures["infection"]
    if infections["raised"] < ENOUGH_INFECTIONS * infections["expected"]:
        wrong.append(
            f"infection: {infections['raised']} of {infections['expected']} found; {ENOUGH_INFECTIONS:.0%} must be"
        )
    figures["well"] = _well(documents, names, wrong)
    return figures, wrong


def _well(documents: Sequence[Document], names: Sequence[str], wrong: list[str]) -> dict[str, Any]:
    """Return the rates of clinical alerts and incidents among patients who are well, whatever their devices do."""
    well = [name for name in names if name not in ILL]
    events, incidents = (
        [sum(document["truth"][name][key] for name in well) for document in documents]
        for key in ("false_clinical", "false_incidents")
    )
    weeks = [sum(document["truth"][name]["patient_weeks"] for name in well) for document in documents]
    clustered = rate_by_seed(events, weeks)
    healthy = rate(
        sum(document["truth"]["healthy"]["false_clinical"] for document in documents),
        sum(document["truth"]["healthy"]["patient_weeks"] for document in documents),
    )
    for what, interval in (("healthy", healthy), ("well", clustered)):
        if interval.value > MOST_FALSE:
            wrong.append(f"{what}: {interval} clinical alerts per patient-week; {MOST_FALSE} are allowed")
    return {
        "patient_weeks": round(sum(weeks), 1),
        "clinical": sum(events),
        "incidents": sum(incidents),
        "incident_rate_by_seed": vars(rate_by_seed(incidents, weeks)),
        "rate_poisson": vars(rate(sum(events), sum(weeks))),
        "rate_by_seed": vars(clustered),
        "healthy_rate_poisson": vars(healthy),
    }


def show(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures as a table."""
    week = "per patient-week (95 %)"
    table = Table("scenario", "found", "share (95 %)", "false clinical", week, "in incidents", week, box=None)
    for name, row in figures.items():
        if name in ("seeds", "well"):
            continue
        found = f"{row['raised']} of {row['expected']}" if row["expected"] else "-"
        part = str(Interval(**row["found"])) if row["found"] else "-"
        false = str(row["false_clinical"]), str(Interval(**row["false_rate"]))
        incidents = str(row["false_incidents"]), str(Interval(**row["false_incident_rate"]))
        table.add_row(name, found, part, *false, *incidents)
    console.print(table)
    well = figures["well"]
    console.print(
        f"patients who are well: {well['clinical']} clinical alerts in {well['patient_weeks']} patient-weeks, "
        f"{Interval(**well['rate_by_seed'])} a week (resampled by seed), {Interval(**well['rate_poisson'])} (Poisson); "
        f"{well['incidents']} incidents, {Interval(**well['incident_rate_by_seed'])} a week (resampled by seed)"
    )


def main() -> int:
    """Run and judge; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="how many seeds")
    parser.add_argument("--seeds", type=int, nargs="*", help="these seeds instead of new ones")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--folder", type=Path, default=Path(".keepwell/seeds"), help="where each run's result goes")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    seeds = arguments.seeds or [secrets.randbelow(1_000_000) for _ in range(arguments.count)]
    up = [sys.executable, "-m", "services.cli.main", "up"]
    subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
    documents = []
    for number, seed in enumerate(seeds, start=1):
        document = run(seed, arguments.folder, [])
        documents.append(document)
        missing = [one for truth in document["truth"].values() for one in truth["missing"]]
        console.print(
            f"{number}/{len(seeds)} seed {seed}: {document['wall_s']['total']} s, missing {missing or 'nothing'}, "
            f"broken {document['broken'] or 'nothing'}"
        )
    figures, wrong = judge(documents)
    show(figures, console)
    for problem in wrong:
        console.print(f"wrong: {problem}", style="red", markup=False)
    if arguments.json:
        arguments.json.write_text(json.dumps({**figures, "wrong": wrong}, indent=1), "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
