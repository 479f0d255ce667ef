"""Somebody has died: from that moment on nothing about them goes out, whatever is found; what comes is still stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import Counter

from detectors.limits import Limits
from detectors.pipeline import Pipeline
from ingest.clock import FrozenClock, to_datetime
from services import metrics, teams, topics
from services.api.credentials import new_token, token_hash
from services.processor.core import Core
from services.processor.records import Record
from services.processor.relay import OutboxRelay
from services.processor.worker import Worker
from services.settings import Settings
from services.store.session import Session
from tests.api_data import ENROLLED, NOW
from tests.fix_api import ServedApi, serve
from tests.fix_processor import BOUNDS, HOUR, MINUTE, T0, Bench, block, stamped
from tests.integration.test_api_stream import Watch, watching

pytestmark = pytest.mark.stack

LATER = NOW.replace(year=2030)
DIED = T0 + HOUR


@dataclass
class Kafka:
    """What the relay sent."""

    consumer: AIOKafkaConsumer
    settings: Settings
    alerts: list[tuple[int, str]] = field(default_factory=list)
    control: list[Record] = field(default_factory=list)

    async def read(self) -> None:
        """Take in all that has come."""
        ends = await self.consumer.end_offsets(self.consumer.assignment())
        while any([await self.consumer.position(place) < end for place, end in ends.items()]):
            for place, records in (await self.consumer.getmany(timeout_ms=100)).items():
                for one in records:
                    if place.topic == topics.named(topics.ALERTS, self.settings.kafka):
                        said = json.loads(one.value)
                        self.alerts.append((said["patient_id"], said["change"]))
                    else:
                        self.control.append(Record(topics.CONTROL, 0, len(self.control), one.key, one.value))


@dataclass
class House:
    """A processor's core with its relay and the API, all on one database and driven by one clock."""

    bench: Bench
    api: ServedApi
    kafka: Kafka
    present: FrozenClock
    nurse: str
    proxy: str

    def now(self, ms: int) -> None:
        """Let it be so late for all of them."""
        self.bench.now_ms = ms
        self.present.set(ms)
        self.api.clock.set(ms)

    async def sent(self, patient: int) -> list[str]:
        """The changes of a patient's alerts on ``alerts.v1``, once nothing waits in the outbox."""
        async with asyncio.timeout(20):
            while await self.bench.rows("SELECT 1 FROM outbox WHERE sent_at IS NULL"):
                await asyncio.sleep(0.02)
        await self.kafka.read()
        return [change for whose, change in self.kafka.alerts if whose == patient]


@pytest_asyncio.fixture
async def house(bench: Bench, migrated: Settings) -> AsyncIterator[House]:
    kafka = migrated.kafka.model_copy(update={"partitions": 1})  # the bench is the owner of one
    settings = bench.settings.model_copy(update={"kafka": kafka})
    present = FrozenClock(T0)
    worker = Worker(Session(settings.postgres.conninfo("writer")), present, Core(Pipeline(), Limits(), 1), BOUNDS, "r")
    worker.epochs = dict(bench.epochs)
    names = [topics.named(topic, kafka) for topic in (topics.ALERTS, topics.CONTROL)]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=None)
    await consumer.start()
    counts = [topics.partitions(topic, migrated.kafka) for topic in (topics.ALERTS, topics.CONTROL)]
    places = [
        TopicPartition(name, number) for name, count in zip(names, counts, strict=True) for number in range(count)
    ]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    stopping = asyncio.Event()
    relaying = asyncio.create_task(OutboxRelay(settings, present, worker).run(stopping))
    nurse, proxy = people(settings)
    try:
        async with serve(settings) as api:
            yield House(bench, api, Kafka(consumer, settings), present, nurse, proxy)
    finally:
        stopping.set()
        worker.wrote.set()
        await relaying
        await consumer.stop()


def people(settings: Settings) -> tuple[str, str]:
    """A nurse of the team and a proxy, who both see the first two patients; return their tokens."""
    tokens = []
    with psycopg.connect(settings.postgres.conninfo("admin")) as admin:
        team = teams.create_team(admin, 1, teams.DEFAULT, "Everybody")
        teams.add_patients(admin, team, [1, 2], ENROLLED)
        for role in ("nurse", "proxy"):
            row = admin.execute(
                "INSERT INTO person (organisation_id, key, name, role) VALUES (1, %s, %s, %s) RETURNING id",
                [role, role, role],
            ).fetchone()
            assert row is not None
            if role == "nurse":
                teams.add_member(admin, team, row[0], ENROLLED)
            else:
                for patient in (1, 2):
                    teams.grant_proxy(admin, row[0], patient, ("readings", "alerts"), ENROLLED, LATER)
            tokens.append(new_token())
            admin.execute(
                "INSERT INTO person_token (hash, person_id, kind, created_at, expires_at) VALUES (%s, %s, 'api', %s, %s)",
                [token_hash(tokens[-1]), row[0], ENROLLED, LATER],
            )
    return tokens[0], tokens[1]


def told(watch: Watch) -> list[tuple[str, str]]:
    return [(one["patient"], one["change"]) for one in (json.loads(e.data) for e in watch.got if e.data)]


async def heard(watch: Watch, what: tuple[str, str], times: int = 1) -> None:
    """Wait until a watcher was told something so often."""
    async with asyncio.timeout(10):
        while told(watch).count(what) < times:
            await asyncio.sleep(0.02)


def value(counter: Counter) -> float:
    return sum(s.value for family in counter.collect() for s in family.samples if s.name.endswith("_total"))


async def alive(house: House, hour: int, *watches: Watch) -> None:
    """Let the other patient have an alert and recover: what was written before it has come, or never will."""
    seen = [told(watch).count(("p2", "resolved")) for watch in watches]
    values = ([84.0] * 12, [97.0] * 12)
    frames = [
        stamped(2, hour + place, [block("spo2", T0 + (hour + place) * HOUR, some, 300)])
        for place, some in enumerate(values)
    ]
    await house.bench.frames(frames)
    for watch, count in zip(watches, seen, strict=True):
        await heard(watch, ("p2", "resolved"), count + 1)


async def test_nothing_goes_out_about_somebody_who_has_died(house: House) -> None:
    bench = house.bench
    async with watching(house.api, house.nurse) as of_nurse, watching(house.api, house.proxy) as of_proxy:
        await asyncio.sleep(0.2)
        house.now(T0 + 56 * MINUTE)
        await bench.frames(
            [
                stamped(1, 0, [block("spo2", T0, [84.0] * 11, 300)], received_ms=T0 + 55 * MINUTE),
                stamped(1, 1, [block("heart_rate", T0 + 40 * MINUTE, [145.0] * 8)], received_ms=T0 + 56 * MINUTE),
            ]
        )
        for watch in (of_nurse, of_proxy):
            await heard(watch, ("p1", "raised"))
        before = told(of_nurse), told(of_proxy), await house.sent(1)
        assert "raised" in before[2]
        assert await bench.rows("SELECT rule FROM alert WHERE patient_id = 1") == [("spo2_low",)]

        house.now(DIED)
        async with house.api.client(house.nurse) as nurse:
            body = {"state": "deceased", "reason": "died at home this morning"}
            assert (await nurse.put("/v1/patients/p1/monitoring", json=body)).status_code == 200
            rows = {row["patient"]["id"]: row for row in (await nurse.get("/v1/worklist")).json()["items"]}
            assert (rows["p1"]["monitoring"], rows["p1"]["alert"]["rule"]) == ("deceased", "spo2_low")
            held = value(metrics.OUTBOX_HELD)

            # The rest of ten minutes of a fast heart, measured in life, and low oxygen after it: both come now.
            house.now(DIED + 2 * MINUTE)
            fast = block("heart_rate", T0 + 48 * MINUTE, [145.0] * 11)
            after = block("spo2", DIED + MINUTE, [60.0] * 12, 300)
            await bench.frames([stamped(1, 2, [fast, after], received_ms=DIED + 2 * MINUTE)])
            found = await bench.rows("SELECT rule FROM alert WHERE patient_id = 1 ORDER BY rule")
            assert ("tachycardia_at_rest",) in found, "found, as it was before the death was known to the processor"
            await house.sent(1)
            await bench.feed(house.kafka.control)
            await alive(house, 0, of_nurse, of_proxy)

            # An hour later a device goes on sending, then falls silent, and the clock ends what is open.
            house.now(DIED + 2 * HOUR)
            await bench.frames([stamped(1, 3, [block("spo2", DIED + HOUR, [50.0] * 12, 300)])])
            await bench.silence(DIED + 9 * HOUR)
            states = await bench.rows("SELECT rule, state FROM alert WHERE patient_id = 1 ORDER BY rule")
            assert states == [
                ("news2_high", "withdrawn"),  # only readings from after the death bore it out
                ("spo2_low", "resolved"),
                ("tachycardia_at_rest", "resolved"),
            ]
            await alive(house, 2, of_nurse, of_proxy)

            assert await house.sent(1) == before[2]
            assert "raised" in await house.sent(2)
            for watch, first in ((of_nurse, before[0]), (of_proxy, before[1])):
                assert [one for one in told(watch) if one[0] == "p1"] == first
                assert [one for one in told(watch) if one[0] == "p2"] != []
            await _stored_counted_and_shown(house, nurse.get, held)
    async with watching(house.api, house.nurse, query="?since=0-0") as back:
        await heard(back, ("p2", "resolved"))
        assert {patient for patient, _ in told(back)} == {"p2"}, "nor is it told to who comes back later"


async def _stored_counted_and_shown(house: House, get: Any, held: float) -> None:
    bench = house.bench
    written = await bench.rows(
        "SELECT change FROM alert_event WHERE patient_id = 1 AND recorded_at > %s", to_datetime(DIED)
    )
    assert {"raised", "resolved"} <= {change for (change,) in written}, "all of it is in the history"
    assert value(metrics.OUTBOX_HELD) - held == len(written)
    assert await bench.rows("SELECT sum(cardinality(value)) FROM reading_block WHERE patient_id = 1") == [(54,)]
    assert await bench.rows("SELECT DISTINCT monitoring FROM suppressed_finding WHERE patient_id = 1") == [
        ("deceased",)
    ]
    listed = (await get("/v1/worklist")).json()["items"]
    assert "p1" not in {row["patient"]["id"] for row in listed}, "nobody has to see to it any more"
    assert (await get("/v1/patients/p1")).json()["monitoring"]["state"] == "deceased"


async def test_a_death_that_was_said_by_mistake_is_taken_back(house: House) -> None:
    async with watching(house.api, house.nurse) as watch, house.api.client(house.nurse) as nurse:
        await asyncio.sleep(0.2)
        for state, reason in (("deceased", "mixed up with somebody"), ("active", "it was somebody else")):
            house.now(DIED if state == "deceased" else DIED + MINUTE)
            body = {"state": state, "reason": reason}
            assert (await nurse.put("/v1/patients/p1/monitoring", json=body)).status_code == 200
        await house.sent(1)
        await house.bench.feed(house.kafka.control)
        house.now(DIED + HOUR)
        await house.bench.frames([stamped(1, 0, [block("spo2", DIED + 5 * MINUTE, [84.0] * 11, 300)])])
        await heard(watch, ("p1", "raised"))
        assert "raised" in await house.sent(1)
