"""Applies what people changed: on arrival to memory, in event time to what is found.

A new normal takes effect before the first hour slice that begins at or after it (the detectors work hour by hour).
A monitoring state decides at each finding's own instant, a profile and limits at each reading's, a life event at each
hour's and each finding's. A change that takes
effect before what was fed already marks the patient dirty from there, and the rebuild applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.afresh import start_afresh
from detectors.protocol import VITALS
from detectors.rules import ADAPTIVE_RULES
from services.processor import individual, watermark
from services.processor.change import APPLIED, PatientChange
from services.processor.changes import CLASS
from services.processor.core import Core
from services.processor.episodes import Engine
from services.processor.hot import Hot, mark_dirty
from services.processor.records import ControlRecord

BY_THE_HOUR: Final = ("new_normal", "life_event")
UNHEARD_MS: Final = 30 * 60_000  # nothing came for this long: what a person ended is ended by the clock


def take_in(core: Core, control: list[ControlRecord]) -> set[int]:
    """Take a batch's changes into memory; return the slots to look at: what is not settled yet is judged by them.

    A change that came late makes its slot dirty.
    """
    concerned = set()
    for record in control:
        if record.message.kind not in APPLIED:
            continue
        change = record.change
        core.changes.add(record.message.patient_id, [change])
        slot = core.slot_of.get(record.message.patient_id)
        if slot is None:
            continue
        hot = core.hot[slot]
        if change.kind == "assignment" and not _has_measured(core, hot, change):
            continue
        fed_ms = core.fed[slot] if change.kind in BY_THE_HOUR else watermark.marks_of(hot)[1]
        if (change.at_hour_ms if change.kind == "new_normal" else change.effective_ms) < fed_ms:
            mark_dirty(hot, change.effective_ms)
            concerned.add(slot)
        elif change.kind in individual.KINDS:
            concerned.add(slot)
    return concerned


def _has_measured(core: Core, hot: Hot, change: PatientChange) -> bool:
    """Tell whether a device whose class is told has measured anything that the class bears on."""
    return CLASS in change.payload and any(
        core.device_keys.get(int(series.partition(":")[2])) == change.subject and last_ms >= change.effective_ms
        for series, last_ms in hot.last_stored.items()
    )


class Applier:
    """Applies the changes of one settling between its hour slices."""

    def __init__(self, core: Core, engine: Engine, moved: Mapping[int, int]) -> None:
        """``moved``: slot → the instant it was fed up to; each is settled up to its watermark now."""
        self._core, self._engine = core, engine
        self._due: dict[int, list[PatientChange]] = {}
        for slot, from_ms in moved.items():
            patient_id = int(core.patient_of[slot])
            if core.changes.any_of(patient_id):
                to_ms = core.hot[slot].settled_ms
                self._due[slot] = core.changes.changes_between(patient_id, "new_normal", from_ms, to_ms)

    def before(self, slots: NDArray[np.intp], hours_ms: NDArray[np.int64]) -> None:
        """Apply what takes effect before these patients' next hours."""
        if self._due:
            for slot, hour_ms in zip(slots.tolist(), hours_ms.tolist(), strict=True):
                if slot in self._due:
                    self._apply(slot, hour_ms)

    def rest(self) -> None:
        """Apply what lies between the last slices and the watermarks."""
        for slot in self._due:
            self._apply(slot, self._core.hot[slot].settled_ms - 1)

    def _apply(self, slot: int, up_to_ms: int) -> None:
        hot, patient_id, due = self._core.hot[slot], int(self._core.patient_of[slot]), self._due[slot]
        while due and due[0].at_hour_ms <= up_to_ms:
            change = due.pop(0)
            self._pass_on(slot, hot, patient_id, change.at_hour_ms)
            if change.subject in VITALS:
                row, at = np.array([slot]), np.array([change.at_hour_ms])
                bound = self._core.choices([slot]).at(row, at, self._core.pipeline.limit).bound
                start_afresh(self._core.state, row, VITALS.index(change.subject), bound)
                renew(self._engine, hot, patient_id, change)
        self._pass_on(slot, hot, patient_id, up_to_ms)

    def _pass_on(self, slot: int, hot: Hot, patient_id: int, up_to_ms: int) -> None:
        for rule in ADAPTIVE_RULES:
            self._engine.pass_on(slot, hot, patient_id, rule.id, up_to_ms)


def renew(engine: Engine, hot: Hot, patient_id: int, change: PatientChange) -> bool:
    """Resolve what stands against the metric's old normal, by the person who said so; return whether there was any."""
    rules = {rule.id for rule in ADAPTIVE_RULES if rule.metric == change.subject}
    for rule in rules & hot.held.keys():
        del hot.held[rule]
    open_ones = [e for e in hot.episodes if e.rule in rules and e.start_ms < change.effective_ms]
    for episode in open_ones:
        engine.resolve_by_person(hot, patient_id, episode, change.at_hour_ms, change)
    return bool(open_ones)


def by_clock(core: Core, engine: Engine, slot: int, present_ms: int) -> bool:
    """End what a person ended where no data come to carry event time on; return whether anything was open.

    ``present_ms`` is the present on the patient's own time line. With data, event time decides.
    """
    hot, patient_id = core.hot[slot], int(core.patient_of[slot])
    if not core.changes.any_of(patient_id) or present_ms - hot.newest_ms <= UNHEARD_MS:
        return False
    ended = engine.end_monitoring(hot, patient_id, present_ms)
    if _renew_up_to(core, engine, slot, present_ms):
        hot.renewed_ms = present_ms
        ended = True
    return ended


def repeat_clock(core: Core, engine: Engine, slot: int, live: Hot) -> None:
    """Let a replay end what the clock has ended in the live state."""
    hot, patient_id = core.hot[slot], int(core.patient_of[slot])
    if live.ended_ms > hot.ended_ms:
        engine.end_monitoring(hot, patient_id, live.ended_ms)
    _renew_up_to(core, engine, slot, live.renewed_ms)


def _renew_up_to(core: Core, engine: Engine, slot: int, to_ms: int) -> bool:
    patient_id = int(core.patient_of[slot])
    due = core.changes.changes_between(patient_id, "new_normal", 0, to_ms)
    return sum(renew(engine, core.hot[slot], patient_id, change) for change in due) > 0
