"""A device client keeps what was refused as busy, sends the same frame again, and lets vitals through meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest import frame as wire
from ingest.client import DeviceClient, NotDelivered
from ingest.frame import Block
from ingest.ledger import Ledger
from ingest.verdict import Accepted, Busy, Verdict, decode_verdicts, encode_verdicts

MINUTE = 60_000


class BusyDoor:
    """Takes vitals always, and waveforms after having refused them ``times``."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.bodies: list[list[tuple[int, str]]] = []

    async def deliver(self, body: bytes) -> list[Verdict]:
        frames = [wire.decode_frame(raw) for raw in wire.decode_frames(body)]
        self.bodies.append([(frame.seq, frame.blocks[0].metric) for frame in frames])
        self.times -= 1
        verdicts: list[Verdict] = [
            Busy(reason="bytes", retry_after_s=0.01, session=frame.session, seq=frame.seq)
            if frame.blocks[0].metric == "ecg" and self.times >= 0
            else Accepted(frame_id=f"d~{frame.session}~{frame.seq}", href="", session=frame.session, seq=frame.seq)
            for frame in frames
        ]
        return decode_verdicts(encode_verdicts(verdicts))


def blocks(metric: str) -> list[Block]:
    return [Block(metric, "mV" if metric == "ecg" else "/min", 0, 4_000, "i2", np.zeros(10, "<i2").tobytes())]


async def test_busy_frames_are_sent_again_alone_until_they_are_taken(tmp_path: Path) -> None:
    door = BusyDoor(2)
    with Ledger(tmp_path / "book") as book:
        client = DeviceClient("d", door, book, "s")
        frames = [client.frame(blocks(metric), 0) for metric in ("ecg", "heart_rate", "ecg")]
        verdicts = await client.send(frames)
        assert [one.seq for one in verdicts if isinstance(one, Accepted)] == [0, 1, 2]
        assert book.counts() == {"sent": 0, "accepted": 3, "rejected": 0}
    assert door.bodies == [
        [(0, "ecg"), (1, "heart_rate"), (2, "ecg")],
        [(0, "ecg"), (2, "ecg")],
        [(0, "ecg"), (2, "ecg")],
    ]


async def test_deferred_ones_stay_in_the_book_as_sent_until_later(tmp_path: Path) -> None:
    door = BusyDoor(1)
    with Ledger(tmp_path / "book") as book:
        client = DeviceClient("d", door, book, "s")
        verdicts = await client.send([client.frame(blocks(m), 0) for m in ("ecg", "heart_rate")], defer_busy=True)
        assert [type(one) for one in verdicts] == [Busy, Accepted]
        assert book.counts() == {"sent": 1, "accepted": 1, "rejected": 0}
        assert [(entry.seq, entry.state) for entry in book.unsettled("d")] == [(0, "sent")]
        assert await client.resend_unsettled() == 1
        assert book.counts() == {"sent": 0, "accepted": 2, "rejected": 0}
    assert len(door.bodies) == 2


async def test_a_door_that_stays_busy_is_given_up_with_nothing_lost(tmp_path: Path) -> None:
    with Ledger(tmp_path / "book") as book:
        client = DeviceClient("d", BusyDoor(10_000), book, "s", give_up_after_s=0.5)
        with pytest.raises(NotDelivered, match="busy"):
            await client.send([client.frame(blocks("ecg"), 0)])
        assert book.counts() == {"sent": 1, "accepted": 0, "rejected": 0}
