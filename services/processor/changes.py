"""What people changed about the patients in memory, by event time.

A pure function of ``control_event``: loaded with a patient's state, added to by each control record. The live path
and a rebuild ask the same object, so that both apply the same changes at the same instants.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from services.monitoring import STATES, lets

HOUR_MS: Final = 3_600_000
MAX_CHANGES: Final = 1000  # remembered a patient; the oldest in event time are forgotten first


def at_hour_ms(effective_ms: int) -> int:
    """Return the first full hour at or after an instant.

    >>> at_hour_ms(1), at_hour_ms(HOUR_MS)
    (3600000, 3600000)
    """
    return -(-effective_ms // HOUR_MS) * HOUR_MS


class PatientChange(NamedTuple):
    """One change of one patient, as relayed."""

    effective_ms: int
    change_id: int
    kind: str
    subject: str
    payload: dict[str, Any]
    person_id: int | None

    @property
    def at_hour_ms(self) -> int:
        """Return the first full hour at or after it takes effect: the detectors work hour by hour."""
        return at_hour_ms(self.effective_ms)


class Changes:
    """The changes of every patient, each patient's ordered by (effective, id)."""

    def __init__(self) -> None:
        self._of: dict[int, list[PatientChange]] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._of.clear()

    def forget(self, patient_id: int) -> None:
        """Forget one patient."""
        self._of.pop(patient_id, None)

    def add(self, patient_id: int, changes: Iterable[PatientChange]) -> None:
        """Take changes in; those known already are the same ones relayed again."""
        known = self._of.get(patient_id, [])
        ids = {change.change_id for change in known}
        new = {change.change_id: change for change in changes if change.change_id not in ids}
        if new:
            self._of[patient_id] = sorted([*known, *new.values()])[-MAX_CHANGES:]

    def any_of(self, patient_id: int) -> bool:
        """Return whether anything was ever changed about a patient."""
        return patient_id in self._of

    def changes_between(self, patient_id: int, kind: str, from_ms: int, to_ms: int) -> list[PatientChange]:
        """Return the changes of a kind whose full hour lies in [from, to), in the order they take effect."""
        return [
            change
            for change in self._of.get(patient_id, [])
            if change.kind == kind and from_ms <= change.at_hour_ms < to_ms
        ]

    def monitoring(self, patient_id: int, at_ms: int) -> str:
        """Return the monitoring state at an instant; a state with an end that has passed is ``active`` again."""
        state = "active"
        for change in self._of.get(patient_id, []):
            if change.kind == "monitoring" and change.effective_ms <= at_ms:
                until = change.payload.get("until_ms")
                state = change.payload["state"] if until is None or at_ms < until else "active"
        return state

    def told(self, patient_id: int, rule: str, at_ms: int) -> bool:
        """Return whether a finding of a rule at an instant is told."""
        return patient_id not in self._of or lets(self.monitoring(patient_id, at_ms), rule)

    def first_told(self, patient_id: int, rule: str, from_ms: int, to_ms: int) -> int | None:
        """Return the first instant in [from, to] at which a finding of a rule is told, None without one."""
        edges = {from_ms}
        for change in self._of.get(patient_id, []):
            if change.kind == "monitoring":
                edges |= {change.effective_ms, change.payload.get("until_ms") or change.effective_ms}
        inside = sorted(edge for edge in edges if from_ms <= edge <= to_ms)
        return next((edge for edge in inside if self.told(patient_id, rule, edge)), None)

    def closing(self, patient_id: int, up_to_ms: int) -> PatientChange | None:
        """Return the last change up to an instant that ends the monitoring, None where it was never ended."""
        return next(reversed(self._closings(patient_id, up_to_ms)), None)

    def closing_after(self, patient_id: int, after_ms: int, up_to_ms: int) -> PatientChange | None:
        """Return the first change in (after, up to] that ends the monitoring."""
        return next((one for one in self._closings(patient_id, up_to_ms) if one.effective_ms > after_ms), None)

    def _closings(self, patient_id: int, up_to_ms: int) -> list[PatientChange]:
        return [
            change
            for change in self._of.get(patient_id, [])
            if change.kind == "monitoring"
            and change.effective_ms <= up_to_ms
            and STATES[change.payload["state"]].closes
        ]
