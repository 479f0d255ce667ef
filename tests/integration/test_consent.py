"""Consent at the doors and at the command line: what it doesn't cover is not taken, over HTTPS and MQTT, within a second."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pytest

from evaluation.checker import sent_readings
from ingest.client import Credentials, DeviceClient
from ingest.clock import SystemClock, to_datetime
from ingest.doors import HttpDoors, MqttDoor
from ingest.frame import Block, Frame
from ingest.ledger import Ledger
from ingest.verdict import Accepted, Refused, Verdict
from services import devices
from services.consent import Wanted
from services.control import ControlMessage
from services.devices import Enrolment
from services.store import consents
from services.store.steps import Steps, run
from tests import command
from tests.fix_doors import Doors, Process

pytestmark = pytest.mark.stack

CLINIC: Final = "consenting"  # an organisation of its own: the rules hold for all of it


def now_ms() -> int:
    return SystemClock().now_ms()


def keepwell(doors: Doors, *words: str, code: int = 0) -> str:
    """Run ``keepwell consent …`` for the clinic and return what it said."""
    done = command.keepwell(doors.settings, "consent", *words, "--organisation", CLINIC)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def done(doors: Doors, make: Callable[[consents.Clerk], Steps[int]]) -> None:
    """Do for the clinic what a command does, without a process for each."""
    now = to_datetime(now_ms())
    with doors.admin() as connection:
        row: Any = connection.execute("SELECT id FROM organisation WHERE key = %s", [CLINIC]).fetchone()
        run(connection, make(consents.Clerk(row[0], None, now, now, 12)))


def enrolled(doors: Doors, patient: str) -> tuple[Credentials, int]:
    """A patient of the clinic with a device that both doors know."""
    now = to_datetime(now_ms())
    with doors.admin() as connection:
        devices.create_organisation(connection, CLINIC, "Consenting")
        wanted = [Enrolment(patient, f"{patient}-watch", to_datetime(now_ms() - 86_400_000))]
        (one,) = devices.enrol_many(connection, CLINIC, wanted, now, partitions=12, renew=True)
    doors.tell_mqtt()
    return Credentials(one.device, one.token or ""), one.patient_id


def block(metric: str, unit: str, value: float) -> Block:
    return Block(metric, unit, now_ms() - 60_000, 0, "f4", np.array([value], "<f4").tobytes())


def pulse() -> Block:
    return block("heart_rate", "/min", 71)


def steps() -> Block:
    return block("steps", "{steps}", 12)


async def within_a_second(send: Callable[[], Awaitable[list[Verdict]]], kind: type[Verdict]) -> Any:
    """Send until the verdict is of this kind: a second after the decision, and what a busy machine adds."""
    began = time.monotonic()
    while True:
        (verdict,) = await send()
        if isinstance(verdict, kind):
            return verdict
        assert time.monotonic() - began < 4, verdict
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", ["https", "mqtt"])
async def test_a_door_takes_what_the_consent_covers_and_refuses_the_rest_within_a_second(
    doors: Doors, gateway_url: str, bridge_process: Process, tmp_path: Path, way: str
) -> None:
    watch, patient = enrolled(doors, f"co-{way}")
    key = f"words-{way}"
    done(
        doors,
        lambda clerk: consents.publish(clerk, consents.Words(key, "care", "en", "Your data", "We look after you.")),
    )
    done(doors, lambda clerk: consents.set_rules(clerk, {"care": "consent"}, None, "decided by the board", None))

    def say(said: str, classes: list[str] | None = None) -> None:
        document = key if said == "given" else ""
        wanted = Wanted("care", said, "self", "", "signed", classes, document)
        done(doors, lambda clerk: consents.record(clerk, patient, wanted))

    mqtt = doors.settings.mqtt
    assert mqtt.ca_file is not None
    with Ledger(tmp_path / "book.db") as ledger:
        async with (
            HttpDoors(gateway_url, doors.settings.tls.ca_file) as https,
            MqttDoor(mqtt.host, mqtt.port, watch, mqtt.ca_file) as topic,
        ):
            client = DeviceClient(watch.device, https.door(watch) if way == "https" else topic, ledger, "s")

            async def send(*blocks: Block) -> list[Verdict]:
                frame: Frame = client.frame(list(blocks), now_ms())
                return await client.send([frame])

            refused = await within_a_second(lambda: send(pulse()), Refused)
            assert (refused.field, refused.value) == ("blocks[0].metric", "heart_rate")
            assert refused.allowed == "nothing at present, by the patient's consent"
            assert "once they agree" in refused.hint
            say("given")
            await within_a_second(lambda: send(pulse(), steps()), Accepted)
            say("withdrawn", ["activity"])
            await within_a_second(lambda: send(steps()), Refused)
            (partly,) = await send(pulse(), steps())
            assert isinstance(partly, Accepted)
            assert partly.withheld == ["steps"]
            say("withdrawn")
            await within_a_second(lambda: send(pulse()), Refused)
        taken = [(one.metric, len(one.values)) for one in ledger.readings()]
    published = [f for f in await doors.published() if f.patient_id == patient]
    (part,) = [f for f in published if f.frame_id == partly.frame_id]
    assert [b.metric_id for b in part.blocks] == [1]
    assert len(taken) == sum(len(f.blocks) for f in published)
    assert sent_readings([tmp_path / "book.db"])["accepted"] == len(taken)
    assert states(doors, patient) == ["paused"]
    say("given")
    assert states(doors, patient) == ["paused", "active"]


def states(doors: Doors, patient: int) -> list[str]:
    """The monitoring states the processor is told, oldest first: as rows of changes, and in the outbox or on their way."""
    with doors.admin() as connection:
        rows: Any = connection.execute(
            """SELECT payload ->> 'state', reason FROM patient_change WHERE patient_id = %s AND kind = 'monitoring'
               ORDER BY version""",
            [patient],
        ).fetchall()
        waiting: Any = connection.execute(
            "SELECT record FROM outbox WHERE record_key = %s", [b"%d" % patient]
        ).fetchall()
    told = [msgspec.msgpack.decode(bytes(record), type=ControlMessage) for (record,) in waiting]
    assert [one.payload["state"] for one in told if one.kind == "monitoring"] == [state for state, _ in rows]
    assert all("consent to care" in reason for _, reason in rows)
    return [state for state, _ in rows]


def test_the_command_line_shows_what_stands_and_refuses_what_can_not_be(doors: Doors, tmp_path: Path) -> None:
    _, patient = enrolled(doors, "co-cli")
    words = tmp_path / "words.txt"
    words.write_text("We study heartbeats.", "utf-8")
    publish = ("publish", "study", str(words), "--purpose", "research", "--title", "Study", "--language", "en")
    assert json.loads(keepwell(doors, *publish, "--json"))["version"] == 1
    assert "never changed" in keepwell(doors, *publish, "--version", "1", code=2)
    assert [row["document"] for row in json.loads(keepwell(doors, "documents", "--json"))].count("study") == 1
    given = ("give", "co-cli", "research", "--document", "study", "--form", "signed")
    assert "birth date" in keepwell(doors, *given, "--by", "guardian", "--name", "Grete", code=2)
    assert "allowed: activity" in keepwell(doors, *given, "--class", "heart", code=2)
    assert "within 30 years" in keepwell(doors, *given, "--until", "2099-01-01T00:00Z", code=2)
    keepwell(doors, *given, "--class", "vitals")
    keepwell(doors, "refuse", "co-cli", "family", "--form", "said")
    keepwell(doors, "withdraw", "co-cli", "genomics", "--form", "said")
    assert "reason in words" in keepwell(doors, "basis", "--set", "research=other", code=2)
    assert json.loads(keepwell(doors, "basis", "--json"))["research"] == "consent"
    rows = json.loads(keepwell(doors, "show", "co-cli", "--json"))
    found = {(row["purpose"], row["classes"]): (row["state"], row["withheld"]) for row in rows}
    assert found["research", "vitals"] == ("given", False)
    assert found["research", "activity, sleep, waveforms"] == ("none", True)
    assert found["family", "activity, sleep, vitals, waveforms"] == ("refused", True)
    assert found["programme", "activity, sleep, vitals, waveforms"] == ("none", False)
    with doors.admin() as connection:
        rows_: Any = connection.execute(
            """SELECT action, detail ->> 'decision' FROM access_audit WHERE patient_id = %s AND action LIKE 'consent.%%'
               ORDER BY id""",
            [patient],
        ).fetchall()
    assert rows_ == [
        ("consent.record", "given"),
        ("consent.record", "refused"),
        ("consent.record", "withdrawn"),
        ("consent.read", None),
    ]
