"""Verifies the audit's chain: computes it anew and names the first row that was edited, deleted, put in or moved.

Rows and blocks are read side by side, once, in one snapshot. A chain proves nothing about its own end, and whoever owns
the database can make a new one: what a checkpoint kept elsewhere knew must still be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import psycopg

from services.store.audit_chain import LEAF, TEXTS, Block, Fields, leaf, when
from services.store.checkpoints import Checkpoint

_ROWS: Final = f"SELECT {TEXTS} FROM access_audit".encode()  # noqa: S608 - names of our own module
_BLOCKS: Final = b"""
    SELECT number, (extract(epoch FROM sealed_at) * 1000000)::bigint, sealed_at, total, xid::text::bigint, last_id, ids,
           leaves, previous, hash FROM audit_block ORDER BY number"""
ROWS_AT_ONCE: Final = 5000  # held in memory
BLOCKS_AT_ONCE: Final = 50
Told = Callable[[int], None]


class Trouble(NamedTuple):
    """The first thing that is wrong: what kind, in a sentence, in which block and row."""

    kind: str
    sentence: str
    block: int
    row: int | None = None


class Verified(NamedTuple):
    """How a chain stands: its rows and blocks, what waits to be sealed, and the first trouble, if any."""

    rows: int
    blocks: int
    waiting: int
    checkpoints: int
    trouble: Trouble | None


def rows_to_check(connection: psycopg.Connection[Any]) -> int:
    """Return how many rows the chain says it holds."""
    row = connection.execute("SELECT coalesce(max(total), 0) FROM audit_block").fetchone()
    return int(row[0]) if row else 0


def verify(connection: psycopg.Connection[Any], known: Sequence[Checkpoint], told: Told) -> Verified:
    """Compute the whole chain anew and compare it with checkpoints.

    ``told`` is called with the number of rows checked so far. The connection must see every organisation's rows
    and be in no transaction yet.

    Raises:
        psycopg.Error: the rows can't be read.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.cursor(name="audit_rows") as rows, connection.cursor(name="audit_blocks") as blocks:
        rows.itersize, blocks.itersize = ROWS_AT_ONCE, BLOCKS_AT_ONCE
        rows.execute(_ROWS + b" ORDER BY access_audit.xid, access_audit.id")
        blocks.execute(_BLOCKS)
        walk = _Walk(connection, iter(rows), {one.number for one in known}, told)
        trouble = walk.through(Block(*row) for row in blocks) or walk.against(known)
        waiting = 0 if trouble else sum(1 for _ in rows)
    return Verified(walk.rows, walk.blocks, waiting, len(known), trouble)


class _Walk:
    """One pass over blocks and rows side by side: both lie in the same order."""

    def __init__(self, connection: psycopg.Connection[Any], rows: Iterator[Fields], kept: set[int], told: Told) -> None:
        self._connection, self._stream, self._kept, self._told = connection, rows, kept, told
        self.rows, self.blocks = 0, 0  # block 0 is the beginning, and is not counted
        self._hashes: dict[int, bytes] = {}  # of block 0 and of those that checkpoints name

    def through(self, blocks: Iterable[Block]) -> Trouble | None:
        """Go through every block and its rows; return the first that is not as it was sealed."""
        previous: Block | None = None
        for block in blocks:
            trouble = self._link(block, previous) or self._rows_of(block)
            if trouble is not None:
                return trouble
            if block.number == 0 or block.number in self._kept:
                self._hashes[block.number] = block.hash
            self.blocks = block.number
            previous = block
        if previous is None:
            return Trouble("block_deleted", "There is no chain: every block was deleted, the first one too.", 0)
        return None

    def _link(self, block: Block, previous: Block | None) -> Trouble | None:
        expected = 0 if previous is None else previous.number + 1
        if block.number != expected:
            sentence = f"Block {expected} was deleted from the chain; the next one there is {block}."
            return Trouble("block_deleted", sentence, expected)
        if block.computed() != block.hash:
            return Trouble("block_edited", f"The chain was edited in {block}: its content has another hash.", expected)
        if previous is not None and block.previous != previous.hash:
            return Trouble("block_replaced", f"In the chain, {block} does not follow the block before it.", expected)
        if len(block.leaves) != LEAF * len(block.ids) or block.total != self.rows + len(block.ids):
            return Trouble("block_replaced", f"The sealer never wrote {block}: its counts contradict it.", expected)
        return None

    def _rows_of(self, block: Block) -> Trouble | None:
        for place, number in enumerate(block.ids):
            row = next(self._stream, None)
            if row is None or row[0] != str(number) or leaf(row) != block.leaf(place):
                return self._wrong(block, place, row)
            self.rows += 1
        self._told(self.rows)
        return None

    def _wrong(self, block: Block, place: int, met: Fields | None) -> Trouble:
        """Return why not the sealed row, but ``met`` lies in this place."""
        number = block.ids[place]
        row = self._connection.execute(_ROWS + b" WHERE id = %s", [number]).fetchone()
        if row is None:
            return Trouble("row_deleted", f"Row {number} was deleted; it is in {block}.", block.number, number)
        if leaf(row) != block.leaf(place):
            return Trouble(
                "row_edited", f"Row {number} was edited after it was sealed in {block}.", block.number, number
            )
        stranger = int(met[0]) if met is not None and met[0] else number
        query = "SELECT number FROM audit_block WHERE %s = ANY(ids) LIMIT 1"
        if self._connection.execute(query, [stranger]).fetchone() is None:
            sentence = f"Row {stranger} was put in afterwards: it lies before row {number} of {block}, and in no block."
            return Trouble("row_inserted", sentence, block.number, stranger)
        sentence = f"Row {stranger} was moved: it lies where row {number} of {block} belongs."
        return Trouble("row_moved", sentence, block.number, stranger)

    def against(self, known: Iterable[Checkpoint]) -> Trouble | None:
        """Return where the chain is not what an earlier checkpoint knew."""
        for point in sorted(known, key=lambda one: one.number):
            checkpoint = f"the checkpoint of {when(point.sealed_at)}"
            if point.chain != self._hashes[0]:
                sentence = (
                    f"The chain was made anew from its beginning since {checkpoint}, or the database is another one."
                )
                return Trouble("chain_rewritten", sentence, 0)
            if point.number > self.blocks:
                sentence = (
                    f"The tail was cut off: {checkpoint} knew block {point.number} and {point.total} rows, the chain "
                    f"ends at block {self.blocks} with {self.rows}. (So it does after the restore of an older backup.)"
                )
                return Trouble("tail_cut", sentence, point.number)
            if point.hash != self._hashes[point.number]:
                sentence = f"The chain was rewritten: block {point.number} is not the one {checkpoint} knew."
                return Trouble("chain_rewritten", sentence, point.number)
        return None
