"""Which device is this, and whose is it? Asked of PostgreSQL, remembered for less than a second.

Answers are kept for `KEPT_S`, so that a revocation acts within a second. Questions that come together are
asked together: thousands of devices cost a few queries. Without the database nobody is let in (fail closed).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, Protocol

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from ingest.assign import Assignment, Device

KEPT_S = 0.8
MAX_KEPT = 50_000
MAX_WAITING = 5_000  # questions waiting for an answer; past it, fail closed
MAX_ASKED = 500  # in one query
POOL_SIZE = 4
TIMEOUT_S = 2.0
TOKEN_LENGTHS = range(20, 129)

_COLUMNS = """
    d.id, d.key, d.organisation_id, a.patient_id,
    CASE WHEN isfinite(a.valid_from) THEN (extract(epoch FROM a.valid_from) * 1000)::bigint END AS from_ms,
    CASE WHEN isfinite(a.valid_to) THEN (extract(epoch FROM a.valid_to) * 1000)::bigint END AS to_ms
"""
# What a patient's consent withholds is asked with it, in one call for all, so that it acts as quickly as a revocation.
_WITH_CONSENT = """
    WITH found AS MATERIALIZED ({}),
    gone AS MATERIALIZED (SELECT * FROM withheld_at_the_doors(ARRAY(
        SELECT DISTINCT patient_id FROM found WHERE patient_id IS NOT NULL)))
    SELECT found.*, gone.metrics, coalesce(gone.everything, false) FROM found LEFT JOIN gone USING (patient_id)
    ORDER BY subject, from_ms NULLS FIRST"""
_QUERIES: dict[Literal["token", "key"], str] = {
    "token": f"""SELECT t.hash AS subject, {_COLUMNS}
        FROM device_token t JOIN device d ON d.id = t.device_id
        LEFT JOIN device_assignment a ON a.device_id = d.id
        WHERE t.hash = ANY(%s) AND t.revoked_at IS NULL""",  # noqa: S608 - constants only
    "key": f"""SELECT convert_to(d.key, 'UTF8') AS subject, {_COLUMNS}
        FROM device d LEFT JOIN device_assignment a ON a.device_id = d.id
        WHERE d.key = ANY(SELECT convert_from(k, 'UTF8') FROM unnest(%s::bytea[]) AS k)
          AND EXISTS (SELECT 1 FROM device_token t WHERE t.device_id = d.id AND t.revoked_at IS NULL)""",  # noqa: S608
}

_Row = tuple[bytes, int, str, int, int | None, int | None, int | None, list[int] | None, bool]


class RegistryUnavailable(Exception):
    """The database does not answer, so nobody can be authenticated."""


class Devices(Protocol):
    """Who a device is; None when it is unknown or revoked."""

    @property
    def ready(self) -> bool:
        """Whether the last question was answered."""
        ...

    async def by_token(self, token: str) -> Device | None:
        """Return the device that holds the token, or raise `RegistryUnavailable`."""
        ...

    async def by_key(self, key: str) -> Device | None:
        """Return the device of this key if it still has a valid token, or raise `RegistryUnavailable`."""
        ...


def token_hash(token: str) -> bytes:
    """Return what is stored of a token: a plain SHA-256, enough for 256 random bits."""
    return hashlib.sha256(token.encode("utf-8")).digest()


class DeviceRegistry:
    """Devices in PostgreSQL, read as the gateway's role through a small pool."""

    def __init__(self, conninfo: str) -> None:
        self._pool = AsyncConnectionPool(
            conninfo,
            open=False,
            min_size=1,
            max_size=POOL_SIZE,
            timeout=TIMEOUT_S,
            max_waiting=64,
            reconnect_timeout=5,
            kwargs={"autocommit": True, "options": f"-c statement_timeout={int(TIMEOUT_S * 1000)}"},
        )
        self._by_token = _Asked("token", self._pool)
        self._by_key = _Asked("key", self._pool)

    async def start(self) -> None:
        """Open the pool; does not wait for the database."""
        await self._pool.open(wait=False)

    async def stop(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=TIMEOUT_S)

    @property
    def ready(self) -> bool:
        """Whether the last question was answered."""
        return self._by_token.answered and self._by_key.answered

    async def check(self) -> bool:
        """Ask something harmless, for readiness; never raises."""
        try:
            await self._by_token.ask(b"")
        except RegistryUnavailable:
            return False
        return self.ready

    async def by_token(self, token: str) -> Device | None:
        """Return the device that holds the token, or None.

        Raises:
            RegistryUnavailable: the database does not answer.
        """
        if len(token) not in TOKEN_LENGTHS:
            return None
        return await self._by_token.ask(token_hash(token))

    async def by_key(self, key: str) -> Device | None:
        """Return the device of this key if it still has a valid token, or None.

        Raises:
            RegistryUnavailable: the database does not answer.
        """
        return await self._by_key.ask(key.encode("utf-8"))


class _Asked:
    """One kind of question, batched and remembered."""

    def __init__(self, kind: Literal["token", "key"], pool: AsyncConnectionPool) -> None:
        self._query = _WITH_CONSENT.format(_QUERIES[kind])
        self._pool = pool
        self._kept: OrderedDict[bytes, tuple[float, Device | None]] = OrderedDict()
        self._waiting: dict[bytes, asyncio.Future[Device | None]] = {}
        self._unasked: list[bytes] = []
        self._askers: set[asyncio.Task[None]] = set()
        self.answered = True

    async def ask(self, subject: bytes) -> Device | None:
        kept = self._kept.get(subject)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        future = self._waiting.get(subject)
        if future is None:
            if len(self._waiting) >= MAX_WAITING:
                msg = f"{MAX_WAITING} devices are waiting to be authenticated"
                raise RegistryUnavailable(msg)
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(_seen)
            self._waiting[subject] = future
            self._unasked.append(subject)
            self._begin()
        return await asyncio.shield(future)

    def _begin(self) -> None:
        if len(self._askers) < POOL_SIZE:
            task = asyncio.create_task(self._ask_all())
            self._askers.add(task)
            task.add_done_callback(self._askers.discard)

    async def _ask_all(self) -> None:
        while self._unasked:
            asked, self._unasked = self._unasked[:MAX_ASKED], self._unasked[MAX_ASKED:]
            # an answer is as old as its question, so its time begins here
            until = time.monotonic() + KEPT_S
            try:
                found = await self._read(asked)
            except (psycopg.Error, PoolTimeout, TooManyRequests, TimeoutError, OSError) as error:
                self.answered = False
                for subject in asked:
                    self._waiting.pop(subject).set_exception(RegistryUnavailable(repr(error)))
                continue
            self.answered = True
            for subject in asked:
                device = found.get(subject)
                self._keep(subject, until, device)
                future = self._waiting.pop(subject)
                if not future.done():
                    future.set_result(device)

    async def _read(self, asked: Sequence[bytes]) -> dict[bytes, Device]:
        async with asyncio.timeout(2 * TIMEOUT_S), self._pool.connection() as connection:
            cursor = await connection.execute(self._query, [list(asked)])
            rows: list[_Row] = await cursor.fetchall()
        found: dict[bytes, Device] = {}
        for subject, device_id, key, organisation_id, patient_id, from_ms, to_ms, metrics, closed in rows:
            before = found[subject].assignments if subject in found else ()
            here: tuple[Assignment, ...] = ()
            if patient_id is not None:
                end_ms = 2**62 if to_ms is None else to_ms
                here = (Assignment(patient_id, from_ms or 0, end_ms, frozenset(metrics or ()), closed),)
            found[bytes(subject)] = Device(device_id, key, organisation_id, before + here)
        return found

    def _keep(self, subject: bytes, until: float, device: Device | None) -> None:
        self._kept[subject] = (until, device)
        self._kept.move_to_end(subject)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


def _seen(future: asyncio.Future[Device | None]) -> None:
    if not future.cancelled():
        future.exception()
