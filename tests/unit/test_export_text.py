"""Numbers and instants of an export, many at once and one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.clock import to_ms
from services.api.export.text import locals_, number, numbers, words
from services.api.times import zone

CHANGES = [
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
]
BOUNDS = (datetime(1900, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - hypothesis wants them without a zone


@given(
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "UTC", "no such zone"]),
    st.one_of(st.sampled_from(CHANGES), st.datetimes(*BOUNDS, timezones=st.just(UTC))),
    st.lists(st.integers(0, 3_599_999), min_size=1, max_size=20, unique=True),
)
def test_a_block_reads_back_as_its_own_instants_also_where_the_clocks_change(
    name: str, start: datetime, offsets: list[int]
) -> None:
    t_ms = to_ms(start - timedelta(minutes=30)) + np.sort(np.array(offsets, np.int64))
    texts = locals_(t_ms, zone(name))
    assert [to_ms(datetime.fromisoformat(text)) for text in texts] == t_ms.tolist()
    for text, one in zip(texts, t_ms.tolist(), strict=True):
        here = datetime.fromtimestamp(one / 1000, UTC).astimezone(zone(name))
        assert datetime.fromisoformat(text).utcoffset() == here.utcoffset()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_value_reads_back_as_the_stored_one(values: list[float]) -> None:
    stored: Any = np.array(values, np.float32)
    assert [np.float32(text) for text in numbers(stored)] == list(stored)
    assert [np.float32(number(value)) for value in values] == list(stored)


@pytest.mark.parametrize("text", ["=1+1", "+49", "-1", "@name", "\tx", "\rx"])
def test_no_text_becomes_a_formula(text: str) -> None:
    assert words(text) == f"'{text}"
    assert words(f" {text}") == f" {text}"
    assert words(None) == ""
