"""A device's side of the door: numbers its frames, keeps a book of them and sends again until each has a
verdict.

``DeviceClient`` is the same over HTTPS and MQTT; ``ingest.doors`` holds the two ways.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ingest import frame as wire
from ingest.frame import Block, DeviceStatus, Frame
from ingest.ledger import Ledger
from ingest.verdict import Busy, Refused, Verdict

BODY_BYTES = wire.MAX_REQUEST_BYTES - 1024  # an MQTT broker counts topic and properties too
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 5.0


class Credentials(NamedTuple):
    """A device's key and its token."""

    device: str
    token: str


class NotDelivered(Exception):
    """No verdict came: the frames may or may not be kept, so send them again after ``retry_after_s``."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class DoorClosed(Exception):
    """The door refuses this device for good, e.g. for a revoked token; sending again is no use."""


class Unread(Exception):
    """The door read the body and found no list of frames in it; nothing was kept."""


class Door(Protocol):
    """One device's way in."""

    async def deliver(self, body: bytes) -> list[Verdict]:
        """Send a msgpack array of frames (or what a test wants) and return its verdicts, in order.

        Raises:
            NotDelivered: no verdict in time, or the door asks to come again.
            DoorClosed: sending again is no use.
            Unread: the body is no list of frames.
        """
        ...


class DeviceClient:
    """One device: its session, its numbers, its book.

    The caller decides which frames are sent, in which order and how often; what `frame` makes and `send`
    sends need not be the same, so that scenarios can repeat, shuffle, hold back and spoil.
    """

    def __init__(
        self, device: str, door: Door, ledger: Ledger, session: str, *, give_up_after_s: float = 300.0
    ) -> None:
        self.device = device
        self.session = session
        self.next_seq = 0
        self._door = door
        self._ledger = ledger
        self._give_up_after_s = give_up_after_s

    def frame(
        self,
        blocks: list[Block],
        sent_ms: int,
        utc_offset_min: int = 0,
        status: DeviceStatus | None = None,
    ) -> Frame:
        """Return the next frame of this session."""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        return Frame(wire.FRAME_VERSION, self.session, seq, sent_ms, utc_offset_min, blocks, status)

    async def send(self, frames: Sequence[Frame | bytes], *, defer_busy: bool = False) -> list[Verdict]:
        """Send frames until each has a verdict, 100 a request at most; bytes are sent as one frame, as they
        are.

        ``defer_busy`` gives a busy verdict back instead of sending that frame again at once, so that vitals need
        not wait for waveforms that an overloaded door sheds; `resend_unsettled` sends it later.

        Raises:
            NotDelivered: no verdict within ``give_up_after_s``; the book still holds the frames as sent.
            DoorClosed: the door refuses this device.
        """
        verdicts: list[Verdict] = []
        for chunk in _chunks(frames):
            ids = self._ledger.add(self.device, chunk)
            verdicts += await self._until_settled(ids, [body for _, body in chunk], defer_busy=defer_busy)
        return verdicts

    async def send_body(self, body: bytes) -> list[Verdict]:
        """Send one request body exactly as it is, e.g. one that is broken; the book keeps it whole."""
        return await self._until_settled(self._ledger.add(self.device, [(None, body)]), body)

    async def resend_unsettled(self) -> int:
        """Send what has no verdict again, e.g. after a crash, and return how many frames that were."""
        sent = 0
        while entries := self._ledger.unsettled(self.device, wire.MAX_FRAMES):
            whole = [entry for entry in entries if entry.session is None]
            for entry in whole:
                await self._until_settled([entry.id], entry.body)
            framed = [entry for entry in entries if entry.session is not None]
            for part in _fitting([entry.body for entry in framed]):
                ids = [entry.id for entry in framed[part.start : part.stop]]
                await self._until_settled(ids, [entry.body for entry in framed[part.start : part.stop]])
            sent += len(entries)
        return sent

    async def _until_settled(
        self, ids: list[int], bodies: bytes | list[bytes], *, defer_busy: bool = False
    ) -> list[Verdict]:
        """Deliver one body as it is, or frames as one array: again what was busy, all of it where no verdict came."""
        until = time.monotonic() + self._give_up_after_s
        backoff = FIRST_BACKOFF_S
        found: dict[int, Verdict] = {}
        left = ids
        while left:
            body = bodies if isinstance(bodies, bytes) else array_of([bodies[ids.index(i)] for i in left])
            try:
                verdicts = await self._deliver(left, body)
            except NotDelivered as error:
                trouble, after_s = error, error.retry_after_s or 0.0
            else:
                self._ledger.settle(left, verdicts)
                found |= zip(left, verdicts, strict=True)
                busy = [verdict for verdict in verdicts if isinstance(verdict, Busy)]
                if defer_busy or not busy:
                    break
                if len(busy) < len(left):
                    backoff = FIRST_BACKOFF_S  # the door takes some: no reason to stay away long
                left = [i for i in left if isinstance(found[i], Busy)]
                after_s = max(verdict.retry_after_s for verdict in busy)
                trouble = NotDelivered(f"{len(left)} frames are still refused as busy ({busy[0].reason})", after_s)
            wait_s = max(after_s, backoff * random.uniform(0.5, 1.0))
            if time.monotonic() + wait_s > until:
                raise trouble
            await asyncio.sleep(wait_s)
            backoff = min(backoff * 2, LAST_BACKOFF_S)
        return [found[i] for i in ids]

    async def _deliver(self, ids: list[int], body: bytes) -> list[Verdict]:
        """Return one verdict for each of ``ids``."""
        try:
            verdicts = await self._door.deliver(body)
        except Unread as error:
            return [Refused(field="body", value=None, allowed="a list of frames", hint=str(error)) for _ in ids]
        if len(ids) == 1 and verdicts:  # a body sent whole: any frame in it speaks for it, a busy one first
            return [next((one for one in verdicts if isinstance(one, Busy)), verdicts[0])]
        if len(verdicts) != len(ids):
            msg = f"{len(verdicts)} verdicts for {len(ids)} frames: another bridge answers on this broker"
            raise NotDelivered(msg)
        return verdicts


def array_of(bodies: Sequence[bytes]) -> bytes:
    """Return the msgpack array of already encoded frames (65,535 at most)."""
    n = len(bodies)
    head = bytes([0x90 | n]) if n < 16 else b"\xdc" + n.to_bytes(2, "big")
    return head + b"".join(bodies)


def _chunks(frames: Sequence[Frame | bytes]) -> Iterator[list[tuple[Frame | None, bytes]]]:
    pairs: list[tuple[Frame | None, bytes]] = [
        (None, frame) if isinstance(frame, bytes) else (frame, wire.encode(frame)) for frame in frames
    ]
    for part in _fitting([body for _, body in pairs]):
        yield pairs[part.start : part.stop]


def _fitting(bodies: Sequence[bytes]) -> Iterator[range]:
    """Cut encoded frames into runs that fit a request; one too large for any goes alone, to be refused."""
    start, size = 0, 0
    for i, body in enumerate(bodies):
        if i > start and (i - start == wire.MAX_FRAMES or size + len(body) > BODY_BYTES):
            yield range(start, i)
            start, size = i, 0
        size += len(body)
    if start < len(bodies):
        yield range(start, len(bodies))
