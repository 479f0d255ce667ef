"""The alert stream hands each watcher what that person may see at that instant, in the words of their role."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from services import teams
from services.api import events, stream
from services.api.credentials import token_hash
from services.api.scope import Origin, Person
from tests.access.world import CANARIES
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api_stream import Watch, watching

pytestmark = pytest.mark.stack


def raised(data: ApiData, patient: int) -> str:
    return str(data.alert(patient, sentence=CANARIES["sentence"], patient_sentence=CANARIES["plain"]))


async def test_each_watcher_gets_their_own_patients_in_their_own_words(api: ServedApi, ours: ApiData) -> None:
    other = ours.another_team()
    mine, others = ours.patient("p1"), ours.patient("p2", team=other)
    account = ours.person("account", "patient")
    teams.link_patient(ours.connection, account, mine)
    nurse, colleague = ours.person(), ours.person("bob", team=other)
    async with (
        watching(api, ours.token(nurse)) as of_nurse,
        watching(api, ours.token(colleague)) as of_colleague,
        watching(api, ours.token(account)) as of_patient,
    ):
        await asyncio.sleep(0.2)
        first, second = raised(ours, mine), raised(ours, others)
        for watch in (of_nurse, of_colleague, of_patient):
            await watch.wait_for(1)
        await asyncio.sleep(0.5)
        assert [of_nurse.alerts, of_colleague.alerts, of_patient.alerts] == [[first], [second], [first]]
        assert [said(watch)["sentence"] for watch in (of_nurse, of_patient)] == [
            CANARIES["sentence"],
            CANARIES["plain"],
        ]
        assert "rule" not in said(of_patient)
    sent = [
        (person, detail["patient_ids"]) for person, _, detail in ours.audit("alert.stream") if detail.get("patient_ids")
    ]
    assert sorted(sent) == sorted([(nurse, [mine]), (colleague, [others]), (account, [mine])])


def said(watch: Watch) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(watch.got[0].data)
    return document


@pytest.mark.parametrize("how", ["person leaves", "patient moves", "grant ends"])
async def test_who_may_no_longer_see_is_sent_nothing_more(api: ServedApi, ours: ApiData, how: str) -> None:
    patient, stays = ours.patient("p1"), ours.person("stays")
    person = ours.person("bob", "proxy" if how == "grant ends" else "nurse")
    if how == "grant ends":
        until = NOW.replace(year=NOW.year + 1)
        teams.grant_proxy(ours.connection, person, patient, ["alerts"], NOW, until)
    async with watching(api, ours.token(person)) as watch, watching(api, ours.token(stays)) as control:
        await asyncio.sleep(0.2)
        before = raised(ours, patient)
        await watch.wait_for(1)
        if how == "person leaves":
            assert teams.remove_member(ours.connection, ours.team, person, NOW)
        elif how == "patient moves":
            teams.add_patients(ours.connection, ours.another_team(), [patient], NOW)
            assert teams.remove_patient(ours.connection, ours.team, patient, NOW)
        else:
            assert teams.end_proxy(ours.connection, person, patient, NOW) == 1
        after = raised(ours, patient)
        if how == "patient moves":
            await asyncio.sleep(1.2)
            assert control.alerts == [before]
        else:
            await control.wait_for(2)
            assert control.alerts == [before, after]
        assert watch.alerts == [before]


@pytest.mark.parametrize("how", ["token revoked", "role changed"])
async def test_who_signed_out_or_has_another_role_loses_the_stream_within_a_second(
    api: ServedApi, ours: ApiData, how: str
) -> None:
    person = ours.person()
    async with watching(api, ours.token(person)) as watch:
        await asyncio.sleep(0.5)
        if how == "token revoked":
            ours.connection.execute("UPDATE person_token SET revoked_at = %s WHERE person_id = %s", [NOW, person])
        else:
            ours.connection.execute("UPDATE person SET role = 'coordinator' WHERE id = %s", [person])
        began = time.monotonic()
        await asyncio.wait_for(watch.ended.wait(), 5)
        assert time.monotonic() - began < 1.5  # the poll's 0.8 s and what a busy machine adds


@pytest.mark.slow
async def test_what_waited_for_a_slow_reader_is_not_sent_late(api: ServedApi, ours: ApiData) -> None:
    """A stalled connection is closed rather than fed with what its reader may have lost the right to."""
    hub: stream.AlertHub = api.app.state.hub
    patient, nurse = ours.patient("p1"), ours.person()
    person = Person(nurse, ours.organisation, "ada", "Ada", "nurse")
    token = ours.token(nurse)
    start = events.Cursor(0, 0)
    reading = await hub.watch(person, token_hash(token), Origin("", "", ""), start)
    assert (await anext(reading)).startswith(b":")
    raised(ours, patient)
    assert b"event: raised" in await asyncio.wait_for(anext(reading), 5)
    raised(ours, patient)
    await asyncio.sleep(stream.STALE_S + 1.5)  # the reader takes nothing meanwhile
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(reading), 5)
