"""Event time, frame by frame: what is late, how far each patient is settled, and waiting for missing frames.

A patient's watermark is its newest instant (clamped by the time of receipt) less the reordering bound. A gap in a
device's sequence numbers holds it until the gap is filled or the bound has passed in receive time. Safety limits
settle per metric in the same way, so that a device that reports one metric rarely is still judged live.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ingest.catalogue import catalogue
from ingest.frame import StampedFrame
from services.processor.core import DAY_MS, QUIET_MS
from services.processor.hot import MAX_MISSING, MAX_OFFSETS, MAX_SESSIONS, Hold, Hot, Session

MINUTE_MS: Final = 60_000
AT_THE_DOOR_MS: Final = 60_000
_STEPS: Final = catalogue()["steps"].id
_NEEDS_STEPS: Final = frozenset({catalogue()["heart_rate"].id, catalogue()["respiratory_rate"].id})


def marks_of(hot: Hot) -> tuple[int, int]:
    """Return the lowest and the highest of a patient's marks: before the one all is judged, after the other nothing."""
    marks = [hot.settled_ms, hot.closed_ms, *hot.judged.values()]
    return min(marks), max(marks)


def judged_to(hot: Hot, metric: int) -> int:
    """Return the instant before which a reading of ``metric`` is late for the safety limits."""
    return max(hot.judged.get(metric, 0), hot.settled_ms - QUIET_MS)


def advance(hot: Hot, frame: StampedFrame, spans: list[tuple[int, int, int]], bound_ms: int) -> None:
    """Take one frame's instants into account.

    Args:
        hot: the patient's state, changed in place.
        frame: the frame, in the order of its partition.
        spans: (metric, first instant, last instant) of the frame's readings.
        bound_ms: the reordering bound.
    """
    _follow_sequence(hot, frame, bound_ms)
    if spans:
        _note_offset(hot, min(first for _, first, _ in spans), frame.utc_offset_min)
    if spans and not hot.settled_ms:
        newest = max(min(last, frame.received_ms) for _, _, last in spans)  # a fast clock must not set the start
        start = min(newest - bound_ms, *(first for _, first, _ in spans)) // MINUTE_MS * MINUTE_MS
        hot.settled_ms = hot.closed_ms = start - DAY_MS if hot.holds else start  # an earlier frame is still on its way
    for metric, _, last in spans:
        newest = min(last, frame.received_ms)
        hot.judged.setdefault(metric, hot.settled_ms - QUIET_MS)
        hot.newest[metric] = max(hot.newest.get(metric, 0), newest)
        if newest > hot.newest_ms:
            hot.newest_ms = newest
            hot.heard_ms = max(hot.heard_ms, frame.received_ms)  # news, not a heartbeat or a re-send
    settle(hot, bound_ms)


def expire(hot: Hot, received_ms: int, bound_ms: int) -> None:
    """Wait no longer for what is missing since the bound; before a frame received now is judged late or in time."""
    over = [key for key, hold in hot.holds.items() if received_ms >= hold.deadline_ms]
    for key in over:
        del hot.holds[key]
        if key in hot.sessions:
            hot.sessions[key].missing = []
    if over:
        settle(hot, bound_ms)


def overdue(hot: Hot, now_ms: int) -> int | None:
    """Return up to when gaps are waited for no longer, by the clock: the last deadline well past; None without one.

    A device that has stopped in a gap sends no frame to end the waiting. A door may have stamped a frame, and still be
    waiting for Kafka, for `AT_THE_DOOR_MS`.
    """
    return max((d for hold in hot.holds.values() if (d := hold.deadline_ms) <= now_ms - AT_THE_DOOR_MS), default=None)


def settle(hot: Hot, bound_ms: int) -> None:
    """Move the patient's watermark, and each metric's, as far as the data and the holds allow; never back."""
    held = min((hold.at_ms for hold in hot.holds.values()), default=None)
    watermark = hot.newest_ms - bound_ms if held is None else min(hot.newest_ms - bound_ms, held)
    hot.settled_ms = max(hot.settled_ms, watermark // MINUTE_MS * MINUTE_MS)
    steps = hot.newest.get(_STEPS, 0)
    for metric, newest in hot.newest.items():
        reach = newest
        if metric in _NEEDS_STEPS and steps > newest - QUIET_MS:
            reach = min(reach, steps + MINUTE_MS)  # a heart rate is judged once it is known whether it was at rest
        reach = reach - bound_ms if held is None else min(reach - bound_ms, held)
        hot.judged[metric] = max(hot.judged[metric], reach, hot.settled_ms - QUIET_MS)


def _follow_sequence(hot: Hot, frame: StampedFrame, bound_ms: int) -> None:
    key = f"{frame.device_id}:{frame.session}"
    session = hot.sessions.get(key)
    if session is None:
        # A session starts at 0. One first met far on has a past nobody waits for.
        session = Session(next_seq=0 if frame.seq <= MAX_MISSING else frame.seq, touched_ms=frame.received_ms)
        hot.sessions[key] = session
        _forget_oldest(hot, key)
    session.touched_ms = frame.received_ms
    if frame.seq >= session.next_seq:
        missing = list(range(session.next_seq, frame.seq))
        session.next_seq = frame.seq + 1
        if missing and len(session.missing) + len(missing) <= MAX_MISSING:
            session.missing += missing
            hot.holds.setdefault(
                key, Hold(at_ms=max(hot.settled_ms, hot.newest_ms - bound_ms), deadline_ms=frame.received_ms + bound_ms)
            )
    elif frame.seq in session.missing:
        session.missing.remove(frame.seq)
        if not session.missing:
            hot.holds.pop(key, None)


def _note_offset(hot: Hot, from_ms: int, offset_min: int) -> None:
    """Remember from which instant on the wearer's clock stood at this offset, by event time."""
    known = offset_at(hot, from_ms)
    if not hot.offsets or known != offset_min:
        hot.offsets = sorted([*(o for o in hot.offsets if o[0] != from_ms), (from_ms, offset_min)])[-MAX_OFFSETS:]
    hot.utc_offset_min = hot.offsets[-1][1]


def offset_at(hot: Hot, at_ms: int) -> int:
    """Return the wearer's UTC offset in minutes at an instant: the last one noted before it, else the first."""
    if not hot.offsets:
        return hot.utc_offset_min
    return next((offset for from_ms, offset in reversed(hot.offsets) if from_ms <= at_ms), hot.offsets[0][1])


def _forget_oldest(hot: Hot, newcomer: str) -> None:
    while len(hot.sessions) > MAX_SESSIONS:
        oldest = min(hot.sessions.keys() - {newcomer}, key=lambda key: hot.sessions[key].touched_ms)
        del hot.sessions[oldest]
        hot.holds.pop(oldest, None)


def spans_by_frame(
    frame: np.ndarray[tuple[int], np.dtype[np.int32]],
    metric: np.ndarray[tuple[int], np.dtype[np.int16]],
    t_ms: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> dict[int, list[tuple[int, int, int]]]:
    """Return frame index → (metric, first instant, last instant) for readings in any order."""
    spans: dict[int, list[tuple[int, int, int]]] = {}
    if not len(frame):
        return spans
    order = np.lexsort((t_ms, metric, frame))
    f, m, t = frame[order], metric[order], t_ms[order]
    new = np.ones(len(f), bool)
    new[1:] = (f[1:] != f[:-1]) | (m[1:] != m[:-1])
    starts = np.flatnonzero(new)
    stops = np.append(starts[1:], len(f)) - 1
    for index, number, first, last in zip(
        f[starts].tolist(), m[starts].tolist(), t[starts].tolist(), t[stops].tolist(), strict=True
    ):
        spans.setdefault(index, []).append((number, first, last))
    return spans
