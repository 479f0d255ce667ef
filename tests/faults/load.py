"""What is sent during a row: several dozen people with a story, over HTTPS and MQTT, drawn from a seed.

Event time is compressed: the frames carry fixed stamps, days of a story pass in some seconds, and so there are
settled alerts to compare. Four of the patients wear a second device that sends an ECG.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ingest.client import Credentials
from ingest.frame import FRAME_VERSION, Block, Frame
from ingest.ledger import Ledger
from tests.cast import HOUR, OFFSET_MIN, cast
from tests.fix_faults import T0, Stream, frames_of

DAYS: Final = 8
HOURS_A_FRAME: Final = 2
PEOPLE: Final = 28  # each of the 14 stories twice, told with other noise
ECG_HZ, ECG_SAMPLES, ECG_BLOCKS = 125, 900, 8  # a minute of ECG a frame
ECG_EVERY_H: Final = 8
PARTS: Final = 24
PART_S: Final = 0.45  # so a load lasts at least 11 s; it takes longer where the system can't keep up


@dataclass(frozen=True)
class Story:
    """What every device sends, in order. Keys are those of the devices without their ``-watch``."""

    seed: int
    frames: Mapping[str, list[Frame]]
    patients: Mapping[str, str]  # device's key → patient's key
    over_mqtt: frozenset[str]

    @property
    def count(self) -> int:
        """All frames."""
        return sum(map(len, self.frames.values()))


def story(seed: int, people: int = PEOPLE) -> Story:
    """Return the story of a seed: the noise, who sends over MQTT and who wears an ECG are drawn from it."""
    rng = random.Random(seed)
    frames: dict[str, list[Frame]] = {}
    patients: dict[str, str] = {}
    told = cast(DAYS)
    for number in range(people):
        person = told[number % len(told)]
        key = f"{person.key}-{seed}-{number // len(told)}"
        frames[key] = frames_of(replace(person, key=key), DAYS, HOURS_A_FRAME)
        patients[key] = key
    watches = list(frames)
    for key in rng.sample(watches, 4):
        frames[f"{key}-ecg"] = _ecg(seed, key)
        patients[f"{key}-ecg"] = key
    over_mqtt = frozenset(rng.sample(list(frames), len(frames) // 2))
    return Story(seed, frames, patients, over_mqtt)


def _ecg(seed: int, key: str) -> list[Frame]:
    rng = np.random.default_rng([seed, len(key), *key.encode()])
    span_ms = ECG_SAMPLES * 1000 // ECG_HZ
    made = []
    for seq, hour in enumerate(range(0, DAYS * 24, ECG_EVERY_H)):
        t0_ms = T0 + hour * HOUR
        samples = rng.normal(0, 300, (ECG_BLOCKS, ECG_SAMPLES)).astype("<i2")
        blocks = [
            Block("ecg", "mV", t0_ms + i * span_ms, 1_000_000 // ECG_HZ, "i2", one.tobytes(), scale=0.001)
            for i, one in enumerate(samples)
        ]
        made.append(Frame(FRAME_VERSION, "story", seq, t0_ms + HOUR, OFFSET_MIN, blocks))
    return made


class Load(Stream):
    """The devices of a story, each sending its next part when the time for it has come."""

    async def play(self, part_s: float) -> None:
        """Release the parts one after the other, whether the system keeps up or not."""
        for _ in range(self.parts):
            await self.release()
            await asyncio.sleep(part_s)

    def credentials(self, key: str) -> Credentials:
        """Return what a device shows at the door."""
        return self._credentials[list(self.frames).index(key)]

    @property
    def ledger(self) -> Ledger:
        """The devices' book, open for writing."""
        return self._ledger

    async def until(self, share: float, timeout_s: float = 60) -> None:
        """Wait until this share of all frames is accepted."""
        wanted = share * sum(map(len, self.frames.values()))
        async with asyncio.timeout(timeout_s):
            while self.accepted < wanted:
                await asyncio.sleep(0.01)

    async def finished(self, timeout_s: float = 90) -> None:
        """Wait until every device has a verdict on everything.

        Raises:
            TimeoutError: the doors did not take it all in time.
        """
        done, waiting = await asyncio.wait(self._tasks, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            await task  # whatever broke it off
        if waiting:
            left = {key: len(f) - self._done.get(key, 0) for key, f in self.frames.items()}
            late = [f"{key} on {count}" for key, count in left.items() if count]
            msg = f"{len(waiting)} devices had no verdict on all frames within {timeout_s:g} s: {', '.join(late[:3])}"
            raise TimeoutError(msg)
