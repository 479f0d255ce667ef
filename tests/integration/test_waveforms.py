"""Waveforms exact to the sample: cut elsewhere, sent again, contradicting, quantised differently."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.assign import Assignment, Device, stamp
from ingest.catalogue import catalogue
from ingest.frame import Block, Frame, StampedBlock
from tests.fix_processor import HOUR, T0, Bench, stamped

pytestmark = pytest.mark.stack
ECG = catalogue()["ecg"].id
STEP_US = 4_000  # 250 samples a second
STORED = """SELECT (extract(epoch FROM t0) * 1000000)::bigint + (i - 1)::bigint * step_us, sample[i]
            FROM waveform_block, LATERAL generate_subscripts(sample, 1) AS i ORDER BY 1"""


def ecg(at_ms: int, samples: NDArray[np.int16], step_us: int = STEP_US, quality: bytes | None = None) -> StampedBlock:
    return StampedBlock(ECG, at_ms, step_us, "i2", samples.astype("<i2").tobytes(), None, quality, 0.001, 0.0)


def beat(n: int, seed: int = 5) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-2000, 2000, n).astype(np.int16)


def cut(samples: NDArray[np.int16], sizes: list[int], step_us: int = STEP_US) -> list[StampedBlock]:
    blocks, start = [], 0
    for size in sizes:
        blocks.append(ecg(T0 + start * step_us // 1000, samples[start : start + size], step_us))
        start += size
    return blocks


def counts(effects: object) -> list[tuple[int, int, int]]:
    return [(f.stored, f.duplicate, f.conflict) for f in effects.fates]  # type: ignore[attr-defined]


@pytest.mark.parametrize("step_us", [4_000, 1_953])
async def test_other_boundaries_store_nothing_twice(bench: Bench, step_us: int) -> None:
    whole = beat(2700)
    await bench.frames([stamped(1, 0, cut(whole, [900, 900, 900], step_us))])
    stored = await bench.rows(STORED)
    assert [row[1] for row in stored] == whole.tolist()
    await bench.take_over()
    again = [stamped(1, i, [one], session="again") for i, one in enumerate(cut(whole, [700, 850, 850, 300], step_us))]
    effects = await bench.frames(again)
    assert counts(effects) == [(0, 700, 0), (0, 850, 0), (0, 850, 0), (0, 300, 0)]
    assert await bench.rows(STORED) == stored


async def test_only_what_was_never_seen_is_stored(bench: Bench) -> None:
    whole = beat(1500)
    middle = cut(whole, [500, 500, 500])[1]
    await bench.frames([stamped(1, 0, [middle])])
    effects = await bench.frames([stamped(1, 1, cut(whole, [750, 750])), stamped(1, 2, cut(whole, [300, 900, 300]))])
    assert counts(effects) == [(1000, 500, 0), (0, 1500, 0)]
    stored = await bench.rows(STORED)
    assert [row[1] for row in stored] == whole.tolist()
    assert [row[0] for row in stored] == [T0 * 1000 + i * STEP_US for i in range(1500)]


async def test_another_sample_at_a_known_instant_is_a_conflict_kept_beside(bench: Bench) -> None:
    whole = beat(600)
    await bench.frames([stamped(1, 0, [ecg(T0, whole)])])
    other = whole.copy()
    other[[10, 400]] += 1
    effects = await bench.frames([stamped(1, 1, [ecg(T0, other)])])  # the same t0: never dropped as if it were stored
    assert counts(effects) == [(0, 598, 2)]
    found = await bench.rows("SELECT round(value::numeric * 1000)::int, frame_id FROM reading_conflict ORDER BY t")
    assert found == [(int(other[10]), "d1~s~1"), (int(other[400]), "d1~s~1")]
    assert [row[1] for row in await bench.rows(STORED)] == whole.tolist()
    await bench.frames([stamped(1, 2, [ecg(T0, other)])])
    assert await bench.rows("SELECT count(*) FROM reading_conflict") == [(2,)]
    assert await bench.rows("SELECT stored, duplicate, conflict FROM frame_log WHERE frame_id = 'd1~s~2'") == [
        (0, 598, 2)
    ]


async def test_two_devices_never_meet(bench: Bench) -> None:
    frames = [stamped(1, 0, [ecg(T0, beat(100, 1))]), stamped(1, 0, [ecg(T0, beat(100, 2))], device=2)]
    assert counts(await bench.frames(frames)) == [(100, 0, 0), (100, 0, 0)]


async def test_quality_is_kept_and_cut_along(bench: Bench) -> None:
    whole, quality = beat(300), bytes([0] * 100 + [2] * 50 + [0] * 150)
    await bench.frames([stamped(1, 0, [ecg(T0, whole[:50])])])
    await bench.frames([stamped(1, 1, [ecg(T0, whole, quality=quality)])])
    rows = await bench.rows("SELECT cardinality(sample), quality FROM waveform_block ORDER BY t0")
    assert rows == [(50, None), (250, [*quality[50:]])]


async def test_floats_cut_elsewhere_are_the_same_whatever_their_quantisation(bench: Bench) -> None:
    """A waveform sent as floats is quantised to each block's own range: the same samples get other numbers."""
    values = (np.sin(np.arange(1200) / 9) * np.linspace(0.2, 3, 1200)).astype("<f4")
    device = Device(1, "d1", 1, (Assignment(1, 0, 2**60),))

    def frame(seq: int, sizes: list[int]) -> list[StampedBlock]:
        blocks, start = [], 0
        for size in sizes:
            part = values[start : start + size]
            blocks.append(Block("ecg", "mV", T0 + start * 4, STEP_US, "f4", part.tobytes()))
            start += size
        (one,) = stamp(Frame(1, "f", seq, T0 + HOUR, 0, blocks), device, T0 + HOUR)
        return one.blocks

    await bench.frames([stamped(1, 0, frame(0, [600, 600]))])
    effects = await bench.frames([stamped(1, 1, frame(1, [500, 500, 200]))])
    assert counts(effects) == [(0, 1200, 0)]
