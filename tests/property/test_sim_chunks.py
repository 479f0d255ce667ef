"""Whatever pieces a simulation is asked for in, it gives the same readings; blocks lose nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.frame import MAX_READINGS, MAX_SPAN_MS, block_quality, block_times_ms, block_values
from simulators.patients import Patient
from simulators.profile import draw_profile
from simulators.series import HOUR_MS, Series, blocks

START_MS = 1_793_491_200_000


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 99),
    st.lists(st.integers(0, 60 * 3_600_000), min_size=1, max_size=12, unique=True),
)
def test_readings_do_not_depend_on_how_they_are_asked_for(seed: int, index: int, cuts: list[int]) -> None:
    span = (START_MS, START_MS + 60 * HOUR_MS)
    whole = Patient(draw_profile(seed, index)).readings(*span)
    pieces = Patient(draw_profile(seed, index))
    edges = sorted({*span, *(START_MS + cut for cut in cuts)})
    parts = [pieces.readings(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    for metric, one in whole.items():
        joined = Series.joined([part[metric] for part in parts if metric in part])
        assert np.array_equal(one.t_ms, joined.t_ms)
        assert np.array_equal(one.value, joined.value)
        assert np.array_equal(one.quality, joined.quality)


instants = st.lists(st.integers(0, 4 * 3_600_000), min_size=1, max_size=300)


@given(instants, st.data())
def test_blocks_hold_every_reading_in_its_order(offsets: list[int], data: st.DataObject) -> None:
    """Also where a clock went back or an instant came twice."""
    n = len(offsets)
    t = START_MS + np.array(offsets, np.int64)
    value = np.array(data.draw(st.lists(st.integers(30, 200), min_size=n, max_size=n)), np.float32)
    quality = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), np.uint8)
    made = blocks({"heart_rate": Series(t, value, quality)})
    times = [block_times_ms(block, len(block.values) // 2) for block in made]
    assert np.array_equal(np.concatenate(times), t)
    assert np.array_equal(np.concatenate([block_values(block) for block in made]), value)
    kept = [block_quality(block, len(block.values) // 2) for block in made]
    assert np.array_equal(np.concatenate(kept), quality)
    for one in times:
        assert len(one) <= MAX_READINGS
        assert one[-1] - one[0] < MAX_SPAN_MS
        assert (np.diff(one) > 0).all()
