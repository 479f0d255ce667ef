"""What only the clock can tell: that nothing comes any more. Called when everything sent has been processed."""

from __future__ import annotations

from typing import Final

from ingest.catalogue import by_id
from services.processor import settle
from services.processor.applying import by_clock
from services.processor.batch import Bounds
from services.processor.core import HOUR_MS, Core
from services.processor.episodes import Engine
from services.processor.records import Effects
from services.processor.technical import ALL_RULES, Technical

UNKNOWN_AFTER_MS: Final = 30 * 60_000  # an open alert without data of its metric for this long reads "now unknown"


def judge_silence(core: Core, bounds: Bounds, now_ms: int) -> Effects:
    """Return what silence changes at ``now_ms``: technical alerts, unknown data states, alerts without news.

    Silence is counted from the last receipt, so that replayed or spooled data, old but arriving, is not silence.
    """
    effects = Effects(recorded_ms=now_ms)
    engine = Engine(ALL_RULES, effects, now_ms, core.changes)
    technical = Technical(core, engine, bounds.silence_ms, bounds.skew_ms)
    for slot, hot in enumerate(core.hot):
        patient_id = int(core.patient_of[slot])
        present_ms = min(now_ms, hot.newest_ms + max(0, now_ms - hot.heard_ms))  # on the patient's own time line
        if hot.newest_ms and present_ms - hot.newest_ms > bounds.silence_ms and not _is_silent(core, slot):
            if technical.silent(slot, None, hot.newest_ms, present_ms):
                effects.silences.append((patient_id, hot.newest_ms))
                effects.touched.add(slot)
        if by_clock(core, engine, slot, present_ms):
            effects.touched.add(slot)
        for episode in hot.episodes:
            newest = hot.good.get(episode.metric_id, hot.newest_ms)
            if (
                episode.kind == "clinical"
                and episode.unknown_since_ms is None
                and present_ms - max(newest, episode.start_ms) > UNKNOWN_AFTER_MS
            ):
                engine.unknown(hot, patient_id, episode, newest)
                effects.touched.add(slot)
        for metric in hot.newest:
            newest = hot.good.get(metric, 0)
            overdue_ms = max(bounds.silence_ms, int(by_id()[metric].expected_every_h * HOUR_MS))
            if metric not in hot.silent and newest and present_ms - newest > overdue_ms:
                hot.silent.append(metric)
                effects.states.append(
                    settle.state_row(hot.organisation_id, patient_id, metric, settle.NO_DATA_CODE, newest + overdue_ms)
                )
                effects.touched.add(slot)
    return effects


def _is_silent(core: Core, slot: int) -> bool:
    return any(episode.rule == "device_silent" for episode in core.hot[slot].episodes)
