"""The wire: both forms of a frame are the same frame, and what is neither is explained."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from ingest import frame as wire
from ingest import parse
from ingest.frame import Block, DeviceStatus, Frame, decode_frame, decode_stamped, encode
from ingest.validate import Rejected

NOW = 1_795_348_800_000


def json_frame(**changes: Any) -> dict[str, Any]:
    block = {
        "metric": "heart_rate",
        "times": ["2026-11-22T12:00:00Z", "2026-11-22T13:00:30+01:00"],
        "values": [72, 73.5],
    }
    return {"session": "s", "seq": 1, "blocks": [block]} | changes


def parsed(form: parse.Form, *frames: Any) -> list[Frame]:
    body = msgspec.json.encode({"frames": frames}) if form == "json" else msgspec.msgpack.encode(frames)
    return [parse.parse(raw, form, NOW) for raw in parse.split(body, form)]


def rejected(form: parse.Form, frame: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        parsed(form, frame)
    return caught.value


def test_json_becomes_the_same_frame_as_msgpack() -> None:
    offsets = np.array([0, 30_000], "<i4").tobytes()
    values = np.array([72, 73.5], "<f4").tobytes()
    expected = Frame(1, "s", 1, NOW, 60, [Block("heart_rate", "/min", NOW, 0, "f4", values, offsets)], DeviceStatus(80))
    sent = json_frame(utc_offset_min=60, status={"battery_percent": 80})
    assert parsed("json", sent) == [expected]
    assert parsed("msgpack", expected) == [expected]
    assert decode_frame(encode(expected)) == expected


def test_json_may_give_a_first_instant_and_a_step() -> None:
    block = {"metric": "spo2", "t0": NOW, "step_s": 0.5, "values": [97, 98], "unit": "1", "quality": [0, 2]}
    (frame,) = parsed("json", json_frame(blocks=[block]))
    sent = frame.blocks[0]
    assert (sent.t0_ms, sent.step_us, sent.offsets_ms, sent.unit, sent.quality) == (
        NOW,
        500_000,
        None,
        "1",
        b"\x00\x02",
    )


def test_json_may_give_one_instant_alone() -> None:
    (frame,) = parsed("json", json_frame(blocks=[{"metric": "weight", "t0": NOW, "values": [71.2]}]))
    assert (frame.blocks[0].t0_ms, frame.blocks[0].step_us) == (NOW, 0)


BAD_JSON = [
    (json_frame(seq="1"), "seq"),
    (json_frame(seq=True), "seq"),
    (json_frame(seq=-1), "seq"),
    (json_frame(session="a b"), "session"),
    (json_frame(session="a\n"), "session"),
    (json_frame(sessions="a"), "sessions"),
    (json_frame(utc_offset_min=2000), "utc_offset_min"),
    (json_frame(status={"battery": 5}), "status.battery"),
    (json_frame(blocks=[{"metric": "spo2", "t0": NOW, "values": [True]}]), "blocks[0].values[0]"),
    (json_frame(blocks=[{"metric": "spo2", "t0": NOW, "values": ["97"]}]), "blocks[0].values[0]"),
    (json_frame(blocks=[{"metric": "spo2", "t0": NOW, "values": [None]}]), "blocks[0].values[0]"),
    (json_frame(blocks=[{"metric": "spo2", "t0": NOW, "values": []}]), "blocks[0].values"),
    (json_frame(blocks=[{"metric": "spo2", "t0": NOW, "values": [4e38]}]), "blocks[0].values[0]"),
    (json_frame(blocks=[{"metric": "spo2", "t0": NOW, "values": [97, 98]}]), "blocks[0].times"),
    (json_frame(blocks=[{"metric": "spo2", "times": [NOW], "t0": NOW, "values": [97]}]), "blocks[0].t0"),
    (json_frame(blocks=[{"metric": "spo2", "times": [NOW], "values": [97, 98]}]), "blocks[0].times"),
    (json_frame(blocks=[{"metric": "spo2", "times": [NOW, 2**62], "values": [97, 98]}]), "blocks[0].times[1]"),
    (json_frame(blocks=[{"metric": "spo2", "times": ["2026-11-22T12:00:00"], "values": [97]}]), "blocks[0].times[0]"),
    (json_frame(blocks=[{"metric": "spo2", "times": ["noon"], "values": [97]}]), "blocks[0].times[0]"),
    (json_frame(blocks=[{"metrik": "spo2", "t0": NOW, "values": [97]}]), "blocks[0].metrik"),
    (json_frame(blocks=[{"metric": "spo2", "t0": NOW}]), "blocks[0].values"),
    (json_frame(blocks=7), "blocks"),
    ([], "frame"),
]


@pytest.mark.parametrize(("frame", "field"), BAD_JSON)
def test_wrong_json_names_its_field(frame: Any, field: str) -> None:
    error = rejected("json", frame)
    assert error.field == field
    assert error.allowed
    assert error.hint


def test_an_unknown_key_suggests_the_nearest() -> None:
    block = {"metrik": "spo2", "t0": NOW, "values": [97]}
    assert rejected("json", json_frame(blocks=[block])).hint == "did you mean metric?"
    assert rejected("json", json_frame(sesion="x")).hint == "did you mean session?"


GOOD_BLOCK = ["heart_rate", "/min", NOW, 1000, "f4", b"\x00\x00\x90\x42"]
BAD_MSGPACK = [
    (["1", "s", 1, NOW, 0, [GOOD_BLOCK]], "version"),
    ([1, "s", 2**53, NOW, 0, [GOOD_BLOCK]], "seq"),
    ([1, "s", 1, NOW, 0, [GOOD_BLOCK, [*GOOD_BLOCK[:5], "text"]]], "blocks[1].values"),
    ([1, "s", 1, NOW, 0, [GOOD_BLOCK], [5, "yes"]], "status.charging"),
    ([1, "s", 1, NOW, 0, [["heart_rate"]]], "blocks[0]"),
    ([1, "s", 1, NOW, 0, [GOOD_BLOCK] * 65], "blocks"),
    ([1, "s"], "frame"),
    ({"session": "s"}, "frame"),
]


@pytest.mark.parametrize(("frame", "field"), BAD_MSGPACK)
def test_wrong_msgpack_names_its_field(frame: Any, field: str) -> None:
    assert rejected("msgpack", frame).field == field


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", "json"),
        (b"[]", "json"),
        (b'{"frames": []}', "json"),
        (b'{"frames": [1', "json"),
        (b'{"frames": [{"seq": NaN}]}', "json"),
        (b'{"frame": []}', "json"),
        (b"[" * 100_000, "json"),
        (b"", "msgpack"),
        (b"\x90", "msgpack"),
        (b"\x91" * 100_000, "msgpack"),
        (b"\xdd\xff\xff\xff\xff", "msgpack"),
        (b"\x91\xc1", "msgpack"),
    ],
)
def test_a_body_that_is_no_list_of_frames_is_unreadable(body: bytes, form: parse.Form) -> None:
    with pytest.raises(parse.Unreadable):
        parse.split(body, form)


def test_more_than_a_hundred_frames_are_too_many() -> None:
    with pytest.raises(parse.TooMany, match="101 frames"):
        parse.split(msgspec.msgpack.encode([1] * 101), "msgpack")


def test_one_bad_frame_leaves_the_others_alone() -> None:
    good = Frame(1, "s", 1, NOW, 0, [Block(*GOOD_BLOCK)])  # type: ignore[arg-type]
    raws = parse.split(msgspec.msgpack.encode([good, 7, good]), "msgpack")
    assert parse.parse(raws[0], "msgpack", NOW) == good
    with pytest.raises(Rejected):
        parse.parse(raws[1], "msgpack", NOW)
    assert parse.parse(raws[2], "msgpack", NOW) == good


def test_a_rejected_frame_is_named_as_far_as_it_can_be_read() -> None:
    def identity(form: parse.Form, frame: Any) -> tuple[str | None, int | None]:
        encode_as = msgspec.json.encode if form == "json" else msgspec.msgpack.encode
        return parse.identity(msgspec.Raw(encode_as(frame)), form)

    assert identity("json", {"session": "s", "seq": 4, "blocks": 1}) == ("s", 4)
    assert identity("msgpack", [1, "s", 4, "x"]) == ("s", 4)
    assert identity("msgpack", [1, 7, True]) == (None, None)
    assert identity("json", 7) == (None, None)


def test_a_door_without_content_type_tells_the_forms_apart() -> None:
    assert parse.form_of(b'{"frames": []}') == "json"
    assert parse.form_of(b'\n {"frames": []}') == "json"
    assert parse.form_of(msgspec.msgpack.encode([[1]])) == "msgpack"
    assert parse.form_of(msgspec.msgpack.encode([1] * 100)) == "msgpack"


def test_a_stamped_frame_of_another_version_is_refused() -> None:
    stamped = wire.StampedFrame(2, "id", 1, 1, 1, "s", 1, NOW, NOW, 0, [])
    with pytest.raises(ValueError, match="upgrade the processor"):
        decode_stamped(encode(stamped))


def test_a_frame_from_before_revisions_reads_as_revision_0() -> None:
    old = msgspec.msgpack.encode([1, "s", 7, 1_795_348_800_000, 60, [], [50.0, None, None]])
    assert decode_frame(old).revision == 0
    stamped = msgspec.msgpack.encode([1, "w~s~7", 1, 2, 3, "s", 7, 1_795_348_800_000, 1_795_348_800_000, 60, []])
    assert decode_stamped(stamped).revision == 0


def test_an_older_reader_skips_the_revision() -> None:
    class Before(msgspec.Struct, array_like=True):
        version: int
        session: str
        seq: int
        sent_ms: int
        utc_offset_min: int
        blocks: list[msgspec.Raw]
        status: DeviceStatus | None = None

    new = encode(Frame(1, "s", 7, 1_795_348_800_000, 60, [], None, revision=3))
    assert msgspec.msgpack.Decoder(Before).decode(new).seq == 7
