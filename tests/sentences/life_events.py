"""What a sentence to the care team adds: what was written down of the person that bears on the rule's metric."""

from __future__ import annotations

from typing import Final

from tests.sentences.patient import Patient, Told
from tests.sentences.words import TOKEN, Expected, day_and_month, plain

HAPPENED: Final = """
    SELECT DISTINCT (payload->>'day')::date AS day, payload->>'words' AS words,
           payload->'effects'->a.metric AS effect, extract(epoch FROM %(at)s)::bigint / 86400
               - ((payload->>'day')::date - date '1970-01-01') AS gone
    FROM patient_change c, (SELECT evidence->>'metric' AS metric FROM alert
                            WHERE patient_id = %(patient)s AND rule = %(rule)s LIMIT 1) a
    WHERE patient_id = %(patient)s AND kind = 'life_event' AND payload->'effects' ? a.metric
      AND NOT (payload->>'withdrawn')::boolean
      AND version = (SELECT max(version) FROM patient_change v
                     WHERE (v.patient_id, v.kind, v.subject) = (c.patient_id, c.kind, c.subject))
      AND %(at)s >= (payload->>'day')::timestamp AT TIME ZONE 'UTC'
      AND %(at)s < ((payload->>'day')::date + (payload->>'days')::int)::timestamp AT TIME ZONE 'UTC'
      AND NOT EXISTS (  -- another event by which it is over
        SELECT 1 FROM patient_change e WHERE (e.patient_id, e.kind) = (c.patient_id, c.kind)
          AND e.payload->>'ends' = c.payload->>'event' AND e.payload->>'day' >= c.payload->>'day'
          AND NOT (e.payload->>'withdrawn')::boolean
          AND e.version = (SELECT max(version) FROM patient_change v
                           WHERE (v.patient_id, v.kind, v.subject) = (e.patient_id, e.kind, e.subject))
          AND %(at)s >= (e.payload->>'day')::timestamp AT TIME ZONE 'UTC')
    ORDER BY 1, 2"""


def happened(patient: Patient, told: Told) -> Expected:
    """Return the tokens of the latest three events, each with the effect that is due by then."""
    if told.over:
        return []
    values = {"patient": patient.number, "rule": told.rule, "at": told.at}
    rows = patient.connection.execute(HAPPENED, values).fetchall()
    tokens: Expected = []
    for day, words, effect, gone in rows[-3:]:
        size = effect.get("size") if gone < effect.get("days", gone + 1) else None
        if size and "over" in effect:  # so far after as many weeks as have begun
            size = min(size, size * 7 * (gone // 7 + 1) / effect["over"])
        tokens += [*TOKEN.findall(words), *day_and_month(day), *([plain(float(size))] if size else [])]
    return tokens
