"""Bugs planted on purpose, each by its name: what the simulation is worth is how soon it finds them.

Production code knows nothing of them: a bug is a part replaced for a while, or a switch of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, LiteralString, NamedTuple
from unittest.mock import patch

import numpy as np
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from ingest.clock import to_datetime
from services import topics
from services.api import events, query
from services.processor import batch, consumer, dedupe, hot, marking, rebuild, relay, watermark
from services.processor.alert_rows import AlertRows
from services.processor.change import PatientChange
from services.processor.changes import Changes
from services.processor.core import Core
from services.processor.hot import Hot
from services.processor.readings import Table
from tests.sim import expected, readers
from tests.sim.readers import ORDERED, SAFE
from tests.sim.store import SimSession, SimTransaction
from tests.sim.world import World


class Bug(NamedTuple):
    """What is broken, how, and where."""

    what: str
    replaced: tuple[tuple[Any, str, Any], ...] = ()  # (owner, name, what stands there instead)
    switch: Callable[[World], None] = lambda world: None


def _no_fence(world: World) -> None:
    world.server.fenced = False


def _position_outside(world: World) -> None:
    world.server.position_inside = False


def _ack_first(world: World) -> None:
    world.doors.ack_first = True


def _learn(world: World) -> None:
    world.guard = False


def _nothing(*_: object, **__: object) -> None:
    return None


def _all_alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.ones(len(a), bool)


def _remember_less(core: Core, stored: Table) -> None:
    for one in dedupe.series_of(stored):
        last, key = core.hot[one.slot].last_stored, f"{one.metric}:{one.device}"
        last[key] = max(last.get(key, 0), int(stored.t_ms[one.stop - 1]) - 1)


_every = query.every
_execute = readers.Connection.execute
_insert = AlertRows.insert


async def _unsafe(connection: Any, asked: LiteralString, values: Any = ()) -> Any:
    return await _every(connection, asked.replace(SAFE, "pg_snapshot_xmax(pg_current_snapshot())"), values)


async def _unordered(
    self: readers.Connection, asked: str, values: Any = (), *, prepare: bool | None = None
) -> readers.Answer:
    return await _execute(self, asked.replace(ORDERED, ""), values, prepare=prepare)


async def _mark_first(self: Any, connection: Any, producer: Any) -> int:
    """Mark rows as sent, then send them."""
    asked = "SELECT id, topic, record_key, record FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT"
    rows = await (await connection.execute(asked, [self._worker.partitions, relay.BATCH])).fetchall()
    await connection.execute("UPDATE outbox SET sent_at", [to_datetime(0), [row[0] for row in rows]])
    for _, topic, key, value in rows:
        await producer.send(topics.named(topic, self._settings.kafka), value=value, key=key or None)
    return len(rows)


def _page_late(self: AlertRows, *given: Any, late: bool = False, **named: Any) -> Any:
    return _insert(self, *given, late=False, **named)


def _always_before(hot: Hot) -> tuple[int, int]:
    return 0, 0


async def _no_changes(self: SimTransaction, patient_ids: list[int]) -> dict[int, list[PatientChange]]:
    return {}


def _last_closing(self: Changes, patient_id: int, after_ms: int, up_to_ms: int) -> PatientChange | None:
    last = self.closing(patient_id, up_to_ms)
    return last if last is not None and last.effective_ms > after_ms else None


async def _never_new(self: SimSession) -> bool:
    await self.connect_anew()
    return False


BUGS: Final = {
    "no-fence": Bug("a transaction does not check the epoch", switch=_no_fence),
    "position-outside": Bug("positions move in a transaction of their own", switch=_position_outside),
    "default-assignor": Bug(
        "partitions are assigned round robin", ((consumer, "RangePartitionAssignor", RoundRobinPartitionAssignor),)
    ),
    "dirty-lost": Bug("late data do not mark the patient", ((marking, "note_dirty", _nothing),)),
    "xmin-dropped": Bug("the stream reads past open transactions", ((events, "every", _unsafe),)),
    "pause-lost": Bug(
        "readings are not held back after an assignment until control is in",
        ((consumer.StreamLoop, "_hold_readings_until_control_is_in", _nothing),),
    ),
    "relay-order": Bug("the outbox is relayed in any order", ((readers.Connection, "execute", _unordered),)),
    "relay-marks-first": Bug("rows are marked as sent, then sent", ((relay.OutboxRelay, "_send_some", _mark_first),)),
    "conflict-is-duplicate": Bug("another value of an instant counts as a repetition", ((dedupe, "_same", _all_alike),)),
    "off-by-one": Bug(
        "the newest stored instant is remembered a millisecond short", ((batch, "_remember_last", _remember_less),)
    ),
    "anomaly-learned": Bug("the baseline learns from every day", switch=_learn),
    "ack-first": Bug("the door answers before Kafka has", switch=_ack_first),
    "late-paged": Bug("a late finding is raised as if live", ((AlertRows, "insert", _page_late),)),
    "lost-answer": Bug("after a lost connection the positions are not read again", ((SimSession, "connect", _never_new),)),
    "checkpoint-too-new": Bug(
        "a rebuild begins at the newest checkpoint, late data or not", ((rebuild, "marks_of", _always_before),)
    ),
    "changes-forgotten": Bug(
        "after a take-over nobody knows what people changed", ((SimTransaction, "changes", _no_changes),)
    ),
    "last-end-counts": Bug(
        "an alert is ended by the last end of the monitoring that is known", ((Changes, "closing_after", _last_closing),)
    ),
    "upgrade-forgets": Bug(
        "what can't be read after an upgrade is not learned anew", ((hot, "mark_dirty", _nothing),)
    ),
    "hold-for-ever": Bug("a gap in a device's frames is waited for without end", ((watermark, "expire", _nothing),)),
}  # fmt: skip


@contextmanager
def planted(name: str | None) -> Iterator[Callable[[World], None]]:
    """Run the system with a bug, or none; gives what switches a world's models.

    Raises:
        KeyError: there is no bug of this name.
    """
    bug = Bug("nothing") if name is None else BUGS[name]
    if name is not None:
        expected.forget()
    try:
        with ExitStack() as stack:
            for owner, attribute, stand_in in bug.replaced:
                stack.enter_context(patch.object(owner, attribute, stand_in))
            yield bug.switch
    finally:
        if name is not None:
            expected.forget()
