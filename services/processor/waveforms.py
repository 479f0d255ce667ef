"""Exactly once to the sample: waveforms are compared by instant, whatever the boundaries of their blocks.

A re-send cut elsewhere stores nothing twice; what overlaps is compared sample by sample, and only what was never seen
is stored, as blocks of its own. Two samples are of one instant when they are less than half a step apart (a
millisecond at the most: a block's first instant is told in milliseconds). They are equal when their numbers are; where
the blocks were quantised differently, when they agree to the coarser half step of both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.processor.records import SampleConflict, Waveform
from services.store.reader import Reader, Samples, SampleSpan

ROUNDED_US: Final = 1_000  # the wire tells a block's first instant in milliseconds

Key = tuple[int, int, int]  # patient, metric, device


class Verdict(NamedTuple):
    """Samples of a batch, sorted out; counts by frame index."""

    stored: list[Waveform]
    conflicts: list[SampleConflict]
    counts: dict[int, tuple[int, int, int]]  # frame → (stored, duplicate, conflict)


async def sort_out(blocks: list[tuple[int, Waveform]], last_us: dict[Key, int], reader: Reader) -> Verdict:
    """Compare waveform blocks with each other and with what is stored.

    Args:
        blocks: (frame index, block) in the order they came.
        last_us: newest stored instant of each series; of one that is not named nothing is known.
        reader: reads what is stored.
    """
    known: dict[Key, list[Samples]] = defaultdict(list)
    spans = _overlapping(blocks, last_us)
    for key, samples in zip(spans, await reader.samples(list(spans.values())), strict=True):
        known[key].append(samples)
    verdict = Verdict([], [], {})
    for frame, block in blocks:
        seen, same = _compare(block, known[block.key])
        fresh = list(_runs(block, ~seen))
        known[block.key] += [_samples(one) for one in fresh]
        verdict.stored.extend(fresh)
        differs = np.flatnonzero(seen & ~same)
        instants, values = block.t_us, block.values
        verdict.conflicts.extend(
            SampleConflict(*block.key, int(instants[i]), float(values[i]), frame) for i in differs.tolist()
        )
        counted = (int((~seen).sum()), int((seen & same).sum()), len(differs))
        before = verdict.counts.get(frame, (0, 0, 0))
        verdict.counts[frame] = (before[0] + counted[0], before[1] + counted[1], before[2] + counted[2])
    return verdict


def _overlapping(blocks: list[tuple[int, Waveform]], last_us: dict[Key, int]) -> dict[Key, SampleSpan]:
    """Return the stretch of each series that has to be compared with what is stored."""
    spans: dict[Key, SampleSpan] = {}
    for _, block in blocks:
        key, first, last = block.key, block.t0_us - ROUNDED_US, block.last_us + ROUNDED_US
        if key in last_us and first > last_us[key]:
            continue
        span = spans.get(key, SampleSpan(*key, first, last))
        spans[key] = span._replace(from_us=min(span.from_us, first), to_us=max(span.to_us, last))
    return spans


def _compare(block: Waveform, known: list[Samples]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each sample whether its instant is known, and whether with the same value; shape (n,)."""
    n = len(block.sample)
    seen, same = np.zeros(n, bool), np.zeros(n, bool)
    wanted, value = block.t_us, block.values
    within = min(ROUNDED_US, max(block.step_us, 1) // 2 or 1)
    for samples in known:
        if not len(samples.t_us) or samples.t_us[0] > wanted[-1] + within or samples.t_us[-1] < wanted[0] - within:
            continue
        right = np.minimum(np.searchsorted(samples.t_us, wanted), len(samples.t_us) - 1)
        left = np.maximum(right - 1, 0)
        nearer = np.abs(samples.t_us[left] - wanted) <= np.abs(samples.t_us[right] - wanted)
        place = np.where(nearer, left, right)
        hit = np.abs(samples.t_us[place] - wanted) < within
        alike = (samples.scale[place] == block.scale) & (samples.offset[place] == block.offset)
        coarse = (np.abs(samples.scale[place]) + abs(block.scale)) / 2
        equal = np.where(
            alike,
            samples.raw[place] == block.sample,
            np.abs(samples.values[place] - value) <= coarse * 1.001,
        )
        same |= hit & ~seen & equal
        seen |= hit
    return seen, same


def _samples(block: Waveform) -> Samples:
    n = len(block.sample)
    return Samples(block.t_us, block.sample, np.full(n, block.scale), np.full(n, block.offset))


def _runs(block: Waveform, unseen: NDArray[np.bool_]) -> Iterator[Waveform]:
    """Yield a block for each stretch of samples that nobody has seen."""
    if unseen.all():
        yield block
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[False], unseen, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2).tolist():
        quality = None if block.quality is None else block.quality[start:stop]
        yield block._replace(
            t0_us=int(block.t_us[start]),
            sample=block.sample[start:stop],
            quality=None if quality is None or not quality.any() else quality,
        )
