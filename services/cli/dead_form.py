"""A dead record as a person can read it, and back: named fields, metric keys, numbers instead of bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from ingest.catalogue import by_id, catalogue
from ingest.frame import DTYPES, DeviceStatus, StampedBlock, StampedFrame, encode
from ingest.partition import record_key
from services import topics
from services.processor.intake import take_in
from services.processor.records import Record

_STEP: Final = re.compile(r"([A-Za-z_]\w*)|\[(\d+)\]")
_BYTES: Final = {"offsets_ms": "<i4", "quality": "<u1"}


class NotFixed(ValueError):
    """The corrected record is not one that would be processed; the text says why."""


def readable(record: bytes) -> dict[str, Any] | None:
    """Return a record's fields by name as far as it decodes, None where it isn't msgpack at all."""
    try:
        found = msgspec.msgpack.decode(record)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if isinstance(found, dict):  # a change from control.v1
        return {str(key): value for key, value in found.items()}
    document = _named(found, StampedFrame.__struct_fields__)
    if isinstance(document.get("blocks"), list):
        document["blocks"] = [_block(block) for block in document["blocks"]]
    if isinstance(document.get("status"), list):
        document["status"] = _named(document["status"], DeviceStatus.__struct_fields__)
    return document


def _named(found: object, names: Sequence[str]) -> dict[str, Any]:
    if not isinstance(found, list):
        return {"not_a_frame": found}
    document = dict(zip(names, found, strict=False))
    return document | ({"more_fields": found[len(names) :]} if len(found) > len(names) else {})


def _block(found: object) -> dict[str, Any]:
    block = _named(found, StampedBlock.__struct_fields__)
    number, dtype = block.get("metric_id"), block.get("dtype")
    metric = by_id().get(number) if isinstance(number, int) else None
    if metric is not None:
        block = {"metric": metric.key} | {key: value for key, value in block.items() if key != "metric_id"}
    if isinstance(dtype, str) and dtype in DTYPES:
        block["values"] = _numbers(block.get("values"), DTYPES[dtype])
    for name, code in _BYTES.items():
        block[name] = _numbers(block.get(name), np.dtype(code))
    return block


def _numbers(data: object, dtype: np.dtype[Any]) -> object:
    if isinstance(data, bytes) and len(data) % dtype.itemsize == 0:
        return np.frombuffer(data, dtype).tolist()
    return data


def written(topic: str, document: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return (key, record) of a readable document, judged by what the processor itself decodes with.

    Raises:
        NotFixed: it would be dead again.
    """
    try:
        if topic == topics.CONTROL:
            key, record = record_key(int(document["patient_id"])), msgspec.msgpack.encode(document)
        else:
            frame = _frame(document)
            key, record = record_key(frame.patient_id), encode(frame)
    except (KeyError, TypeError, ValueError, OverflowError, msgspec.ValidationError) as error:
        msg = f"not a record of {topic}: {type(error).__name__}: {error}"
        raise NotFixed(msg) from error
    dead = take_in([Record(topic, 0, 0, key, record)]).dead
    if dead:
        msg = f"it would be dead again: {dead[0].reason}: {dead[0].detail}"
        raise NotFixed(msg)
    return key, record


def _frame(document: dict[str, Any]) -> StampedFrame:
    known = {*StampedFrame.__struct_fields__}
    if extra := sorted(document.keys() - known):
        msg = f"unknown fields {extra}; known are {sorted(known)}"
        raise ValueError(msg)
    blocks = [_packed(block) for block in document["blocks"]]
    status = document.get("status")
    plain = {key: value for key, value in document.items() if key not in ("blocks", "status")}
    in_order = [plain.get(name) for name in StampedFrame.__struct_fields__]
    in_order[StampedFrame.__struct_fields__.index("blocks")] = []
    head = msgspec.convert(in_order[: StampedFrame.__struct_fields__.index("status")], StampedFrame)
    rest = {name: plain[name] for name in StampedFrame.__struct_fields__ if name in plain}
    told = None if status is None else DeviceStatus(**status)
    return msgspec.structs.replace(head, **rest | {"blocks": blocks, "status": told})


def _packed(document: dict[str, Any]) -> StampedBlock:
    block = dict(document)
    if "metric" in block:
        block["metric_id"] = catalogue()[block.pop("metric")].id
    dtype = DTYPES[block["dtype"]]
    if isinstance(block["values"], list):
        block["values"] = np.array(block["values"], dtype).tobytes()
    for name, code in _BYTES.items():
        if isinstance(block.get(name), list):
            block[name] = np.array(block[name], code).tobytes()
    return StampedBlock(**block)


def changed(document: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the document with each ``PATH=VALUE`` set, e.g. ``blocks[0].values[3]=61.5``; VALUE is JSON or text.

    Raises:
        NotFixed: a path leads nowhere.
    """
    fixed: dict[str, Any] = json.loads(as_json(document))
    for assignment in assignments:
        path, given, value = assignment.partition("=")
        steps = [int(index) if index else key for key, index in _STEP.findall(path)]
        if not given or not steps:
            msg = f"--set {assignment!r}: write it as PATH=VALUE, e.g. patient_id=7 or blocks[0].values[3]=61.5"
            raise NotFixed(msg)
        try:
            place: Any = fixed
            for step in steps[:-1]:
                place = place[step]
            if isinstance(place, list):
                place[steps[-1]]  # only what is there can be set: a list does not grow
            place[steps[-1]] = _value(value)
        except (KeyError, IndexError, TypeError) as error:
            msg = f"--set {assignment!r}: the record has no {path}; `keepwell dead show --json` prints what it has"
            raise NotFixed(msg) from error
    return fixed


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_json(document: object) -> str:
    """Return JSON; bytes that are no numbers are shown as hexadecimal text."""
    return json.dumps(document, default=lambda odd: odd.hex() if isinstance(odd, bytes) else str(odd))


def hexdump(data: bytes, most: int) -> Iterator[str]:
    """Yield lines of 16 bytes: place, bytes in hexadecimal, printable characters; ``most`` bytes at the most."""
    for at in range(0, min(len(data), most), 16):
        line = data[at : min(at + 16, most)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{at:08x}  {line.hex(' '):<47}  {text}"
    if len(data) > most:
        yield f"… {len(data) - most:,} more bytes: --bytes {len(data)} shows all"
