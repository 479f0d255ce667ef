"""The stream loop's judgements that a rebalance can come between; the consumers' contract runs on the real broker."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

import pytest

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest.clock import FrozenClock
from services.processor import consumer
from services.processor.consumer import StreamLoop
from services.processor.core import Core
from services.settings import Settings


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> StreamLoop:
    monkeypatch.setattr(consumer, "AIOKafkaConsumer", MagicMock)
    made = StreamLoop(Settings(), FrozenClock(1), Core(Pipeline(), Limits(), 1))
    made.worker.prepare = AsyncMock()  # type: ignore[method-assign]
    made.worker.judge_silence = AsyncMock()  # type: ignore[method-assign]
    return made


async def test_silence_is_judged_when_everything_sent_is_in(loop: StreamLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "look_at_ends", AsyncMock(return_value={}))
    await loop._judge_silence()
    loop.worker.judge_silence.assert_awaited_once_with(1)  # type: ignore[attr-defined]


async def test_the_ends_of_what_was_owned_before_a_rebalance_prove_nothing(
    loop: StreamLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rebalanced_meanwhile() -> dict[object, int]:
        await loop.on_partitions_revoked([])
        return {}

    monkeypatch.setattr(loop, "look_at_ends", rebalanced_meanwhile)
    await loop._judge_silence()
    loop.worker.judge_silence.assert_not_awaited()  # type: ignore[attr-defined]
