"""Rows whose fault is in what is sent, or in the program that reads it."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from ingest.clock import SystemClock
from ingest.frame import CONTENT_TYPE, FRAME_VERSION, Block, Frame, encode
from ingest.partition import partition_of, record_key
from services import topics
from tests.cast import HOUR, OFFSET_MIN
from tests.faults.load import Story
from tests.faults.matrix import row
from tests.faults.trial import Trial, eventually_so
from tests.fix_faults import T0

AGAIN: Final = 0.1  # of the frames are sent a second time
BROKEN_DEPLOY: Final = Path(__file__).parent / "injected"
POISON_LIMIT: Final = 50  # dead in a row: what a bad deploy may file before it stops
BAD_STARTS: Final = 2


@row(
    16, "poison messages",
    how="ten bodies no door may take (bad JSON, NaN, 10 MB, wrong unit, next version …), twelve records no processor can read",
    figure="dead letters of those records, longest wait of a good frame s",
)  # fmt: skip
async def poison(trial: Trial) -> None:
    statuses = await _at_the_door(trial)
    wrong = {name: status for name, status in statuses.items() if not 400 <= status < 500}
    trial.require(not wrong, f"the door answered {wrong} to bodies it must refuse")
    trial.read("bodies refused", len(statuses) - len(wrong))
    sent = await _on_the_log(trial)
    await eventually_so(partial(_filed, trial, sent), 60, f"{sent} dead letters")
    reasons = Counter(reason for (reason,) in await trial.query("SELECT reason FROM dead_letter"))
    trial.read("dead letters", f"{sum(reasons.values())} of {sent}")
    trial.read("reasons", ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())))
    trial.require(sum(reasons.values()) == sent, f"{sum(reasons.values())} dead letters of {sent} poison records")
    trial.require(trial.system.restarts == 0, "a process stopped over some poison records")


async def _filed(trial: Trial, count: int) -> bool:
    return int((await trial.query("SELECT count(*) FROM dead_letter"))[0][0]) >= count


async def _at_the_door(trial: Trial) -> dict[str, int]:
    key = next(k for k in trial.load.frames if k not in trial.load.over_mqtt)
    good = trial.load.frames[key][0]
    block = good.blocks[0]
    fields: dict[str, Any] = {
        "version": 1, "session": "poison", "seq": 0, "sent_ms": T0 + HOUR, "utc_offset_min": 0,
        "blocks": [{"metric": "heart_rate", "unit": "/min", "t0_ms": T0, "step_us": 0, "values": [60.0]}],
    }  # fmt: skip
    nan = json.dumps([fields]).replace("60.0", "NaN")
    wrong_unit = replace_struct(good, blocks=[replace_struct(block, unit="furlong")])
    bodies: dict[str, tuple[str, bytes]] = {
        "bad JSON": ("application/json", b'[{"version": 1,'),
        "NaN in JSON": ("application/json", nan.encode()),
        "not a list": ("application/json", b"42"),
        "not msgpack": (CONTENT_TYPE, b"\xc1\xc1\xc1"),
        "10 MB": (CONTENT_TYPE, bytes(10_000_000)),
        "wrong unit": (CONTENT_TYPE, encode([wrong_unit])),
        "next version": (CONTENT_TYPE, encode([replace_struct(good, version=2)])),
        "unknown metric": (CONTENT_TYPE, encode([replace_struct(good, blocks=[replace_struct(block, metric="aura")])])),
        "half a value": (CONTENT_TYPE, encode([replace_struct(good, blocks=[replace_struct(block, values=b"123")])])),
        "a picture": ("image/png", b"\x89PNG"),
    }
    headers = {"Authorization": f"Bearer {trial.load.credentials(key).token}"}
    tls = ssl.create_default_context(cafile=trial.system.settings.tls.ca_file)
    found = {}
    async with httpx.AsyncClient(verify=tls, timeout=20, trust_env=False) as client:
        for name, (kind, body) in bodies.items():
            answer = await client.post(
                f"{trial.system.url}/v1/frames", content=body, headers={**headers, "Content-Type": kind}
            )
            found[name] = answer.status_code
    return found


def replace_struct(one: Any, **changes: Any) -> Any:
    """Return a frame or block with other fields."""
    return msgspec.structs.replace(one, **changes)


async def _on_the_log(trial: Trial) -> int:
    """Write records no processor can read beside the good ones; what they hold of readings was accepted before."""
    settings = trial.system.settings.kafka
    stamped = (await trial.system.doors.published())[:3]
    spoiled: list[tuple[bytes | None, bytes]] = [
        (b"1", b"\xc1garbage"), (b"2", b""), (b"3", b"\x93\x01"), (None, encode(stamped[0])), (b"x", encode(stamped[0])),
        (b"4", msgspec.msgpack.encode({"a": 1})), (b"5", b"null"), (b"6", bytes(100_000)),
    ]  # fmt: skip
    for one in stamped:
        spoiled.append((record_key(one.patient_id), encode(replace_struct(one, version=99))))
    spoiled.append((b"999999", encode(replace_struct(stamped[0], patient_id=999_999))))
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await producer.start()
    try:
        for number, (key, value) in enumerate(spoiled):
            place = partition_of(stamped[0].patient_id, settings.partitions) if number % 2 else number
            topic = topics.named(topics.READINGS, settings)
            await producer.send_and_wait(topic, value, key=key, partition=place % settings.partitions)
            await trial.pause(0, 0.2)
    finally:
        await producer.stop()
    return len(spoiled)


def shuffled(story: Story) -> Story:
    """Send frames out of order by up to three places, and every tenth again some frames later."""
    rng = random.Random(story.seed)
    frames = {}
    for key, told in story.frames.items():
        order = sorted(range(len(told)), key=lambda i: i + rng.uniform(0, 3))
        sent = [told[i] for i in order]
        for i in sorted(rng.sample(range(len(told)), round(AGAIN * len(told))), reverse=True):
            sent.insert(min(len(sent), i + rng.randrange(1, 20)), sent[i])
        frames[key] = sent
    return replace(story, frames=frames)


@row(
    17, "out of order, again",
    how=f"every device sends its frames up to three places out of order, and {AGAIN:.0%} of them again later",
    figure="differing alerts, frames that came again", tell=shuffled,
)  # fmt: skip
async def out_of_order(trial: Trial) -> None:
    await trial.load.finished(120)
    counts = (await trial.query("SELECT sum(deliveries - 1), sum(duplicate), sum(late) FROM frame_log"))[0]
    trial.read("deliveries too many", int(counts[0]))
    trial.read("duplicate readings", int(counts[1]))
    trial.require(int(counts[0]) > 0, "no frame came again")


SKEWED: Final = ("ahead", "behind", "2038", "1970", "jumps", "drifts")


def skewed(story: Story) -> Story:
    """Add six devices whose clocks are wrong, each of a patient of its own."""
    now_ms = SystemClock().now_ms() // 60_000 * 60_000
    starts = {
        "ahead": now_ms + HOUR, "behind": now_ms - 3 * HOUR, "2038": 2_145_916_800_000, "1970": 3 * HOUR,
        "jumps": now_ms - 24 * HOUR, "drifts": now_ms - 24 * HOUR,
    }  # fmt: skip
    frames, patients = dict(story.frames), dict(story.patients)
    for name in SKEWED:
        key = f"skewed-{name}-{story.seed}"
        frames[key] = [_minute_by_minute(name, starts[name], seq) for seq in range(12)]
        patients[key] = key
    return replace(story, frames=frames, patients=patients)


def _minute_by_minute(name: str, start_ms: int, seq: int) -> Frame:
    jump = (HOUR if seq % 4 == 2 else -HOUR if seq % 4 == 3 else 0) if name == "jumps" else 0
    t0_ms = start_ms + seq * 60 * 60_000 + jump
    step_us = round(60_000_000 * (1 + 200e-6)) if name == "drifts" else 60_000_000
    values = (70 + np.arange(50) % 7).astype("<f4").tobytes()
    block = Block("heart_rate", "/min", t0_ms, step_us, "f4", values)
    return Frame(FRAME_VERSION, "skew", seq, t0_ms + 50 * 60_000, OFFSET_MIN, [block])


@row(
    18, "device clock skew",
    how="six more devices: an hour ahead, three behind, the year 2038, 1970, a clock that jumps an hour, one 200 ppm fast",
    figure="refused at the door, told as clock_fault; everybody else's alerts", tell=skewed,
)  # fmt: skip
async def clock_skew(trial: Trial) -> None:
    trial.strangers = {key for key in trial.story.patients.values() if key.startswith("skewed-")}
    await trial.load.finished(120)
    await eventually_so(trial.caught_up, 90, "processing the skewed clocks' frames")
    refused = [e for e in trial.load.ledger.entries("rejected") if e.device.startswith("skewed-")]
    trial.refused = len(refused)
    faults = await trial.query(
        "SELECT p.key FROM alert a JOIN patient p ON p.id = a.patient_id WHERE a.rule = 'clock_fault'"
    )
    told = {key.split("-")[1] for (key,) in faults} | {entry.device.split("-")[1] for entry in refused}
    trial.read("refused at the door", len(refused))
    trial.read("told", ", ".join(sorted(told)))
    missing = {"ahead", "2038", "1970"} - told
    trial.require(not missing, f"nobody was told of the clock of {', '.join(sorted(missing))}")


@row(
    25, "bad deploy",
    how=f"a processor whose detector raises on every record instead of what ran, started {BAD_STARTS} times by its supervisor; "
    "then the good version and redrive",
    figure="records it filed as dead (at most 50 in a row), s to stop", moment=(0.2, 0.3),
)  # fmt: skip
async def bad_deploy(trial: Trial) -> None:
    processor = trial.system.processor
    with trial.all_out_of_order():
        for process in trial.processors:
            await asyncio.to_thread(process.stop)
        processor.env = {"PYTHONPATH": str(BROKEN_DEPLOY), "FAULTS_DETECTOR": "raise"}
        began = time.monotonic()
        for _ in range(BAD_STARTS):
            processor.start()
            try:
                await eventually_so(partial(_ended, processor), 60, "the bad version's own stop")
            except TimeoutError as error:
                trial.require(False, str(error))
                processor.kill()
        trial.read("s until it had stopped", time.monotonic() - began)
        dead = int((await trial.query("SELECT count(*) FROM dead_letter"))[0][0])
        trial.read("records filed as dead", dead)
        trial.require(dead <= POISON_LIMIT, f"the bad version filed {dead} records as dead")
        processor.env = {}
        for process in trial.processors:
            process.start()
    done = await asyncio.to_thread(trial.command, "dead", "redrive", "--limit", "1000")
    trial.require(done.returncode == 0, f"keepwell dead redrive: {done.stderr.strip()[-200:]}")


async def _ended(process: Any) -> bool:
    return not process.alive()
