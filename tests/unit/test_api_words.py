"""Cursors, times, ages, problems and what the screens say."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.api import pages, words
from services.api.credentials import token_hash
from services.api.events import Cursor
from services.api.problems import TITLES, Code, Problem
from services.api.times import age, parse, rfc3339
from services.web import present

NOW = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)


def test_a_cursor_comes_back_and_a_strange_one_is_refused() -> None:
    assert pages.decode(pages.encode([3, None, "p07 ü"]), 3) == [3, None, "p07 ü"]
    for strange in ("", "!!!", "e30", pages.encode([1]), "ÿ"):
        with pytest.raises(Problem, match="begin again"):
            pages.decode(strange, 3)


def test_times_carry_an_offset_both_ways() -> None:
    assert rfc3339(NOW + timedelta(milliseconds=250)) == "2026-11-22T19:00:00.250Z"
    assert parse("from", "2026-11-22T20:00:00+01:00") == NOW
    assert parse("from", "2026-11-22T20:00:00 01:00") == NOW  # an unescaped + in an address
    for wrong in ("2026-11-22T20:00:00", "yesterday", "0001-01-01T00:00:00+23:59"):
        with pytest.raises(Problem, match="RFC 3339"):
            parse("from", wrong)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "just now"), (20, "just now"), (50, "1 min"), (3540, "59 min"), (5 * 3600, "5 h"), (40 * 3600, "2 days")],
)
def test_ages_in_words(seconds: int, said: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == said


def test_every_code_has_one_status_and_title() -> None:
    assert set(TITLES) == set(Code)
    problem = Problem(Code.UNAVAILABLE, "try again", retry_after_s=2)
    assert problem.headers()["Retry-After"] == "2"
    assert problem.document()["type"] == "urn:keepwell:problem:unavailable"


def test_stream_places_are_ordered_and_checked() -> None:
    assert Cursor.parse("7-12", "since") < Cursor.parse("8-1", "since")
    assert str(Cursor(7, 12)) == "7-12"
    for wrong in ("7", "7-", "a-b", "7-12; DROP", "99999999999999999999-1"):
        with pytest.raises(Problem):
            Cursor.parse(wrong, "Last-Event-ID")


def test_unknown_is_never_worded_as_normal() -> None:
    for cause, said in words.CAUSE_WORDS.items():
        sentence = words.no_alert("unknown", cause, "Heart rate", NOW - timedelta(hours=2), NOW)
        assert "unknown" in sentence
        assert said in sentence
        assert "usual" not in sentence
    assert words.no_alert(None, None, "", None, NOW) == "Nothing received yet"


def test_what_is_not_compared_with_the_own_usual_is_no_more_than_received() -> None:
    for key in ("systolic_pressure", "resting_heart_rate", "steps"):
        assert words.state_words("learning", key) == "received"
        assert "not compared" in words.no_alert("learning", None, "It", NOW, NOW, key=key)
    assert words.state_words("learning", "heart_rate") == "learning"
    assert words.state_words("normal", "steps") == "last whole day in usual range"
    assert words.no_alert("unusual", None, "Steps", NOW, NOW, key="steps").startswith("Steps of the last whole day")
    assert words.beside_state({"metric": words.metric(2), "too_seldom": None}).endswith("not judged")
    said = words.beside_state({"metric": words.metric(1), "too_seldom": {"needs_minutes": 180, "readings": 12}})
    assert "needs 180 minutes, had 12 readings" in said


def test_local_times_name_their_zone_and_day() -> None:
    assert present.local("2026-11-22T18:05:00.000Z", "Europe/Berlin", NOW) == "19:05 CET"
    assert present.local("2026-11-21T18:05:00.000Z", "Europe/Berlin", NOW) == "21 Nov, 19:05 CET"
    assert present.local("2025-11-21T18:05:00.000Z", "No/Where", NOW) == "21 Nov 2025, 18:05 UTC"


def _row(hours: list[int], baseline: dict[str, Any] | None) -> dict[str, Any]:
    times_ms = [hour * 3_600_000 for hour in hours]
    spark = {"from_ms": 0, "to_ms": 24 * 3_600_000, "times_ms": times_ms, "mean": [60.0 + h for h in hours]}
    return {"metric": words.metric(1), "baseline": baseline, "spark": spark}


def test_a_day_in_small_breaks_its_line_at_a_missing_hour() -> None:
    drawn = present.spark(_row([1, 2, 3, 6, 7], {"center": 62.0, "spread": 2.0}))
    assert [len(run) for run in drawn["runs"]] == [3, 2]
    assert "61 to 67" in drawn["words"]
    top, height = drawn["band"]
    assert 0 <= top < top + height <= present.SPARK_HEIGHT
    assert present.spark(_row([], None))["runs"] == []


def test_a_token_is_stored_as_its_sha256_only() -> None:
    assert len(token_hash("secret")) == 32
    assert b"secret" not in token_hash("secret")


def test_vendored_scripts_are_the_ones_named() -> None:
    folder = present.__file__.rsplit("/", 1)[0] + "/static/vendor"
    told = Path(folder, "README.md").read_text("utf-8")
    for name in ("htmx.min.js", "uPlot.iife.min.js", "uPlot.min.css"):
        assert name in told
        assert hashlib.sha256(Path(folder, name).read_bytes()).hexdigest() in told
    for name in ("htmx.LICENSE.txt", "uPlot.LICENSE.txt"):
        assert Path(folder, name).stat().st_size > 300


def test_no_page_names_another_origin() -> None:
    web = Path(present.__file__).parent
    for path in (*web.glob("templates/*"), *web.glob("static/*.*")):
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path.name
        assert "https://" not in text, path.name
        assert "<script>" not in text, path.name
        assert " style=" not in text, path.name
