"""Reads exports back, apart from the code that wrote them: sets of (metric, device, Unix ms, value, quality)."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import psycopg

from ingest.clock import to_ms

Reading = tuple[str, str, int, float, int]
QUALITIES = ("good", "questionable", "poor signal", "not worn", "moving", "implausible")
OURS = "urn:keepwell:metric"


def table(archive: bytes, name: str) -> list[dict[str, str]]:
    """Return the rows of one file of the ZIP."""
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        assert zipped.testzip() is None
        return list(csv.DictReader(io.StringIO(zipped.read(name).decode(), newline="")))


def from_csv(archive: bytes) -> list[Reading]:
    return [
        (row["metric"], row["device"], instant(row["instant"]), exact(row["value"]), QUALITIES.index(row["quality"]))
        for row in table(archive, "readings.csv")
    ]


def from_bundle(bundle: dict[str, Any]) -> list[Reading]:
    resources = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    assert len(resources) == len(bundle["entry"])  # every address once
    return [
        reading
        for one in resources.values()
        if one["resourceType"] == "Observation"
        and "method" not in one
        and "factor" not in one.get("valueSampledData", {})
        for reading in _of(one, resources)
    ]


def _of(one: dict[str, Any], resources: dict[str, Any]) -> Iterator[Reading]:
    (metric,) = (coding["code"] for coding in one["code"]["coding"] if coding["system"] == OURS)
    device = resources[one["device"]["reference"]]["identifier"][0]["value"]
    quality = one.get("component", [{}])[0]
    if "valueQuantity" in one:
        assert one["valueQuantity"]["unit"] == one["valueQuantity"]["code"]
        value = exact(one["valueQuantity"]["value"])
        yield metric, device, instant(one["effectiveDateTime"]), value, quality.get("valueInteger", 0)
        return
    series = one["valueSampledData"]
    values = series["data"].split()
    codes = quality["valueSampledData"]["data"].split() if quality else ["0"] * len(values)
    start = instant(one["effectivePeriod"]["start"])
    for i, (value, code) in enumerate(zip(values, codes, strict=True)):
        yield metric, device, start + i * series["period"], exact(value), int(code)
    assert instant(one["effectivePeriod"]["end"]) == start + (len(values) - 1) * series["period"]


def stored(connection: psycopg.Connection[Any], patient: int) -> list[Reading]:
    """Return what SQL says is stored."""
    rows = connection.execute(
        """SELECT m.key, d.key, (extract(epoch FROM b.t0) * 1000)::bigint
                  + coalesce(b.offsets_ms[i], (i - 1)::bigint * b.step_us / 1000), b.value[i], coalesce(b.quality[i], 0)
           FROM reading_block b JOIN metric m ON m.id = b.metric_id JOIN device d ON d.id = b.device_id,
                generate_subscripts(b.value, 1) AS i WHERE b.patient_id = %s""",
        [patient],
    )
    return [(metric, device, t_ms, exact(value), quality) for metric, device, t_ms, value, quality in rows]


def instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return to_ms(moment)


def exact(value: Any) -> float:
    return float(np.float32(value))
