"""The file of medicines and events: each with a source, none with a dose, and the page says what the file says."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from detectors.explain import patient_sentence, sentence
from detectors.protocol import LIMIT_METRICS
from detectors.wording import UNITS
from services import life_events
from services.life_events import MEDICATION, catalogue, checked, standing
from services.processor.change import PatientChange
from services.processor.changes import Changes

PAGE = Path(__file__).parents[2] / "docs" / "windows.md"
DAY = date(2026, 3, 3)
DAY_MS = 86_400_000


def test_every_class_has_a_source_and_the_page_shows_it() -> None:
    page = PAGE.read_text("utf-8")
    for group in ("medication", "event"):
        for key, one in catalogue()[group].items():
            row = next(line for line in page.splitlines() if line.startswith(f"| `{key}`"))
            assert one["source"] in row, key
            assert f"| {one['days']} |" in row, key
            for metric in LIMIT_METRICS:
                effect = one.get(metric, {})
                assert ("size" in effect) <= (metric == life_events.SHIFTS), "detection knows no other window"
                assert f"up to {effect.get('size')} " in row or "size" not in effect, key
                assert metric in UNITS or not effect
            assert not {"mg", "dose"} & set(one["title"].split())


def test_only_medicines_hold_anything_back() -> None:
    for kind in life_events.kinds():
        medicines = catalogue()["medication"] if kind in MEDICATION else [None]
        for medicine in medicines:
            (event,) = standing({"x": checked(kind, medicine, DAY, DAY)})
            sized = medicine is not None and "size" in catalogue()["medication"][medicine].get("heart_rate", {})
            assert (event.window is not None) == sized, (kind, medicine)


@pytest.mark.parametrize(("kind", "fall", "rise"), [
    ("medication_started", -10, 0), ("dose_raised", -10, 0), ("medication_stopped", 0, 10), ("dose_lowered", 0, 10),
])  # fmt: skip
def test_a_stop_and_a_lowered_dose_turn_the_side_round(kind: str, fall: float, rise: float) -> None:
    (event,) = standing({"x": checked(kind, "beta_blocker", DAY, DAY)})
    assert event.window is not None
    assert (event.window.fall, event.window.rise) == (fall, rise)
    assert event.window.to_ms - event.window.from_ms == 28 * DAY_MS


def change(number: int, subject: str, day: date, *, withdrawn: bool = False) -> PatientChange:
    payload = checked("medication_stopped", "beta_blocker", day, day) | {"withdrawn": withdrawn}
    return PatientChange(life_events.midnight_ms(day), number, "life_event", subject, payload, None)


def test_the_latest_word_on_an_event_holds_in_whatever_order_it_comes() -> None:
    told = [
        change(1, "a", DAY), change(2, "b", DAY), change(3, "a", date(2026, 2, 1)), change(4, "b", DAY, withdrawn=True),
    ]  # fmt: skip
    for order in (told, told[::-1], told[2:] + told[:2]):
        changes = Changes()
        for one in order:
            changes.add(1, [one])
        assert [row[0] for row in changes.windows[1]] == [life_events.midnight_ms(date(2026, d, 1)) for d in (2, 3)]
        begun = life_events.midnight_ms(date(2026, 2, 1))
        assert [one.day for one in changes.said(1, "heart_rate", begun)] == ["2026-02-01"]
        assert changes.said(1, "heart_rate", begun + 28 * DAY_MS) == []
        assert changes.said(1, "glucose", begun) == []


def test_what_happened_is_said_to_the_care_team_alone_and_as_a_possibility() -> None:
    found = {"metric": "body_temperature", "side": "above", "worst": 39.0, "threshold": 38.5, "inclusive": True,
             "persist_s": 0, "n": 2, "from_ms": 0, "to_ms": 600_000}  # fmt: skip
    (event,) = standing({"x": checked("vaccination", None, DAY, DAY)})
    known = found | {"events": [event.said_of("body_temperature")._asdict()]}
    assert sentence("fever", known) == sentence("fever", found) + " (vaccination on 3 Mar: a rise can come from it)"
    assert patient_sentence("fever", known) == patient_sentence("fever", found)
