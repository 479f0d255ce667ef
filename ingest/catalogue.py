"""The metric catalogue: one list of everything Keepwell accepts, read from ``catalogue.toml``."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal

import msgspec

DataClass = Literal["activity", "sleep", "vitals", "waveforms"]  # what a consent is about


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of measurement; the fields are explained at the head of ``catalogue.toml``."""

    key: str
    id: int
    title: str
    unit: str
    units: tuple[str, ...]
    confused: tuple[str, ...] = ()
    hard: tuple[float, float]
    soft: tuple[float, float]
    aggregation: Literal["mean", "sum", "last"]
    decimals: int
    kind: Literal["vital", "waveform", "status"] = "vital"
    data_class: DataClass
    expected_every_h: float = 2.0
    max_step: float | None = None
    loinc: str | None = None
    mdc: int | None = None


@cache
def catalogue() -> Mapping[str, Metric]:
    """Return every metric by its key, e.g. ``catalogue()["heart_rate"].unit == "/min"``."""
    table = tomllib.loads((resources.files("ingest") / "catalogue.toml").read_text("utf-8"))
    metrics = {key: msgspec.convert({"key": key, **entry}, Metric) for key, entry in table.items()}
    for metric in metrics.values():
        if not {*metric.confused} <= {*metric.units}:
            msg = f"catalogue.toml: {metric.key} is confused with units it does not list: {metric.confused}"
            raise ValueError(msg)
    ids = [metric.id for metric in metrics.values()]
    if len(set(ids)) != len(ids):
        msg = "catalogue.toml gives one id to two metrics"
        raise ValueError(msg)
    return MappingProxyType(metrics)


@cache
def by_id() -> Mapping[int, Metric]:
    """Return every metric by its number."""
    return MappingProxyType({metric.id: metric for metric in catalogue().values()})


def nearest(key: str) -> str:
    """Return the known metric key most like ``key``, for error hints ("" when none is near)."""
    found = difflib.get_close_matches(key, catalogue(), n=1, cutoff=0.5)
    return found[0] if found else ""
