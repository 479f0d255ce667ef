"""What a service token may do: scope → actions, in this one table. Its person's role limits it further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from services.api.problems import Code, Problem

SCOPES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "alerts:read": ("alerts.list", "alert.read", "alert.stream", "incidents.list"),
        "alerts:acknowledge": ("alert.acknowledge", "incident.acknowledge"),
        "worklist:read": ("worklist.read", "wearing.read", "budget.read"),
        "patients:read": ("patients.list", "patient.read", "trend.read", "patient.changes", "patient.suppressed"),
        "patients:change": ("patient.monitoring", "patient.new_normal"),
        "frames:read": ("frame.read",),
    }
)


def check(scopes: Sequence[str] | None, action: str) -> None:
    """Let an action pass when there are no scopes (a person's own credential) or one of them covers it.

    Raises:
        Problem: none does, or no scope covers this action at all.
    """
    if scopes is None or any(action in SCOPES.get(scope, ()) for scope in scopes):
        return
    needed = [scope for scope, actions in SCOPES.items() if action in actions]
    detail = f"this token may {', '.join(scopes) or 'nothing'}; {action} takes {needed[0] if needed else 'a person'}"
    raise Problem(Code.SCOPE_NOT_ALLOWED, detail, action=action, allowed=needed)
