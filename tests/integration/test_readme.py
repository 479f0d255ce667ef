"""The README's own commands do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.fix_doors import Doors

pytestmark = pytest.mark.stack

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def block(language: str) -> str:
    """The README's only code block of this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(found)


def test_the_curl_block_is_answered_as_printed(doors: Doors, gateway_url: str) -> None:
    (watch,) = doors.enrol(("p20", "watch-p20"))
    ca = doors.settings.tls.ca_file
    environment = {**os.environ, "GATEWAY": gateway_url, "TOKEN": watch.token, "CA": str(ca)}
    printed = json.loads(block("json"))
    until = time.monotonic() + 30
    while True:  # other tests kill the broker: a 503 says when to come again
        done = subprocess.run(
            ["bash", "-c", block("bash")], env=environment, capture_output=True, text=True, check=True, timeout=30
        )
        answer = json.loads(done.stdout)
        if answer.get("status") != 503 or time.monotonic() > until:
            break
        time.sleep(1)
    assert "frames" in answer, answer
    assert answer["frames"][0].keys() == printed["frames"][0].keys()
    for key in ("verdict", "frame_id", "session", "seq"):
        assert answer["frames"][0][key] == printed["frames"][0][key]
    assert answer["frames"][0]["href"].endswith(printed["frames"][0]["href"])


def test_every_folder_and_document_named_is_there() -> None:
    root = Path(__file__).parents[2]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / target).exists(), target


def test_every_make_target_named_is_there() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
