"""Counts what a committed batch came to."""

from __future__ import annotations

from collections import Counter

from services import metrics
from services.processor.records import Effects, Record


def count_batch(records: list[Record], effects: Effects, seconds: float) -> None:
    """Count one committed transaction; ``seconds`` is how long it took."""
    metrics.BATCH_SECONDS.observe(seconds)
    for topic, n in Counter(record.topic for record in records).items():
        metrics.RECORDS.labels(topic).inc(n)
    for fate in ("stored", "duplicate", "conflict", "quarantined", "late", "erased", "corrected"):
        if n := sum(getattr(one, fate) for one in effects.fates):
            metrics.FATES.labels(fate).inc(n)
    for quiet in effects.suppressed:
        metrics.SUPPRESSED.labels(quiet.monitoring).inc()
    for dead in effects.dead:
        metrics.DEAD.labels(str(dead.reason)).inc()
