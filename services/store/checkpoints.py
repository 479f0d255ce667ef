"""Checkpoints of the audit's chain: what its newest block was at an instant, as a line of JSON in a file elsewhere.

Whoever owns the database can rewrite the whole chain, and can cut its end off unseen; but not against a checkpoint that
they can't reach: keep copies on another machine, or print them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

FOLDER: Final = "audit"  # below the stack's home, a file for each database
MAX_BYTES: Final = 64 << 20


class CheckpointError(ValueError):
    """A file of checkpoints can't be read; the text names it, the line and the next step."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The newest block at an instant."""

    chain: bytes  # hash of block 0, which no two chains share
    number: int
    hash: bytes
    total: int
    sealed_at: datetime

    def line(self) -> str:
        """Return it as one line of JSON."""
        return msgspec.json.encode(
            {
                "chain": self.chain.hex(), "block": self.number, "hash": self.hash.hex(), "rows": self.total,
                "sealed_at": self.sealed_at.isoformat(),
            }
        ).decode()  # fmt: skip

    @classmethod
    def parse(cls, line: str) -> Checkpoint:
        """Return the checkpoint of a line.

        Raises:
            ValueError: it is none.
        """
        known: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        sealed_at = datetime.fromisoformat(known["sealed_at"])
        return cls(
            bytes.fromhex(known["chain"]),
            int(known["block"]),
            bytes.fromhex(known["hash"]),
            int(known["rows"]),
            sealed_at,
        )


def beside(home: Path, database: str) -> Path:
    """Return the file the API process writes the checkpoints of a database to."""
    return home / FOLDER / f"{database}.jsonl"


def append(file: Path, checkpoint: Checkpoint) -> None:
    """Add a checkpoint to a file, made where missing, and have it on the disk.

    Raises:
        OSError: the file can't be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8") as sink:
        sink.write(checkpoint.line() + "\n")
        sink.flush()
        os.fsync(sink.fileno())


def read(file: Path) -> Sequence[Checkpoint]:
    """Return the checkpoints in a file; none where there is no file.

    Raises:
        CheckpointError: a line is no checkpoint, or the file is too large to be one of these.
    """
    if not file.exists():
        return []
    if file.stat().st_size > MAX_BYTES:
        msg = f"{file} has more than {MAX_BYTES} bytes and is no list of them; name one of `keepwell audit checkpoint`"
        raise CheckpointError(msg)
    found = []
    for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
        try:
            found.append(Checkpoint.parse(line))
        except (ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            msg = f"{file}, line {number} is no checkpoint ({error!r}): the file was changed; compare with another copy"
            raise CheckpointError(msg) from error
    return found
