"""A device's book and its client: what was sent stays written, and is sent again until it has a verdict."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ingest.client import BODY_BYTES, DeviceClient, DoorClosed, NotDelivered, Unread, array_of
from ingest.frame import Block, Frame, decode_frame, decode_frames, encode
from ingest.ledger import Ledger
from ingest.verdict import Accepted, Refused, Verdict

NOW = 1_795_348_800_000


def block(n: int = 3, t0_ms: int = NOW) -> Block:
    return Block("heart_rate", "/min", t0_ms, 1_000_000, "f4", np.arange(60, 60 + n).astype("<f4").tobytes())


class Scripted:
    """A door that fails as it is told, then accepts; it remembers what it was handed."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.bodies: list[bytes] = []

    async def deliver(self, body: bytes) -> list[Verdict]:
        self.bodies.append(body)
        if self.failures:
            raise self.failures.pop(0)
        frames = [decode_frame(raw) for raw in decode_frames(body)]
        return [Accepted(frame_id=f"w~{f.session}~{f.seq}", href="/", session=f.session, seq=f.seq) for f in frames]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "book.db")


async def test_frames_are_sent_again_until_they_have_a_verdict(ledger: Ledger) -> None:
    door = Scripted(NotDelivered("no answer"), NotDelivered("busy", 0.3))
    client = DeviceClient("w", door, ledger, "s")
    began = time.monotonic()
    verdicts = await client.send([client.frame([block()], NOW)])
    assert time.monotonic() - began >= 0.3  # the wait that the door asked for
    assert [isinstance(verdict, Accepted) for verdict in verdicts] == [True]
    assert len(set(door.bodies)) == 1
    assert len(door.bodies) == 3
    assert ledger.counts() == {"sent": 0, "accepted": 1, "rejected": 0}


async def test_a_closed_door_leaves_the_frames_as_sent(ledger: Ledger) -> None:
    client = DeviceClient("w", Scripted(DoorClosed("revoked")), ledger, "s")
    with pytest.raises(DoorClosed):
        await client.send([client.frame([block()], NOW)])
    assert ledger.counts() == {"sent": 1, "accepted": 0, "rejected": 0}
    assert await DeviceClient("w", Scripted(), ledger, "t").resend_unsettled() == 1
    assert ledger.counts() == {"sent": 0, "accepted": 1, "rejected": 0}


async def test_an_unread_body_is_a_rejection_of_everything_in_it(ledger: Ledger) -> None:
    client = DeviceClient("w", Scripted(Unread("no msgpack")), ledger, "s")
    (verdict,) = await client.send_body(b"\xc1")
    assert isinstance(verdict, Refused)
    assert [entry.body for entry in ledger.entries("rejected")] == [b"\xc1"]


async def test_the_same_frame_twice_is_two_entries(ledger: Ledger) -> None:
    client = DeviceClient("w", Scripted(), ledger, "s")
    frame = client.frame([block()], NOW)
    await client.send([frame, frame])
    assert [(entry.session, entry.seq) for entry in ledger.entries()] == [("s", 0), ("s", 0)]


async def test_requests_hold_a_hundred_frames_and_a_megabyte(ledger: Ledger) -> None:
    door = Scripted()
    client = DeviceClient("w", door, ledger, "s")
    await client.send([client.frame([block(3000)] * 2, NOW) for _ in range(230)])
    assert all(len(body) <= BODY_BYTES + 3 for body in door.bodies)
    counts = [len(decode_frames(body)) for body in door.bodies]
    assert sum(counts) == 230
    assert max(counts) <= 100


@pytest.mark.parametrize("n", [1, 15, 16, 100, 300])
def test_an_array_of_encoded_frames_is_the_encoded_array(n: int) -> None:
    frames = [Frame(1, "s", i, NOW, 0, [block()]) for i in range(n)]
    assert array_of([encode(frame) for frame in frames]) == encode(frames) == msgspec.msgpack.encode(frames)


def test_the_book_lists_every_reading_in_the_unit_sent(ledger: Ledger) -> None:
    offsets = np.array([0, 500, 1700], "<i4").tobytes()
    uneven = Block(
        "body_temperature", "[degF]", NOW, 0, "i2", np.array([986, 990, 1000], "<i2").tobytes(), offsets, None, 0.1
    )
    frame = Frame(1, "s", 1, NOW, 0, [block(), uneven])
    refused = Frame(1, "s", 2, NOW, 0, [block()])
    ids = ledger.add("w", [(frame, encode(frame)), (refused, encode(refused))])
    rejection = Refused(field="seq", value=2, allowed="1", hint="none")
    ledger.settle(ids, [Accepted(frame_id="w~s~1", href="/", session="s", seq=1), rejection])
    heart, temperature = ledger.readings()
    assert list(heart.times_ms) == [NOW, NOW + 1000, NOW + 2000]
    assert list(heart.values) == [60, 61, 62]
    assert (temperature.metric, temperature.unit) == ("body_temperature", "[degF]")
    assert list(temperature.times_ms) == [NOW, NOW + 500, NOW + 1700]
    assert np.allclose(temperature.values, [98.6, 99.0, 100.0])
    assert [len(readings.values) for readings in ledger.readings("rejected")] == [3]


def test_what_was_written_survives_another_opening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "book.db"
    with Ledger(path) as first:
        first.add("w", [(None, b"raw")])
    with Ledger(path) as second:
        assert second.counts() == {"sent": 1, "accepted": 0, "rejected": 0}
        assert second.add("w", [(None, b"more")]) == [2]


def test_a_verdict_too_few_is_an_error(ledger: Ledger) -> None:
    ids = ledger.add("w", [(None, b"a"), (None, b"b")])
    with pytest.raises(ValueError, match="shorter"):
        ledger.settle(ids, [Refused(field="x", value=None, allowed="y", hint="z")])
    assert ledger.counts()["sent"] == 2


def test_the_book_is_plain_sqlite(ledger: Ledger) -> None:
    frame = Frame(1, "s", 1, NOW, 0, [block()])
    ledger.add("w", [(frame, encode(frame))])
    book = sqlite3.connect(ledger.path)
    (row,) = book.execute("SELECT device, session, seq, state, body FROM frame").fetchall()
    book.close()
    assert row == ("w", "s", 1, "sent", encode(frame))
