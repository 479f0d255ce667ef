"""Incidents on the screens: a patient's alerts by what hangs together, and one button that acknowledges it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from detectors.rules import ADAPTIVE
from ingest.clock import Clock, to_datetime
from services.api import acknowledge as acknowledging
from services.api import alerts, incidents, patients, times, words
from services.api.access import Access
from services.api.incidents import Found
from services.api.patients import Patient
from services.api.problems import Code, Problem
from services.api.scope import Scope

ALERTS: Final = 130  # of a patient on their page, open ones first: what they are joined into is shown
SHOWN_BESIDE: Final = (Code.CHANGED_MEANWHILE, Code.ALERT_CLOSED, Code.INVALID, Code.ROLE_NOT_ALLOWED)

Show = Callable[..., Awaitable[Response]]


class Said(NamedTuple):
    """What became of something a person did: shown until they do something else."""

    words: str
    done: bool = False
    about: str = ""  # the alert whose incident was to be acknowledged
    note: str = ""  # what they wrote to it and is not kept yet


Shown = list[dict[str, Any]]


async def patient_again(request: Request, show: Show, patient_id: str, said: Said | None) -> Response:
    """Show a patient as they are after something was done: in place where the page can, else as a page of its own."""
    if request.headers.get("hx-request"):
        return await show(request, "_patient.html", patient_id, said)
    return RedirectResponse(f"/patients/{quote(patient_id, safe='')}", 303)


async def grouped(scope: Scope, patient: Patient) -> tuple[Shown, Shown]:
    """Return a patient's open incidents, whoever needs somebody first, and those that ended, the latest first."""
    rows = await incidents.newest(scope.connection, patient.id, ALERTS)
    together = [_incident(scope, one) for one in incidents.joined(rows)]
    active = sorted((one for one in together if one["active"]), key=lambda one: _attention(one["active"][0]))
    return active, [one for one in together if not one["active"]]


def _incident(scope: Scope, found: Found) -> dict[str, Any]:
    """Return an incident as the page shows it: what is open of it, whoever needs somebody first, and what ended."""
    shown = [alerts.document(scope, row) for row in found.rows]
    active = [alert for alert in shown if alert["state"] == "active"]
    return {
        "id": found.id,
        "kind": found.incident.leading.kind,
        "started_at": times.rfc3339(to_datetime(found.incident.start_ms)),
        "active": sorted(active, key=_attention),
        "ended": [alert for alert in shown if alert["state"] != "active"],
        "waiting": [alert for alert in active if alert["acknowledged"] is None],
    }


def _attention(alert: dict[str, Any]) -> tuple[bool, bool, bool, int, bool, str]:
    """Return the worklist's own order for the alerts of one patient."""
    return (
        alert["kind"] == "technical",
        alert["acknowledged"] is not None,
        alert["late"],
        words.PRIORITIES.index(alert["priority"]),
        alert.get("rule") in ADAPTIVE,
        alert["started_at"],
    )


def add_acknowledging(pages: APIRouter, access: Access, clock: Clock, show_worklist: Show, show_patient: Show) -> None:
    """Add the route by which either screen acknowledges."""

    @pages.post("/patients/{patient_id}/incidents/{alert_id}/acknowledge")
    async def acknowledge(
        request: Request,
        patient_id: str,
        alert_id: str,
        seen: Annotated[list[str], Form(max_length=incidents.MOST)],
        key: Annotated[str, Form(max_length=100)],
        note: Annotated[str, Form(max_length=5000)] = "",
        begun_on: Annotated[str, Form(max_length=20)] = "",
        cursor: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        """Acknowledge an incident, then show where that was done as it is now, and say what it covered, or what stood
        in the way. ``seen``: id and ETag of each alert that was shown, with a space between."""
        try:
            async with access.scoped(request, "incident.acknowledge") as scope:
                patient = await patients.find(scope, patient_id)
                _, covered = await acknowledging.acknowledge_incident(
                    scope, patient, alert_id, seen=dict(one.partition(" ")[::2] for one in seen), note=note,
                    now=times.present(clock), key=key,
                )  # fmt: skip
            said = Said(_covered(patient.name, covered), done=True, about=alert_id)
        except Problem as problem:
            if problem.code not in SHOWN_BESIDE:
                raise
            said = Said(f"Not acknowledged: {problem.detail}.", about=alert_id, note=note)
        on_worklist = begun_on == "worklist"
        if not on_worklist:
            return await patient_again(request, show_patient, patient_id, said)
        if not request.headers.get("hx-request"):
            return RedirectResponse("/", 303)
        return await show_worklist(request, "_worklist.html", cursor or None, said)


def _covered(name: str, rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return f"{name}: nothing was left to acknowledge."
    titles = "; ".join(words.rule_title(row["rule"]) for row in rows)
    return f"Acknowledged for {name}: {titles}."
