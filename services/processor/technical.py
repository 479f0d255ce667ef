"""Technical rules: the device, not the person. They have their own channel and are never clinical."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from detectors.protocol import VITALS, Finding, HourSlice, Rule
from detectors.rules import RULES
from ingest.catalogue import catalogue
from ingest.frame import StampedFrame
from services.processor.alert_rows import RuleFacts
from services.processor.core import Core
from services.processor.episodes import Engine
from services.processor.hot import Hot
from services.processor.readings import Table

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
OFF_MS: Final = 90 * MINUTE_MS  # longer than a charge
BATTERY_LOW, BATTERY_FINE = 15.0, 30.0  # percent: raised at or below, cleared at or above
POOR_SHARE, POOR_CLEAR, POOR_READINGS = 0.8, 0.5, 20  # of an hour's readings; fewer readings judge nothing
SKEWED_FRAMES: Final = 2  # a single odd stamp is no clock fault
BATTERY: Final = catalogue()["battery"].id

TECHNICAL: Final[Mapping[str, RuleFacts]] = MappingProxyType(
    {
        "device_silent": RuleFacts(1, "technical", ("medium",), None),
        "not_worn": RuleFacts(1, "technical", ("low",), None),
        "poor_signal": RuleFacts(1, "technical", ("low",), None),
        "battery_low": RuleFacts(1, "technical", ("low",), None),
        "clock_fault": RuleFacts(1, "technical", ("low",), None),
    }
)


def _facts(rule: Rule) -> RuleFacts:
    kind: Literal["clinical", "technical"] = "technical" if rule.kind == "technical" else "clinical"
    return RuleFacts(rule.version, kind, rule.priority, rule.metric)


ALL_RULES: Final[Mapping[str, RuleFacts]] = MappingProxyType(
    {
        **{rule.id: _facts(rule) for rule in RULES.values()},
        **TECHNICAL,
    }
)


class Technical:
    """Applies the technical rules of one batch."""

    def __init__(self, core: Core, engine: Engine, silence_ms: int, skew_ms: int) -> None:
        self._core, self._engine = core, engine
        self._silence_ms, self._skew_ms = silence_ms, skew_ms

    def frame(self, slot: int, frame: StampedFrame, first_ms: int | None) -> None:
        """Judge a frame's clock, and end the silence that it breaks. Call before its instants are taken in."""
        hot = self._core.hot[slot]
        ahead = frame.sent_ms - frame.received_ms
        hot.skewed_frames = hot.skewed_frames + 1 if ahead > self._skew_ms else 0
        if hot.skewed_frames >= SKEWED_FRAMES:
            self._tell(slot, "clock_fault", "raised", frame.received_ms, frame.received_ms, {"skew_s": ahead // 1000})
        elif not hot.skewed_frames:
            self._tell(slot, "clock_fault", "cleared", frame.received_ms, frame.received_ms, {})
        first_ms = None if first_ms is None else min(first_ms, frame.received_ms)
        if first_ms is not None and hot.newest_ms and first_ms > hot.newest_ms:
            self._tell(slot, "device_silent", "cleared", first_ms, first_ms, {})

    def silent(self, slot: int, device_id: int | None, last_ms: int, to_ms: int, mark_ms: int | None = None) -> bool:
        """Say that nothing came from a patient's devices from ``last_ms`` to ``to_ms``; return whether that is news.

        It is told from where the monitoring state lets it be told; before that it is counted, once.
        ``mark_ms``: the settled instant that shows it; None: the clock does.
        """
        hot, patient_id = self._core.hot[slot], int(self._core.patient_of[slot])
        start = last_ms + self._silence_ms
        told_ms = self._core.changes.first_told(patient_id, "device_silent", start, to_ms)
        if told_ms is None and hot.silent_ms == start:
            return False
        hot.silent_ms = start
        device = self._core.device_keys.get(device_id or 0, "the device")
        evidence = {"device": device, "last_ms": last_ms, "limit_s": self._silence_ms // 1000}
        at_ms = start if told_ms is None else told_ms
        self._tell(slot, "device_silent", "raised", start, at_ms, evidence, mark_ms)
        return True

    def settled(self, readings: Table) -> None:
        """Judge newly settled readings in time order: the silence between them, the battery.

        ``readings``: of whole hours, sorted by (slot, instant), as `settle.settle` returns them. Judged on arrival,
        frames that overtake each other would look like silence.
        """
        heard = np.zeros(len(self._core.hot), np.int64)
        for slot in np.unique(readings.slot).tolist():
            heard[slot] = self._core.hot[slot].listened_ms
        rows = readings[readings.t_ms > heard[readings.slot]]
        if not len(rows):
            return
        first = np.append(True, rows.slot[1:] != rows.slot[:-1])
        before = np.where(first, heard[rows.slot], np.append(0, rows.t_ms[:-1]))
        for at in np.flatnonzero((before > 0) & (rows.t_ms - before > self._silence_ms)).tolist():
            self._was_silent(int(rows.slot[at]), int(rows.device[at]), int(before[at]), int(rows.t_ms[at]))
        self._battery(rows[rows.metric == BATTERY])
        last = np.append(first[1:], True)
        for slot, t_ms in zip(rows.slot[last].tolist(), rows.t_ms[last].tolist(), strict=True):
            self._core.hot[slot].listened_ms = t_ms

    def _was_silent(self, slot: int, device_id: int, last_ms: int, first_ms: int) -> None:
        hot = self._core.hot[slot]
        told = last_ms + self._silence_ms <= hot.silent_ms  # by the clock, while it lasted
        if not told and not any(episode.rule == "device_silent" for episode in hot.episodes):
            self.silent(slot, device_id, last_ms, first_ms, first_ms)
            self._tell(slot, "device_silent", "cleared", first_ms, first_ms, {}, first_ms)

    def _battery(self, rows: Table) -> None:
        for slot, t_ms, percent in zip(rows.slot.tolist(), rows.t_ms.tolist(), rows.value.tolist(), strict=True):
            if percent <= BATTERY_LOW:
                self._tell(slot, "battery_low", "raised", t_ms, t_ms, {"percent": percent}, t_ms)
            elif percent >= BATTERY_FINE:
                self._tell(slot, "battery_low", "cleared", t_ms, t_ms, {"percent": percent}, t_ms)

    def minutes(self, hour: HourSlice) -> None:
        """Judge wear and signal of newly settled minutes."""
        for place, slot in enumerate(hour.rows.tolist()):
            hot = self._core.hot[slot]
            if hot.off_ms or hour.not_worn[place].any():
                self._wear(slot, hot, hour, place)
            hot.worn_to_ms = max(hot.worn_to_ms, int(hour.hour_ms[place]) + int(hour.last[place]) * MINUTE_MS)
        for place in np.flatnonzero(hour.closes).tolist():
            self._signal(int(hour.rows[place]), hour, place)

    def _wear(self, slot: int, hot: Hot, hour: HourSlice, place: int) -> None:
        worn = (hour.good[place] > 0).any(axis=1) & ~hour.not_worn[place]
        for minute in range(int(hour.first[place]), int(hour.last[place])):
            now = int(hour.hour_ms[place]) + minute * MINUTE_MS
            if now < hot.worn_to_ms:
                continue  # looked at before a restart
            if hour.not_worn[place, minute]:
                hot.off_ms = hot.off_ms or now
                if now - hot.off_ms >= OFF_MS:
                    self._tell(slot, "not_worn", "raised", hot.off_ms, now, {"from_ms": hot.off_ms}, now)
            elif worn[minute]:
                hot.off_ms = 0
                self._tell(slot, "not_worn", "cleared", now, now, {}, now)

    def _signal(self, slot: int, hour: HourSlice, place: int) -> None:
        good, poor = hour.good[place].sum(axis=0, dtype=np.int64), hour.poor[place].sum(axis=0, dtype=np.int64)
        enough = good + poor >= POOR_READINGS
        share = np.where(enough, poor / np.maximum(good + poor, 1), 0.0)
        start, end = int(hour.hour_ms[place]), int(hour.hour_ms[place]) + HOUR_MS
        worst = int(np.argmax(share))
        if share[worst] >= POOR_SHARE:
            fraction = round(float(share[worst]), 4)
            evidence = {"metric": VITALS[worst], "from_ms": start, "to_ms": end, "share": fraction}
            self._tell(slot, "poor_signal", "raised", start, end, evidence, end - 1)
        elif enough.any() and share[worst] < POOR_CLEAR:
            self._tell(slot, "poor_signal", "cleared", end, end, {}, end - 1)

    def _tell(
        self, slot: int, rule: str, change: Literal["raised", "cleared"], start_ms: int, at_ms: int,
        evidence: dict[str, Any], mark_ms: int | None = None,
    ) -> None:  # fmt: skip
        """Open or end an episode. ``mark_ms``: the settled instant that reveals it; None: it is of the present."""
        hot, patient_id = self._core.hot[slot], int(self._core.patient_of[slot])
        self._engine.pass_on(slot, hot, patient_id, rule, at_ms)
        episode = next((e for e in hot.episodes if e.rule == rule), None)
        revealed = None if mark_ms is None else self._engine.revealed(slot, mark_ms)
        if change == "raised" and episode is None:
            finding = Finding(slot, rule, change, start_ms, at_ms, 0, evidence)
            self._engine.raise_alert(hot, patient_id, finding, provisional=False, revealed=revealed)
        elif change == "cleared" and episode is not None:
            if revealed is not None:
                self._engine.tell_if_live(hot, patient_id, slot, episode, before=revealed.place)
            self._engine.resolve(hot, patient_id, episode, at_ms, None)
