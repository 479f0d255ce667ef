"""Bodies that make decoders stumble are refused frame by frame; nothing else is raised."""

from __future__ import annotations

import msgspec
import pytest

from ingest import parse
from ingest.parse import Form
from ingest.validate import Rejected

JSON_BODY = b'{"frames":[{"session":"s","seq":1,"blocks":[{"metric":"heart_rate","times":[%s],"values":[1]}]}]}'


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (JSON_BODY % b"10000000000000000000", "json"),
        (JSON_BODY % b"1e400", "json"),
        (b'{"frames":[{"session":"\xff\xfe","seq":1,"blocks":[]}]}', "json"),
        (b"\x91\x96\x01\xa1\xff\x00\x00\x00\x90", "msgpack"),
        (b"\x91\x81\x80\x01", "msgpack"),
        (b"\x91\x81\x91\x01\x01", "msgpack"),
        (b"\x91\xd6\xff\xff\xff\xff\xff", "msgpack"),
        (b"\x91\xc7\x0c\xff" + b"\xff" * 12, "msgpack"),
        (b"\x91" + b"\x91" * 2000 + b"\x00", "msgpack"),
    ],
)
def test_a_hostile_frame_is_refused_and_named(body: bytes, form: Form) -> None:
    try:
        raws = parse.split(body, form)
    except parse.Unreadable:
        return
    for raw in raws:
        assert isinstance(raw, msgspec.Raw)
        with pytest.raises(Rejected):
            parse.parse(raw, form, 1_760_054_400_000)
        parse.identity(raw, form)
