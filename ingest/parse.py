"""Bytes from a device become frames: a body is split first, so that each frame gets its own verdict.

Two forms of one frame: msgpack (``ingest.frame``) and readable JSON (``ingest.json_frame``).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from msgspec import Raw

from ingest import frame as wire
from ingest.frame import Block, DeviceStatus, Frame
from ingest.json_frame import JsonBlock, JsonFrame, JsonStatus, from_json
from ingest.validate import Rejected, refuse, suggest

Form = Literal["json", "msgpack"]
CONTENT_TYPES: dict[str, Form] = {"application/json": "json", wire.CONTENT_TYPE: "msgpack"}

WORST_DEPTH = 64
_ARRAY_FIELDS = {
    "": Frame.__struct_fields__,
    "blocks[]": Block.__struct_fields__,
    "status": DeviceStatus.__struct_fields__,
}
_KEYS = {
    "": JsonFrame.__struct_fields__,
    "blocks[]": JsonBlock.__struct_fields__,
    "status": JsonStatus.__struct_fields__,
}


class Unreadable(ValueError):
    """The body is not a list of frames at all; the text says where it breaks."""


class TooMany(ValueError):
    """The body holds more frames than `wire.MAX_FRAMES`."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    frames: list[Raw]


_json_body = msgspec.json.Decoder(_Body)
_json_frame = msgspec.json.Decoder(JsonFrame)


def form_of(payload: bytes) -> Form:
    """Tell JSON from msgpack by the first byte, for doors without a content type."""
    return "json" if payload[:1] in b"{ \r\n\t" else "msgpack"


def split(body: bytes, form: Form) -> list[Raw]:
    """Return the frames of a body, still undecoded.

    Raises:
        Unreadable: not a msgpack array, or not ``{"frames": [...]}``.
        TooMany: more than 100 frames.
    """
    try:
        raws = _json_body.decode(body).frames if form == "json" else wire.decode_frames(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from error
    if len(raws) > wire.MAX_FRAMES:
        msg = f"{len(raws)} frames in one request; {wire.MAX_FRAMES} are allowed, send the rest in another"
        raise TooMany(msg)
    if not raws:
        msg = "no frames in the body; send 1 to 100"
        raise Unreadable(msg)
    return raws


# What a hostile or broken body makes the decoders raise: bad bytes, bad text, numbers out of range, odd map keys.
_UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, TypeError, RecursionError)


def parse(raw: Raw, form: Form, now_ms: int) -> Frame:
    """Return one frame of a body; ``now_ms`` stands in for ``sent`` where JSON leaves it out.

    Raises:
        Rejected: the frame is not of the right shape; its field is a path such as ``blocks[0].values[3]``.
    """
    try:
        if form == "json":
            return from_json(_json_frame.decode(raw), now_ms)
        return wire.decode_frame(raw)
    except Rejected:
        raise
    except msgspec.ValidationError as error:
        try:
            explained = _explained(str(error), raw, form)
        except _UNREADABLE:  # the body's own oddities keep it from being explained
            refuse("frame", str(error), f"one {form} frame", "encode the frame again")
        raise explained from error
    except _UNREADABLE as error:
        refuse("frame", str(error), f"one {form} frame", "encode the frame again")


def identity(raw: Raw, form: Form) -> tuple[str | None, int | None]:
    """Return a rejected frame's session and sequence number as far as they can be read, for its verdict."""
    try:
        sent = _builtin(raw, form)
    except _UNREADABLE:
        return None, None
    if isinstance(sent, dict):
        session, seq = sent.get("session"), sent.get("seq")
    elif isinstance(sent, list) and len(sent) >= 3:
        session, seq = sent[1], sent[2]
    else:
        return None, None
    known = isinstance(session, str) and len(session) <= 64
    return (session if known else None), (seq if type(seq) is int else None)


def _builtin(raw: Raw, form: Form) -> object:
    return msgspec.json.decode(raw) if form == "json" else msgspec.msgpack.decode(raw)


def _explained(message: str, raw: Raw, form: Form) -> Rejected:
    """Turn msgspec's "Expected `int`, got `str` - at `$[5][0][2]`" into field, value and what is allowed."""
    allowed, _, path = message.partition(" - at `$")
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", path.rstrip("`"))[:WORST_DEPTH]
    value: object = _builtin(raw, form)
    field, kind = "", ""
    for key, index in steps:
        if isinstance(value, dict):
            value = value.get(key)
            field, kind = _below(field, key), key
        elif isinstance(value, list) and index and int(index) < len(value):
            names = _ARRAY_FIELDS.get(kind) if form == "msgpack" else None
            name = names[int(index)] if names is not None and int(index) < len(names) else None
            field = _below(field, name) if name else f"{field}[{index}]"
            kind = name or f"{kind}[]"
            value = value[int(index)]
    unknown = re.search(r"unknown field `(.*)`", allowed)
    if unknown:
        keys = _KEYS.get(kind, ())
        return Rejected(_below(field, unknown[1]), None, "one of " + ", ".join(keys), suggest(unknown[1], keys))
    missing = re.search(r"missing required field `(.*)`", allowed)
    if missing:
        return Rejected(_below(field, missing[1]), None, "a value", f"add {missing[1]}")
    shown = value if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return Rejected(field or "frame", shown, allowed, "send this field in this type")


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name
