"""What is told beside a finding that detectors can't know: what happened to the person, and what devices they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectors import considered, device_classes
from detectors.device_classes import Over
from services.processor.changes import Changes


def told(
    changes: Changes, patient_id: int, metric: str | None, at_ms: int, evidence: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is known at an instant that bears on a finding about ``metric``, to be put over its ``evidence``."""
    said = changes.said(patient_id, metric, at_ms)
    events = {"events": [one.evidence() for one in said]} if said else {}
    devices = _devices(changes, patient_id, at_ms, evidence)
    return events | devices | considered.with_medication(evidence, bool(said))


def _devices(changes: Changes, patient_id: int, at_ms: int, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return evidence's devices with what class they were known to be at an instant, and what is stated of it."""
    found: dict[str, Any] = {}
    if "devices" in evidence:
        over: Over = "night" if evidence.get("context") == "asleep" and "value" in evidence else "reading"
        by = [changes.measured_by(patient_id, one, at_ms) for one in evidence["devices"]]
        found["devices"] = [device_classes.told(*one, evidence["metric"], over) for one in by]
    if "vitals" in evidence:
        asleep = ({**one, "context": "asleep"} for one in evidence["vitals"])
        found["vitals"] = [
            {**one, **_devices(changes, patient_id, at_ms, whole)}
            for one, whole in zip(evidence["vitals"], asleep, strict=True)
        ]
    return found
