"""The patient's pages: short words, short sentences, and never more than is known."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.api import words
from services.web import own_consents, own_words, screens
from tests.api_data import NOW

TEMPLATES = Path(screens.__file__).parent / "templates"
GRADE = 8.0  # of an American school: what a 14-year-old reads with ease


def grade(sentences: list[str]) -> float:
    """The Flesch-Kincaid grade (Kincaid et al., 1975), syllables by groups of vowels without a silent e."""
    spoken = [word for sentence in sentences for word in re.findall(r"[A-Za-z']+", sentence)]
    syllables = sum(max(1, len(re.findall(r"[aeiouy]+", re.sub(r"e$", "", word.lower())))) for word in spoken)
    return 0.39 * len(spoken) / len(sentences) + 11.8 * syllables / len(spoken) - 15.59


def entry(key: str, state: str, cause: str | None = None, *, heard: bool = True) -> dict[str, Any]:
    number = words.metric_id(key)
    assert number is not None
    at = (NOW - timedelta(minutes=5)).isoformat() if heard else None
    return {
        "metric": words.metric(number), "state": state, "cause": cause, "since": (NOW - timedelta(hours=3)).isoformat(),
        "value": 61.0 if heard else None, "at": at,
    }  # fmt: skip


def every_state() -> list[dict[str, Any]]:
    causes: list[tuple[str, str | None]] = [(state, None) for state in words.STATES if state != "unknown"]
    causes += [("unknown", cause) for cause in words.CAUSE_WORDS]
    return [entry(key, state, cause) for state, cause in causes for key in ("heart_rate", "steps", "glucose")]


def test_the_pages_are_read_with_eight_years_of_school() -> None:
    said = [own_words.state(one, "UTC", NOW, own_words.OWN) for one in every_state()]
    said += [*own_words.NOT_WATCHED.values(), own_words.overall([], own_words.OWN)]
    for said_of_consent in (own_consents.WITHOUT, own_consents.UNDECIDED, own_consents.STATES):
        said += said_of_consent.values()
    for name in ("_consents.html", "me.html", "_me.html", "me_accesses.html", "me_choose.html"):
        text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", (TEMPLATES / name).read_text("utf-8"))
        for part in re.split(r"<[^>]+>", text):
            said += re.findall(r"[A-Z][^.!?]*[.!?]", part)
    sentences = [part for one in said for part in re.split(r"(?<=[.!?:]) ", one) if len(part.split()) > 2]
    assert len(sentences) > 40
    assert grade(sentences) <= GRADE
    assert max(len(sentence.split()) for sentence in sentences) <= 25


@pytest.mark.parametrize("voice", [own_words.OWN, own_words.OTHER])
def test_what_is_not_known_is_never_usual_and_nothing_is_normal(voice: own_words.Voice) -> None:
    for one in every_state():
        told = own_words.state(one, "UTC", NOW, voice)
        assert "normal" not in told.lower()
        if one["state"] == "unknown":
            assert told.startswith("Not known:")
            assert "usual" not in told
            assert "usual range" not in own_words.overall([one, entry("spo2", "normal")], voice)
    assert "usual" not in own_words.overall([], voice)
    assert own_words.overall([entry("spo2", "normal")], voice) == f"What we received is in {voice.your} usual range."


def test_what_is_not_compared_is_not_said_to_be_learned_of_or_usual() -> None:
    received = entry("systolic_pressure", "learning")
    assert "learning" not in own_words.state(received, "UTC", NOW, own_words.OWN)
    assert "usual range" not in own_words.overall([received], own_words.OWN)
    assert "compare" in own_words.overall([received, entry("spo2", "normal")], own_words.OWN)
    assert own_words.state(entry("steps", "normal"), "UTC", NOW, own_words.OWN).startswith("Your last whole day")
    seldom = entry("heart_rate", "learning") | {"too_seldom": {"needs_minutes": 180, "readings": 12}}
    assert "too seldom" in own_words.state(seldom, "UTC", NOW, own_words.OWN)
    assert "learning" not in own_words.overall([seldom], own_words.OWN), "it would say so for ever"


def test_steps_of_yesterday_are_not_said_to_be_unusual_right_now() -> None:
    told = own_words.overall([entry("steps", "unusual"), entry("spo2", "normal")], own_words.OWN)
    assert told == "The steps of your last whole day were unusual for you."
    both = own_words.overall([entry("steps", "unusual"), entry("spo2", "unusual")], own_words.OWN)
    assert both.startswith("One thing is unusual for you right now. The steps")


def test_a_value_says_how_old_it_is() -> None:
    assert own_words.heard(entry("heart_rate", "normal"), NOW) == "Last heard 5 min ago: 61 /min"
    assert own_words.heard(entry("sleep_stage", "normal"), NOW) == "Last heard 5 min ago."
    assert own_words.heard(entry("heart_rate", "unknown", "no_data", heard=False), NOW) == "Never heard."
