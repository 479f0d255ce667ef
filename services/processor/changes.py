"""What people changed about the patients in memory, by event time.

A pure function of ``control_event``: loaded with a patient's state, added to by each control record. The live path
and a rebuild ask the same object, so that both apply the same changes at the same instants.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Final

from detectors import device_classes, windows
from detectors.choices import Choice
from detectors.early_occasions import Holds
from detectors.limit_sets import LimitSet
from services import life_events
from services.life_events import LifeEvent, Said
from services.monitoring import STATES, lets
from services.processor import individual
from services.processor.change import PatientChange

MAX_CHANGES: Final = 1000  # remembered a patient and kind; the oldest in event time are forgotten first
CLASS: Final = "device_class"  # in the payload of an assignment
RULE_OFF: Final = "rule_off"  # what keeps a finding quiet where its rule does not hold for the patient


class Changes:
    """The changes of every patient, each patient's ordered by (effective, id)."""

    def __init__(self, device_keys: dict[int, str] | None = None) -> None:
        self.device_keys: dict[int, str] = {} if device_keys is None else device_keys  # device → key
        self._classes: dict[int, list[PatientChange]] = {}  # of their devices; apart, for everybody has some
        self._of: dict[int, list[PatientChange]] = {}
        self.limits: dict[int, list[tuple[int, LimitSet]]] = {}  # whose are not everybody's: from when, and what holds
        self.scoring: dict[int, list[tuple[int, Holds]]] = {}  # the same of NEWS2
        self.choices: dict[int, list[tuple[int, Choice]]] = {}  # of whose rules against the own normal anybody chose
        self.windows: dict[int, list[tuple[int, float, float]]] = {}  # whose heart rate was ever expected to change
        self._events: dict[int, list[LifeEvent]] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._of.clear()
        self._classes.clear()
        self.limits.clear()
        self.scoring.clear()
        self.choices.clear()
        self.windows.clear()
        self._events.clear()

    def forget(self, patient_id: int) -> None:
        """Forget one patient."""
        self._of.pop(patient_id, None)
        self._classes.pop(patient_id, None)
        self.limits.pop(patient_id, None)
        self.scoring.pop(patient_id, None)
        self.choices.pop(patient_id, None)
        self.windows.pop(patient_id, None)
        self._events.pop(patient_id, None)

    def add(self, patient_id: int, changes: Iterable[PatientChange]) -> None:
        """Take changes in; those known already are the same ones relayed again."""
        changes = list(changes)
        classes = [one for one in changes if one.kind == "assignment" and CLASS in one.payload]
        if classes:
            said = {one.change_id: one for one in [*self._classes.get(patient_id, []), *classes]}
            self._classes[patient_id] = _newest([*said.values()])
        known = self._of.get(patient_id, [])
        ids = {change.change_id for change in known}
        new = {one.change_id: one for one in changes if one.kind != "assignment" and one.change_id not in ids}
        if new:
            self._of[patient_id] = _newest([*known, *new.values()])
        if any(change.kind in individual.KINDS for change in new.values()):
            self.limits[patient_id] = individual.timeline(self._of[patient_id])
            self.scoring[patient_id] = individual.scoring(self._of[patient_id])
            self._choose(patient_id)
        happened = any(change.kind == "life_event" for change in new.values())
        if happened or (patient_id in self._events and any(change.kind == "profile" for change in new.values())):
            self._take_events(patient_id)

    def _choose(self, patient_id: int) -> None:
        chosen = individual.choices(self._of[patient_id])
        if chosen:
            self.choices[patient_id] = chosen
        else:
            self.choices.pop(patient_id, None)

    def _take_events(self, patient_id: int) -> None:
        told = sorted((one for one in self._of[patient_id] if one.kind == "life_event"), key=lambda one: one.change_id)
        over = individual.pregnancies_over(self._of[patient_id])
        events = life_events.standing({one.subject: one.payload for one in told}, over)  # the latest word on each
        opened = [window for event in events for window in event.windows]
        self._events[patient_id], self.windows[patient_id] = events, windows.timeline(opened)

    def measured_by(self, patient_id: int, device_id: int, at_ms: int) -> tuple[str, str]:
        """Return a device's key and what class it was known to be at an instant."""
        key = self.device_keys.get(device_id, "a device that is not known")
        found = device_classes.UNKNOWN
        for change in self._classes.get(patient_id, ()):
            if change.subject == key and change.effective_ms <= at_ms:
                found = change.payload[CLASS]
        return key, found

    def said(self, patient_id: int, metric: str | None, at_ms: int) -> list[Said]:
        """Return what happened to a patient that may bear on a metric at an instant."""
        return life_events.bearing_on(self._events.get(patient_id, ()), metric, at_ms)

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
        return patient_id not in self._of or self.quiet_by(patient_id, rule, at_ms) is None

    def quiet_by(self, patient_id: int, rule: str, at_ms: int) -> str | None:
        """Return what keeps a rule quiet at an instant: it does not hold for the patient, or a monitoring state."""
        if self._is_off(patient_id, rule, at_ms):
            return RULE_OFF
        state = self.monitoring(patient_id, at_ms)
        return None if lets(state, rule) else state

    def _is_off(self, patient_id: int, rule: str, at_ms: int) -> bool:
        own = self.limits.get(patient_id)
        place = bisect_right(own, at_ms, key=lambda entry: entry[0]) if own else 0
        return own is not None and place > 0 and rule in own[place - 1][1].off

    def first_told(self, patient_id: int, rule: str, from_ms: int, to_ms: int) -> int | None:
        """Return the first instant in [from, to] at which a finding of a rule is told, None without one."""
        edges = {from_ms, *(mark for mark, _ in self.limits.get(patient_id, ()))}
        for change in self._of.get(patient_id, []):
            if change.kind == "monitoring":
                edges |= {change.effective_ms, change.payload.get("until_ms") or change.effective_ms}
        inside = sorted(edge for edge in edges if from_ms <= edge <= to_ms)
        return next((edge for edge in inside if self.told(patient_id, rule, edge)), None)

    def chosen_at(self, patient_id: int, at_ms: int) -> Choice:
        """Return what anybody chose of a patient's rules against the own normal, as it holds at an instant."""
        said = self.choices.get(patient_id, ())
        place = bisect_right(said, at_ms, key=lambda entry: entry[0])
        return said[place - 1][1] if place else Choice()

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


def _newest(changes: list[PatientChange]) -> list[PatientChange]:
    """Return the changes by (effective, id), of each kind the newest that are remembered."""
    changes = sorted(changes)
    too_many = {kind: n - MAX_CHANGES for kind, n in Counter(one.kind for one in changes).items()}
    kept = []
    for change in changes:
        too_many[change.kind] -= 1
        if too_many[change.kind] < 0:
            kept.append(change)
    return kept
