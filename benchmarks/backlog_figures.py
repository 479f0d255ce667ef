"""The rounds of `backlog` as figures, what was promised, and the table."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from ingest.clock import SystemClock, to_datetime

PROMISE = 2.0
CARRIED_MS = 1000.0  # p50 without history; above it the machine doesn't carry the live rate, and nothing is shown


def summary(rounds: list[dict[str, Any]], chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the medians over the rounds with their spread, the ratio, and whether the promise is kept."""
    figures = {}
    for part in ("without", "with"):
        for name in ("steady_p50", "steady_p99", "whole_p50", "whole_p99", "whole_max"):
            values = [one[part][name] for one in rounds]
            figures[f"{part}_{name}"] = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    of_each = {
        span: [one["with"][f"{span}_p99"] / one["without"][f"{span}_p99"] for one in rounds]
        for span in ("steady", "whole")
    }
    ratios = {span: statistics.median(values) for span, values in of_each.items()}
    return {
        "date": to_datetime(SystemClock().now_ms()).isoformat(),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load_1m": os.getloadavg()[0]},
        "settings": {key: value for key, value in chosen.items() if key not in ("home", "json")},
        "n": sum(one[part]["n"] for one in rounds for part in one),
        "rounds": rounds,
        "figures": figures,
        "ratio_p99": {span: round(ratio, 2) for span, ratio in ratios.items()},
        "ratio_p99_of_each_round": {span: [round(one, 2) for one in values] for span, values in of_each.items()},
        "promise": PROMISE,
        "carried": all(one["without"]["steady_p50"] <= CARRIED_MS for one in rounds),
        "kept": all(ratio <= PROMISE for ratio in ratios.values()),
    }


ROWS = {
    "steady_p50": "p50 between rebalances",
    "steady_p99": "p99 between rebalances",
    "whole_p50": "p50 through one rebalance",
    "whole_p99": "p99 through one rebalance",
    "whole_max": "longest",
}


def show(document: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("ms, median (low to high)", "without", "with the backlog", box=None)
    for name, what in ROWS.items():
        cells = [document["figures"][f"{part}_{name}"] for part in ("without", "with")]
        table.add_row(what, *(f"{one['median']:.1f} ({one['low']:.1f} to {one['high']:.1f})" for one in cells))
    console = Console(highlight=False)
    console.print(table)
    taken = [f"{one['with']['history_frames']} frames in {one['with']['seconds']:.0f} s" for one in document["rounds"]]
    machine = document["machine"]
    console.print(
        f"{document['n']} live frames, {len(taken)} rounds; the backlog: {', '.join(taken)}; {machine['cpus']} cores, "
        f"load {machine['load_1m']:.1f}, {document['date'][:16]}"
    )
    ratio, each = document["ratio_p99"], document["ratio_p99_of_each_round"]
    console.print(
        f"p99 with / without: {ratio['steady']} between rebalances ({min(each['steady'])} to {max(each['steady'])}), "
        f"{ratio['whole']} through one ({min(each['whole'])} to {max(each['whole'])}); promised: at most {PROMISE:g}: "
        f"{'kept' if document['kept'] else 'NOT KEPT'}"
    )
    if not document["carried"]:
        console.print(
            f"this machine, with what else it does, does not carry the live rate: p50 without history is over "
            f"{CARRIED_MS:g} ms in a round. The ratio says nothing then; try a lower --rate, or when it has less to do"
        )
