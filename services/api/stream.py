"""Alert changes to everybody who watches: one listener and one reader a process, fanned out to bounded queues.

The database's notification only says "look"; what is sent is always read from the table, in its safe order, once
for each organisation that somebody watches, together with which of the watchers may see each change at that instant:
who has left a team, whose grant has ended, or whom a consent no longer covers is sent nothing more, also of what
already waited for them. A poll each second covers a lost notification, and
an event held back by an older transaction that is still open. When the database cannot be read, everybody is
disconnected: a silent stream must never look like a quiet ward.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import psycopg
import structlog
from fastapi.sse import KEEPALIVE_COMMENT
from psycopg import sql

from services import metrics
from services.api import events
from services.api.access import Access
from services.api.acknowledge import CHANNEL
from services.api.events import Cursor, Event
from services.api.problems import Code, Problem
from services.api.query import Connection
from services.api.scope import Origin, Person, purpose_of
from services.store import audit
from services.store.audit import Entry

POLL_S: Final = 0.8
EAGER_S: Final = (0.03, 0.06, 0.12, 0.25, 0.5)  # looks after a notification, until its event is visible
RECHECK_S: Final = 0.5  # and at each poll: who signed out, or has another role now, loses the stream within a second
STALE_S: Final = 1.0  # what waited longer for a slow reader is not sent: they may have lost the right to it since
KEEPALIVE_S: Final = 2.0
LIFETIME_S: Final = 600.0
RETRY_S: Final = 1.0
MAX_PENDING: Final = 256  # events waiting for one watcher; past it, it is disconnected and resumes
MAX_WATCHERS: Final = 500
MAX_PER_PERSON: Final = 20

log = structlog.get_logger("keepwell.api.stream")


@dataclass(eq=False, slots=True)
class Watcher:
    """One open stream."""

    person: Person
    hashed: bytes
    origin: Origin
    pending: deque[tuple[Event, float]] = field(default_factory=deque)  # with when it was given
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: str = ""

    def give(self, found: list[Event]) -> None:
        """Queue events; too many waiting ends the stream."""
        if len(self.pending) + len(found) > MAX_PENDING:
            self.end("slow")
            return
        now = time.monotonic()
        self.pending.extend((event, now) for event in found)
        self.wake.set()

    def end(self, reason: str) -> None:
        """End the stream soon; the watcher reconnects where it may."""
        self.ended = self.ended or reason
        self.wake.set()


class AlertHub:
    """Reads alert changes once and hands them to every watcher of their organisation."""

    def __init__(self, access: Access, conninfo: str) -> None:
        self._access = access
        self._conninfo = conninfo
        self._watchers: defaultdict[int, set[Watcher]] = defaultdict(set)
        self._at: dict[int, Cursor] = {}  # organisation → everything before has been handed out
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._checked = 0.0

    async def start(self) -> None:
        """Begin to listen and to read."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._pump())]

    async def stop(self) -> None:
        """End every stream and stop."""
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """End every stream and take no more: the process is about to stop."""
        self._closed = True
        self._end_all("stopping")

    @property
    def watching(self) -> int:
        """How many streams are open."""
        return sum(map(len, self._watchers.values()))

    async def watch(self, person: Person, hashed: bytes, origin: Origin, start: Cursor) -> AsyncIterator[bytes]:
        """Yield the bytes of a stream that begins after ``start``.

        Raises:
            Problem: too many streams are open, or the process is stopping.
        """
        watcher = Watcher(person, hashed, origin)
        await self._join(watcher)
        return self._send(watcher, start)

    async def _join(self, watcher: Watcher) -> None:
        organisation = watcher.person.organisation_id
        same = Counter(w.person.id for w in self._watchers[organisation])[watcher.person.id]
        if self._closed:
            raise Problem(Code.UNAVAILABLE, "this server is stopping; connect again", retry_after_s=1)
        if same >= MAX_PER_PERSON or self.watching >= MAX_WATCHERS:
            detail = f"at most {MAX_PER_PERSON} streams a person and {MAX_WATCHERS} in all; close one first"
            raise Problem(Code.TOO_MANY_STREAMS, detail, retry_after_s=5)
        self._watchers[organisation].add(watcher)
        try:
            if organisation not in self._at:
                async with self._access.for_organisation(organisation) as connection:
                    now = await events.position(connection)
                self._at.setdefault(organisation, now)
        except BaseException:
            self._leave(watcher)
            raise

    def _leave(self, watcher: Watcher) -> None:
        organisation = watcher.person.organisation_id
        self._watchers[organisation].discard(watcher)
        if not self._watchers[organisation]:
            del self._watchers[organisation]
            self._at.pop(organisation, None)

    async def _send(self, watcher: Watcher, sent: Cursor) -> AsyncIterator[bytes]:
        deadline = time.monotonic() + LIFETIME_S
        try:
            yield KEEPALIVE_COMMENT
            async for found in self._missed(watcher, sent):
                given = time.monotonic()
                for event in found:
                    if time.monotonic() - given > STALE_S:
                        return
                    yield event.wire(watcher.person.role)
                    metrics.STREAM_EVENTS.inc()
                    sent = event.cursor
            while time.monotonic() < deadline:
                try:
                    await asyncio.wait_for(watcher.wake.wait(), KEEPALIVE_S)
                except TimeoutError:
                    yield KEEPALIVE_COMMENT
                    continue
                watcher.wake.clear()
                if watcher.ended:
                    return
                while watcher.pending:
                    event, given = watcher.pending.popleft()
                    if watcher.ended or time.monotonic() - given > STALE_S:
                        return  # whoever still may resumes from the last event they got
                    if event.cursor > sent:  # what was missed and what is live overlap
                        yield event.wire(watcher.person.role)
                        metrics.STREAM_EVENTS.inc()
                        sent = event.cursor
        finally:
            self._leave(watcher)

    async def _missed(self, watcher: Watcher, cursor: Cursor) -> AsyncIterator[list[Event]]:
        """Yield the pages of events between ``cursor`` and now; each page is checked and audited by itself."""
        while not watcher.ended:
            try:
                async with self._access.for_credential(watcher.hashed, "alert.stream", watcher.origin) as scope:
                    found = await events.after(scope.connection, cursor, [scope.person.id])
                    seen = [event for event in found if event.seen_by]
                    scope.saw(sorted({event.patient_id for event in seen}))
            except Problem:  # the answer has begun: the stream ends, and the next request is told why
                watcher.end("access ended")
                return
            yield seen
            if len(found) < events.PAGE:
                return
            cursor = found[-1].cursor

    async def _listen(self) -> None:
        """Set the wake-up at each notification; reconnect for ever, a second apart."""
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
                async with connection:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                    self._wake.set()
                    async for _ in connection.notifies():
                        self._wake.set()
            except (psycopg.Error, OSError) as error:
                log.warning("listener_lost", error=str(error).strip())
            await asyncio.sleep(RETRY_S)

    async def _pump(self) -> None:
        """Read and hand out for ever: at once when notified, else each second."""
        looks = 0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), EAGER_S[-looks] if looks else POLL_S)
            looks = len(EAGER_S) if self._wake.is_set() else max(0, looks - 1)
            self._wake.clear()
            try:
                if await self._round():
                    looks = 0
            except Exception as error:  # whatever it is: a reader that ended quietly would leave streams mute
                metrics.STREAM_FAILURES.inc()
                log.error("alerts_unreadable", error=repr(error), streams=self.watching)
                self._end_all("unreadable")
                await asyncio.sleep(RETRY_S)

    async def _round(self) -> int:
        """Hand out what is new, and end the streams of sessions that have ended; return how many events."""
        recheck = time.monotonic() - self._checked > RECHECK_S
        if recheck:
            self._checked = time.monotonic()
        count = 0
        for organisation in list(self._at):
            count += await self._hand_out(organisation, recheck)
        return count

    async def _hand_out(self, organisation: int, recheck: bool) -> int:
        count, more = 0, True
        # The last watcher may leave, and with it the place, during any await.
        while more and (at := self._at.get(organisation)) is not None:
            async with self._access.for_organisation(organisation) as connection:
                watchers = list(self._watchers.get(organisation, ()))
                found = await events.after(connection, at, {watcher.person.id for watcher in watchers})
                if found or recheck:
                    watchers = await self._still_allowed(connection, watchers)
                    await self._judge_waiting(connection, watchers)
                if found:
                    await _audit(connection, organisation, watchers, found, self._access.now())
            if found and organisation in self._at:
                self._at[organisation] = found[-1].cursor
                for watcher in watchers:
                    watcher.give([event for event in found if watcher.person.id in event.seen_by])
            count += len(found)
            more = len(found) == events.PAGE
        return count

    async def _still_allowed(self, connection: Connection, watchers: list[Watcher]) -> list[Watcher]:
        valid = await self._access.still_valid(connection, [watcher.hashed for watcher in watchers])
        allowed = [watcher for watcher in watchers if valid.get(watcher.hashed) == watcher.person.role]
        for watcher in set(watchers).difference(allowed):
            watcher.end("access ended")
        return allowed

    async def _judge_waiting(self, connection: Connection, watchers: list[Watcher]) -> None:
        """Take from each queue what its person may not see any more; a queue too long to judge ends its stream."""
        for watcher in watchers:
            if not watcher.pending:
                continue
            begin, end = watcher.pending[0][0].cursor, watcher.pending[-1][0].cursor
            found = await events.after(connection, Cursor(begin.xid, begin.id - 1), [watcher.person.id])
            if len(found) == events.PAGE and found[-1].cursor < end:
                watcher.end("slow")
                continue
            seen = {event.cursor for event in found if event.seen_by}
            watcher.pending = deque(one for one in watcher.pending if one[0].cursor in seen)

    def _end_all(self, reason: str) -> None:
        for watchers in list(self._watchers.values()):
            for watcher in list(watchers):
                watcher.end(reason)


async def _audit(
    connection: Connection, organisation: int, watchers: list[Watcher], found: list[Event], at: datetime
) -> None:
    """Write, in the transaction that read them, who is sent changes about whom: one row a person."""
    people = {watcher.person.id: watcher for watcher in watchers}
    sent = {person: sorted({event.patient_id for event in found if person in event.seen_by}) for person in people}
    await audit.write_async(
        connection,
        [
            Entry(
                at, organisation, "person", "alert.stream", person, role=one.person.role, address=one.origin.address,
                purpose=purpose_of(one.person.role), agent=one.origin.agent, request_id=one.origin.request_id,
                detail=audit.patients(sent[person]),
            )
            for person, one in sorted(people.items())
            if sent[person]
        ],
    )  # fmt: skip
