"""A patient's data as FHIR R4 resources: pure functions from what is stored to dictionaries.

Evenly spaced readings become one Observation with SampledData, whose ``period`` can say nothing else; the others an
Observation each. No profile is claimed: the R4 profile of the heart rate allows a Quantity only, that of the blood
pressure wants both pressures in one resource. Category, code, subject, time and UCUM units are as those profiles say.

An alert is a Flag ("prospective warnings of potential issues when providing care to the patient", with a period and a
status), not a DetectedIssue, which is about clinical actions such as two drugs that don't go together.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from detectors import device_classes
from ingest.catalogue import Metric, by_id
from ingest.clock import to_ms
from ingest.frame import GOOD
from services.api.export.source import Block, Wave
from services.api.export.text import QUALITIES, at, local, number, numbers
from services.api.query import Row

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
MDC: Final = "urn:iso:std:iso:11073:10101"
OURS: Final = "urn:keepwell:"  # code systems of our own: metric, quality, context, method
CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
FLAG_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/flag-category"
FLAG_PRIORITY: Final = "http://hl7.org/fhir/StructureDefinition/flag-priority"
PRIORITIES: Final = {"high": "PH", "medium": "PM", "low": "PL"}
VITAL_SIGNS: Final = (
    "heart_rate", "spo2", "respiratory_rate", "body_temperature", "systolic_pressure", "diastolic_pressure", "weight",
)  # fmt: skip
CATEGORIES: Final = dict.fromkeys(VITAL_SIGNS, "vital-signs") | {
    "steps": "activity", "sleep_stage": "activity", "glucose": "laboratory",
}  # fmt: skip
STATUSES: Final = {"active": "active", "resolved": "inactive", "withdrawn": "entered-in-error"}
LEAST: Final = 3  # evenly spaced readings that make a series; any two are evenly spaced

Resource = dict[str, Any]


def identity(*parts: object) -> str:
    """Return the same id for the same thing at every export."""
    return str(uuid5(NAMESPACE_URL, OURS + "|".join(map(str, parts))))


def reference(resource: Resource) -> dict[str, str]:
    """Return a reference to a resource of the same Bundle."""
    return {"reference": f"urn:uuid:{resource['id']}"}


def patient(organisation: str, key: str, name: str) -> Resource:
    """Return who it is about; their key is theirs within the organisation's."""
    return {
        "resourceType": "Patient", "id": identity("patient", organisation, key),
        "identifier": [{"system": f"{OURS}patient:{organisation}", "value": key}], "name": [{"text": name}],
    }  # fmt: skip


def device(row: Row, about: Resource) -> Resource:
    """Return a device of the patient's; its class is told where it is known, with its code where there is one."""
    known, code = row["class"] != device_classes.UNKNOWN, device_classes.MDC.get(row["class"])
    coding = {"coding": [{"system": MDC, "code": str(code)}]} if code is not None else {}
    return {
        "resourceType": "Device", "id": identity("device", about["id"], row["key"]),
        "identifier": [{"system": f"{OURS}device", "value": row["key"]}],
        "deviceName": [{"name": row["model"], "type": "model-name"}], "patient": reference(about),
        **({"type": {**coding, "text": device_classes.NAMES[row["class"]]}} if known else {}),
    }  # fmt: skip


class Observations:
    """Makes the Observations of one patient; ``devices`` by their key."""

    def __init__(self, about: Resource, devices: dict[str, Resource], zone: tzinfo) -> None:
        self._about = about
        self._devices = devices
        self._zone = zone

    def of_block(self, block: Block) -> Iterator[Resource]:
        """Return the Observations of some readings: of each even run of three or more one, of the others one each."""
        for begin, end in runs(block.t_ms):
            if end - begin >= LEAST:
                yield self._series(block, begin, end)
            else:
                yield from (self._single(block, i) for i in range(begin, end))

    def of_wave(self, wave: Wave) -> Resource:
        """Return the Observation of a stretch of a waveform: the samples as stored, with their scale."""
        first_ms = to_ms(wave.t0)
        last_ms = first_ms + (len(wave.samples) - 1) * wave.step_us // 1000
        data = {
            "origin": _quantity(wave.metric, number(wave.offset)), "period": wave.step_us / 1000,
            "factor": number(wave.scale), "dimensions": 1, "data": " ".join(map(str, wave.samples)),
        }  # fmt: skip
        return (
            self._of(wave.metric, wave.device, first_ms) | self._during(first_ms, last_ms) | {"valueSampledData": data}
        )

    def of_day(self, row: Row) -> Resource:
        """Return the Observation of one day's value in a context, with what was usual then."""
        metric = by_id()[row["metric_id"]]
        made = self._of(metric, "", row["day"], row["context"])
        usual = _quantity(metric, number(row["center"]))
        made["method"] = _ours("method", "daily-value", "One value a day or night, calculated by Keepwell")
        made["component"] = [
            {"code": _ours("method", "context", "Context"), "valueCodeableConcept": _ours("context", row["context"])},
            {"code": _ours("method", "minutes-measured", "Minutes measured"), "valueInteger": row["minutes"]},
            {"code": _ours("method", "usual", "Usual for this person"), "valueQuantity": usual},
        ]
        return made | {
            "effectiveDateTime": row["day"].isoformat(),
            "valueQuantity": _quantity(metric, number(row["value"])),
        }

    def _series(self, block: Block, begin: int, end: int) -> Resource:
        t_ms, value, quality = (each[begin:end] for each in (block.t_ms, block.value, block.quality))
        period = int(t_ms[1] - t_ms[0])
        made = self._of(block.metric, block.device, int(t_ms[0])) | self._during(int(t_ms[0]), int(t_ms[-1]))
        made["valueSampledData"] = _sampled(
            _quantity(block.metric, 0), period, " ".join(numbers(block.value[begin:end]))
        )
        if (quality != GOOD).any():
            codes = _sampled({"value": 0}, period, " ".join(map(str, quality.tolist())))
            made["component"] = [{"code": QUALITY, "valueSampledData": codes}]
        return made

    def _single(self, block: Block, i: int) -> Resource:
        t_ms, quality = int(block.t_ms[i]), int(block.quality[i])
        made = self._of(block.metric, block.device, t_ms)
        made["effectiveDateTime"] = local(t_ms, self._zone)
        made["valueQuantity"] = _quantity(block.metric, number(block.value[i]))
        if quality != GOOD:
            made["component"] = [{"code": QUALITY, "valueInteger": quality}]
        return made

    def _of(self, metric: Metric, device: str, *when: object) -> Resource:
        made: Resource = {
            "resourceType": "Observation", "id": identity(self._about["id"], metric.key, device, *when),
            "status": "final", "code": code(metric), "subject": reference(self._about),
        }  # fmt: skip
        if device in self._devices:
            made["device"] = reference(self._devices[device])
        if metric.kind != "status":
            made["category"] = [{"coding": [{"system": CATEGORY, "code": CATEGORIES.get(metric.key, "exam")}]}]
        return made

    def _during(self, first_ms: int, last_ms: int) -> Resource:
        return {"effectivePeriod": {"start": local(first_ms, self._zone), "end": local(last_ms, self._zone)}}


def runs(t_ms: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Return where each longest evenly spaced run begins and ends (exclusive), from the first instant on.

    >>> list(runs(np.array([0, 10, 20, 25, 90])))
    [(0, 3), (3, 5)]
    """
    steps = np.diff(t_ms).tolist()
    begin = 0
    while begin < len(t_ms):
        end = begin + 1
        while end < len(t_ms) and steps[end - 1] == steps[begin]:
            end += 1
        yield begin, end
        begin = end


def code(metric: Metric) -> dict[str, Any]:
    """Return what was measured: by LOINC and IEEE 11073 where they have it, and by the catalogue's own key."""
    coding = [{"system": LOINC, "code": metric.loinc}] if metric.loinc else []
    coding += [{"system": MDC, "code": str(metric.mdc)}] if metric.mdc else []
    return {"coding": [*coding, {"system": f"{OURS}metric", "code": metric.key}], "text": metric.title}


def flag(row: Row, about: Resource, zone: tzinfo) -> Resource:
    """Return an alert; withdrawn, it was an error to have raised it."""
    period = {"start": at(row["started_at"], zone)}
    if row["state"] != "active":
        period["end"] = at(row["resolved_at"] or row["last_evidence_at"], zone)
    category = "clinical" if row["kind"] == "clinical" else "admin"
    return {
        "resourceType": "Flag", "id": str(UUID(str(row["id"]))),
        "extension": [{
            "url": FLAG_PRIORITY,
            "valueCodeableConcept": {
                "coding": [{"system": "http://hl7.org/fhir/flag-priority-code", "code": PRIORITIES[row["priority"]]}]
            },
        }],
        "status": STATUSES[row["state"]], "category": [{"coding": [{"system": FLAG_CATEGORY, "code": category}]}],
        "code": {"text": row["sentence"]}, "subject": reference(about), "period": period,
    }  # fmt: skip


def bundle(about: Resource, at_text: str) -> Resource:
    """Return the Bundle around the entries."""
    made = identity("export", about["id"], at_text)
    return {"resourceType": "Bundle", "id": made, "type": "collection", "timestamp": at_text}


def _quantity(metric: Metric, value: float) -> dict[str, Any]:
    return {
        "value": int(value) if value == int(value) else value,
        "unit": metric.unit,
        "system": UCUM,
        "code": metric.unit,
    }


def _sampled(origin: dict[str, Any], period_ms: int, data: str) -> dict[str, Any]:
    return {"origin": origin, "period": period_ms, "dimensions": 1, "data": data}


def _ours(system: str, name: str, text: str = "") -> dict[str, Any]:
    said = {"text": text} if text else {}
    return {"coding": [{"system": f"{OURS}{system}", "code": name}]} | said


QUALITY: Final = _ours("quality", "quality", ", ".join(f"{number} {word}" for number, word in QUALITIES.items()))
