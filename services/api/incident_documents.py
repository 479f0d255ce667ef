"""The documents of incidents and the alert budget; see `services.api.documents`."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from services.api.documents import Alert, Brief, Who, strict


@strict
class Incident(TypedDict, total=False):
    """The concurrent alerts of one patient; after an acknowledgement, with the ids of the alerts it covered."""

    id: str
    patient: Brief
    kind: Literal["clinical", "technical"]
    open: bool
    adaptive: bool
    started_at: str
    ended_at: str | None
    leading: Alert
    covers: list[Alert]
    unacknowledged: list[str]
    link: str
    covered: list[str]


Incidents = TypedDict("Incidents", {"from": str, "to": str, "truncated": bool, "items": list[Incident]})
strict(Incidents)


@strict
class TeamBudget(TypedDict):
    """What adaptive rules brought one care team; ``agreed`` is what its patients' programmes allow."""

    team: Who
    patients: int
    patient_weeks: float
    alerts: int
    incidents: int
    per_patient_week: float | None
    agreed: float | None


AlertBudget = TypedDict(
    "AlertBudget", {"from": str, "to": str, "items": list[TeamBudget], "withheld_by_consent": NotRequired[int]}
)
strict(AlertBudget)
