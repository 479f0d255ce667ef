"""How each address of the OpenAPI document is tried: its action, the rest of the request, and what it shows.

An address that is missing here fails the matrix; so does an action of the permissions that no address exercises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.access.world import Subject

PUBLIC: Final = {"GET /healthz", "GET /readyz"}  # say nothing of any person
# Done on the way in or on one's own page, each tried in the tests of identity.
OF_THE_SCREENS: Final = frozenset(
    {"account.password", "account.recovery_codes", "account.sign_in", "account.accept", "account.sign_out"}
)


@dataclass(frozen=True)
class Exercise:
    """One address. ``named`` fills in its path about a subject; without it the answer is a list of everybody's."""

    action: str
    named: Callable[[Subject], dict[str, str]] | None = None
    query: str = ""
    body: dict[str, Any] | None = None
    own: int = 200  # the status about a patient of one's own, where it is not simply allowed
    stream: bool = False
    of_patients: bool = True  # a list is one of patients
    mine: bool = False  # about whoever asks, not about a patient

    def address(self, path: str, about: Subject) -> str:
        """Return the address about a subject."""
        return path.format(**(self.named(about) if self.named else {})) + self.query


def _patient(about: Subject) -> dict[str, str]:
    return {"patient_id": about.key}


def _programme(about: Subject) -> dict[str, str]:
    return {"key": f"none-of-{about.key}"}


def _alert(about: Subject) -> dict[str, str]:
    return {"alert_id": about.alert}


EXERCISES: Final = {
    "GET /v1/patients": Exercise("patients.list"),
    "GET /v1/patients/{patient_id}": Exercise("patient.read", _patient),
    "GET /v1/patients/{patient_id}/trends": Exercise("trend.read", _patient, "?metric=heart_rate"),
    "GET /v1/patients/{patient_id}/scores": Exercise("scores.read", _patient),
    "GET /v1/patients/{patient_id}/trend-statements": Exercise("trend.read", _patient),
    "GET /v1/patients/{patient_id}/monitoring": Exercise("monitoring.read", _patient),
    "PUT /v1/patients/{patient_id}/monitoring": Exercise(
        "patient.monitoring", _patient, body={"state": "paused", "reason": "holiday", "until": "2026-11-25T00:00:00Z"}
    ),
    "POST /v1/patients/{patient_id}/new-normal": Exercise(
        "patient.new_normal", _patient, body={"metric": "heart_rate", "reason": "new medication"}
    ),
    "GET /v1/patients/{patient_id}/changes": Exercise("patient.changes", _patient),
    "GET /v1/patients/{patient_id}/suppressed": Exercise("patient.suppressed", _patient),
    "POST /v1/patients/{patient_id}/break-glass": Exercise(
        "break_glass.open", _patient, body={"reason": "found unconscious at home"}, own=409
    ),
    "GET /v1/break-glass": Exercise("break_glass.list"),
    "POST /v1/break-glass/{number}/review": Exercise(
        "break_glass.review", lambda about: {"number": about.opened()}, body={"verdict": "justified"}
    ),
    "GET /v1/patients/{patient_id}/accesses": Exercise("patient.accesses", _patient),
    "GET /v1/patients/{patient_id}/export": Exercise("patient.export", _patient, "?format=fhir"),
    "GET /v1/audit": Exercise("audit.read", of_patients=False),
    "GET /v1/account/sessions": Exercise("account.read", of_patients=False),
    "DELETE /v1/account/sessions/{session_id}": Exercise(
        "account.end_session", lambda about: {"session_id": "0"}, own=404, mine=True
    ),
    "GET /v1/patients/{patient_id}/profile": Exercise("profile.read", _patient),
    "PUT /v1/patients/{patient_id}/profile": Exercise(
        "patient.profile", _patient, body={"profile": {}, "reason": "new"}
    ),
    "PATCH /v1/patients/{patient_id}/profile": Exercise(
        "patient.profile", _patient, body={"profile": {}, "reason": "new"}
    ),
    "GET /v1/patients/{patient_id}/limits": Exercise("profile.read", _patient),
    "PUT /v1/patients/{patient_id}/limits": Exercise("patient.limits", _patient, body={"rules": {}, "reason": "new"}),
    "GET /v1/patients/{patient_id}/life-events": Exercise("life_event.read", _patient),
    "POST /v1/patients/{patient_id}/life-events": Exercise(
        "patient.life_event", _patient, body={"event": "travel", "day": "2026-11-22"}
    ),
    "PUT /v1/patients/{patient_id}/life-events/{event_id}": Exercise(
        "patient.life_event",
        lambda about: {"patient_id": about.key, "event_id": "none"},
        body={"event": "travel", "day": "2026-11-22"},
        own=404,
    ),
    "POST /v1/patients/{patient_id}/life-events/{event_id}/withdraw": Exercise(
        "patient.life_event", lambda about: {"patient_id": about.key, "event_id": "none"}, body={}, own=404
    ),
    "GET /v1/patients/{patient_id}/enrolments": Exercise("enrolment.read", _patient),
    "PUT /v1/patients/{patient_id}/enrolments/{key}": Exercise(
        "patient.enrolment", lambda about: {"patient_id": about.key, "key": "none"}, body={"state": "eligible"}, own=404
    ),
    "GET /v1/limits": Exercise("limits.read", of_patients=False),
    "PUT /v1/limits": Exercise(
        "limits.write", lambda _: {}, body={"rules": {"nothing": {}}, "reason": "new"}, own=422, mine=True
    ),
    "GET /v1/programmes": Exercise("programme.list", of_patients=False),
    "GET /v1/programmes/{key}": Exercise("programme.read", _programme, own=404, mine=True),
    "PUT /v1/programmes/{key}": Exercise(
        "programme.write", _programme, body={"programme": {"title": 5}}, own=422, mine=True
    ),
    "PUT /v1/programmes/{key}/state": Exercise(
        "programme.state", _programme, body={"state": "active", "reason": "new"}, own=404, mine=True
    ),
    "GET /v1/patients/{patient_id}/consents": Exercise("consent.read", _patient),
    "POST /v1/patients/{patient_id}/consents": Exercise(
        "consent.record", _patient, body={"purpose": "research", "decision": "refused", "form": "said on the telephone"}
    ),
    "GET /v1/consent/documents": Exercise("consent.documents", of_patients=False),
    "POST /v1/consent/documents/{key}": Exercise(
        "consent.publish",
        _programme,
        body={"purpose": "sale", "language": "en", "title": "x", "text": "x"},
        own=422,
        mine=True,
    ),
    "GET /v1/consent/basis": Exercise("consent.basis", of_patients=False),
    "PUT /v1/consent/basis": Exercise(
        "consent.rules", lambda _: {}, body={"basis": {}, "reason": ""}, own=422, mine=True
    ),
    "GET /v1/worklist": Exercise("worklist.read"),
    "GET /v1/alerts": Exercise("alerts.list"),
    "GET /v1/alerts/stream": Exercise("alert.stream", query="?since=0-0", stream=True),
    "GET /v1/alerts/{alert_id}": Exercise("alert.read", _alert),
    "POST /v1/alerts/{alert_id}/acknowledge": Exercise("alert.acknowledge", _alert),
    "GET /v1/patients/{patient_id}/incidents": Exercise("incidents.list", _patient),
    "POST /v1/patients/{patient_id}/incidents/{alert_id}/acknowledge": Exercise(
        "incident.acknowledge", lambda about: _patient(about) | _alert(about), body={"seen": {}}
    ),
    "GET /v1/wearing": Exercise("wearing.read", of_patients=False),
    "GET /v1/alert-budget": Exercise("budget.read", of_patients=False),
    "GET /v1/frames/{frame_id}": Exercise("frame.read", lambda about: {"frame_id": about.frame}),
}
