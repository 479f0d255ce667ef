"""A processor that stalls, by a blocking call or by waiting for nothing, ends itself and is started again."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingest.frame import StampedFrame, encode
from ingest.partition import partition_of, record_key
from services import topics
from services.cli.supervise import MAX_RESTARTS, Processes, RunError
from services.settings import Settings
from services.settings_sections import MetricsSettings, WatchdogSettings
from services.watchdog import EXIT_STALLED
from tests.databases import drop_database
from tests.fix_doors import Doors, environment, free_port, migrated_settings, wait_until
from tests.fix_processor import block, stamped
from tests.fix_stack import LiveStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(200)]

# The real processor with one planted fault: once (until the flag file is there) it hangs.
PLANTED = """
import asyncio, sys, time
from pathlib import Path
from services.processor import app, consumer, watch

FLAG = Path({flag!r})

class Planted(consumer.StreamLoop):
    async def _turn(self):
        await super()._turn()
        if {blocking} and self.worker.epochs and not FLAG.exists():
            FLAG.touch()
            time.sleep(600)

    async def _handle(self, *arguments):
        if not {blocking} and not FLAG.exists():
            FLAG.touch()
            await asyncio.sleep(600)
        return await super()._handle(*arguments)

app.StreamLoop = Planted
watch.BATCH_LIMIT_S = 1.0
from services.cli.main import main
main()
"""


class Site:
    """One processor under the demo's own supervisor."""

    def __init__(self, stack: LiveStack, folder: Path) -> None:
        base = migrated_settings(stack)
        self.port = free_port()
        ports = MetricsSettings(processor_port=self.port, gateway_port=0, bridge_port=0, api_port=0)
        self.settings: Settings = base.model_copy(update={"metrics": ports, "watchdog": WatchdogSettings(stalled_s=8)})
        self.doors = Doors(stack, self.settings)
        self.doors.enrol(("wd", "wd-watch"))
        self.told: list[str] = []
        self.flag, self.folder = folder / "hung", folder
        self.processes: Processes | None = None

    def start(self, *, blocking: bool) -> Processes:
        script = self.folder / "planted.py"
        script.write_text(PLANTED.format(flag=str(self.flag), blocking=blocking))
        env = {**environment(self.settings), "PYTHONPATH": str(Path(__file__).parents[2])}
        program = (sys.executable, str(script))
        self.processes = Processes(self.folder, env, self.told.append, program)
        self.processes.start("processor", ["processor", "--instance-id", "wd"])
        return self.processes

    def answer(self, path: str) -> int:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=3).status_code
        except httpx.HTTPError:
            return 0

    def publish(self, seq: int) -> None:
        with self.doors.admin() as connection:
            row = connection.execute("SELECT patient_id, device_id FROM device_assignment").fetchone()
        assert row is not None
        now = int(time.time() * 1000) - 60_000
        frame = stamped(int(str(row[0])), seq, [block("heart_rate", now + seq, [70.0])], device=int(str(row[1])))
        asyncio.run(self._send(frame))

    async def _send(self, frame: StampedFrame) -> None:
        from aiokafka import AIOKafkaProducer

        kafka = self.settings.kafka
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(
                topics.named(topics.READINGS, kafka),
                encode(frame),
                key=record_key(frame.patient_id),
                partition=partition_of(frame.patient_id, kafka.partitions),
            )
        finally:
            await producer.stop()

    def stored(self) -> int:
        with self.doors.admin() as connection:
            row = connection.execute("SELECT coalesce(sum(stored), 0) FROM frame_log").fetchone()
        return int(str(row[0])) if row else 0


@pytest.fixture
def site(stack: LiveStack, tmp_path: Path) -> Iterator[Site]:
    site = Site(stack, tmp_path)
    try:
        yield site
    finally:
        if site.processes is not None:
            site.processes.stop()
        drop_database(site.settings)


def restarted(processes: Processes, told: list[str]) -> bool:
    processes.check()
    return bool(told)


def test_a_blocking_call_is_told_then_ended_then_started_again(site: Site) -> None:
    processes = site.start(blocking=True)
    wait_until(site.flag.exists, "the planted hang", 40)
    first = processes.pid("processor")
    wait_until(lambda: site.answer("/healthz") == 503, "healthz says it while the loop hangs", 20)
    assert site.answer("/readyz") == 503
    wait_until(lambda: restarted(processes, site.told), "the supervisor's restart", 30)
    assert f"exit code {EXIT_STALLED}" in site.told[0]
    log = processes.log("processor").read_text()
    assert '"loop_stalled"' in log
    assert "in _turn" in log  # the stack of the thread that hung
    assert processes.pid("processor") != first
    wait_until(lambda: site.answer("/readyz") == 200, "ready again", 40)
    site.publish(1)
    wait_until(lambda: site.stored() == 1, "stored after the restart", 20)
    processes.check()
    assert len(site.told) == 1


def test_records_that_wait_for_nothing_end_the_process_and_are_stored_by_the_next(site: Site) -> None:
    processes = site.start(blocking=False)
    wait_until(lambda: site.answer("/readyz") == 200, "ready", 40)
    site.publish(1)
    wait_until(site.flag.exists, "the planted wait", 20)
    assert site.answer("/healthz") == 200  # the loop turns: only the work stands still
    wait_until(lambda: restarted(processes, site.told), "the supervisor's restart", 60)
    assert f"exit code {EXIT_STALLED}" in site.told[0]
    assert '"no_progress"' in processes.log("processor").read_text()
    wait_until(lambda: site.stored() == 1, "stored by the next process", 40)


def test_a_process_that_dies_again_and_again_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text("import sys; print('last words', file=sys.stderr); sys.exit(7)")
    told: list[str] = []
    processes = Processes(tmp_path, {}, told.append, (sys.executable, str(script)))
    processes.start("x", [])

    async def watch() -> None:
        await asyncio.wait_for(processes.watch(), 60)

    with pytest.raises(RunError, match=f"exit code 7, started again {MAX_RESTARTS} times.*") as failure:
        asyncio.run(watch())
    assert "last words" in str(failure.value)
    assert len(told) == MAX_RESTARTS


def test_a_wrong_setting_is_not_started_again(tmp_path: Path) -> None:
    script = tmp_path / "wrong.py"
    script.write_text("import sys; sys.exit(2)")
    told: list[str] = []
    processes = Processes(tmp_path, {}, told.append, (sys.executable, str(script)))
    processes.start("x", [])

    async def watch() -> None:
        await asyncio.wait_for(processes.watch(), 20)

    with pytest.raises(RunError, match="exit code 2"):
        asyncio.run(watch())
    assert told == []
