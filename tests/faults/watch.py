"""Somebody who watches the alert stream all the while, and what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import httpx
from httpx_sse import EventSource

from ingest.clock import SystemClock, to_datetime
from services.api.credentials import new_token, token_hash
from tests.fix_doors import ORGANISATION
from tests.fix_faults import System

AGAIN_S = 0.2


@dataclass(frozen=True)
class Seen:
    """One event as it came: its id, its data, and when (monotonic seconds)."""

    id: str
    data: dict[str, Any]
    at: float


@dataclass
class Watch:
    """One watcher who reconnects with the id of the last event whenever the stream ends."""

    url: str
    token: str
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    refused: list[int] = field(default_factory=list)  # statuses other than 200
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def ids(self) -> list[str]:
        """The events' ids in the order they came."""
        return [one.id for one in self.seen]

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await self._once()
            await asyncio.sleep(AGAIN_S)

    async def _once(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        if self.seen:
            headers["Last-Event-ID"] = self.seen[-1].id
        timeout = httpx.Timeout(10)  # the stream says something every 2 s
        async with (
            httpx.AsyncClient(base_url=self.url, headers=headers, timeout=timeout, trust_env=False) as client,
            client.stream("GET", "/v1/alerts/stream?since=0-0") as answer,
        ):
            if answer.status_code != 200:
                self.refused.append(answer.status_code)
                return
            self.connections += 1
            async for event in EventSource(answer).aiter_sse():
                if event.data:
                    self.seen.append(Seen(event.id, json.loads(event.data), time.monotonic()))


def sign_in(system: System, key: str = "watcher", organisation: str = ORGANISATION) -> str:
    """Make a nurse of the organisation and return a token of hers for the API."""
    now = to_datetime(SystemClock().now_ms())
    token = new_token()
    with system.doors.admin() as connection:
        connection.execute(
            """WITH person AS (INSERT INTO person (organisation_id, key, name, role)
                               SELECT id, %s, %s, 'nurse' FROM organisation WHERE key = %s
                               RETURNING id, organisation_id),
                    member AS (INSERT INTO care_team_member (organisation_id, team_id, person_id, valid_from)
                               SELECT p.organisation_id, t.id, p.id, '-infinity' FROM person p
                               JOIN care_team t ON t.organisation_id = p.organisation_id AND t.is_default)
               INSERT INTO person_token (hash, person_id, kind, created_at, expires_at)
               SELECT %s, id, 'api', %s, %s FROM person""",
            [key, key, organisation, token_hash(token), now, now + timedelta(days=1)],
        )
    return token
