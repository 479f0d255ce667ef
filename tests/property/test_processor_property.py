"""Same input, same outcome: frames cut, swapped within the reordering bound, sent again and interrupted at random."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from ingest.frame import StampedFrame
from tests.cast import cast
from tests.fix_faults import stamped_story
from tests.fix_processor import Bench

pytestmark = pytest.mark.stack

DAYS = 8
PEOPLE = {person.key: person for person in cast(DAYS)}
EXAMPLES = 8  # each takes two of the bench's twenty patients
OUTCOME = {
    "alerts": """SELECT rule, priority, state, provisional, late, started_at, found_at, resolved_at,
                 replace(sentence, 'd' || patient_id, 'the device') FROM alert
                 WHERE patient_id = %s AND state <> 'withdrawn' ORDER BY 1, 6""",
    "days": """SELECT metric_id, context, day, value, minutes, center, spread, days, z, cusum, used FROM daily_value
               WHERE patient_id = %s ORDER BY 1, 2, 3""",
    "bands": """SELECT metric_id, context, t0, center, spread, days FROM baseline_band WHERE patient_id = %s
                ORDER BY 1, 2, 3""",
    "rollups": """SELECT metric_id, bucket_s, t0, n, low, high, round(mean::numeric, 6), q10, q90 FROM rollup
                  WHERE patient_id = %s AND bucket_s <> 86400 ORDER BY 1, 2, 3""",
    "readings": """SELECT metric_id, t0 + coalesce(offsets_ms[i], (i - 1)::bigint * step_us / 1000) * interval '1 ms',
                          value[i], quality[i]
                   FROM reading_block CROSS JOIN LATERAL generate_subscripts(value, 1) AS i
                   WHERE patient_id = %s ORDER BY 1, 2""",
    "states": "SELECT metric_id, state, cause, last_value, last_at FROM metric_state WHERE patient_id = %s ORDER BY 1",
}


async def outcome(bench: Bench, patient: int) -> dict[str, list[tuple[Any, ...]]]:
    return {name: await bench.rows(query, patient) for name, query in OUTCOME.items()}


def swapped(
    frames: list[StampedFrame], alike: list[StampedFrame], chance: Random
) -> tuple[list[StampedFrame], list[StampedFrame]]:
    """Let up to four frames arrive at one instant in any order, some of them twice.

    ``alike``, the same frames of somebody else, are received at the same instants, in order and once: how old they are
    when they come is part of the input.
    """
    arrived: list[StampedFrame] = []
    in_order: list[StampedFrame] = []
    start = 0
    while start < len(frames):
        place = slice(start, start + chance.randint(1, 4))
        group, others = frames[place], alike[place]
        start += len(group)
        received_ms = max(frame.received_ms for frame in group)
        group += chance.sample(group, chance.randint(0, 1))
        chance.shuffle(group)
        arrived += [msgspec.structs.replace(frame, received_ms=received_ms) for frame in group]
        in_order += [msgspec.structs.replace(frame, received_ms=received_ms) for frame in others]
    return arrived, in_order


@settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@example(key="silent", seed=935436593)  # frames of hours after a silence: it is history when they come
@given(key=st.sampled_from(sorted(PEOPLE)), seed=st.integers(0, 2**32))
async def test_any_order_cut_and_interruption_within_the_bound_gives_the_same(
    bench: Bench, key: str, seed: int
) -> None:
    ((known,),) = await bench.rows("SELECT count(DISTINCT patient_id) FROM frame_log")
    calm, disturbed = known + 1, known + 2  # two patients with the same story
    chance = Random(seed)
    story, alike = (stamped_story(patient, PEOPLE[key], DAYS) for patient in (disturbed, calm))
    frames, in_order = swapped(story, alike, chance)
    await bench.frames(in_order)
    while frames:
        size = chance.choice((1, 2, 5, 20, 60))
        batch, frames = frames[:size], frames[size:]
        if chance.random() < 0.2:
            await interrupted(bench, batch)
        await bench.frames(batch)
    expected, found = await outcome(bench, calm), await outcome(bench, disturbed)
    for name in OUTCOME:
        assert found[name] == expected[name], name
    assert await bench.rows("SELECT 1 FROM frame_log WHERE late > 0") == []


async def interrupted(bench: Bench, batch: list[StampedFrame]) -> None:
    """Let a process die before the commit of a batch, and another take over."""
    offset = bench.offset
    with pytest.raises(Interrupted):
        await _half_way(bench, batch)
    await bench.take_over()
    assert bench.offset == offset


async def _half_way(bench: Bench, batch: list[StampedFrame]) -> None:
    async with bench.connection.transaction():
        await bench.frames(batch)
        raise Interrupted


class Interrupted(Exception):
    """The process has died."""
