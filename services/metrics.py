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

# ---------------------------------------------------------------- the processor and its relay

BATCH_SECONDS = histogram(
    "processor", "keepwell_processor_batch_seconds", (),
    "one transaction: a batch of records computed and committed",
    "high: the database's disk is slow, or a few patients send years at once",
    SLOW_S,
)  # fmt: skip
RECORDS = counter(
    "processor", "keepwell_processor_records_total", ("topic",),
    "records whose effects are committed",
    "none while records wait: see keepwell_processor_commit_age_seconds",
)  # fmt: skip
FATES = counter(
    "processor", "keepwell_processor_readings_total", ("fate",),
    "readings by what became of them: stored, duplicate, conflict, quarantined, erased; late and corrected ones are in "
    "there too",
    "many quarantined or conflicting: a device's unit, clock or wearer is wrong; see the frames' fates",
)  # fmt: skip
SUPPRESSED = counter(
    "processor", "keepwell_processor_suppressed_total", ("monitoring",),
    "findings that a patient's monitoring state kept quiet; one that lasts may be counted again after a restart",
    "much in `paused`: somebody may have been forgotten there; `GET /v1/patients/{id}/suppressed` lists them",
)  # fmt: skip
DEAD = counter(
    "processor", "keepwell_processor_dead_total", ("reason",),
    "records filed as dead because they cannot be processed",
    "`keepwell dead list` shows them with their reasons; nothing is lost, fix and redrive",
)  # fmt: skip
POISON = gauge(
    "processor", "keepwell_processor_poison_ratio", (),
    "dead records among the last 200; above 0.5 the process stops before it drains everything",
    "above 0: `keepwell dead list`; rising after a deploy: go back to the version before",
)  # fmt: skip
BEHIND = gauge(
    "processor", "keepwell_processor_behind_records", ("topic", "partition"),
    "records of an owned partition that wait to be processed",
    "rising: the processor is too slow or stopped; add a processor while there are partitions to share",
)  # fmt: skip
WAITING_AGE = gauge(
    "processor", "keepwell_processor_waiting_seconds", ("topic",),
    "how old the oldest record that waits is; 0 when caught up",
    "near keepwell_kafka_retention_seconds Kafka deletes what was accepted: raise retention.ms of the topic at once",
)  # fmt: skip
RETENTION = gauge(
    "processor", "keepwell_kafka_retention_seconds", ("topic",),
    "how long the broker keeps a topic's records (its retention.ms)",
    "below a weekend: too short for an outage nobody is at work for",
)  # fmt: skip
COMMIT_AGE = gauge(
    "processor", "keepwell_processor_commit_age_seconds", (),
    "since live records were last committed, while some wait; 0 when caught up",
    "high: look at the parts in /readyz; the watchdog ends a process that could go on and does not",
)  # fmt: skip
EPOCH = gauge(
    "processor", "keepwell_processor_epoch", ("partition",),
    "the epoch this process fences the partition with; each rise is a new owner",
    "rises without restarts: members drop out of the group, they are too slow or the network is bad",
)  # fmt: skip
PARTITIONS = gauge(
    "processor", "keepwell_processor_partitions", (),
    "partitions of each topic that this process owns",
    "the sum over processes differs from kafka.partitions for minutes: the group cannot settle, see the logs",
)  # fmt: skip
DATABASE_RETRIES = counter(
    "processor", "keepwell_processor_database_retries_total", ("code",),
    "times a batch was tried again; code: the SQLSTATE, or none where the connection was lost",
    "53100: the database's disk is full; 08… or none: it is away; 55P03, 57014: something holds locks",
)  # fmt: skip
WATERMARK_AGE = gauge(
    "processor", "keepwell_processor_watermark_age_seconds", ("of",),
    "how far settled results are behind the present; of: the median or the oldest patient, silent ones included",
    "the median rising: devices send late, or the processor is behind",
)  # fmt: skip
PATIENTS = gauge(
    "processor", "keepwell_processor_patients", ("state",),
    "patients in memory; state: all, dirty (late data wait for a rebuild), anew (what is usual is being learned anew "
    "after an upgrade: adaptive rules wait), silent (told to be silent)",
    "dirty or anew staying high: rebuilds cannot keep up; silent in numbers: a vendor or a network is down",
)  # fmt: skip
REBUILDS = counter(
    "processor", "keepwell_processor_rebuilds_total", ("outcome",),
    "patients rebuilt after late data; outcome: done, postponed (more came meanwhile), failed, out_of_reach (the late "
    "data are older than the oldest checkpoint, so what came before them was not looked at again)",
    "failed: the log line rebuild_failed says of what kind; the patient stays dirty and is tried again",
)  # fmt: skip
REBUILD_SECONDS = histogram(
    "processor", "keepwell_processor_rebuild_seconds", (),
    "one patient's rebuild",
    "minutes: years of late data of one patient; live records go on beside it",
    SLOW_S,
)  # fmt: skip
SILENCES = counter(
    "processor", "keepwell_processor_silences_total", (),
    "times a patient was judged to be silent",
    "many at once: not the patients but the way to here, see KeepwellManySilent",
)  # fmt: skip
REBUILD_LOCK = histogram(
    "processor", "keepwell_processor_rebuild_lock_seconds", (),
    "how long the end of a rebuild kept live batches waiting",
    "above a second: patients with months of late data, or a slow disk",
    SLOW_S,
)  # fmt: skip
OUTBOX = gauge(
    "processor", "keepwell_outbox_unsent", (),
    "events written and not yet sent to Kafka, of the owned partitions",
    "rising: the relay cannot reach the broker; alerts are on screens, but not on alerts.v1",
)  # fmt: skip
OUTBOX_AGE = gauge(
    "processor", "keepwell_outbox_oldest_seconds", (),
    "how long the oldest unsent event has waited",
    "as keepwell_outbox_unsent",
)  # fmt: skip
OUTBOX_SENT = counter(
    "processor", "keepwell_outbox_sent_total", ("topic",),
    "events sent and acknowledged by the broker",
    "none while alerts are raised: see keepwell_outbox_unsent",
)  # fmt: skip
OUTBOX_HELD = counter(
    "processor", "keepwell_outbox_held_total", (),
    "alert events that were not sent because their patient has died; they stay in the alert's history",
    "nothing to do; much of it after a mistake in a monitoring state: set it right (docs/changes.md)",
)  # fmt: skip
DISK_FREE = gauge(
    "processor", "keepwell_disk_free_ratio", (),
    "free part of the disk that holds the stack's home (logs, and the local servers' data)",
    "below 0.1: make room; the database stops writing when it is full, nothing is lost meanwhile",
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

AUDIT_SEALED = counter(
    "api", "keepwell_audit_sealed_total", (),
    "rows of the audit this process sealed into the chain",
    "none of any process while keepwell_audit_unsealed_seconds rises: see there",
)  # fmt: skip
AUDIT_UNSEALED = gauge(
    "api", "keepwell_audit_unsealed_seconds", (),
    "how long the oldest row of the audit had waited to be sealed when last looked at (each second)",
    "above a minute: the database is away, or a transaction stays open; rows can be changed unseen until then",
)  # fmt: skip
AUDIT_CHECKPOINT_FAILURES = counter(
    "api", "keepwell_audit_checkpoint_failures_total", (),
    "checkpoints of the audit's chain that could not be written to the stack's home",
    "make room there, or mend its rights; meanwhile `keepwell audit checkpoint FILE` writes one elsewhere",
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
