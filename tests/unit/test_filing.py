"""Records of ``dead.v1``: what a door files, within its bounds, and how each is read back."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from ingest.dead import BURST, MAX_BYTES, DeadTopic, Unanswered, encode_letter
from services.processor.filing import MAX_DETAIL, MAX_REASON, Filed, read


def message(value: bytes | None, key: bytes | None = None) -> Filed:
    return Filed(2, 7, key, value, 1_760_054_400_000)


def test_what_a_door_files_is_read_back_byte_for_byte() -> None:
    letter = read(message(encode_letter(Unanswered("undecodable", "no frame", "watch-1", b"\xc1\x00poison"))))
    assert letter is not None
    assert letter._asdict() == {
        "partition": 2, "offset": 7, "reason": "undecodable", "detail": "no frame", "key": b"watch-1",
        "record": b"\xc1\x00poison", "at_ms": 1_760_054_400_000,
    }  # fmt: skip


def test_a_long_payload_keeps_its_beginning_and_says_so() -> None:
    letter = read(message(encode_letter(Unanswered("undecodable", "x" * 5000, "w", bytes(MAX_BYTES + 9)))))
    assert letter is not None
    assert len(letter.record) == MAX_BYTES
    assert letter.detail.endswith(f"(the first {MAX_BYTES} of {MAX_BYTES + 9} bytes)")
    assert len(letter.detail) <= MAX_DETAIL


def test_the_processors_own_dead_records_are_left_alone() -> None:
    own = {"version": 1, "topic": "readings.v1", "partition": 0, "offset": 3, "reason": "undecodable", "record": ""}
    assert read(message(json.dumps(own).encode())) is None
    assert read(message(json.dumps(own | {"topic": "somewhere.else"}).encode())) is not None


whole = st.fixed_dictionaries(  # a dead record as others may write one
    {"reason": st.text(max_size=2 * MAX_REASON), "record": st.binary(max_size=40).map(lambda it: base64.b64encode(it).decode())},
    optional={"detail": st.text(max_size=20), "key": st.text(max_size=9), "topic": st.sampled_from(["", "readings.v1"])},
)  # fmt: skip


@given(st.one_of(st.none(), st.binary(max_size=200), whole.map(lambda value: json.dumps(value).encode()), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["reason", "record", "topic", "key"]), inner),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_anything_at_all_is_filed_with_its_bytes(value: bytes | None) -> None:
    letter = read(message(value))
    if letter is not None and letter.reason == "not_a_dead_record":
        assert letter.record == (value or b"")
    elif letter is not None:
        assert letter.record == base64.b64decode(json.loads(value or b"")["record"])
        assert len(letter.reason) <= MAX_REASON


class Broken(DeadTopic):
    """A topic whose broker is away."""

    async def _send(self, letters: Any) -> None:
        if letters:
            raise KafkaConnectionError


async def test_a_flood_and_a_lost_broker_are_bounded_and_counted() -> None:
    topic = Broken("127.0.0.1:1", "dead.v1")
    for _ in range(10):
        await topic.file([Unanswered("undecodable", "", "w", b"x")] * 64)
    assert topic.dropped == 640
    topic.dropped = 0
    sent: list[Unanswered] = []

    async def keep(letters: Any) -> None:
        sent.extend(letters)

    fresh = DeadTopic("127.0.0.1:1", "dead.v1")
    fresh._send = keep  # type: ignore[method-assign]
    for _ in range(10):
        await fresh.file([Unanswered("undecodable", "", "w", b"x")] * 64)
    assert BURST <= len(sent) <= BURST + 5
    assert fresh.dropped == 640 - len(sent)
