"""Cursor pages: where the next page begins, as an opaque string."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.api.problems import Code, Problem

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200


def encode(key: Sequence[Any]) -> str:
    """Return the cursor of a row's sort key (strings, numbers and None)."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode().rstrip("=")


def decode(cursor: str, length: int) -> list[Any]:
    """Return the sort key in a cursor.

    Raises:
        Problem: not a cursor this collection gave out.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=list[Any])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        key = []
    if len(key) != length:
        raise unknown()
    return key


def unknown() -> Problem:
    """Return the problem of a cursor that is none of this collection."""
    detail = "cursor is not one this collection gave out; begin again without it"
    return Problem(Code.INVALID, detail, field="cursor", allowed="the `next` of the page before")


def page(items: list[dict[str, Any]], limit: int, keys: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return one page of ``limit + 1`` rows read: the rows, and the cursor of the next page or None."""
    more = len(items) > limit
    return {"items": items[:limit], "next": encode(keys[limit - 1]) if more else None}
