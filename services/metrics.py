"""The list of everything a running Keepwell counts: what each process has, what it means, what to do about it.

The doors' metrics are defined in ``ingest/metrics.py`` (they come first in `ALL`); the other processes' follow here.
``docs/operations.md`` holds the table made by `table`.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from ingest.metrics import DEFINED, SLOW_S, Definition, Part, counter, gauge, histogram

# ---------------------------------------------------------------- every process

UP = gauge(
    "process", "keepwell_up", ("process",),
    "1 while the process runs; process: gateway, bridge, processor, api",
    "missing: the process is gone, its supervisor should have started it again; see its log",
)  # fmt: skip
LOOP_AGE = gauge(
    "process", "keepwell_loop_age_seconds", (),
    "since the event loop last turned (normally below 0.3)",
    "above 5 /healthz fails, above watchdog.stalled_s the process ends itself: the log names the line it hung in",
)  # fmt: skip
READY = gauge(
    "process", "keepwell_part_ready", ("part",),
    "1 when a part this process needs was there when last looked at (every 2 s), as /readyz tells",
    "0: `keepwell health` says why",
)  # fmt: skip
LOG_LINES_LOST = counter(
    "process", "keepwell_log_lines_lost_total", (),
    "log lines that could not be written",
    "the disk of the logs is full, or whoever reads stderr has stopped",
)  # fmt: skip

# ---------------------------------------------------------------- the API

API_REQUESTS = counter(
    "api", "keepwell_api_requests_total", ("route", "method", "status"),
    "requests answered; route is the template, never the address asked for",
    "5xx: `keepwell health`, then the log; 401 in numbers: somebody tries tokens",
)  # fmt: skip
API_SECONDS = histogram(
    "api", "keepwell_api_seconds", ("route",),
    "from a request's arrival to the end of its answer; streams are left out",
    "high for one route: its query; high for all: the database or the pool",
    SLOW_S,
)  # fmt: skip
STREAMS = gauge(
    "api", "keepwell_api_streams", (),
    "open alert streams",
    "a fall to 0 in working hours: a proxy cuts them, or people cannot sign in",
)  # fmt: skip
STREAM_EVENTS = counter(
    "api", "keepwell_api_stream_events_total", (),
    "alert changes sent to streams, each watcher counted",
    "none while alerts are raised: see keepwell_api_stream_failures_total",
)  # fmt: skip
STREAM_FAILURES = counter(
    "api", "keepwell_api_stream_failures_total", (),
    "times alert changes could not be read; every stream was ended, so that screens show it",
    "the database is away or refuses: the log says why",
)  # fmt: skip
POOL = gauge(
    "api", "keepwell_api_pool_connections", ("state",),
    "database connections; state: in_use, idle, waiting (requests that wait for one)",
    "waiting above 0 for long: slow queries hold them, or more API processes are needed",
)  # fmt: skip

ALL: Final[tuple[Definition, ...]] = tuple(DEFINED)


def registry_for(parts: tuple[Part, ...]) -> CollectorRegistry:
    """Return what a process of these parts exposes: theirs, every process's, and its memory, CPU and open files."""
    registry = CollectorRegistry()
    for one in ALL:
        if one.part in {"process", *parts}:
            registry.register(one.metric)
    ProcessCollector(registry=registry)
    return registry


def table() -> str:
    """Return the list as a table in Markdown."""
    rows = [
        "| metric | kind | labels | in | what it means | what to do when it is off |",
        "|---|---|---|---|---|---|",
    ]
    for one in ALL:
        where = "every process" if one.part == "process" else {"door": "gateway, bridge"}.get(one.part, one.part)
        labels = ", ".join(one.labels) or "–"
        rows.append(f"| `{one.name}` | {one.kind} | {labels} | {where} | {one.meaning} | {one.action} |")
    return "\n".join(rows).replace(" || ", " or ") + "\n"
