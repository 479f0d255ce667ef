"""What a running Keepwell counts: how a metric is defined, and those of the doors.

Each metric is defined once, with its meaning and what an operator does when it is off; ``services/metrics.py``
goes on with the other processes' and holds the whole list. No label ever names a patient, a device or a person.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

Kind = Literal["counter", "gauge", "histogram"]
Part = Literal["process", "door", "processor", "api"]

FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Definition(NamedTuple):
    """One metric: ``name`` as it is scraped (a counter's ends in ``_total``); ``action``: what to do when it is off."""

    name: str
    kind: Kind
    part: Part
    labels: tuple[str, ...]
    meaning: str
    action: str
    metric: MetricWrapperBase


DEFINED: Final[list[Definition]] = []

disable_created_metrics()  # type: ignore[no-untyped-call]


def counter(part: Part, name: str, labels: tuple[str, ...], meaning: str, action: str) -> Counter:
    """Define a counter; ``name`` ends in ``_total``."""
    made = Counter(name.removesuffix("_total"), meaning, labels, registry=None)
    DEFINED.append(Definition(name, "counter", part, labels, meaning, action, made))
    return made


def gauge(part: Part, name: str, labels: tuple[str, ...], meaning: str, action: str) -> Gauge:
    """Define a gauge."""
    made = Gauge(name, meaning, labels, registry=None)
    DEFINED.append(Definition(name, "gauge", part, labels, meaning, action, made))
    return made


def histogram(
    part: Part, name: str, labels: tuple[str, ...], meaning: str, action: str, buckets: tuple[float, ...] = FAST_S
) -> Histogram:
    """Define a histogram of seconds, measured monotonically."""
    made = Histogram(name, meaning, labels, registry=None, buckets=buckets)
    DEFINED.append(Definition(name, "histogram", part, labels, meaning, action, made))
    return made


# ---------------------------------------------------------------- the doors; door = https | mqtt

REQUESTS = counter(
    "door", "keepwell_door_requests_total", ("door", "answer"),
    "requests (MQTT: messages) answered; answer: verdicts, or the code of the problem that refused all of it",
    "overloaded, broker_ or registry_unavailable: see `keepwell health`; unauthenticated: tokens were revoked",
)  # fmt: skip
FRAMES = counter(
    "door", "keepwell_door_frames_total", ("door", "verdict"),
    "frames answered; verdict: accepted, rejected (for good), busy (to be sent again)",
    "many rejected: a device's software changed, its verdicts say what; busy: see keepwell_door_shed_total",
)  # fmt: skip
READINGS = counter(
    "door", "keepwell_door_readings_total", ("door",),
    "readings and samples in accepted frames",
    "a fall against the same hour of yesterday: devices cannot reach the door, or were revoked",
)  # fmt: skip
BYTES = counter(
    "door", "keepwell_door_bytes_total", ("door",),
    "bytes of bodies read, unpacked",
    "for sizing; nothing to do",
)  # fmt: skip
SECONDS = histogram(
    "door", "keepwell_door_seconds", ("door",),
    "from a request's arrival to its answer; for MQTT from taking a message to its verdict",
    "high with keepwell_publish_seconds high: the broker is slow; high alone: this process lacks CPU, start another",
)  # fmt: skip
IN_FLIGHT = gauge(
    "door", "keepwell_door_in_flight", ("door",),
    "requests or messages begun and not answered",
    "near gateway.max_in_flight: the broker is slow, or more doors are needed",
)  # fmt: skip
SHED = counter(
    "door", "keepwell_door_shed_total", ("door", "holds", "reason"),
    "refused for overload, to be sent again; holds: waveform or vitals (frames), unread (requests refused before "
    "reading); reason: bytes, frames, requests, slow, fair_share, broker",
    "the broker or this process is too slow for what comes: look at keepwell_publish_seconds, add a door or a broker",
)  # fmt: skip
SHEDDING = gauge(
    "door", "keepwell_door_shedding", ("door",),
    "what the door refuses now: 0 nothing, 1 waveforms, 2 everything",
    "2 for minutes: devices spool; find out what holds the broker up before their memory is full",
)  # fmt: skip
WAITING_BYTES = gauge(
    "door", "keepwell_door_waiting_bytes", ("door",),
    "bytes held: bodies being read and frames that wait for the broker's acknowledgement",
    "near gateway.max_waiting_mb: the broker is slow",
)  # fmt: skip
WAITING_FRAMES = gauge(
    "door", "keepwell_door_waiting_frames", ("door",),
    "frames that wait for the broker's acknowledgement",
    "near gateway.max_waiting_frames: the broker is slow",
)  # fmt: skip
PUBLISH_SECONDS = histogram(
    "door", "keepwell_publish_seconds", (),
    "from handing frames to the producer to the broker's acknowledgement",
    "high: the broker's disk or network is slow; its own metrics say which",
)  # fmt: skip
PUBLISH_FAILURES = counter(
    "door", "keepwell_publish_failures_total", ("reason",),
    "frames not acknowledged, so not accepted; reason: not_connected, timeout, refused",
    "the broker is away, too slow (10 s) or refuses: its log says why; devices send again by themselves",
)  # fmt: skip
REGISTRY_FAILURES = counter(
    "door", "keepwell_registry_failures_total", (),
    "questions to the device registry without an answer; nobody is let in meanwhile",
    "the database is away or slow: `keepwell health`",
)  # fmt: skip
