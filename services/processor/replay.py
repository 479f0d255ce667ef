"""One patient's stored readings once more, in event time, through the code of the live path, on a state of its own.

The replay begins from a checkpoint, or from nothing, and goes hour by hour up to marks it is told. What comes of it
is collected in ``effects`` and written by nobody but the rebuild that asked for it.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from detectors.rules import (
    CHECK_VALUE,
    DRIFTS,
    NEW_NORMAL,
    NEWS2_HIGH,
    NIGHT_BREATH_RISE,
    NIGHT_FALLS,
    NIGHT_SKIN_RISE,
    NIGHT_TOGETHER,
    REST_HEART_HOURS,
    RESTING_HEART,
    SHIFTS,
    WEARER_IN_DOUBT,
)
from ingest.catalogue import catalogue
from ingest.frame import GOOD, IMPLAUSIBLE, MOTION, NOT_WORN
from services.processor import applying, safety, scoring, settle, watermark
from services.processor import hot as hot_state
from services.processor.core import DAY_MS, HOUR_MS, Core
from services.processor.episodes import Engine
from services.processor.hot import Hot, HotRow
from services.processor.readings import Table
from services.processor.records import Effects
from services.processor.technical import ALL_RULES, Technical
from services.store.reader import Checkpoint

SLOT: Final = 0  # the one patient of the replay's core
# Told by the clock, by arrival, and of values that never became readings: no replay finds them.
OF_THE_PRESENT: Final = frozenset({"device_silent", "clock_fault"} | {rule.id for rule in CHECK_VALUE.values()})
NIGHT_RULES: Final = frozenset(
    rule.id
    for rule in (
        *DRIFTS,
        *SHIFTS,
        RESTING_HEART,
        NEW_NORMAL,
        NIGHT_SKIN_RISE,
        NIGHT_BREATH_RISE,
        NIGHT_FALLS,
        NIGHT_TOGETHER,
        WEARER_IN_DOUBT,
    )  # fmt: skip
)
REPLAYED_RULES: Final = frozenset(ALL_RULES) - OF_THE_PRESENT | {"device_silent"}  # a silence of long ago is data


class Replay:
    """A replay under way; ``at_ms`` is how far it has come."""

    def __init__(
        self, live: Core, patient_id: int, now: Hot, checkpoint: Checkpoint | None, first_ms: int, silence_ms: int
    ) -> None:
        """Begin from a checkpoint, or where there is none from the patient's first reading.

        Args:
            live: whose detectors, devices and changes are used; its state is left alone.
            patient_id: whose readings.
            now: the live state, for what arrival alone tells.
            checkpoint: of the detectors' present layout.
            first_ms: instant of the first stored reading.
            silence_ms: bound of the settings.
        """
        self.core = live.scratch()
        self.patient_id = patient_id
        self.began = _begin(now, checkpoint, first_ms)
        self.hot = hot_state.decode(hot_state.encode(self.began))
        self.core.place(patient_id, self.hot)
        if checkpoint is not None:
            self.core.state[SLOT] = np.frombuffer(checkpoint.state, live.pipeline.dtype)[0]
            self.core.take_limits(SLOT, self.hot)
        self.open_day = int(self.core.state[SLOT]["open_day"])  # days before it are closed for good
        self.checkpoints: list[HotRow] = []
        self.closed = None if checkpoint is None else (self.hot.closed_ms, checkpoint.state)
        self.effects = Effects(recorded_ms=0)
        self._engine = Engine(ALL_RULES, self.effects, 0, self.core.changes)
        self._technical = Technical(self.core, self._engine, silence_ms, 0)
        self.read_to_ms = Core.needed_from(self.hot)  # readings before it have been handed in, or are not needed

    @property
    def at_ms(self) -> int:
        """Return the patient's watermark in the replay."""
        return self.hot.settled_ms

    def take(self, readings: Table) -> None:
        """Take stored readings in; the next `step` looks at them."""
        readings.slot[:] = SLOT
        self.core.let_wait([SLOT], Table.concatenate([self.core.waiting([SLOT]), readings]))

    def step(self, to_ms: int, now: Hot) -> None:
        """Settle everything before an instant, but nothing that the live state ``now`` has not settled."""
        before = self._move(to_ms, now)
        work = self._work()
        marks = np.array([self.hot.judged.get(metric, 0) for metric in work.metric.tolist()], np.int64)
        self._judge(work, work[work.t_ms < marks], work[work.t_ms < self.hot.settled_ms], before)

    def finish(self, now: Hot) -> None:
        """Go up to the live marks, and judge what is not settled yet."""
        before = self._move(watermark.marks_of(now)[1], now)
        work = self._work()
        self._judge(work, work, work, before)
        applying.repeat_clock(self.core, self._engine, SLOT, now)

    def found_from(self, rule: str) -> int:
        """Return the instant from which on the alerts of a rule are found by this replay."""
        began = self.began
        if rule == "not_worn":
            return began.worn_to_ms
        if rule in ("battery_low", "device_silent"):
            return began.listened_ms + 1
        if rule in NIGHT_RULES:
            return began.closed_ms
        if rule in (REST_HEART_HOURS.id, "poor_signal"):
            return began.closed_ms + 1
        if rule == NEWS2_HIGH.id:
            return began.early_ms
        metric = ALL_RULES[rule].metric
        return began.judged.get(catalogue()[metric].id, 0) if metric else 0

    def _move(self, to_ms: int, now: Hot) -> dict[tuple[int, int], int]:
        """Advance the marks; return where the limits' stood."""
        hot = self.hot
        before = {(SLOT, metric): mark for metric, mark in hot.judged.items()}
        hot.settled_ms = max(hot.settled_ms, min(to_ms, now.settled_ms))
        for metric, mark in now.judged.items():
            hot.judged[metric] = max(hot.judged.get(metric, 0), min(to_ms, mark))
        return before

    def _work(self) -> Table:
        """Return the readings in memory, and note up to where each metric was heard of."""
        work, hot = self.core.waiting([SLOT]), self.hot
        seen = work[work.t_ms < hot.settled_ms]
        for metric in np.unique(seen.metric).tolist():
            mine = seen[seen.metric == metric]
            hot.newest[metric] = max(hot.newest.get(metric, 0), int(mine.t_ms.max()))
            good = mine.t_ms[np.isin(mine.quality, (GOOD, MOTION, IMPLAUSIBLE))]
            if len(good):
                hot.good[metric] = max(hot.good.get(metric, 0), int(good.max()))
        return work

    def _judge(self, work: Table, to_judge: Table, to_score: Table, before: dict[tuple[int, int], int]) -> None:
        core, effects = self.core, self.effects
        safety.judge(core, self._engine, to_judge[to_judge.quality != NOT_WORN], before, [SLOT])
        scoring.judge(core, self._engine, to_score, [SLOT])
        slices, settled = settle.settle(core, self._engine, effects, work, [SLOT])
        for hour in slices:
            self._technical.minutes(hour)
        self._technical.settled(settled)
        self._engine.pass_all_on(SLOT, self.hot, self.patient_id)
        effects.events.clear()  # who is told what is decided when all is known
        effects.rollups.clear()  # buckets are exact already: recomputed when late readings arrive
        core.trim([SLOT], work)
        self.closed = effects.closed.pop(SLOT, self.closed)
        if self.closed is not None and self.closed[0] // DAY_MS > self.hot.checkpoint_day:
            self.checkpoints.append(core.keep(SLOT, self.closed))


def next_hour(at_ms: int) -> int:
    """Return the first full hour after an instant."""
    return (at_ms // HOUR_MS + 1) * HOUR_MS


def _begin(now: Hot, checkpoint: Checkpoint | None, first_ms: int) -> Hot:
    """Return the hot state the replay begins with: that of the checkpoint, less what is of the present only."""
    if checkpoint is None:
        start = first_ms // watermark.MINUTE_MS * watermark.MINUTE_MS
        hot = Hot(organisation_id=now.organisation_id, settled_ms=start, closed_ms=start)
    else:
        kept = hot_state.decode(checkpoint.hot)
        hot = msgspec.structs.replace(
            kept, late={}, last_stored={}, sessions={}, holds={}, silent=[], dirty_ms=None, dirty_n=0,
            silent_ms=min(kept.silent_ms, kept.listened_ms), episodes=[e for e in kept.episodes if carried(e.rule)],
        )  # fmt: skip
        for episode in hot.episodes:
            episode.priority = episode.settled or episode.priority
            episode.told_id = ""
        hot.episodes = [episode for episode in hot.episodes if not episode.provisional]
    return msgspec.structs.replace(hot, offsets=now.offsets, utc_offset_min=now.utc_offset_min)


def carried(rule: str) -> bool:
    """Tell whether an open episode of a rule goes into a replay that begins within it."""
    return rule not in OF_THE_PRESENT
