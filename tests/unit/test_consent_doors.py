"""What a patient's consent withholds is taken out of a frame before it is stamped, or refuses it."""

from __future__ import annotations

import pytest

from ingest.assign import Assignment, stamp, withheld_of
from ingest.catalogue import catalogue
from ingest.frame import DeviceStatus
from ingest.validate import Rejected
from tests.unit.test_validate import FOREVER, NOW, block, device, frame

STEPS = frozenset({catalogue()["steps"].id})
EVERYTHING = frozenset(metric.id for metric in catalogue().values())


def test_what_is_not_agreed_to_is_left_out_and_named_and_the_rest_is_taken() -> None:
    sent = frame(block(), block(metric="steps", unit="{steps}"), status=DeviceStatus(worn=True))
    parts = stamp(sent, device(Assignment(9, 0, FOREVER, STEPS)), NOW)
    assert [[b.metric_id for b in part.blocks] for part in parts] == [[catalogue()["heart_rate"].id]]
    assert parts[0].status == DeviceStatus(worn=True)
    assert withheld_of(sent, parts) == ["steps"]
    assert withheld_of(sent, stamp(sent, device(), NOW)) == []


def test_a_frame_with_nothing_left_is_refused_by_its_first_block() -> None:
    sent = frame(block(metric="steps", unit="{steps}"))
    with pytest.raises(Rejected, match="once they agree") as caught:
        stamp(sent, device(Assignment(9, 0, FOREVER, STEPS)), NOW)
    assert (caught.value.field, caught.value.value) == ("blocks[0].metric", "steps")
    assert caught.value.allowed.startswith("metrics the patient agreed to")


@pytest.mark.parametrize("blocks", [0, 1])
def test_where_nothing_is_agreed_to_a_status_is_not_taken_either(blocks: int) -> None:
    sent = frame(*[block()] * blocks, status=DeviceStatus(battery_percent=5))
    with pytest.raises(Rejected) as caught:
        stamp(sent, device(Assignment(9, 0, FOREVER, EVERYTHING, closed=True)), NOW)
    assert caught.value.field == ("blocks[0].metric" if blocks else "status")
    assert caught.value.allowed.startswith("nothing at present")


def test_a_frame_of_two_patients_of_whom_one_does_not_agree_is_refused_whole() -> None:
    change = NOW - 3_600_000 + 60_000
    hands = device(Assignment(9, 0, change, EVERYTHING, closed=True), Assignment(10, change, FOREVER))
    with pytest.raises(Rejected, match="consent"):
        stamp(frame(block()), hands, NOW)
    after = device(Assignment(9, 0, NOW - 7_200_000, EVERYTHING, closed=True), Assignment(10, NOW - 7_200_000, FOREVER))
    assert [part.patient_id for part in stamp(frame(block()), after, NOW)] == [10]
