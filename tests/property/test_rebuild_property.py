"""Late data are rebuilt: whatever is held back and comes late, in any order, cut and interruption, the end is the same."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ingest.frame import StampedFrame
from services.processor import hot as hot_state
from tests.cast import cast
from tests.fix_faults import stamped_story
from tests.fix_processor import DAY, HOUR, T0, Bench

pytestmark = pytest.mark.stack

DAYS = 8
PEOPLE = {person.key: person for person in cast(DAYS)}
EXAMPLES = 9  # each takes two of the bench's twenty patients
OUTCOME = {
    "alerts": """SELECT rule, priority, state, provisional, started_at, found_at, resolved_at,
                        replace(sentence, 'd' || patient_id, 'the device') FROM alert
                 WHERE patient_id = %s AND state <> 'withdrawn' AND revised_by IS NULL ORDER BY 1, 5""",
    "days": """SELECT metric_id, context, day, value, minutes, center, spread, days, z, cusum, used FROM daily_value
               WHERE patient_id = %s ORDER BY 1, 2, 3""",
    "bands": """SELECT metric_id, context, t0, center, spread, days FROM baseline_band WHERE patient_id = %s
                ORDER BY 1, 2, 3""",
    "rollups": """SELECT metric_id, bucket_s, t0, n, low, high, round(mean::numeric, 6), q10, q90 FROM rollup
                  WHERE patient_id = %s ORDER BY 1, 2, 3""",
    "baseline": "SELECT state, layout FROM patient_baseline WHERE patient_id = %s",
    "states": "SELECT metric_id, state, cause, last_value, last_at FROM metric_state WHERE patient_id = %s ORDER BY 1",
}


async def outcome(bench: Bench, patient: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: await bench.rows(query, patient) for name, query in OUTCOME.items()}
    (row,) = await bench.rows("SELECT hot FROM patient_state WHERE patient_id = %s", patient)
    hot = hot_state.decode(row[0])
    found["limits"] = hot.limits
    found["marks"] = (hot.settled_ms, hot.closed_ms, hot.judged, hot.listened_ms, hot.off_ms, hot.worn_to_ms)
    found["open"] = sorted((e.rule, e.start_ms, e.found_ms, e.priority, e.settled) for e in hot.episodes)
    slot = bench.core.slot_of[patient]
    found["memory"] = bench.core.state[slot].tobytes()
    return found


def delayed(frames: list[StampedFrame], chance: Random) -> list[StampedFrame]:
    """Hold back some stretches of hours, to arrive late in any order; what was heard last is in time."""
    at: dict[str, int] = {frame.frame_id: frame.received_ms for frame in frames}
    for _ in range(chance.randint(1, 4)):
        first = chance.randrange(0, len(frames) - 12)
        held = frames[first : first + chance.choice((1, 2, 5, 12, 30, 60))]
        received_ms = held[-1].received_ms + chance.randint(1, 40) * HOUR
        for frame in held:
            at[frame.frame_id] = max(frame.received_ms, min(received_ms, T0 + DAYS * DAY - HOUR))
    late = [msgspec.structs.replace(frame, received_ms=at[frame.frame_id]) for frame in frames]
    chance.shuffle(late)
    return sorted(late, key=lambda frame: frame.received_ms)


@settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(key=st.sampled_from(sorted(PEOPLE)), seed=st.integers(0, 2**32))
async def test_what_comes_late_gives_what_in_order_arrival_gives(bench: Bench, key: str, seed: int) -> None:
    ((known,),) = await bench.rows("SELECT count(DISTINCT patient_id) FROM frame_log")
    calm, disturbed = known + 1, known + 2  # two patients with the same story
    await bench.frames(stamped_story(calm, PEOPLE[key], DAYS))
    chance = Random(seed)
    frames = delayed(stamped_story(disturbed, PEOPLE[key], DAYS), chance)
    while frames:
        size = chance.choice((1, 2, 5, 20, 60))
        batch, frames = frames[:size], frames[size:]
        if chance.random() < 0.2:
            await bench.take_over()
        await bench.frames(batch)
        if chance.random() < 0.1:
            await bench.rebuild()
    if chance.random() < 0.5:
        await bench.take_over()
    await bench.rebuild()
    await bench.take_over()
    expected, found = await outcome(bench, calm), await outcome(bench, disturbed)
    for name, wanted in expected.items():
        assert found[name] == wanted, (key, name)
    assert await bench.rows("SELECT 1 FROM patient_state WHERE dirty_since IS NOT NULL") == []
