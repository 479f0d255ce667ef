"""One change that people made about a patient, as the processor remembers it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

HOUR_MS: Final = 3_600_000
APPLIED: Final = ("monitoring", "new_normal", "profile", "limits", "life_event", "assignment")
"""The kinds that findings go by; an assignment tells of what class the device is that measured."""


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
