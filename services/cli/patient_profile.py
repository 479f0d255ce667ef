"""``keepwell patient profile`` and ``limits``: what changes the rules for one person, and what the rules are then."""

from __future__ import annotations

import json
from typing import Any

import typer

from services.cli import say
from services.cli.patient_find import found
from services.cli.patient_write import REASON, SINCE, VERSION, now, write
from services.cli.say import JSON, ORGANISATION, connected, moment, refuse
from services.settings import load

DOCUMENT = typer.Argument(None, help="the JSON document to set; left out: show what there is")


def profile(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    document: str | None = DOCUMENT,
    clinician: str = typer.Option("", help="key of the clinician who set the oxygen target, where it names none"),
    reason: str = REASON,
    since: str = SINCE,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Show or set the whole profile: age, pregnancy, oxygen target, pacemaker, night work …

    keepwell patient profile p20 '{"oxygen": {"target": [88, 92], "home": true}}' --clinician dr-ada
    """
    from services.impossible import ImpossibleError
    from services.profile import checked, plain

    if document is None:
        return _show(key, organisation, "profile", "", as_json)
    said, effective = document_of(document), moment("--from", since) or now()
    if isinstance(said.get("oxygen"), dict) and clinician:
        said["oxygen"].setdefault("set_by", clinician)
    try:
        one = checked(said, effective.date())
    except ImpossibleError as error:
        refuse(str(error))
    if one.oxygen is not None:
        _must_be_clinician(organisation, one.oxygen.set_by)
    return write(key, organisation, "profile", "", plain(one), reason, effective, version, as_json)


def limits(
    key: str = typer.Argument(..., help="key of the patient, e.g. p20"),
    document: str | None = DOCUMENT,
    reason: str = REASON,
    since: str = SINCE,
    version: int = VERSION,
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Show or set the patient's own limits, bounds of drifts and alert budget (`keepwell patient bounds`).

    keepwell patient limits p20 '{"fever": {"levels": [38, 39]}, "spo2_drift": {"bound": 1.5}}' --reason "neutropenia"
    """
    from services.impossible import ImpossibleError
    from services.layer import plain
    from services.limits import checked

    if document is None:
        return _show(key, organisation, "limits", "patient", as_json)
    try:
        rules = plain(checked(document_of(document)))
    except ImpossibleError as error:
        refuse(str(error))
    effective = moment("--from", since) or now()
    return write(key, organisation, "limits", "patient", {"rules": rules}, reason, effective, version, as_json)


def bounds(as_json: bool = JSON) -> None:
    """Show everybody's limits, bounds of drifts and alert budget, and how far each may be moved for one person."""
    from services import adaptive
    from services.limits import BOUNDS, LIMITS

    rows: list[dict[str, Any]] = [
        {
            "rule": rule,
            "levels": ", ".join(f"{threshold:g} {priority}" for threshold, priority in LIMITS[rule].levels),
            "from_to": ", ".join(f"{low:g} to {high:g}" for low, high in allowed.levels),
            "persist_s": LIMITS[rule].persist_s,
            "persist_from_to": f"{allowed.persist_s[0]:g} to {allowed.persist_s[1]:g}",
        }
        for rule, allowed in BOUNDS.items()
    ]
    lasts = {"persist_s": None, "persist_from_to": None}
    for rule, (low, high) in adaptive.DRIFT_BOUNDS.items():
        usual = f"bound {adaptive.USUAL_BOUNDS[rule]:g}"
        rows.append({"rule": rule, "levels": usual, "from_to": f"{low:g} to {high:g}"} | lasts)
    budget, budgets = load().settings.processor.alert_budget, ", ".join(adaptive.BUDGETS)
    rows.append({"rule": adaptive.TOGETHER, "levels": f"alert_budget {budget}", "from_to": budgets} | lasts)
    say.rows(rows, as_json, "")


def document_of(text: str) -> dict[str, Any]:
    """Return a JSON object given on the command line; anything else ends with one plain sentence."""
    try:
        document = json.loads(text)
    except ValueError as error:
        refuse(f"document = {text[:80]!r} is no JSON: {error}")
    if not isinstance(document, dict):
        refuse(f"document = {text[:80]!r} is no JSON object; write {{…}}")
    return document


def _must_be_clinician(organisation: str, key: str) -> None:
    with connected(load().settings) as connection:
        row = connection.execute(
            """SELECT 1 FROM person p JOIN organisation o ON o.id = p.organisation_id
               WHERE o.key = %s AND p.key = %s AND p.role = 'clinician'""",
            [organisation, key],
        ).fetchone()
    if row is None:
        refuse(f"oxygen.set_by = {key!r} is no clinician of {organisation}; name the one who set the target")


def _show(key: str, organisation: str, kind: str, subject: str, as_json: bool) -> None:
    with connected(load().settings) as connection:
        patient_id = found(connection, organisation, key)
        rows = connection.execute(
            """SELECT c.version, c.effective_at, c.payload, c.reason, p.name FROM patient_change c
               LEFT JOIN person p ON p.id = c.person_id
               WHERE (c.patient_id, c.kind, c.subject) = (%s, %s, %s)
               ORDER BY c.effective_at DESC, c.id DESC LIMIT 200""",
            [patient_id, kind, subject],
        ).fetchall()
    names = ("version", "effective_at", "says", "reason", "by")
    nothing = f"{key} has no {kind} of its own: limits are not individualised"
    say.rows([dict(zip(names, row, strict=True)) for row in rows], as_json, nothing)
