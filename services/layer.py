"""What a layer of rules says: of each rule the numbers it sets otherwise, as a document and as what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

Layer = Literal["organisation", "programme", "patient"]
LAYERS: Final[tuple[Layer, ...]] = ("organisation", "programme", "patient")
Span = tuple[float, float]


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a layer says of one rule: of a limit the first two, of a drift the third, of all adaptive rules the last."""

    levels: tuple[float, ...] = ()
    persist_s: int | None = None
    bound: float | None = None
    alert_budget: str | float | None = None  # checked: one of the budgets, as text


Own = Mapping[str, Setting]


def plain(own: Own) -> dict[str, Any]:
    """Return a layer as the plain document that is stored and sent."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(own)))
    return document


def encoded(own: Own) -> bytes:
    """Return a layer as a key: the same for the same numbers."""
    return msgspec.json.encode(dict(own), order="sorted")


@lru_cache(maxsize=4096)
def decoded(document: bytes) -> Own:
    """Return the layer that a document says, which was checked when it was written."""
    return MappingProxyType(msgspec.json.decode(document, type=dict[str, Setting]))


def of(payload: Mapping[str, Any]) -> Own:
    """Return the layer of a stored change."""
    return decoded(msgspec.json.encode(payload.get("rules", {}), order="sorted"))
