"""The checker's arithmetic of sets: what it must notice, it notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation import checker
from ingest.frame import FRAME_VERSION, Block, Frame, encode
from ingest.ledger import Ledger
from ingest.verdict import Accepted, Refused
from simulators.series import blocks, series

METRICS = [(1, "heart_rate", "/min", "vital"), (6, "body_temperature", "Cel", "vital")]
T0 = 1_795_000_000_000


def readings(*triples: tuple[int, int, float]) -> checker.Readings:
    parts = [checker._rows(d, 1, np.array([T0 + t]), np.array([v], np.float32)) for d, t, v in triples]
    return checker._distinct(checker._all(parts))


def test_sets() -> None:
    one, other = readings((0, 0, 60), (0, 1, 61), (1, 0, 60)), readings((0, 1, 61), (0, 1, 62))
    assert len(checker._common(one, other)) == 1
    assert len(checker._without(one, other)) == 2
    assert len(checker._without(other, one)) == 1
    assert len(checker._without(one, one)) == 0
    assert len(checker._without(checker._all([]), one)) == 0


def test_a_reading_stored_twice_is_noticed() -> None:
    twice = checker._all([readings((0, 0, 60), (0, 1, 61)), readings((0, 1, 61))])
    assert len(checker._repeated(checker._sorted(twice))) == 1
    assert len(checker._repeated(readings((0, 0, 60), (0, 1, 61)))) == 0


def test_the_hash_knows_no_order() -> None:
    a, b = readings((0, 0, 60), (1, 5, 61)), readings((1, 5, 61), (0, 0, 60))
    assert checker._hash(a) == checker._hash(b) != checker._hash(readings((0, 0, 60)))


def frame(seq: int, *packed: Block) -> Frame:
    return Frame(FRAME_VERSION, "s", seq, T0, 0, list(packed))


def test_a_book_is_read_without_the_projects_code(tmp_path: Path) -> None:
    """Units, packed and float values, even and uneven instants; only accepted frames count."""
    even = np.arange(3, dtype=np.int64) * 60_000 + T0
    uneven = np.array([0, 1_500, 90_000], np.int64) + T0
    hearts = blocks({"heart_rate": series(even, np.array([60.0, 61.0, 62.0]))})
    warm = blocks({"body_temperature": series(uneven, np.array([98.6, 99.5, 100.4]))}, {"body_temperature": "[degF]"})
    with Ledger(tmp_path / "a.book") as ledger:
        frames = [frame(0, *hearts, *warm), frame(1, *hearts), frame(0, *hearts, *warm)]
        ids = ledger.add("watch", [(one, encode(one)) for one in frames])
        accepted = Accepted(frame_id="watch~s~0", href="", session="s", seq=0)
        ledger.settle([ids[0], ids[2]], [accepted, accepted])
        ledger.settle([ids[1]], [Refused(field="x", value=None, allowed="y", hint="z")])
        (whole,) = ledger.add("watch", [(None, b"\xc1")])
        ledger.settle([whole], [Refused(field="body", value=None, allowed="y", hint="z")])
    names = checker.Names(METRICS)
    found = checker._distinct(checker._all(list(checker._book(tmp_path / "a.book", names))))
    shown = sorted(names.show(one) for one in found)
    assert shown == sorted(
        [f"watch heart_rate {T0 + i * 60_000} {60 + i}" for i in range(3)]
        + [
            f"watch body_temperature {T0} 37",
            f"watch body_temperature {T0 + 1500} 37.5",
            f"watch body_temperature {T0 + 90_000} 38",
        ]
    )
    assert checker.sent_readings([tmp_path / "a.book"]) == {"sent": 0, "accepted": 12, "rejected": 3}
    assert checker.sent_frames([tmp_path / "a.book"]) == {"sent": 0, "accepted": 2, "rejected": 2}
    assert checker.rejected_frames([tmp_path / "a.book"], "watch") == 2


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        checker._shape(b"\x96\x07\xa1s\x00\x00\x00\x90")
