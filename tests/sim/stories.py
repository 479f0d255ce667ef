"""What devices measure and send: short lives with something to be found in them, as frames ready for the door.

A story is a pure function of its arguments, so the frames are made once and shared by every seed.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from ingest.catalogue import catalogue
from ingest.frame import FRAME_VERSION, Block, DeviceStatus, Frame, encode

MINUTE, HOUR = 60_000, 3_600_000
START: Final = 1_760_072_400_000  # 2025-10-10T05:00:00Z: 06:00 where these people live, whose day ends at 10:00
OFFSET_MIN: Final = 60
STEP: Final = 5  # minutes between two readings
METRICS: Final = ("heart_rate", "steps", "spo2", "body_temperature")
GAP_FROM_MIN, GAP_TO_MIN = 90, 270  # three hours of nothing: longer than silence allows
KINDS: Final = ("calm", "desaturation", "worsening", "tachycardia", "fever", "walk", "flicker", "gap", "battery")

Row = tuple[str, int, float]  # metric, instant, value as float32 gives it back


class Sent(NamedTuple):
    """One frame of a device: its number, when it is sent, its bytes, and the readings in it."""

    session: str
    seq: int
    sent_ms: int
    body: bytes
    rows: tuple[Row, ...]
    revision: int = 0


@lru_cache(maxsize=512)
def story(kind: str, hours: int, frame_min: int, salt: int) -> tuple[Sent, ...]:
    """Return a device's frames, one for each ``frame_min`` minutes; a stretch without readings sends none."""
    seed = zlib.crc32(f"{kind}/{salt}".encode())
    rng = np.random.default_rng(seed)
    minutes = np.arange(0, hours * 60, STEP)
    values = {metric: _values(metric, kind, minutes, rng) for metric in METRICS}
    if kind == "battery":
        values["battery"] = np.where((minutes >= 90) & (minutes < 150), 9.0, 80.0)
    frames: list[Sent] = []
    for begin in range(0, hours * 60, frame_min):
        inside = (minutes >= begin) & (minutes < begin + frame_min)
        if kind == "gap":
            inside &= (minutes < GAP_FROM_MIN) | (minutes >= GAP_TO_MIN)
        if inside.any():
            rows = [(m, START + int(t) * MINUTE, float(v)) for m in values
                    for t, v in zip(minutes[inside], values[m][inside], strict=True)]  # fmt: skip
            frames.append(sent("s", len(frames), START + (begin + frame_min) * MINUTE, rows))
    return tuple(frames)


def sent(session: str, seq: int, sent_ms: int, rows: list[Row], *, unit: str | None = None, revision: int = 0) -> Sent:
    """Return a frame with these readings; ``unit`` replaces the catalogue's, so that the door refuses it."""
    blocks = []
    for metric in dict.fromkeys(row[0] for row in rows):
        mine = sorted((row[1], row[2]) for row in rows if row[0] == metric)
        t0 = mine[0][0]
        offsets = np.array([t - t0 for t, _ in mine], "<i4").tobytes()
        data = np.array([value for _, value in mine], "<f4").tobytes()
        blocks.append(Block(metric, unit or catalogue()[metric].unit, t0, 0, "f4", data, offsets))
    frame = Frame(FRAME_VERSION, session, seq, sent_ms, OFFSET_MIN, blocks, revision=revision)
    exact = tuple((metric, t, float(np.float32(value))) for metric, t, value in rows)
    return Sent(session, seq, sent_ms, encode(frame), exact, revision)


def closing(seq: int) -> Sent:
    """Return a frame without readings: the device is still there, and nothing of it is waited for any more."""
    sent_ms = START + 6 * HOUR
    frame = Frame(FRAME_VERSION, "s", seq, sent_ms, OFFSET_MIN, [], DeviceStatus(worn=True))
    return Sent("s", seq, sent_ms, encode(frame), ())


def _values(metric: str, kind: str, minutes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    usual = {"heart_rate": 68.0, "steps": 0.0, "spo2": 97.0, "body_temperature": 36.7}[metric]
    spread = {"heart_rate": 3.0, "steps": 0.0, "spo2": 0.7, "body_temperature": 0.1}[metric]
    values = usual + np.round(rng.normal(0, spread, len(minutes)), 0 if metric != "body_temperature" else 1)
    if metric == "spo2":
        values = np.minimum(values, 100)

    def lies(first: int, last: int, value: float) -> None:
        values[(minutes >= first) & (minutes < last)] = value

    if (kind, metric) == ("desaturation", "spo2"):
        lies(100, 140, 87)
    elif (kind, metric) == ("worsening", "spo2"):
        lies(75, 110, 88)
        lies(110, 150, 82)
    elif (kind, metric) == ("flicker", "spo2"):
        for first in (45, 60, 120, 185):
            lies(first, first + 10, 86)
    elif (kind, metric) == ("tachycardia", "heart_rate"):
        lies(120, 170, 142)
    elif (kind, metric) == ("fever", "body_temperature"):
        lies(60, 150, 39.1)
    elif kind == "walk" and metric in ("heart_rate", "steps"):
        lies(90, 150, 144 if metric == "heart_rate" else 90)
    return np.asarray(values)
