"""What people change about a patient: the monitoring state, a new normal, and the record of all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from detectors.baseline import PAIRS
from detectors.wording import UNITS
from ingest.clock import to_datetime, to_ms
from services.api import pages, request_keys, words
from services.api.acknowledge import MAX_NOTE
from services.api.monitoring import ROWS, by, until_of
from services.api.patients import Patient, link
from services.api.problems import Code, Problem, invalid
from services.api.query import Connection, Row, every, first
from services.api.scope import Scope
from services.api.times import rfc3339
from services.control import Kind
from services.monitoring import refusal
from services.processor.change import at_hour_ms
from services.store import changes
from services.store.changes import StaleVersionError, Wanted

AWAY: Final = timedelta(days=31)  # a change takes effect at most so long before or after it is made
RENEWABLE: Final = tuple(dict.fromkeys(pair.metric for pair in PAIRS))  # metrics with an own baseline
TOLD_TO: Final[Mapping[str, str]] = {"profile": "profile.read", "life_event": "life_event.read"}
"""Kinds whose content is told to those alone who may read it elsewhere."""
_VERSION: Final = re.compile(r'"(\d{1,9})"')


def etag(version: int) -> str:
    """Return the ETag of a version."""
    return f'"{version}"'


def expected(if_match: str | None) -> int | None:
    """Return the version an If-Match names; None where any will do.

    Raises:
        Problem: it is no ETag of a change.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = _VERSION.fullmatch(if_match.strip())
    if found is None:
        raise invalid(if_match[:40], "If-Match", 'the ETag of the last read, e.g. "3", or *')
    return int(found[1])


async def set_monitoring(
    scope: Scope, patient: Patient, *, state: str, until: datetime | None, reason: str, effective: datetime,
    now: datetime, if_match: str | None, key: str | None, partitions: int,
) -> Row:  # fmt: skip
    """Set the monitoring state from ``effective`` on and return the change's row.

    Raises:
        Problem: a value that is not allowed, a stale version, a key used for something else.
    """
    until_ms = None if until is None else to_ms(until)
    refused = refusal(state, until_ms, reason, to_ms(effective))
    if refused is not None:
        field, value, allowed = refused
        raise invalid(rfc3339(until) if field == "until" else value, field, allowed)
    payload: dict[str, Any] = {"state": state} | ({} if until_ms is None else {"until_ms": until_ms})
    return await record(
        scope, patient, "monitoring", "", payload, reason=reason, effective=effective, now=now, if_match=if_match,
        key=key, partitions=partitions,
    )  # fmt: skip


async def new_normal(
    scope: Scope, patient: Patient, *, metric: str, reason: str, effective: datetime, now: datetime,
    if_match: str | None, key: str | None, partitions: int,
) -> Row:  # fmt: skip
    """Let the baseline of a metric start afresh from ``effective`` on and return the change's row; see above."""
    if metric not in RENEWABLE:
        raise invalid(metric, "metric", ", ".join(RENEWABLE))
    return await record(
        scope, patient, "new_normal", metric, {}, reason=reason, effective=effective, now=now, if_match=if_match,
        key=key, partitions=partitions,
    )  # fmt: skip


async def record(
    scope: Scope, patient: Patient, kind: Kind, subject: str, payload: dict[str, Any], *, reason: str,
    effective: datetime, now: datetime, if_match: str | None, key: str | None, partitions: int,
) -> Row:  # fmt: skip
    """Write a change of one patient and return its row; see `set_monitoring`."""
    reason = reason.strip()
    if len(reason) > MAX_NOTE:
        raise invalid(reason[:20], "reason", f"at most {MAX_NOTE} characters, this has {len(reason)}")
    if abs(effective - now) > AWAY:
        raise invalid(rfc3339(effective), "effective_at", f"at most {AWAY.days} days before or after now")
    scope.detail.update(kind=kind, subject=subject)
    scope.detail.update(payload if kind == "monitoring" else {})  # the audit says what was done, not what it said
    request = f"{kind}|{patient.id}|{subject}|{sorted(payload.items())}|{reason}"
    if key is not None and not await request_keys.claim(scope, key, request):
        return await _newest(scope.connection, patient.id, kind, subject)
    wanted = Wanted(
        patient.id, kind, subject, effective, payload, reason, scope.person.id, now, expected(if_match)
    )  # fmt: skip
    try:
        await changes.write_async(scope.connection, wanted, partitions)
    except StaleVersionError as stale:
        raise Problem(Code.STALE_VERSION, str(stale), version=stale.current, etag=etag(stale.current)) from stale
    return await _newest(scope.connection, patient.id, kind, subject)


async def _newest(connection: Connection, patient_id: int, kind: str, subject: str) -> Row:
    row = await first(
        connection,
        ROWS + " WHERE c.patient_id = %s AND kind = %s AND subject = %s ORDER BY version DESC LIMIT 1",
        [patient_id, kind, subject],
    )
    assert row is not None  # noqa: S101 - written above
    return row


async def renewals(scope: Scope, patient: Patient) -> dict[str, dict[str, Any]]:
    """Return metric → the last new normal said of it."""
    rows = await every(
        scope.connection,
        ROWS + " WHERE c.patient_id = %s AND kind = 'new_normal' ORDER BY effective_at, c.id",
        [patient.id],
    )
    return {row["subject"]: document(scope, row, patient) for row in rows}


async def listed(scope: Scope, patient: Patient, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return a page of everything people changed about a patient, the newest first."""
    before = pages.decode(cursor, 1)[0] if cursor else None
    rows = await every(
        scope.connection,
        ROWS + " WHERE c.patient_id = %s AND (%s::bigint IS NULL OR c.id < %s) ORDER BY c.id DESC LIMIT %s",
        [patient.id, before, before, limit + 1],
    )
    return pages.page([document(scope, row, patient) for row in rows], limit, [[row["id"]] for row in rows])


async def suppressed(scope: Scope, patient: Patient, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return a page of the findings a monitoring state kept quiet, the newest found first."""
    found, rule = pages.decode(cursor, 2) if cursor else (None, None)
    rows = await every(
        scope.connection,
        """SELECT * FROM suppressed_finding WHERE patient_id = %s
             AND (%s::timestamptz IS NULL OR (found_at, rule) < (%s::timestamptz, %s))
           ORDER BY found_at DESC, rule DESC LIMIT %s""",
        [patient.id, found, found, rule, limit + 1],
    )
    items = [
        {
            "rule": row["rule"], "priority": row["priority"], "monitoring": row["monitoring"],
            "started_at": rfc3339(row["started_at"]), "found_at": rfc3339(row["found_at"]), "sentence": row["sentence"],
        }
        for row in rows
    ]  # fmt: skip
    items = [scope.show("suppressed", item) for item in items]
    return pages.page(items, limit, [[row["found_at"].isoformat(), row["rule"]] for row in rows])


def document(scope: Scope, row: Row, patient: Patient) -> dict[str, Any]:
    """Return a change's public form, as far as the scope's person sees it."""
    effective = row["effective_at"]
    told = row["kind"] not in TOLD_TO or scope.may(TOLD_TO[row["kind"]])
    about: dict[str, Any] = {"reason": row["reason"]} if told else {}
    if row["kind"] == "monitoring":
        about |= {"state": row["payload"]["state"], "until": rfc3339(until_of(row))}
    elif row["kind"] == "new_normal":
        about |= {"metric": words.metric(words.metric_id(row["subject"]) or 0)["key"]}
        effective = to_datetime(at_hour_ms(to_ms(effective)))
    elif row["kind"] == "assignment":
        about |= {"device": row["subject"], **row["payload"]}
    elif row["kind"] == "life_event" and told:
        about |= {
            "life_event": row["subject"],
            "words": row["payload"]["words"],
            "day": row["payload"]["day"],
            "withdrawn": row["payload"]["withdrawn"],
            "effects": [
                effect_of(metric, effect) | {"days": effect.get("days")}
                for metric, effect in row["payload"]["effects"].items()
            ],
        }
    elif row["kind"] == "profile" and told:
        about |= {"profile": row["payload"]}
    elif row["kind"] == "limits":
        about |= {"layer": row["subject"], "rules": row["payload"]["rules"]}
    whole = {
        "id": str(row["id"]),
        "patient": link(patient.key),
        "kind": row["kind"],
        **about,
        "version": row["version"],
        "effective_at": rfc3339(row["effective_at"]),
        "applied_from": rfc3339(effective),
        "by": by(row),
        "recorded_at": rfc3339(row["recorded_at"]),
    }
    return scope.show("change", whole)


def effect_of(metric: str, effect: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event may do to a metric as it was recorded, with what somebody stated of it."""
    return {
        "metric": metric,
        "side": effect.get("side"),
        "size": effect.get("size"),
        "unit": UNITS[metric],
        "grows_over_days": effect.get("over"),
        "stated_by": effect.get("by"),
    }
