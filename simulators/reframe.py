"""The same recording, sent as another device program might: other frame boundaries, rows shuffled.

Rows are cut into pieces of odd lengths across the hours, each piece is dealt out at random into several blocks that
interleave in time, and a day's blocks are shuffled into frames of odd sizes. No reading is lost, added or changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np

from ingest.frame import Block
from simulators.recording import Recording
from simulators.series import DAY_MS, MINUTE_MS, Series, blocks

PIECE_MINUTES: Final = (7, 97)  # so long is a piece, one beginning anywhere in an hour
HANDS: Final = (2, 6)  # a piece's rows are dealt into so many blocks
FRAME_BLOCKS: Final = (1, 24)


def reframed(recording: Recording, seed: int) -> Iterator[tuple[int, list[Block]]]:
    """Yield (end of the day, a frame's blocks), day after day; the same seed gives the same frames."""
    rng = np.random.default_rng([seed, zlib.crc32(recording.person.encode())])
    first_ms, last_ms = recording.span_ms
    days: dict[int, list[tuple[str, Series]]] = {}
    for metric, stream in recording.streams.items():
        in_time = stream.part(np.argsort(stream.t_ms, kind="stable"))
        for piece in _pieces(in_time, first_ms - int(rng.integers(0, 3_600_000)), last_ms, rng):
            days.setdefault(int(piece.t_ms[0]) // DAY_MS, []).extend((metric, hand) for hand in _dealt(piece, rng))
    for day in sorted(days):
        hands = days[day]
        cut = [block for i in rng.permutation(len(hands)).tolist() for block in blocks({hands[i][0]: hands[i][1]})]
        at = 0
        while at < len(cut):
            size = int(rng.integers(*FRAME_BLOCKS, endpoint=True))
            yield (day + 1) * DAY_MS, cut[at : at + size]
            at += size


def _pieces(stream: Series, from_ms: int, last_ms: int, rng: np.random.Generator) -> Iterator[Series]:
    edges = [from_ms]
    while edges[-1] <= last_ms:
        edges.append(edges[-1] + int(rng.integers(*PIECE_MINUTES)) * MINUTE_MS + int(rng.integers(0, MINUTE_MS)))
    places = np.searchsorted(stream.t_ms, edges).tolist()
    yield from (stream.part(slice(a, b)) for a, b in zip(places, places[1:], strict=False) if b > a)


def _dealt(piece: Series, rng: np.random.Generator) -> Iterator[Series]:
    hands = int(rng.integers(*HANDS, endpoint=True))
    hand_of = rng.integers(0, hands, len(piece.t_ms))
    for hand in range(hands):
        rows = np.flatnonzero(hand_of == hand)
        if len(rows):
            yield piece.part(rows)
