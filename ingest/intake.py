"""What every door does with a body, whatever carried it: split, parse, check, stamp, publish, answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ingest import parse
from ingest.assign import Device, stamp
from ingest.clock import Clock, SystemClock
from ingest.frame import StampedFrame
from ingest.parse import Form
from ingest.publish import Publisher
from ingest.validate import Rejected
from ingest.verdict import Accepted, Verdict, refused


class Intake:
    """From a device's bytes to Kafka; ``frame_base`` is put before ``/v1/frames/…`` in the verdicts."""

    def __init__(self, publisher: Publisher, clock: Clock, frame_base: str = "") -> None:
        self._publisher = publisher
        self._clock = clock
        self._host = SystemClock()
        self._frame_base = frame_base.rstrip("/")

    def now_ms(self) -> int:
        """Return the time of receipt; a time-lapse that has not begun leaves it to the host."""
        return self._clock.now_ms() or self._host.now_ms()

    def judge(
        self, raws: Sequence[msgspec.Raw], form: Form, device: Device
    ) -> tuple[list[Verdict], list[StampedFrame]]:
        """Return each frame's verdict, true once the stamped frames beside them are published."""
        received_ms = self.now_ms()
        verdicts: list[Verdict] = []
        stamped: list[StampedFrame] = []
        for raw in raws:
            try:
                frame = parse.parse(raw, form, received_ms)
                stamped += (parts := stamp(frame, device, received_ms))
            except Rejected as error:
                verdicts.append(refused(error, *parse.identity(raw, form)))
                continue
            public_id = parts[0].frame_id
            href = f"{self._frame_base}/v1/frames/{public_id}"
            verdicts.append(Accepted(frame_id=public_id, href=href, session=frame.session, seq=frame.seq))
        return verdicts, stamped

    async def publish(self, frames: Sequence[StampedFrame]) -> None:
        """Return after the broker's acknowledgement.

        Raises:
            BrokerUnavailable: it did not come in time.
        """
        if frames:
            await self._publisher.publish(frames)
