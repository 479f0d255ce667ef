"""The alert stream: nothing lost, nothing twice, nobody else's, and never silent when it cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from httpx_sse import EventSource, ServerSentEvent

from services.api import events, stream
from services.settings import Settings
from tests.api_data import ApiData
from tests.fix_api import ServedApi

pytestmark = pytest.mark.stack


class Watch:
    """One open stream; keeps what came."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.got: list[ServerSentEvent] = []
        self.ended = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for event in EventSource(self.answer).aiter_sse():
                self.got.append(event)
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()

    async def wait_for(self, count: int, seconds: float = 5) -> list[ServerSentEvent]:
        until = time.monotonic() + seconds
        while len(self.got) < count:
            assert time.monotonic() < until, f"{len(self.got)} of {count} events after {seconds} s"
            await asyncio.sleep(0.01)
        return self.got

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def alerts(self) -> list[str]:
        return [json.loads(event.data)["alert_id"] for event in self.got]

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.got]


@contextlib.asynccontextmanager
async def watching(api: ServedApi, token: str, last: str = "", query: str = "") -> AsyncIterator[Watch]:
    headers = {"Last-Event-ID": last} if last else {}
    async with (
        api.client(token) as client,
        client.stream("GET", f"/v1/alerts/stream{query}", headers=headers, timeout=30) as answer,
    ):
        assert answer.status_code == 200
        watch = Watch(answer)
        try:
            yield watch
        finally:
            await watch.close()


async def test_a_raised_alert_is_on_the_stream_at_once(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    async with watching(api, ours.token(ours.person())) as watch:
        await asyncio.sleep(0.2)
        began = time.monotonic()
        alert = ours.alert(patient, provisional=True)
        event = (await watch.wait_for(1))[0]
        assert time.monotonic() - began < 0.9  # the poll alone would take up to a second
    assert event.event == "raised"
    data: dict[str, Any] = json.loads(event.data)
    assert data["alert_id"] == str(alert)
    assert (data["patient"], data["rule"], data["kind"]) == ("p1", "tachycardia_at_rest", "clinical")
    assert (data["priority"], data["change"]) == ("high", "raised")
    assert (data["late"], data["provisional"]) == (False, True)
    assert data["at"].endswith("Z")
    assert data["sentence"]


async def test_without_a_notification_the_poll_finds_it(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    alert = ours.alert(patient)
    async with watching(api, ours.token(ours.person())) as watch:
        await asyncio.sleep(0.2)
        ours.event(alert, patient, "worsened", notify=False)
        assert (await watch.wait_for(1, 3))[0].event == "worsened"


async def test_a_lower_id_that_commits_later_is_not_lost(api: ServedApi, ours: ApiData, migrated: Settings) -> None:
    patient = ours.patient("p1")
    slow_alert, quick_alert = ours.alert(patient), ours.alert(patient)
    async with watching(api, ours.token(ours.person())) as watch:
        await asyncio.sleep(0.2)
        with psycopg.connect(migrated.postgres.conninfo("admin")) as slow:
            first = ours.event(slow_alert, patient, "settled", connection=slow)
            second = ours.event(quick_alert, patient, "settled")  # commits at once
            assert int(first.split("-")[1]) < int(second.split("-")[1])
            await asyncio.sleep(1.5)
            assert watch.got == []  # held back, or the first could never be sent in order
            slow.commit()
        await watch.wait_for(2)
        assert watch.ids == [first, second]
        assert watch.alerts == [str(slow_alert), str(quick_alert)]


async def test_a_watcher_resumes_where_it_was(api: ServedApi, ours: ApiData) -> None:
    patient, token = ours.patient("p1"), ours.token(ours.person())
    made = [str(ours.alert(patient)) for _ in range(3)]
    async with watching(api, token, query="?since=0-0") as watch:
        assert len(await watch.wait_for(3)) == 3
        assert watch.alerts == made
        place = watch.ids[0]
    made.append(str(ours.alert(patient)))
    async with watching(api, token, last=place, query="?since=0-0") as watch:  # Last-Event-ID counts
        await watch.wait_for(3)
        made.append(str(ours.alert(patient)))
        await watch.wait_for(4)
        await asyncio.sleep(0.3)
        assert watch.alerts == made[1:]
    async with watching(api, token) as watch:  # neither: from now on
        await asyncio.sleep(0.3)
        assert watch.got == []


async def test_many_changes_around_reconnects_arrive_once_each_in_order(api: ServedApi, ours: ApiData) -> None:
    patient, token = ours.patient("p1"), ours.token(ours.person())
    alert = ours.alert(patient)
    place = "0-0"
    seen: list[str] = []
    sent: list[str] = []

    async def produce() -> None:
        for _ in range(60):
            sent.append(await asyncio.to_thread(ours.event, alert, patient, "settled"))
            await asyncio.sleep(0.01)

    producing = asyncio.create_task(produce())
    async with asyncio.timeout(30):
        while not producing.done() or seen[-1:] != sent[-1:]:
            async with watching(api, token, last=place) as watch:
                await asyncio.sleep(0.15)
                seen += watch.ids
                place = seen[-1] if seen else place
    assert seen[1:] == sent  # the first is "raised"


async def test_other_organisations_changes_stay_theirs(api: ServedApi, ours: ApiData, theirs: ApiData) -> None:
    patient, stranger = ours.patient("p1"), theirs.patient("p1")
    async with (
        watching(api, ours.token(ours.person())) as mine,
        watching(api, theirs.token(theirs.person())) as foreign,
    ):
        await asyncio.sleep(0.2)
        seen, hidden = ours.alert(patient), theirs.alert(stranger)
        await mine.wait_for(1)
        await foreign.wait_for(1)
        await asyncio.sleep(0.3)
        assert mine.alerts == [str(seen)]
        assert foreign.alerts == [str(hidden)]


async def test_what_is_sent_is_audited(api: ServedApi, ours: ApiData) -> None:
    patient, ada = ours.patient("p1"), ours.person()
    ours.alert(patient)
    async with watching(api, ours.token(ada), query="?since=0-0") as watch:
        await watch.wait_for(1)
        ours.alert(patient)
        await watch.wait_for(2)
    rows = [detail for person, _, detail in ours.audit("alert.stream") if person == ada and detail.get("patient_ids")]
    assert [row["patient_ids"] for row in rows] == [[patient], [patient]]


async def test_a_session_that_ended_loses_its_stream(api: ServedApi, ours: ApiData) -> None:
    patient, ada = ours.patient("p1"), ours.person()
    token, other = ours.token(ada, kind="session"), ours.token(ada)
    async with watching(api, token) as ending, watching(api, other) as staying:
        await asyncio.sleep(0.2)
        query = "UPDATE person_token SET revoked_at = created_at WHERE person_id = %s AND kind = 'session'"
        ours.connection.execute(query, [ada])
        ours.alert(patient)
        await staying.wait_for(1)
        await asyncio.wait_for(ending.ended.wait(), 2)
        assert ending.got == []
    quiet = ours.token(ada, kind="session")
    async with watching(api, quiet) as ending:
        ours.connection.execute(query, [ada])
        await asyncio.wait_for(ending.ended.wait(), stream.RECHECK_S + 2)  # even when nothing happens


class WokenByItsEnd(asyncio.Event):
    """The wake-up of a watcher that takes nothing of what is given to it."""

    def __init__(self, watcher: stream.Watcher) -> None:
        super().__init__()
        self._watcher = watcher

    def set(self) -> None:
        if self._watcher.ended:
            super().set()


async def test_a_slow_watcher_is_disconnected_and_the_others_are_not(
    api: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_PENDING", 3)
    patient, token = ours.patient("p1"), ours.token(ours.person())
    alert = ours.alert(patient)
    async with watching(api, token) as slow:
        await asyncio.sleep(0.2)
        (behind,) = (one for watchers in api.app.state.hub._watchers.values() for one in watchers)
        async with watching(api, token) as other:
            await asyncio.sleep(0.2)
            behind.wake = WokenByItsEnd(behind)  # it reads nothing of what waits for it
            for count in range(1, 6):
                ours.event(alert, patient, "settled")
                await other.wait_for(count)
                assert bool(behind.ended) == (count > 3)
            await asyncio.wait_for(slow.ended.wait(), 5)
            assert not other.ended.is_set()
    assert slow.got == []
    monkeypatch.undo()
    async with watching(api, token, query="?since=0-0") as again:
        assert len(await again.wait_for(6)) == 6


async def test_more_than_a_watcher_may_have_waiting_ends_the_stream_and_is_all_there_afterwards(
    api: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_PENDING", 3)
    patient, token = ours.patient("p1"), ours.token(ours.person())
    alert = ours.alert(patient)
    async with watching(api, token) as watch:
        await asyncio.sleep(0.2)
        with ours.connection.transaction():
            for _ in range(10):
                ours.event(alert, patient, "settled")
        await asyncio.wait_for(watch.ended.wait(), 5)
        assert watch.got == []
    monkeypatch.undo()
    async with watching(api, token, query="?since=0-0") as watch:
        assert len(await watch.wait_for(11)) == 11


async def test_streams_are_bounded_for_each_person(
    api: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_PER_PERSON", 1)
    token = ours.token(ours.person())
    async with watching(api, token), api.client(token) as client:
        answer = await client.get("/v1/alerts/stream")
        assert answer.status_code == 429
        assert answer.json()["code"] == "too_many_streams"


async def test_an_old_stream_ends_so_that_it_is_opened_anew(
    api: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LIFETIME_S", 0.1)
    async with watching(api, ours.token(ours.person())) as watch:
        await asyncio.wait_for(watch.ended.wait(), stream.KEEPALIVE_S + 2)


async def test_when_the_listener_is_cut_it_listens_again(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    async with watching(api, ours.token(ours.person())) as watch:
        await asyncio.sleep(0.2)
        cut = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'"""
        assert ours.connection.execute(cut).fetchone() != (0,)
        await asyncio.sleep(1.5)
        ours.alert(patient)
        await watch.wait_for(1)


async def test_a_watcher_that_leaves_in_mid_read_harms_nobody(
    api: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, token = ours.patient("p1"), ours.token(ours.person())
    hub = api.app.state.hub
    opened = hub._access.for_organisation

    @contextlib.asynccontextmanager
    async def everybody_leaves(organisation: int) -> AsyncIterator[Any]:
        async with opened(organisation) as connection:
            hub._at.pop(organisation, None)
            yield connection

    async with watching(api, token):
        monkeypatch.setattr(hub._access, "for_organisation", everybody_leaves)
        ours.alert(patient)
        await asyncio.sleep(1.2)
        monkeypatch.undo()
    async with watching(api, token) as watch:
        await asyncio.sleep(0.2)
        ours.alert(patient)
        await watch.wait_for(1)


async def test_what_cannot_be_read_ends_the_streams_and_then_goes_on(
    api: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, token = ours.patient("p1"), ours.token(ours.person())
    async with watching(api, token) as watch:
        await asyncio.sleep(0.2)

        async def broken(*_: object) -> None:
            msg = "unexpected"
            raise RuntimeError(msg)

        monkeypatch.setattr(events, "after", broken)
        await asyncio.wait_for(watch.ended.wait(), 3)  # never a silent stream
        monkeypatch.undo()
    async with watching(api, token) as watch:
        await asyncio.sleep(1.5)
        ours.alert(patient)
        await watch.wait_for(1)
