"""Dead letters: every code explained, records readable and writable, and the judgement that stops a bad deploy."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from ingest.frame import decode_stamped, encode
from services.cli import dead_form
from services.processor.intake import take_in
from services.processor.poison import RATIO, RUN, WINDOW, PoisonError, PoisonGuard
from services.processor.records import DeadRecord, Record
from services.reasons import ABOUT, DeadReason, QuarantineReason, explain
from tests.fix_processor import T0, TOPIC, block, records, stamped

DOCS = Path(__file__).parents[2] / "docs" / "dead-letters.md"


def test_every_code_is_explained_here_and_in_the_docs() -> None:
    assert set(ABOUT) == {*DeadReason, *QuarantineReason}
    told = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", DOCS.read_text(), re.MULTILINE))
    assert told == {str(code): about.meaning for code, about in ABOUT.items()}
    assert "does not know" in explain("from_the_future").meaning


def test_each_reason_is_given_for_its_cause() -> None:
    frame = stamped(1, 0, [block("heart_rate", T0, [60, 61])])
    good = encode(frame)
    strange = encode(msgspec.structs.replace(frame, blocks=[msgspec.structs.replace(frame.blocks[0], metric_id=99)]))
    uneven = encode(msgspec.structs.replace(frame, blocks=[msgspec.structs.replace(frame.blocks[0], quality=b"\0")]))
    cases = {
        DeadReason.NOT_MSGPACK: (b"1", b"\xc1 nonsense"),
        DeadReason.WRONG_SHAPE: (b"1", msgspec.msgpack.encode([1, "a"])),
        DeadReason.UNKNOWN_VERSION: (b"1", encode(msgspec.structs.replace(frame, version=9))),
        DeadReason.WRONG_KEY: (b"2", good),
        DeadReason.UNKNOWN_METRIC: (b"1", strange),
        DeadReason.IMPOSSIBLE_CONTENT: (b"1", uneven),
    }
    for reason, (key, value) in cases.items():
        assert [d.reason for d in take_in([Record(TOPIC, 0, 0, key, value)]).dead] == [reason]
    assert not take_in([Record(TOPIC, 0, 0, b"1", good)]).dead


def test_a_frame_is_readable_and_written_back_bit_for_bit() -> None:
    frame = stamped(3, 7, [block("body_temperature", T0, [36.6, 36.7], quality=b"\0\1"), block("steps", T0, [4])])
    document = dead_form.readable(encode(frame))
    assert document is not None
    assert document["blocks"][0]["metric"] == "body_temperature"
    assert [round(v, 1) for v in document["blocks"][0]["values"]] == [36.6, 36.7]
    assert dead_form.written(TOPIC, dead_form.changed(document, [])) == (b"3", encode(frame))
    fixed = dead_form.changed(document, ["patient_id=4", "blocks[1].values[0]=5"])
    key, record = dead_form.written(TOPIC, fixed)
    assert (key, decode_stamped(record).patient_id) == (b"4", 4)
    assert dead_form.readable(record)["blocks"][1]["values"] == [5.0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("blocks[0].quality=[0]", "dead again: impossible_content"),
        ("version=9", "dead again: unknown_version"),
        ("blocks[0].metric=heart", "not a record"),
        ("sent_ms=soon", "not a record|dead again"),
        ("nothing", "PATH=VALUE"),
        ("blocks[7].t0_ms=1", "has no"),
        ("colour=red", "unknown fields"),
    ],
)
def test_what_would_be_dead_again_is_refused(assignment: str, complaint: str) -> None:
    document = dead_form.readable(encode(stamped(1, 0, [block("heart_rate", T0, [60, 61])])))
    assert document is not None
    with pytest.raises(dead_form.NotFixed, match=complaint):
        dead_form.written(TOPIC, dead_form.changed(document, [assignment]))


def test_bytes_are_dumped_whole() -> None:
    lines = list(dead_form.hexdump(bytes(range(40)), 32))
    assert lines[0].startswith("00000000  00 01 02")
    assert len(lines) == 3
    assert "8 more bytes" in lines[2]


def feed(guard: PoisonGuard, outcome: list[bool]) -> int:
    """How many records are handled before the guard stops it; -1 when it doesn't."""
    made = records([stamped(1, seq, [block("steps", T0, [1])]) for seq in range(len(outcome))])
    for i, (record, dead) in enumerate(zip(made, outcome, strict=True)):
        try:
            guard.check([record], [DeadRecord(record, DeadReason.UNPROCESSABLE, "x")] if dead else [])
        except PoisonError:
            return i
        guard.accept()
    return -1


def test_a_run_or_a_ratio_stops_and_a_few_bad_records_do_not() -> None:
    assert feed(PoisonGuard(), [True] * 200) == RUN - 1
    assert feed(PoisonGuard(), [True, False] * 200) == -1
    assert feed(PoisonGuard(), [True, True, False] * 200) == WINDOW - 1
    assert feed(PoisonGuard(), ([True] * (RUN - 1) + [False] * RUN) * 9) == -1
    assert RATIO == 0.5


def test_the_judgement_survives_a_restart_and_a_good_record_ends_it() -> None:
    letters = {(TOPIC, p, o) for p in range(7) for o in range(100, 107)}  # 7 in a row on 7 of 12 partitions
    guard = PoisonGuard()
    guard.recall({(TOPIC, p): 107 for p in range(7)} | {("control.v1", p): 500 for p in range(12)}, letters)
    assert feed(guard, [True] * 5) == 0
    guard.recall({(TOPIC, p): 107 for p in range(7)}, letters)
    assert feed(guard, [False, *[True] * 60]) == RUN
    guard.recall({(TOPIC, 0): 3}, {(TOPIC, 0, 1)})  # a good one came after it
    assert feed(guard, [True] * 60) == RUN - 1
