"""From measured readings to frames on the way: how a device packs them, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from ingest.frame import FRAME_VERSION, Block, DeviceStatus, Frame, encode
from simulators.effects import Effect
from simulators.patients import Patient
from simulators.series import MINUTE_MS, Readings, blocks

SWAP_FRAME_MIN: Final = 1  # frames this short stay within the reordering bound when swapped
RESENT: Final = 0.4  # share of frames sent twice

Kind = Literal["off", "held", "resent", "swapped", "skewed", "fahrenheit", "malformed"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong between sensor and gateway from ``start_ms`` to ``end_ms`` (Unix ms UTC).

    off: the device measures nothing and sends nothing. held: frames wait until the end; then the newest goes
    first and the rest at the next occasion. resent: some frames are sent again, some cut anew. swapped:
    one-minute frames, each two of them in the wrong order. skewed: the device's clock is ``size`` ms ahead.
    fahrenheit: temperatures in °F that say they are °C. malformed: also bodies that are no frames.
    """

    kind: Kind
    start_ms: int
    end_ms: int
    size: float = 0.0

    def touches(self, from_ms: int, to_ms: int) -> bool:
        """Whether any of it lies in ``from_ms`` <= t < ``to_ms``."""
        return self.start_ms < to_ms and from_ms < self.end_ms


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a device sends at one occasion, in this order; ``broken`` are bodies that are no frames."""

    frames: list[Frame]
    broken: list[bytes]


class SimulatedDevice:
    """One device of a synthetic patient: it packs what it measured into frames and sends them its own way."""

    def __init__(self, patient: Patient, troubles: tuple[Trouble, ...] = ()) -> None:
        self.patient = patient
        self.troubles = troubles
        self.key = f"watch-{patient.key}"
        self._next_seq: dict[str, int] = {}
        self._held: list[Frame] = []
        self._later: list[Frame] = []  # goes out at the next occasion
        profile = patient.profile
        self._rng = np.random.default_rng([profile.seed, profile.index, 0x11F7])

    def parcel(self, from_ms: int, to_ms: int, *, frame_min: int | None = None) -> Parcel:
        """Return what is sent at ``to_ms`` of what was measured since ``from_ms``; spans must adjoin."""
        waiting, self._later = self._later, []
        frames: list[Frame] = []
        packed_to = 0
        for start, stop in self._cut(from_ms, to_ms, frame_min or self.patient.profile.frame_min):
            frame = self._pack("main", start, stop, to_ms)
            if frame is None:
                continue
            if self._has("held", start, stop):
                self._held.append(frame)
                continue
            self._later += self._held + self._again(frame, start, stop)
            self._held = []
            # only with its neighbour: swapped across a gap it would be late, not out of order
            swap = self._has("swapped", start, stop) and frame.seq % 2 and packed_to == start
            frames.insert(len(frames) - 1 if swap else len(frames), frame)
            packed_to = stop
        broken: list[bytes] = []
        if self._has("malformed", from_ms, to_ms):
            frames.append(self._nonsense(to_ms))
            broken = broken_bodies(self._rng)
        return Parcel(frames + waiting, broken)

    def befall(self, what: Effect | Trouble) -> None:
        """Let something happen to the patient or the device from now on."""
        if isinstance(what, Effect):
            self.patient.add(what)
        else:
            self.troubles = (*self.troubles, what)

    def spot(self, now_ms: int) -> Frame:
        """Return a frame with the one reading a wearer takes by hand at ``now_ms``."""
        value = np.array([self.patient.spot_rate(now_ms)], "<i2").tobytes()
        block = Block("heart_rate", "/min", now_ms, 0, "i2", value)
        return self._frame("main", [block], now_ms, None)

    def _has(self, kind: Kind, from_ms: int, to_ms: int) -> Trouble | None:
        return next((one for one in self.troubles if one.kind == kind and one.touches(from_ms, to_ms)), None)

    def _cut(self, from_ms: int, to_ms: int, frame_min: int) -> Iterator[tuple[int, int]]:
        """Yield the spans of the frames, cut at whole multiples of their length."""
        at = from_ms
        while at < to_ms:
            length = (SWAP_FRAME_MIN if self._has("swapped", at, at + 1) else frame_min) * MINUTE_MS
            stop = min(to_ms, (at // length + 1) * length)
            yield at, stop
            at = stop

    def _pack(self, session: str, start: int, stop: int, sent_ms: int) -> Frame | None:
        if self._has("off", start, stop):
            return None
        skew = self._has("skewed", start, stop)
        ahead = int(skew.size) if skew else 0
        readings = {
            metric: columns._replace(t_ms=columns.t_ms + ahead)
            for metric, columns in self.patient.readings(start, stop).items()
        }
        if not readings:
            return None
        if self._has("fahrenheit", start, stop):
            readings = _in_fahrenheit(readings)
        return self._frame(session, blocks(readings), sent_ms + ahead, self.patient.status(stop - 1))

    def _frame(self, session: str, packed: list[Block], sent_ms: int, status: DeviceStatus | None) -> Frame:
        seq = self._next_seq.get(session, 0)
        self._next_seq[session] = seq + 1
        offset = self.patient.profile.utc_offset_min
        return Frame(FRAME_VERSION, session, seq, sent_ms, offset, packed, status)

    def _again(self, frame: Frame, start: int, stop: int) -> list[Frame]:
        """Return the frame once more, or most of its readings in a frame with other bounds, or nothing."""
        if not self._has("resent", start, stop) or self._rng.random() > RESENT:
            return []
        if self._rng.random() < 0.5:
            return [frame]
        other = self._pack("again", start + (stop - start) // 4, stop, frame.sent_ms)
        return [] if other is None else [other]

    def _nonsense(self, sent_ms: int) -> Frame:
        """Return a frame that is well formed and holds what nobody measures."""
        values = np.array([1.0], "<f4").tobytes()
        metric, unit = (("aura", "1"), ("heart_rate", "furlong"))[int(self._rng.integers(2))]
        return self._frame("nonsense", [Block(metric, unit, sent_ms - 1000, 0, "f4", values)], sent_ms, None)


def broken_bodies(rng: np.random.Generator) -> list[bytes]:
    """Return request bodies that are no frames: noise, something cut short, the wrong shape."""
    whole = encode([Frame(FRAME_VERSION, "cut", 0, 0, 0, [])])
    return [b"\xc1" + rng.bytes(40), whole[: int(rng.integers(1, len(whole)))], b"\x91\x91\x01"]


def _in_fahrenheit(readings: Readings) -> Readings:
    return {
        metric: columns._replace(value=(columns.value * 1.8 + 32).astype(np.float32))
        if metric == "body_temperature"
        else columns
        for metric, columns in readings.items()
    }
