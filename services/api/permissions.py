"""Who may do what: one table for actions, one for fields. What is in neither is refused.

The reach says on whose data: ``team``, patients of the person's own care teams (and, for a while, those opened by
break-glass); ``self``, the patient themself or who let a proxy see them; ``organisation``, everybody's, of which the
database shows an administrator only that they are enrolled; ``-``, nobody's. PostgreSQL's row-level security holds the
reach underneath (migration 0010); docs/access.md shows both tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from services.roles import ROLES

Reach = Literal["team", "self", "organisation", "-"]

ACTIONS: Final = """
action                  clinician     nurse         coordinator  pharmacist    genetic_counsellor  data_specialist  researcher  administrator  patient  proxy
patients.list           team          team          team         team          team                team             -           organisation   self     self
patient.read            team          team          team         team          team                team             -           organisation   self     self
monitoring.read         team          team          team         team          -                   team             -           -              self     self
trend.read              team          team          -            team          -                   team             -           -              self     self
scores.read             team          team          -            team          -                   -                -           -              -        -
frame.read              team          team          -            -             -                   team             -           -              -        -
worklist.read           team          team          team         team          -                   -                -           -              -        -
alerts.list             team          team          team         team          -                   -                -           -              self     self
alert.read              team          team          team         team          -                   -                -           -              self     self
incidents.list          team          team          team         team          -                   -                -           -              self     self
alert.stream            team          team          team         team          -                   -                -           -              self     self
alert.acknowledge       team          team          -            -             -                   -                -           -              -        -
incident.acknowledge    team          team          -            -             -                   -                -           -              -        -
wearing.read            team          team          team         -             -                   team             -           -              -        -
budget.read             team          team          team         team          -                   -                -           -              -        -
patient.monitoring      team          team          -            -             -                   -                -           -              -        -
patient.new_normal      team          team          -            -             -                   -                -           -              -        -
patient.changes         team          team          team         team          -                   -                -           -              -        -
patient.suppressed      team          team          -            team          -                   -                -           -              -        -
patient.profile         team          team          -            -             -                   -                -           -              -        -
patient.limits          team          -             -            -             -                   -                -           -              -        -
profile.read            team          team          -            team          -                   -                -           -              self     self
patient.life_event      team          team          -            -             -                   -                -           -              -        -
life_event.read         team          team          -            team          -                   -                -           -              self     self
patient.enrolment       team          team          team         -             -                   -                -           -              -        -
enrolment.read          team          team          team         team          -                   -                -           organisation   self     self
limits.read             organisation  organisation  organisation organisation  -                   -                -           organisation   -        -
limits.write            organisation  -             -            -             -                   -                -           -              -        -
programme.list          organisation  organisation  organisation organisation  organisation        organisation     -           organisation   -        -
programme.read          organisation  organisation  organisation organisation  organisation        organisation     -           organisation   -        -
programme.write         organisation  -             organisation -             -                   -                -           organisation   -        -
programme.state         organisation  -             organisation -             -                   -                -           organisation   -        -
consent.read            team          team          team         team          team                -                -           -              self     -
consent.record          team          team          team         -             -                   -                -           -              self     -
consent.documents       organisation  organisation  organisation organisation  organisation        organisation     organisation organisation  organisation -
consent.publish         -             -             -            -             -                   -                -           organisation   -        -
consent.basis           organisation  organisation  organisation organisation  organisation        organisation     -           organisation   -        -
consent.rules           -             -             -            -             -                   -                -           organisation   -        -
patient.accesses        team          team          -            -             -                   -                -           organisation   self     self
patient.export          team          -             -            -             -                   -                -           -              self     self
audit.read              -             -             -            -             -                   -                -           organisation   -        -
break_glass.open        organisation  organisation  -            organisation  -                   -                -           -              -        -
break_glass.list        team          team          team         team          -                   -                -           organisation   -        -
break_glass.review      team          -             -            -             -                   -                -           organisation   -        -
account.read            self          self          self         self          self                self             self        self           self     self
account.password        self          self          self         self          self                self             self        self           self     self
account.recovery_codes  self          self          self         self          self                self             self        self           self     self
account.end_session     self          self          self         self          self                self             self        self           self     self
account.sign_in         self          self          self         self          self                self             self        self           self     self
account.accept          self          self          self         self          self                self             self        self           self     self
account.sign_out        self          self          self         self          self                self             self        self           self     self
"""  # noqa: E501 - a table

# What a role sees of each kind of document; `*` is every field. A role that is not here sees every field of whatever it
# may read; of a kind not named for its role, a role sees nothing.
_WHO: Final = "id name link"
_EVENT_TIMES: Final = "started_at found_at raised_at last_evidence_at unknown_since resolved_at"
_OWN: Final = {
    "brief": _WHO,
    "patient": f"{_WHO} time_zone enrolled_at last_heard open_alerts limits_individualised limits_note monitoring "
    "worst metrics devices links",
    "state": "*",
    "monitoring": "state since until",
    "trend": "*",
    "life_event": "id patient event medication words day until withdrawn recorded_at",
    "weeks": "patient time_zone to calendar_to confidence changes recoveries wear weight_gain not_shown",
    "alert": f"id patient metric kind priority state provisional late {_EVENT_TIMES} sentence acknowledged link events",
    "acknowledged": "at",
    "incident": "id patient kind open started_at ended_at leading covers link",
    "event": "change priority late at",
    "stream": "alert_id patient kind priority change late provisional at sentence",
}
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "coordinator": {  # organises care: who needs somebody and why, without what it was found on
        "brief": _WHO,
        "patient": f"{_WHO} time_zone enrolled_at last_heard open_alerts limits_individualised limits_note monitoring "
        "worst devices links break_glass consent",
        "monitoring": "*",
        "worklist": "patient time_zone monitoring attention priority alert open_alerts incident others sentence since "
        "age_s data last_heard",
        "wearing": "*",
        "flag": "*",
        "alert": f"id patient rule kind priority state provisional late {_EVENT_TIMES} sentence revised_by "
        "acknowledged etag link events",
        "acknowledged": "*",
        "incident": "*",
        "event": "*",
        "stream": "*",
        "change": "*",
        "break_glass": "*",
    },
    "genetic_counsellor": {  # for now that somebody is looked after here; more with what concerns them
        "patient": f"{_WHO} time_zone enrolled_at",
    },
    "data_specialist": {  # devices, frames and data states by id; no name, no finding, no clinical sentence
        "brief": "id link",
        "patient": "id link time_zone enrolled_at last_heard monitoring worst metrics devices links",
        "state": "*",
        "monitoring": "state since until",
        "trend": "patient time_zone metric from to source sources truncated devices readings lowest highest times_ms "
        "low high mean n gaps",
        "weeks": "patient time_zone to calendar_to wear not_shown",
        "wearing": "*",
        "frame": "*",
    },
    "administrator": {  # manages who is enrolled and reviews break-glass; no reading, no finding
        "brief": _WHO,
        "patient": f"{_WHO} time_zone enrolled_at",
        "break_glass": "*",
    },
    "researcher": {},  # nothing of identified patients
    "patient": _OWN,
    "proxy": _OWN,
}
PARTS: Final = {  # documents within documents, by the name of their field
    "patient": "brief", "acknowledged": "acknowledged", "monitoring": "monitoring", "metrics": "state",
    "alerts": "alert", "alert": "flag", "events": "event", "break_glass": "break_glass", "leading": "alert",
    "covers": "alert", "others": "flag",
}  # fmt: skip
PLAIN_WORDS: Final = ("patient", "proxy")  # read an alert's sentence for patients, never the clinicians'


def _read(table: str) -> dict[str, dict[str, Reach]]:
    heading, *lines = (line.split() for line in table.strip().splitlines())
    if tuple(heading[1:]) != ROLES or any(len(line) != len(heading) for line in lines):
        msg = f"the table of actions needs a column for each of {', '.join(ROLES)} in this order"
        raise ValueError(msg)
    if unknown := {word for line in lines for word in line[1:]} - set(get_args(Reach)):
        msg = f"the table of actions holds {', '.join(sorted(unknown))}; a reach is {', '.join(get_args(Reach))}"
        raise ValueError(msg)
    return {action: dict(zip(ROLES, reaches, strict=True)) for action, *reaches in lines}  # type: ignore[arg-type]


PERMISSIONS: Final[Mapping[str, Mapping[str, Reach]]] = _read(ACTIONS)


def reach(action: str, role: str) -> Reach:
    """Return how far a role's action reaches; ``-`` also for an action or a role the table does not name."""
    return PERMISSIONS.get(action, {}).get(role, "-")


def who_may(action: str) -> list[str]:
    """Return the roles that may do an action."""
    return [role for role, far in PERMISSIONS.get(action, {}).items() if far != "-"]


def sees(role: str, kind: str) -> bool:
    """Whether a role sees anything of a kind of document."""
    return role in ROLES and (role not in FIELDS or kind in FIELDS[role])


def shown(role: str, kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as a role sees it; documents within it by their own kind."""
    if role in ROLES and role not in FIELDS:
        return document
    allowed = FIELDS.get(role, {}).get(kind, "")
    fields = document.keys() if allowed == "*" else set(allowed.split())
    return {name: _part(role, name, value) for name, value in document.items() if name in fields}


def _part(role: str, name: str, value: Any) -> Any:
    if name not in PARTS:
        return value
    if isinstance(value, dict):
        return shown(role, PARTS[name], value)
    if isinstance(value, list):
        return [shown(role, PARTS[name], one) for one in value if sees(role, PARTS[name])]
    return value
