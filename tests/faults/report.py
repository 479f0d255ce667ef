"""The page and the JSON of a run: date, machine, commit, seeds, and every row, bad ones too."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ingest.clock import SystemClock, to_datetime
from tests.faults.matrix import Row
from tests.faults.trial import Outcome

HEAD = """\
# Reliability: what was broken, and what held

Written by `make faults`; never edited by hand. Each row runs the whole system (gateway, bridge, processor, API) on real
Kafka, TimescaleDB and mosquitto, sends it the story of {patients} people and four ECG devices over HTTPS and MQTT
({readings:,} readings and the waveforms; eight days of event time in some seconds), breaks one thing at a moment
drawn from the seed, and then compares, with a checker that shares no code with the system:

- the devices' own books with the database, as sets: accepted = stored ∪ duplicate ∪ conflict ∪ dead ∪ quarantined;
  nothing is stored twice, nothing is there that nobody sent, every waveform block is there once;
- every alert change: none raised, withdrawn or resolved twice; a watcher of the alert stream saw each once, in order;
- the settled alerts with those of an undisturbed offline run of the same frames: ids, times and sentences.

Broker and database are the real ones in every row. A proxy of the harness's own stands for what needs a switch or a
firewall (it knows Kafka's framing, so that brokers' addresses and error codes can be changed; it loses segments with a
socket filter); a tmpfs, cgroup and /dev/full for the machine's limits; a patched `time.time` for a stepped clock. What is
less than one might wish: everything is on loopback of one machine; what the watchers of row 20 leave unread fits into
the buffers on the way; a clock that steps further than the silence allowed (row 19: two hours) would be taken for silence.
An alert is written in the transaction that stores its readings, so a database that is away delays it (row 11).

"""


def as_json(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return everything of a run as plain values."""
    named = {one.number: one for one in rows}
    return machine() | {
        "outcomes": [
            {"name": named[one.row].name, "how": named[one.row].how, "passed": one.passed} | asdict(one)
            for one in outcomes
        ]
    }


def joined(documents: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[Outcome]]:
    """Return where several runs of one commit took place, and their outcomes, from what `as_json` wrote.

    Of a row that was run again with the same seed the later run counts; what broke before stays on the page.

    Raises:
        ValueError: they are of different commits.
    """
    commits = {one["commit"] for one in documents}
    if len(commits) != 1:
        msg = f"runs of {', '.join(sorted(commits))} are no one run: take those of one commit"
        raise ValueError(msg)
    newest: dict[tuple[int, int], Outcome] = {}
    before: list[Outcome] = []  # broken ones that were run again: the page tells of them
    for document in documents:
        for one in document["outcomes"]:
            read = Outcome(**{name: value for name, value in one.items() if name not in ("name", "how", "passed")})
            old = newest.get((read.seed, read.row))
            before += [old] if old is not None and not old.passed else []
            newest[read.seed, read.row] = read
    load = max(one["load"] for one in documents)
    where = documents[-1] | {"load": load, "before": before}
    return where, [newest[place] for place in sorted(newest)]


def machine() -> dict[str, Any]:
    """Return where and on what a run took place."""
    return {
        "date": to_datetime(SystemClock().now_ms()).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[1], 1),
    }


def page(
    rows: Sequence[Row], outcomes: Sequence[Outcome], people: int, processors: int, where: dict[str, Any] | None = None
) -> str:
    """Return docs/reliability.md."""
    where = where or machine()
    seeds = sorted({one.seed for one in outcomes})
    ran = {one.row for one in outcomes}
    held = len(ran - {one.row for one in outcomes if not one.passed})
    readings = max((one.accepted for one in outcomes), default=0)
    lines = [HEAD.format(patients=people, readings=readings)]
    lines += [
        f"Run of {where['date']}, commit `{where['commit']}`, seeds {', '.join(map(str, seeds))}, on {where['cores']} cores "
        f"({where['cpu']}), {where['memory_gb']} GB, broker, database and load on the same cores; "
        f"load average {where['load']:.1f} at the end (2 and more: others were at work). "
        f"**{held} of {len(rows)} rows held on every seed**"
        + (f"; {len(rows) - len(ran)} did not run. " if len(ran) < len(rows) else ". ")
        + _shared(outcomes, processors),
        "Again: frames that came more than once through Kafka and were kept once. Catch-up: seconds from the end of the "
        "fault until everything accepted by then was in the database. Alert: seconds from the verdict on a frame until "
        "its safety alert was on a watcher's stream, whatever was broken meanwhile.\n",
        "| # | fault | injected by | held | readings | stored twice or lost | again | catch-up p50 / max s | "
        "alert p50 / max s | its own figures (worst) | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(one, [o for o in outcomes if o.row == one.number]) for one in rows]
    lines += _broken(rows, outcomes)
    if where.get("before"):
        lines += [
            "\nRun again with the same seed, and above as it went then; the first time:",
            *_broken(rows, where["before"]),
        ]
    return "\n".join(lines) + "\n"


def _shared(outcomes: Sequence[Outcome], processors: int) -> str:
    """Say how many processors shared the partitions."""
    other = {one.row: one.processors for one in outcomes if one.processors != processors}
    rows = ", ".join(f"row {number}: {count}" for number, count in sorted(other.items()))
    what = "One processor had all partitions" if processors == 1 else f"{processors} processors shared the partitions"
    return f"{what}{f' ({rows})' if rows else ''}.\n"


def _line(row: Row, of_row: Sequence[Outcome]) -> str:
    if not of_row:
        return f"| {row.number} | {row.name} | {row.how} | not run | | | | | | | |"
    good = sum(one.passed for one in of_row)
    catch_ups = [one.catch_up_s for one in of_row if one.catch_up_s is not None]
    p50 = [one.alert_p50_s for one in of_row if one.alert_p50_s is not None]
    most = [one.alert_max_s for one in of_row if one.alert_max_s is not None]
    lost = sum(any("readings" in p or "waveform" in p for p in one.problems) for one in of_row)
    cells = [
        str(row.number),
        row.name,
        row.how,
        "yes" if good == len(of_row) else f"**no** ({good} of {len(of_row)})",
        f"{sum(one.accepted for one in of_row):,}",
        "0" if not lost else f"see below ({lost} runs)",
        str(sum(one.again for one in of_row)),
        _pair(catch_ups),
        f"{statistics.median(p50):.2f} / {max(most):.2f}" if p50 and most else "–",
        _figures(of_row),
        f"{statistics.mean(one.took_s for one in of_row):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _pair(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} / {max(values):.1f}" if values else "–"


def _figures(of_row: Sequence[Outcome]) -> str:
    names = dict.fromkeys(name for one in of_row for name in one.readings)
    shown = []
    for name in names:
        values = [one.readings[name] for one in of_row if name in one.readings]
        numbers = [value for value in values if isinstance(value, int | float)]
        best = min if "worst" in name or name.startswith("least") else max
        shown.append(f"{name} {best(numbers):g}" if numbers else f"{name} {values[-1]}")
    return "; ".join(shown) or "–"


def _broken(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> list[str]:
    named = {one.number: one.name for one in rows}
    bad = [one for one in outcomes if not one.passed]
    if not bad:
        return []
    lines = ["\n## What did not hold\n"]
    for one in bad:
        told = "; ".join(re.sub(r"/\S+/", "…/", problem.partition("\n")[0]) for problem in one.problems)  # no folders
        lines.append(f"- **{one.row} {named[one.row]}**, seed {one.seed}: {told}")
    lines.append('\nTo see one again: `make faults SEEDS=1 ARGS="--first SEED --rows ROW"`.')
    return lines


def _commit() -> str:
    here = Path(__file__).parents[2]
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=False
    )
    return (told.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
