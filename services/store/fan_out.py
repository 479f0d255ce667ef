"""One layer of limits to every patient it concerns: a control record each, in the caller's transaction, or none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from ingest.clock import to_ms
from ingest.partition import partition_of, record_key
from services import topics
from services.control import CHANNEL, ControlMessage, encode
from services.impossible import impossible
from services.store.steps import Steps

MAX_PATIENTS: Final = 20_000  # told of one change at once


class Layer(NamedTuple):
    """What is said, of which layer, why, by whom and when."""

    organisation_id: int
    subject: str  # organisation, or programme/KEY
    rules: dict[str, Any]
    effective_at: datetime
    reason: str
    person_id: int | None
    recorded_at: datetime
    partitions: int


def lock(organisation_id: int) -> tuple[str, list[Any]]:
    """Return the statement after which nobody else writes layers of an organisation in this moment."""
    return "SELECT pg_advisory_xact_lock(hashtext('keepwell.limits'), %s)", [organisation_id]


def fan_out(layer: Layer, patients: Sequence[int]) -> Steps[int]:
    """Tell these patients of a layer and return how many they are; the caller holds `lock`.

    Raises:
        ImpossibleError: more patients than one transaction tells.
    """
    if len(patients) > MAX_PATIENTS:
        raise impossible(len(patients), "patients", f"at most {MAX_PATIENTS} who are told of one change")
    if not patients:
        return 0
    payload = {"rules": layer.rules}
    rows = yield (
        """INSERT INTO patient_change (organisation_id, patient_id, kind, subject, version, effective_at, payload,
                                       reason, person_id, recorded_at)
           SELECT %s, w.id, 'limits', %s,
                  1 + (SELECT coalesce(max(c.version), 0) FROM patient_change c
                       WHERE (c.patient_id, c.kind, c.subject) = (w.id, 'limits', %s)),
                  %s, %s, %s, %s, %s
           FROM unnest(%s::int[]) AS w (id) RETURNING id, patient_id, version""",
        [
            layer.organisation_id, layer.subject, layer.subject, layer.effective_at, Jsonb(payload), layer.reason,
            layer.person_id, layer.recorded_at, list(patients),
        ],
    )  # fmt: skip
    records = [
        ControlMessage(
            change_id, layer.organisation_id, patient_id, "limits", layer.subject, version,
            to_ms(layer.effective_at), payload, layer.person_id,
        )
        for change_id, patient_id, version in sorted(rows)
    ]  # fmt: skip
    yield (
        """INSERT INTO outbox (organisation_id, partition, topic, record_key, record, created_at)
           SELECT %s, w.partition, %s, w.key, w.record, %s
           FROM unnest(%s::int[], %s::bytea[], %s::bytea[]) WITH ORDINALITY AS w (partition, key, record, place)
           ORDER BY w.place""",
        [
            layer.organisation_id, topics.CONTROL, layer.recorded_at,
            [partition_of(record.patient_id, layer.partitions) for record in records],
            [record_key(record.patient_id) for record in records],
            [encode(record) for record in records],
        ],
    )  # fmt: skip
    yield "SELECT pg_notify(%s, '')", [CHANNEL]
    return len(records)
