"""PostgreSQL as the processor's worker sees it: fenced transactions that commit whole or not at all.

Rows are written when the transaction commits; numbers (xid, ids) are given out when they are asked for, so commits
may overtake each other. A fence is a shared lock on the positions' rows: raising an epoch waits for it, and a
transaction left open by a frozen process is ended by the server after a while.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray

from services.processor.change import APPLIED, PatientChange
from services.processor.hot import HotRow, StateRow
from services.processor.readings import Table
from services.processor.records import AlertRow, Effects, KnownAlert
from services.store.fence import FencedError
from services.store.kept import day_of
from services.store.reader import Checkpoint, Span, Versions
from services.store.session import Transaction
from tests.sim import tables as model
from tests.sim.loop import Actor, Gates
from tests.sim.tables import EventRow, OutboxRow, Place, Tables

NUL = "\x00"  # PostgreSQL's text can't hold it: the driver refuses such a row with DataError


@dataclass(eq=False)
class Open:
    """A transaction that has neither committed nor been given up."""

    actor: Actor
    xid: int
    epochs: dict[Place, int]  # whose rows it holds
    claimed: dict[Place, int]  # what it believes to own
    effects: list[tuple[Effects, list[HotRow], NDArray[np.int32], list[int]]] = field(default_factory=list)
    changed: list[tuple[int, str, str]] = field(default_factory=list)  # what the API changed
    outbox: list[OutboxRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    ended: bool = False  # by the server, because its client was idle for too long


class Server:
    """The database server: the committed tables, and the transactions that are open."""

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.tables = Tables()
        self.open: list[Open] = []
        self.next_xid, self.next_id = 1000, 1
        self.fenced = True  # planted bugs switch these off
        self.position_inside = True
        self.taken: list[Callable[[list[Place]], None]] = []  # told of each raised epoch
        self.committed: list[Callable[[Open], None]] = []  # told of each commit, before anybody else sees it

    @property
    def xmin(self) -> int:
        """Return the number below which nothing can appear any more."""
        return min((one.xid for one in self.open), default=self.next_xid)

    def begin(self, actor: Actor, epochs: dict[Place, int]) -> Open:
        """Open a transaction; locking the fence's rows gives it its number."""
        one = Open(actor, self.next_xid, dict(epochs) if self.fenced else {}, dict(epochs))
        self.next_xid += 1
        self.open.append(one)
        return one

    def numbers(self, count: int) -> list[int]:
        """Give out the next numbers of a sequence."""
        self.next_id += count
        return list(range(self.next_id - count, self.next_id))

    def commit(self, one: Open) -> None:
        """Make a transaction's writes true, all at once."""
        for effects, hot, patient_of, ids in one.effects:
            model.apply(self.tables, effects, hot, patient_of, ids, one.xid)
            if self.position_inside:
                model.move(self.tables, effects.positions)
        self.tables.changed += one.changed
        self.tables.outbox += one.outbox
        self.tables.events += one.events
        self.open.remove(one)
        for told in self.committed:
            told(one)

    def give_up(self, one: Open) -> None:
        """Forget a transaction."""
        if one in self.open:
            self.open.remove(one)

    def holds(self, places: Iterable[Place]) -> list[Open]:
        """Return the open transactions whose fence holds one of these rows."""
        wanted = set(places)
        return [one for one in self.open if wanted & one.epochs.keys()]

    def end_idle(self, actor: Actor) -> None:
        """End a client's open transactions, as the server does when it is idle within one."""
        for one in [one for one in self.open if one.actor is actor]:
            one.ended = True
            self.open.remove(one)


class SimTransaction(Transaction):
    """What one transaction can read and write: `services.store.session.Transaction` on the model's tables."""

    def __init__(self, server: Server, one: Open) -> None:
        self._server, self._one = server, one

    async def organisations(self, patient_ids: list[int]) -> dict[int, int]:
        """Return patient → organisation for those that exist."""
        await self._ask("reads")
        return {p: self._tables.patients[p] for p in patient_ids if p in self._tables.patients}

    async def erased(self, patient_ids: list[int]) -> set[int]:
        """Return which of these patients were erased: the simulation erases nobody."""
        return set()

    async def changes(self, patient_ids: list[int]) -> dict[int, list[PatientChange]]:
        """Return patient → what people changed that detection goes by."""
        wanted = sorted((c.message.patient_id, c.change) for c in self._tables.control.values())
        changes: dict[int, list[PatientChange]] = {}
        for patient, change in wanted:
            if patient in patient_ids and change.kind in APPLIED:
                changes.setdefault(patient, []).append(change)
        return changes

    async def quarantined(
        self, patient_ids: list[int], from_ms: int, to_ms: int
    ) -> set[tuple[int, int, int, int, float]]:
        """Return (patient, metric, device, Unix ms, value) of what is quarantined in a span."""
        return {key for key in self._tables.quarantined if key[0] in patient_ids and from_ms <= key[3] <= to_ms}

    async def open_letters(self, positions: Mapping[Place, int], back: int) -> set[tuple[str, int, int]]:
        """Return the dead letters among the last ``back`` records before each position."""
        ends = dict(positions)
        return {(t, p, o) for t, p, o in self._tables.dead if ends.get((t, p), 0) - back <= o < ends.get((t, p), 0)}

    async def device_keys(self, device_ids: list[int]) -> dict[int, str]:
        """Return device → key for those that exist."""
        return {d: self._tables.devices[d] for d in device_ids if d in self._tables.devices}

    async def readings(self, spans: list[Span]) -> list[Table]:
        """Return the stored readings of each span, by instant."""
        await self._ask("reads")
        found = []
        for span in spans:
            table = self._tables.readings.get(span.patient_id, Table.empty())
            inside = (table.metric == span.metric_id) & (table.t_ms >= span.from_ms) & (table.t_ms <= span.to_ms)
            if span.device_id is not None:
                inside &= table.device == span.device_id
            rows = table[inside]
            found.append(rows.sorted(rows.t_ms, rows.device))
        return found

    async def versions(self, spans: list[Span]) -> Versions:
        """Return the corrected instants of the spans' series, bounds included."""

        def within(key: tuple[int, ...]) -> bool:
            return any(
                key[:3] == (s.patient_id, s.metric_id, s.device_id) and s.from_ms <= key[3] <= s.to_ms for s in spans
            )

        found = Versions({key: r for key, r in self._tables.revisions.items() if within(key)}, {})
        for key, value in self._tables.superseded.items():
            if within(key):
                found.superseded.setdefault(key[:4], set()).add(value)
        return found

    async def recent(self, since: dict[int, int]) -> Table:
        """Return every stored reading of each patient from its instant on."""
        parts = []
        for patient, from_ms in sorted(since.items()):
            table = self._tables.readings.get(patient, Table.empty())
            parts.append(table[table.t_ms >= from_ms])
        return Table.concatenate(parts)

    async def states(self, partitions: list[int]) -> list[StateRow]:
        """Return the kept state of every patient of these partitions."""
        await self._ask("loads the states")
        rows = []
        changes = await self.changes(list(self._tables.hot))
        for patient, row in sorted(self._tables.hot.items()):
            if row.partition in partitions:
                state, layout = self._tables.baselines.get(patient, (None, None))
                rows.append(StateRow(patient, row.hot, state, layout, changes.get(patient, [])))
        return rows

    async def first_stored(self, patient_id: int) -> int:
        """Return the instant of a patient's first stored reading, 0 without any."""
        await self._ask("reads")
        table = self._tables.readings.get(patient_id, Table.empty())
        return int(table.t_ms.min()) if len(table) else 0

    async def stored(self, patient_id: int, from_ms: int, to_ms: int | None) -> Table:
        """Return every stored reading of a patient in [from, to), to None: all that follow."""
        await self._ask("reads")
        table = self._tables.readings.get(patient_id, Table.empty())
        return table[(table.t_ms >= from_ms) & (table.t_ms < (1 << 50 if to_ms is None else to_ms))]

    async def checkpoints(self, patient_id: int) -> list[Checkpoint]:
        """Return what is kept of a patient to rebuild from, the newest first."""
        mine = sorted(
            ((day, row) for (p, day), row in self._tables.checkpoints.items() if p == patient_id), reverse=True
        )
        return [Checkpoint(day_of(day), row.hot, row.baseline or b"", row.layout) for day, row in mine]

    async def known_alerts(self, patient_id: int, rules: list[str], from_ms: int, also: list[UUID]) -> list[KnownAlert]:
        """Return a patient's alerts of some rules found since an instant, those named, and those linked to either."""
        mine = [row for row in self._tables.alerts.values() if row["patient_id"] == patient_id and row["rule"] in rules]
        asked = {row["id"] for row in mine if row["found_ms"] >= from_ms or row["id"] in also}
        rows = [row for row in mine if row["id"] in asked or row["revised_by"] in asked]
        return [KnownAlert(AlertRow(**{k: row[k] for k in AlertRow.__slots__}), row["revised_by"]) for row in rows]

    async def sentences(self, alert_ids: list[UUID]) -> dict[UUID, str]:
        """Return alert → its sentence for those that exist."""
        return {i: self._tables.alerts[i]["sentence"] for i in alert_ids if i in self._tables.alerts}

    async def overlapping_alert(self, patient_id: int, rule: str, from_ms: int, to_ms: int) -> bool:
        """Tell whether an alert of this rule already covers part of the span."""
        for row in self._tables.alerts.values():
            if row["patient_id"] != patient_id or row["rule"] != rule or row["state"] == "withdrawn":
                continue
            end = row["resolved_ms"]
            if end is None:
                end = row["last_evidence_ms"] if row["late"] else np.inf
            if row["started_ms"] <= to_ms and end >= from_ms:
                return True
        return False

    async def write(self, effects: Effects, hot: list[HotRow], patient_of: NDArray[np.int32]) -> None:
        """Write a batch's effects, positions included.

        Raises:
            psycopg.DataError: a text holds what PostgreSQL's can't.
        """
        model.check_known(effects)
        if any(NUL in fate.frame_id for fate in effects.fates):
            msg = "PostgreSQL text fields cannot contain NUL (0x00) bytes"
            raise psycopg.DataError(msg)
        ids = self._server.numbers(model.numbers_needed(effects))
        self._one.effects.append((effects, hot, patient_of.copy(), ids))
        await self._ask("writes")

    async def _ask(self, name: str) -> None:
        await self._server.gates.at(self._one.actor, name)
        check_live(self._one)

    @property
    def _tables(self) -> Tables:
        return self._server.tables


def check_live(one: Open) -> None:
    """Raise OperationalError where the server has ended the transaction."""
    if one.ended:
        msg = "terminating connection due to idle-in-transaction timeout"
        raise psycopg.OperationalError(msg)


class SimSession:
    """The worker's `Store`: one connection to the server."""

    def __init__(self, server: Server, actor: Actor) -> None:
        self._server, self._actor = server, actor
        self._connected = False

    async def connect(self) -> bool:
        """Connect where there is no connection; return whether it is a new one."""
        if self._connected:
            return False
        await self.connect_anew()
        return True

    async def connect_anew(self) -> None:
        """Connect."""
        await self._server.gates.at(self._actor, "connects")
        self._connected = True

    async def take_over(self, partitions: Iterable[Place], owner: str, at_ms: int) -> dict[Place, tuple[int, int]]:
        """Raise the epoch of each place; waits for transactions that hold the fence."""
        places = sorted(partitions)
        await self._server.gates.at(self._actor, "raises the epochs", can=lambda: not self._server.holds(places))
        self._live()
        positions = self._server.tables.positions
        for place in places:
            offset, epoch = positions.get(place, (0, 0))
            positions[place] = (offset, epoch + 1)
            self._server.tables.owners.append((place, epoch + 1, self._actor.name))
        for told in self._server.taken:
            told(places)
        taken = {place: positions[place] for place in places}
        await self._server.gates.at(self._actor, "has raised the epochs")
        return taken

    async def positions(self) -> dict[Place, int]:
        """Return the next offset of every place that anybody ever owned."""
        self._live()
        return {place: offset for place, (offset, _) in self._server.tables.positions.items()}

    @asynccontextmanager
    async def transaction(self, epochs: dict[Place, int]) -> AsyncIterator[SimTransaction]:
        """Open a transaction that holds the fence; raises `FencedError` where a place has a newer owner."""
        self._live()
        server = self._server
        await server.gates.at(self._actor, "begins")
        if server.fenced and any(server.tables.positions[place][1] != epoch for place, epoch in epochs.items()):
            msg = f"partitions {sorted(epochs)} are owned by a newer process; stopping without writing"
            raise FencedError(msg)
        one = server.begin(self._actor, epochs)
        try:
            yield SimTransaction(server, one)
            await server.gates.at(self._actor, "commits")
            check_live(one)
            server.commit(one)
        except BaseException:
            server.give_up(one)
            raise
        if one.effects:
            await server.gates.at(self._actor, "has committed")
        if not server.position_inside:
            for effects, *_ in one.effects:
                model.move(server.tables, effects.positions)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[SimTransaction]:
        """Open a transaction that only reads."""
        self._live()
        await self._server.gates.at(self._actor, "begins to read")
        yield SimTransaction(self._server, Open(self._actor, 0, {}, {}))

    async def close(self) -> None:
        """Drop the connection."""
        self._connected = False

    def _live(self) -> None:
        if not self._connected:
            msg = "the connection was dropped"
            raise psycopg.OperationalError(msg)
