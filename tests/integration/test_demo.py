"""The demo as a person runs it: to its end, broken on purpose, and live with a fever and a gain of weight added."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fix_stack import LiveStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]
KEEPWELL = [sys.executable, "-m", "services.cli.main"]
SHORT = ["--no-screen", "--days", "14", "--patients", "15"]


def environment(stack: LiveStack) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEEPWELL_")}
    return kept | {"KEEPWELL_STACK__HOME": str(stack.home), "KEEPWELL_CONFIG": os.devnull, "COLUMNS": "400"}


def demo(stack: LiveStack, result: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    command = [*KEEPWELL, "demo", "--once", "--json", str(result), *arguments]
    done = subprocess.run(command, env=environment(stack), capture_output=True, text=True, timeout=300, check=False)
    document = json.loads(result.read_text()) if result.exists() else {}
    return done.returncode, document, done.stdout + done.stderr


def test_once_to_the_end(stack: LiveStack, tmp_path: Path) -> None:
    code, document, told = demo(stack, tmp_path / "out.json", "--seed", "3", *SHORT)
    assert code == 0, told
    assert document["broken"] == []
    assert document["sent"] == document["rejected"] + document["accepted"]
    kept = ("stored", "duplicate", "conflict", "dead", "quarantined")
    assert document["accepted"] == sum(document[name] for name in kept)
    assert document["stored"] > 700_000
    assert min(document[name] for name in ("rejected", "duplicate", "quarantined")) > 0
    assert document["hash"]["accepted"] == document["hash"]["kept"]
    for name in ("desaturation", "tachycardia", "fever", "late_burst", "device_off"):
        assert document["truth"][name]["raised"] == document["truth"][name]["expected"] == 1
    burden = document["burden"]
    assert burden["alerts"] >= burden["incidents"] >= burden["from_adaptive_rules"]
    assert burden["incidents"] > 0
    assert f"{burden['alerts']} clinical alerts in {burden['incidents']} incidents" in " ".join(told.split())
    for alert in document["alerts"]:
        assert alert.keys() >= {"patient", "rule", "priority", "started", "raised", "sentence"}
        assert alert["sentence"]
        assert alert["sentence"] in told or alert["state"] != "active"
    assert 0 < document["latency_ms"]["p50"] <= document["latency_ms"]["p99"]
    assert document["wall_s"].keys() >= {"install", "up", "first_alert", "total"}
    assert not (stack.home / "demo.toml").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "told"), [("drop", "nowhere kept"), ("double", "never accepted"), ("learn-anomaly", "learned from")]
)
def test_a_bug_put_in_on_purpose_is_noticed(stack: LiveStack, tmp_path: Path, bug: str, told: str) -> None:
    code, document, output = demo(stack, tmp_path / "out.json", "--seed", "7", "--no-screen", "--inject-bug", bug)
    assert code == 1, output
    assert any(told in problem for problem in document["broken"])


@pytest.mark.slow
def test_a_fever_and_a_gain_of_weight_added_live_are_told_within_seconds(stack: LiveStack, tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with log.open("w") as output:
        running = subprocess.Popen(
            [*KEEPWELL, "demo", "--seed", "4", *SHORT], env=environment(stack), stdout=output, stderr=output
        )
    try:
        wait_for(log, "live now", running)
        added = subprocess.run(
            [*KEEPWELL, "simulate", "fever", "--patient", "p07"],
            env=environment(stack), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert added.returncode == 0, added.stdout + added.stderr
        seconds = re.search(r"alert after ([\d.]+) s: Body temperature", added.stdout)
        assert seconds is not None, added.stdout
        assert float(seconds.group(1)) < 5
        wait_for(log, r"p07 *medium *Body temperature", running)
        weighed = subprocess.run(
            [*KEEPWELL, "simulate", "weight", "--patient", "p05"],
            env=environment(stack), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert weighed.returncode == 0, weighed.stdout + weighed.stderr
        assert re.search(r"alert after [\d.]+ s: Weight rose by 2.65 kg, from 80 kg", weighed.stdout), weighed.stdout
        refused = subprocess.run(
            [*KEEPWELL, "simulate", "fever", "--patient", "p99"],
            env=environment(stack), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode == 1
        assert "p07" in refused.stdout
    finally:
        running.send_signal(signal.SIGINT)
        code = running.wait(60)
    assert code == 0, log.read_text()
    assert "every invariant holds" in log.read_text()
    assert not (stack.home / "demo.toml").exists()


def wait_for(log: Path, pattern: str, running: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 200
    while not re.search(pattern, log.read_text()):
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < until, f"{pattern!r} did not come: {log.read_text()[-2000:]}"
        time.sleep(0.2)
