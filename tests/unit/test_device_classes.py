"""Device classes: a closed list with sourced figures, and what of them a finding says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.device_classes import CLASSES, MDC, NAMES, STATED, UNKNOWN, accuracy, told, within
from detectors.explain import patient_sentence, sentence
from detectors.limits import DEFAULT_LIMITS
from detectors.measured_by import MOST, add, numbers
from ingest.catalogue import catalogue
from services.api import words
from services.processor.in_memory import days
from services.processor.readings import Table
from services.processor.records import AlertRow
from services.web import present

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_760_054_400_000  # 2025-10-10T00:00:00Z
MIGRATION = Path(__file__).parents[2] / "services/store/migrations/versions/0018_device_class.sql"


def test_the_list_is_the_same_wherever_it_stands_and_each_figure_has_its_source() -> None:
    assert tuple(re.findall(r"'(\w+)'", MIGRATION.read_text("utf-8").partition("CHECK")[2])) == CLASSES
    assert NAMES.keys() == set(CLASSES)
    assert MDC.keys() < set(CLASSES)
    for (device_class, metric, _), stated in STATED.items():
        assert device_class in set(CLASSES) - {UNKNOWN}
        assert metric in catalogue()
        assert stated.error > 0
        assert re.search(r"\d{4}|ISO", stated.source) or "journal" in stated.source
    assert not any(accuracy(UNKNOWN, metric) for metric in catalogue())


def test_the_page_holds_each_figure_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/detection.md").read_text("utf-8")
    table = page.partition("<!-- stated:")[2].partition("<!-- end of stated -->")[0]
    shown = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[3:]]
    assert [(one[0], one[1], one[2].removeprefix("a "), one[3].split(" ", 1), one[5]) for one in shown] == [
        (*which, [f"{stated.error:g}", "% of the value" if stated.relative else words.unit_of(which[1])], stated.source)
        for which, stated in STATED.items()
    ]


@given(
    st.lists(st.sampled_from(CLASSES), max_size=4),
    st.sampled_from(sorted(catalogue())),
    st.floats(1, 400),
    st.floats(0, 60),
)
def test_only_what_every_device_may_miss_explains_a_finding(
    kinds: list[str], metric: str, value: float, apart: float
) -> None:
    devices = [told(f"d{n}", one, metric, "reading") for n, one in enumerate(kinds)]
    stated = [accuracy(one, metric) for one in kinds]
    found = within(devices, value, apart)
    explained = bool(stated) and all(one is not None and apart <= one.off(value) for one in stated)
    assert (found is not None) == explained
    if found is not None:
        assert found[1] == min(one.off(value) for one in stated if one is not None)


def low(worst: float, kinds: list[str], **other: Any) -> dict[str, Any]:
    limit = next(one for one in DEFAULT_LIMITS if one.rule == "spo2_low")
    return {
        "metric": "spo2", "side": "below", "inclusive": False, "threshold": limit.levels[other.get("step", 0)][0],
        "clear": 92.0, "persist_s": 300, "from_ms": T0, "to_ms": T0 + 12 * MINUTE, "n": 8, "worst": worst, "step": 0,
        "devices": [told(f"d{n}", kind, "spo2", "reading") for n, kind in enumerate(kinds)], **other,
    }  # fmt: skip


def test_the_team_is_told_what_is_within_the_error_and_the_patient_is_not() -> None:
    said = sentence("spo2_low", low(86, ["finger_oximeter"]))
    assert said.endswith(
        "(8 readings from 00:00 to 00:12); no further beyond than a finger oximeter may be off by (4 %)"
    )
    assert "off by" not in patient_sentence("spo2_low", low(86, ["finger_oximeter"]))


@pytest.mark.parametrize(
    ("worst", "kinds", "other"),
    [
        (85.9, ["finger_oximeter"], {}),  # further beyond
        (89, ["unknown"], {}),
        (89, ["cuff"], {}),  # of which nothing is stated for this metric
        (89, ["finger_oximeter", "unknown"], {}),
        (84, ["finger_oximeter"], {"step": 1}),  # within it of the worse level, beyond the milder one all the same
        (89, [], {}),
    ],
)
def test_nothing_else_is_explained_away(worst: float, kinds: list[str], other: dict[str, Any]) -> None:
    assert "off by" not in sentence("spo2_low", low(worst, kinds, **other))
    before = {key: value for key, value in low(worst, kinds, **other).items() if key not in ("step", "devices")}
    assert "off by" not in sentence("spo2_low", before)  # as earlier versions kept it


def test_a_screen_says_in_one_line_what_measured_and_how_exactly() -> None:
    alert = {"kind": "clinical", "evidence": low(86, ["finger_oximeter", "unknown"])}
    said = "may be off by 4 %, Arms permitted from 70 to 100 %; 3.96, 4.71 and 4.15 in light, medium and dark skin"
    first, second = present.measured_by(alert)
    assert first.startswith(f"Measured by d0 (finger oximeter): {said}")
    assert second == "Measured by d1 (kind of device not known): accuracy not known"
    several = {"vitals": [{"metric": "spo2", "devices": [told("d", "cgm", "spo2", "night")]}]}
    assert present.measured_by({"kind": "clinical", "evidence": several}) == [
        "Oxygen saturation measured by d (continuous glucose monitor): accuracy not known"
    ]
    unsaid = "Measured by: not recorded, accuracy not known"
    assert present.measured_by({"kind": "clinical", "evidence": {}}) == [unsaid]
    assert present.measured_by({"kind": "technical", "evidence": {}}) == []


@given(st.sets(st.integers(1, 255)))
def test_a_mask_names_devices_as_long_as_it_can(devices: set[int]) -> None:
    masks, device = np.zeros((1, 2), np.uint16), np.array([*sorted(devices), 0], np.uint8)[None, :, None]
    for chosen in (device != 0, device == 0):  # what is not chosen, or not known, adds nothing
        add(masks, np.array([1]), device, chosen)
    assert [numbers(int(mask)) for mask in masks[0]] == [[], sorted({min(one, MOST) for one in devices})]


def told_of(device_class: str) -> list[AlertRow]:
    """A ring at night and a watch by day for 12 days, of which the last 3 nights are 15 /min faster; and low oxygen."""
    minute = np.arange(12 * 24 * 60)
    asleep = (minute % 1440 >= 22 * 60) | (minute % 1440 < 8 * 60)
    rate = 70 - 12.0 * asleep + 15 * (minute >= (9 * 24 - 4) * 60) + (minute % 7) / 7
    heart = (np.where(asleep, 2, 1), "heart_rate", T0 + minute * MINUTE, rate)
    oxygen = (np.full(20, 3), "spo2", T0 + DAY + np.arange(20) * MINUTE, np.full(20, 88.0))
    parts = [
        Table(
            np.zeros(len(t), np.intp), device.astype(np.int32), np.full(len(t), catalogue()[metric].id, np.int16), t,
            value.astype(np.float32), np.zeros(len(t), np.uint8), np.full(len(t), -1, np.int32),
        )
        for device, metric, t, value in (heart, oxygen)
    ]  # fmt: skip
    table = Table.concatenate(parts)
    days_of = days([table.sorted(table.t_ms, table.metric)], [[(0, 0)]], device_class=device_class)
    return [row for day in days_of for row in day.effects.alerts]


def test_a_finding_names_the_devices_its_readings_came_from_and_no_other() -> None:
    for device_class, clause in (("finger_oximeter", True), (UNKNOWN, False)):
        found = {row.rule: row for row in told_of(device_class)}
        oxygen, rise = found["spo2_low"], found["resting_heart_rate_rise"]
        assert oxygen.sentence.endswith("(4 %)") == clause
        assert [len(row.evidence["devices"]) for row in (oxygen, rise)] == [1, 1]
        assert {one["class"] for row in found.values() for one in row.evidence["devices"]} == {device_class}
        assert rise.evidence["devices"][0]["accuracy"] is None  # an oximeter's heart rate: nothing is stated
