"""What every door does with a body, whatever carried it: split, parse, check, stamp, publish, answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ingest import metrics, parse
from ingest.assign import Device, stamp, withheld_of
from ingest.clock import Clock, SystemClock
from ingest.frame import DTYPES, StampedFrame
from ingest.load import BROKER, Load, waveform_bytes
from ingest.parse import Form
from ingest.publish import Publisher
from ingest.validate import Rejected
from ingest.verdict import Accepted, Busy, Refused, Verdict, refused


class Intake:
    """From a device's bytes to Kafka; ``frame_base`` is put before ``/v1/frames/…`` in the verdicts.

    ``load`` is what the door holds: with too much of it, frames are answered busy instead of being taken.
    """

    def __init__(self, publisher: Publisher, clock: Clock, frame_base: str = "", load: Load | None = None) -> None:
        self.load = load or Load("https")
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
        waveforms = 0
        for raw in raws:
            try:
                frame = parse.parse(raw, form, received_ms)
                parts = stamp(frame, device, received_ms)
            except Rejected as error:
                verdicts.append(refused(error, *parse.identity(raw, form)))
                continue
            if reason := self.load.sheds(parts, waveforms):
                verdicts.append(self._busy(reason, frame.session, frame.seq))
                continue
            stamped += parts
            waveforms += waveform_bytes(parts)
            public_id = parts[0].frame_id
            href = f"{self._frame_base}/v1/frames/{public_id}"
            verdicts.append(
                Accepted(
                    frame_id=public_id, href=href, session=frame.session, seq=frame.seq,
                    withheld=withheld_of(frame, parts),
                )
            )  # fmt: skip
        return verdicts, stamped

    async def publish(self, frames: Sequence[StampedFrame]) -> None:
        """Return after the broker's acknowledgement.

        Raises:
            BrokerUnavailable: it did not come in time.
        """
        if frames:
            with self.load.waiting(frames):
                await self._publisher.publish(frames)

    def without_waveforms(
        self, verdicts: Sequence[Verdict], stamped: Sequence[StampedFrame]
    ) -> tuple[list[Verdict], list[StampedFrame]]:
        """Return the same with frames that hold waveforms answered busy: the broker does not take them now."""
        shed = {frame.frame_id for frame in stamped if waveform_bytes([frame])}
        for _ in shed:
            self.load.count_shed(True, BROKER)
        changed: list[Verdict] = [
            self._busy(BROKER, one.session, one.seq) if isinstance(one, Accepted) and one.frame_id in shed else one
            for one in verdicts
        ]
        return changed, [frame for frame in stamped if frame.frame_id not in shed]

    def count(self, verdicts: Sequence[Verdict], stamped: Sequence[StampedFrame], body_bytes: int) -> None:
        """Count what is about to be answered; call it once everything accepted is kept."""
        door = self.load.door
        for kind, name in _VERDICT_NAMES.items():
            if n := sum(isinstance(verdict, kind) for verdict in verdicts):
                metrics.FRAMES.labels(door, name).inc(n)
        blocks = [block for frame in stamped for block in frame.blocks]
        metrics.READINGS.labels(door).inc(sum(len(block.values) // DTYPES[block.dtype].itemsize for block in blocks))
        metrics.BYTES.labels(door).inc(body_bytes)

    def _busy(self, reason: str, session: str, seq: int) -> Busy:
        return Busy(reason=reason, retry_after_s=max(1, self.load.retry_after_s), session=session, seq=seq)


_VERDICT_NAMES = {Accepted: "accepted", Refused: "rejected", Busy: "busy"}
