"""Binary COPY built by numpy: one structured array a block length, no Python loop over readings.

Layout: https://www.postgresql.org/docs/17/sql-copy.html (binary format); big-endian, a 16-bit field count a row,
then each field as a 32-bit length and its bytes. Arrays: dimensions, has-nulls flag, element type, length, lower
bound, then (length, value) pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"
POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 in Unix microseconds

_ELEMENTS: Final = {"f4": (">f4", 700, 4), "i4": (">i4", 23, 4), "i2": (">i2", 21, 2)}  # numpy, oid, bytes


def timestamps(t_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return PostgreSQL's binary timestamptz (µs since 2000-01-01) of Unix ms, shape kept."""
    return t_ms * 1000 - POSTGRES_EPOCH_US


def rows(columns: list[tuple[str, Any]]) -> bytes:
    """Return COPY rows for N records of equal shape.

    ``columns``: (kind, data) in table order. Kinds: ``i2 i4 i8 f4 f8`` scalars of shape (N,), ``ts`` Unix ms of
    shape (N,), ``f4[] i4[] i2[]`` arrays of shape (N, n), ``null`` (data ignored).
    """
    n_rows = next(len(data) for kind, data in columns if kind != "null")
    layout: list[Any] = [("fields", ">i2")]
    for index, (kind, data) in enumerate(columns):
        layout.extend(_field_layout(index, kind, data))
    out = np.zeros(n_rows, np.dtype(layout))
    out["fields"] = len(columns)
    for index, (kind, data) in enumerate(columns):
        _fill(out, index, kind, data)
    return out.tobytes()


def copy_stream(parts: list[bytes]) -> Iterator[bytes]:
    """Yield a whole COPY stream from row parts."""
    yield SIGNATURE
    yield from parts
    yield TRAILER


def _field_layout(index: int, kind: str, data: Any) -> Iterator[tuple[Any, ...]]:
    yield (f"len{index}", ">i4")
    if kind == "null":
        return
    if kind.endswith("[]"):
        numpy_type, _, _ = _ELEMENTS[kind[:-2]]
        yield (f"head{index}", ">i4", (5,))
        yield (f"val{index}", np.dtype([("len", ">i4"), ("v", numpy_type)]), (data.shape[1],))
    else:
        yield (f"val{index}", {"i2": ">i2", "i4": ">i4", "i8": ">i8", "f4": ">f4", "f8": ">f8", "ts": ">i8"}[kind])


def _fill(out: NDArray[np.void], index: int, kind: str, data: Any) -> None:
    if kind == "null":
        out[f"len{index}"] = -1
    elif kind.endswith("[]"):
        _, oid, size = _ELEMENTS[kind[:-2]]
        n = data.shape[1]
        out[f"len{index}"] = 20 + n * (4 + size)
        out[f"head{index}"] = (1, 0, oid, n, 1)
        out[f"val{index}"]["len"] = size
        out[f"val{index}"]["v"] = data
    else:
        out[f"len{index}"] = out.dtype[f"val{index}"].itemsize
        out[f"val{index}"] = timestamps(data) if kind == "ts" else data
