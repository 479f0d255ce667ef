"""The chain over the audit's rows: its canonical form and its links, computed here and never by the database.

The form, version 1, is that of ``audit_packed`` in the schema: each field as its length in bytes (4, big-endian) and
its UTF-8 text; a null as four bytes ff. A row's leaf is the SHA-256 of its fields; a block's hash is that of its head,
the ids and leaves of its rows, and the hash of the block before.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

LEAF: Final = 32
NULL: Final = b"\xff\xff\xff\xff"
VERSION: Final = "1"
Fields = Sequence[str | None]
FIELDS: Final = (
    "id", "xid", "recorded_at", "at", "organisation_id", "actor", "person_id", "name", "role", "action", "patient_id",
    "purpose", "reason", "address", "agent", "outcome", "request_id", "detail",
)  # fmt: skip
# Instants are whole microseconds since 1970, the rest as PostgreSQL prints it.
TEXTS: Final = ", ".join(
    f"(extract(epoch FROM {name}) * 1000000)::bigint::text" if name in ("at", "recorded_at") else f"{name}::text"
    for name in FIELDS
)


class Block(NamedTuple):
    """One link of the chain, as stored."""

    number: int
    sealed_us: int
    sealed_at: datetime
    total: int  # rows up to here, its own included
    xid: int
    last_id: int
    ids: list[int]
    leaves: bytes
    previous: bytes
    hash: bytes

    def computed(self) -> bytes:
        """Return the hash its content has."""
        return hashlib.sha256(
            packed([
                "keepwell audit block", VERSION, str(self.number), str(self.sealed_us), str(self.total), str(self.xid),
                str(self.last_id), ",".join(map(str, self.ids)), hashlib.sha256(self.leaves).hexdigest(),
                self.previous.hex(),
            ])
        ).digest()  # fmt: skip

    def leaf(self, place: int) -> bytes:
        """Return the hash of the row in this place when it was sealed."""
        return self.leaves[LEAF * place : LEAF * (place + 1)]

    def __str__(self) -> str:
        return f"block {self.number}, sealed {when(self.sealed_at)}"


def packed(fields: Fields) -> bytes:
    """Return the canonical bytes of fields; no two lists of fields have the same."""
    return b"".join(NULL if f is None else struct.pack(">i", len(b := f.encode())) + b for f in fields)


def leaf(fields: Fields) -> bytes:
    """Return the hash of a row, given as the texts of `FIELDS`."""
    return hashlib.sha256(packed(["keepwell audit row", VERSION, *fields])).digest()


def when(moment: datetime) -> str:
    """Return an instant for a sentence."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
