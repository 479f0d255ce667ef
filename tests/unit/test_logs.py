"""A log line is one JSON object without personal data, whatever is put into it, and writing it never hurts."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import psycopg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from services import logs, metrics
from services.processor.consumer import TRANSIENT

TOKEN = "kPq3J0yqV1b9vVtqN7mC2xZr8sWfLdGhTuYeAoIi5Bc"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    written: list[str] = []

    def keep(line: str) -> bool:
        written.append(line)
        return True

    kept = structlog.get_config()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(logs, "write_line", keep)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    raising = logging.raiseExceptions
    logs.configure_logging("info")
    structlog.configure(cache_logger_on_first_use=False)
    yield written
    structlog.configure(**kept)
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


@given(text=st.text(), key=st.text(min_size=1, max_size=10))
def test_any_text_stays_one_line_of_json(text: str, key: str) -> None:
    event = logs._cleaned(None, "info", {"event": "x", key: text, "list": [text], "map": {text: text}})
    line = str(structlog.processors.JSONRenderer()(None, "info", dict(event)))
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x85", "\u2028"])
def test_a_line_that_was_sent_in_stays_inside_another(lines: list[str], end: str) -> None:
    forged = f'nobody{end}{{"event": "signed_in", "person": 1}}'
    structlog.get_logger().warning("sign_in_refused", agent=forged)
    logging.getLogger("some.library").warning("from %s", forged)
    assert len(lines) == 2
    for line in lines:
        assert len(line.splitlines()) == 1
        assert json.loads(line)["event"] != "signed_in"
    assert json.loads(lines[0])["agent"] == forged


@given(
    before=st.text(max_size=30), after=st.text(max_size=30), how=st.sampled_from(["Bearer ", "token=", "password=", ""])
)
def test_a_token_is_never_told(before: str, after: str, how: str) -> None:
    assert TOKEN not in logs.clean(f"{before} {how}{TOKEN} {after}", 10_000)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("duplicate key value violates unique constraint\nDETAIL:  Key (name)=(Ada Lovelace) exists.", "duplicate key"),
        ('invalid input syntax for type real: "61.34"', "invalid input syntax"),
        (
            "new row violates check constraint\nDETAIL:  Failing row contains (7, Ada Lovelace, 61.34).",
            "check constraint",
        ),
        ("could not convert string to float: '61.34'", "could not convert"),
        ("connection to postgresql://writer:Ada@host/db failed", "connection to postgresql://[masked]@host"),
    ],
)
def test_what_an_error_quotes_of_the_data_is_left_out(text: str, kept: str) -> None:
    cleaned = logs.clean(text)
    assert kept in cleaned
    for personal in ("Ada", "61.34"):
        assert personal not in cleaned


def test_errors_about_data_tell_their_kind_and_place_only(lines: list[str]) -> None:
    try:
        values = {"Ada": 61.34}
        values["Lovelace"]
    except KeyError as error:
        structlog.get_logger().error("failed", exc_info=error)
    entry = json.loads(lines[-1])
    assert entry["error"] == "KeyError"
    assert "test_logs.py" in entry["trace"][-1]
    assert "Lovelace" not in lines[-1]


def test_libraries_write_the_same_form(lines: list[str]) -> None:
    logging.getLogger("aiokafka.consumer").warning("gone\r\n{'value': 61.34}")
    logging.getLogger("some.library").info("not worth a line")
    (line,) = lines
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["logger"]) == ("gone", "warning", "aiokafka.consumer")
    assert "61.34" not in line


def test_a_record_that_cannot_be_put_together_is_counted(lines: list[str]) -> None:
    before = metrics.LOG_LINES_LOST._value.get()
    logging.getLogger("broken").warning("%d readings", "many")
    assert metrics.LOG_LINES_LOST._value.get() == before + 1
    assert lines == []


STUCK = textwrap.dedent("""
    import os, sys, time
    from services.logs import configure_logging
    from services import metrics
    import structlog
    configure_logging()
    {first}
    began = time.monotonic()
    for i in range(2000):
        structlog.get_logger().warning("line", number=i, text="x" * 500)
    print(time.monotonic() - began < 20, metrics.LOG_LINES_LOST._value.get() > 0)
""")


@pytest.mark.parametrize("first", ["os.close(2)", "pass"])
def test_a_closed_or_stuck_stderr_stops_nothing(first: str) -> None:
    """Nobody reads the pipe: it fills after 64 kB, and what follows is dropped instead of waited for."""
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", STUCK.format(first=first)],
            stdout=subprocess.PIPE,
            stderr=writing,
            timeout=60,
            check=True,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.stdout.decode().split() == ["True", "True"]


@pytest.mark.parametrize(
    "code",
    [
        "53100", "53200", "53300", "57P01", "57P02", "57P03", "55P03", "57014", "40001", "40P01", "08006", "58030",
        "25P03", "25006",
    ],
)  # fmt: skip
def test_what_passes_by_itself_is_waited_for(code: str) -> None:
    """Disk full, out of memory or connections, shutdown, start, locks, time-outs, a standby that has not taken over."""
    assert issubclass(psycopg.errors.lookup(code) if code != "08006" else psycopg.errors.ConnectionFailure, TRANSIENT)


@pytest.mark.parametrize("code", ["22003", "23505", "42703", "42501"])
def test_what_does_not_pass_by_itself_is_not(code: str) -> None:
    assert not issubclass(psycopg.errors.lookup(code), TRANSIENT)
