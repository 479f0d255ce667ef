"""Incidents through the API: what hangs together, what an acknowledgement covers, and what a team is brought."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, Mock

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from ingest.clock import to_ms
from services.api import incidents
from services.processor.records import AlertChange
from services.settings import Settings
from services.store import alerts as store_alerts
from tests.api_data import NOW, ApiData
from tests.fix_api import ServedApi
from tests.integration.test_api import got, problem
from tests.integration.test_api_programmes import HEART

pytestmark = pytest.mark.stack

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ADAPTIVE = {"rule": "resting_heart_rate_rise", "priority": "medium"}
BLOCKED = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
FEVER = {"rule": "fever", "evidence": {"metric": "body_temperature"}}


def ended(data: ApiData, patient: int, start: datetime, end: datetime, **columns: Any) -> uuid.UUID:
    return data.alert(patient, state="resolved", started_at=start, resolved_at=end, **columns)


def members(incident: dict[str, Any]) -> list[str]:
    return [alert["id"] for alert in (incident["leading"], *incident["covers"])]


async def test_what_hangs_together_is_one_incident_and_open_ones_come_first(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    night = ours.alert(patient, **ADAPTIVE, started_at=NOW - 2 * DAY)
    fever = ours.alert(patient, priority="medium", started_at=NOW - HOUR, **FEVER)
    over = ended(ours, patient, NOW - 2 * DAY + HOUR, NOW - DAY, priority="low", rule="spo2_low")
    technical = ours.alert(patient, kind="technical", rule="battery_low", priority="low", evidence={})
    earlier = ended(ours, patient, NOW - 9 * DAY, NOW - 8 * DAY)
    ended(ours, patient, NOW - 40 * DAY, NOW - 39 * DAY)
    async with api.client(ours.token(ours.person())) as client:
        page = await got(client, "/v1/patients/p1/incidents")
        battery, illness, past = page["items"]
        assert members(illness) == [str(fever), str(night), str(over)]  # safety leads what is adaptive, then priority
        assert (illness["kind"], illness["open"], illness["adaptive"]) == ("clinical", True, True)
        assert (illness["started_at"], illness["ended_at"]) == ("2026-11-20T19:04:05.000Z", None)
        assert set(illness["unacknowledged"]) == {str(fever), str(night)}
        assert (members(battery), battery["kind"]) == ([str(technical)], "technical")
        assert (members(past), past["open"], past["ended_at"]) == ([str(earlier)], False, "2026-11-14T19:04:05.000Z")
        assert not page["truncated"]
        older = await got(client, "/v1/patients/p1/incidents", **{"from": (NOW - 50 * DAY).isoformat()})
        assert len(older["items"]) == 4
        problem(await client.get("/v1/patients/p1/incidents?from=2026-11-23T00:00:00Z"), 422, "invalid")
    assert ours.audit("incidents.list")[0][1] == patient


async def test_an_incident_is_told_whole_where_the_span_cuts_it(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    made = [ended(ours, patient, NOW - (20 - i) * DAY, NOW - (19 - i) * DAY) for i in range(6)]  # each touches the next
    apart = ended(ours, patient, NOW - 13 * DAY, NOW - 12 * DAY)
    around = {"from": (NOW - 17 * DAY + HOUR).isoformat(), "to": (NOW - 17 * DAY + 2 * HOUR).isoformat()}
    async with api.client(ours.token(ours.person())) as client:
        (chain,) = (await got(client, "/v1/patients/p1/incidents", **around))["items"]
        assert members(chain) == [str(alert) for alert in made]
        assert str(apart) not in members(chain)


async def test_a_long_chain_of_short_alerts_takes_a_handful_of_reads(
    api: ServedApi, ours: ApiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = ours.patient("p1")
    for i in range(1, 49):  # each misses the next by less than an hour
        ended(ours, patient, NOW - i * HOUR, NOW - i * HOUR + HOUR / 12)
    ended(ours, patient, NOW - 60 * HOUR, NOW - 59 * HOUR)
    last = ours.alert(patient, started_at=NOW - HOUR / 4)
    calls = Mock()
    for name in ("newest", "lock_open"):
        mock = AsyncMock(wraps=getattr(incidents, name))
        calls.attach_mock(mock, name)
        monkeypatch.setattr(incidents, name, mock)
    async with api.client(ours.token(ours.person())) as client:
        path, seen = await seen_of(client)
        assert len(seen) == 49
        around = {"from": (NOW - 24 * HOUR).isoformat(), "to": (NOW - 23 * HOUR).isoformat()}
        calls.reset_mock()
        (chain,) = (await got(client, "/v1/patients/p1/incidents", **around))["items"]
        assert len(members(chain)) == 49
        assert len(calls.mock_calls) <= 8
        calls.reset_mock()
        assert (await client.post(path, json={"seen": seen})).json()["covered"] == [str(last)]
        *reads, held = [name for name, *_ in calls.mock_calls]
        assert (len(reads) <= 8, held) == (True, "lock_open")  # nothing is looked for while others wait for the alerts


async def test_what_stands_behind_a_told_alert_is_not_shown_beside_it(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    became = ours.alert(patient, late=True, started_at=NOW - 4 * HOUR)
    told = ours.alert(patient, priority="medium", revised_by=became)
    async with api.client(ours.token(ours.person())) as client:
        (one,) = (await got(client, "/v1/patients/p1/incidents"))["items"]
        assert members(one) == [str(told)]


async def test_an_active_alert_is_never_behind_one_that_has_ended(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    active = ours.alert(patient, late=True, started_at=NOW - 4 * HOUR)
    told = ended(ours, patient, NOW - 3 * HOUR, NOW - 2 * HOUR, late=True, revised_by=active)
    async with api.client(ours.token(ours.person())) as client:
        (one,) = (await got(client, "/v1/patients/p1/incidents"))["items"]
        assert (members(one), one["open"]) == ([str(active), str(told)], True)
        (row,) = (await got(client, "/v1/worklist"))["items"]
        assert (row["alert"]["id"], row["open_alerts"], row["attention"]) == (str(active), 1, "late")
        assert row["incident"]["unacknowledged"] == [str(active)]


async def seen_of(client: httpx.AsyncClient, patient: str = "p1") -> tuple[str, dict[str, str]]:
    (incident, *_) = (await got(client, f"/v1/patients/{patient}/incidents"))["items"]
    alerts = (incident["leading"], *incident["covers"])
    return f"{incident['link']}/acknowledge", {alert["id"]: alert["etag"] for alert in alerts}


async def test_one_acknowledgement_covers_every_open_alert_and_says_which(api: ServedApi, ours: ApiData) -> None:
    patient, ada = ours.patient("p1"), ours.person()
    fast, fever = ours.alert(patient), ours.alert(patient, priority="medium", **FEVER)
    over = ended(ours, patient, NOW - HOUR, NOW - HOUR / 2, rule="spo2_low", priority="low")
    battery = ours.alert(patient, kind="technical", rule="battery_low", evidence={}, started_at=NOW - 5 * HOUR)
    async with api.client(ours.token(ada)) as client:
        path, seen = await seen_of(client)
        assert seen.keys() == {str(fast), str(fever), str(over)}
        headers = {"Idempotency-Key": "k1"}
        first = await client.post(path, json={"seen": seen, "note": "called, she is in bed"}, headers=headers)
        assert first.status_code == 200, first.text
        assert first.json()["covered"] == [str(fast), str(fever)]
        assert first.json()["unacknowledged"] == []
        assert first.json()["leading"]["acknowledged"]["note"] == "called, she is in bed"
        again = await client.post(path, json={"seen": seen, "note": "called, she is in bed"}, headers=headers)
        assert again.json() == first.json()
        without_key = await client.post(path, json={"seen": seen, "note": "called, she is in bed"})
        assert without_key.json() == first.json()
        problem(await client.post(path, json={"seen": {}}, headers=headers), 409, "key_reused")
        assert (await got(client, f"/v1/alerts/{battery}"))["acknowledged"] is None
        assert (await got(client, f"/v1/alerts/{over}"))["acknowledged"] is None
    events = ours.connection.execute(
        "SELECT alert_id, sentence FROM alert_event WHERE patient_id = %s AND change = 'acknowledged'", [patient]
    ).fetchall()
    said = "Acknowledged by Ada Nurse: called, she is in bed"
    assert sorted(events) == sorted([(fast, said), (fever, said)])
    assert ours.audit("incident.acknowledge")[0] == (ada, patient, {"covered": 2})


async def test_a_request_that_is_sent_again_covers_the_same_when_all_has_ended(api: ServedApi, ours: ApiData) -> None:
    patient, nurse = ours.patient("p1"), ours.person()
    fast = ours.alert(patient)
    night = ours.alert(patient, **ADAPTIVE, started_at=NOW - 2 * DAY)
    headers = {"Idempotency-Key": "k1"}
    async with api.client(ours.token(nurse)) as client, api.client() as browser:
        path, seen = await seen_of(client)
        first = await client.post(path, json={"seen": seen}, headers=headers)
        assert set(first.json()["covered"]) == {str(fast), str(night)}
        ours.connection.execute("UPDATE alert SET state = 'withdrawn' WHERE id = %s", [night])  # now they lie apart
        ours.connection.execute("UPDATE alert SET state = 'resolved', resolved_at = %s WHERE id = %s", [NOW, fast])
        again = await client.post(path, json={"seen": seen}, headers=headers)
        assert set(again.json()["covered"]) == {str(fast), str(night)}
        problem(await client.post(path, json={"seen": seen}), 409, "alert_closed")
        later = ours.alert(patient)
        path, seen = await seen_of(client)
        assert (await client.post(path, json={"seen": seen})).json()["covered"] == [str(later)]
        browser.cookies.set("keepwell_session", ours.token(ours.person("bob"), kind="session"))
        form = {"key": "k2", "seen": [f"{one} {tag}" for one, tag in seen.items()]}
        said = await browser.post(
            path.removeprefix("/v1"), data=form, headers={"HX-Request": "true", "Origin": api.url}
        )
        assert "Patient p1: nothing was left to acknowledge." in said.text


async def test_what_joined_or_worsened_since_is_never_acknowledged_unseen(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    fast = ours.alert(patient, priority="medium")
    async with api.client(ours.token(ours.person())) as client:
        path, seen = await seen_of(client)
        fever = ours.alert(patient, priority="low", sentence="Body temperature rose", **FEVER)
        refused = problem(await client.post(path, json={"seen": seen}), 412, "changed_meanwhile")
        assert [(new["id"], new["sentence"]) for new in refused["new"]] == [(str(fever), "Body temperature rose")]
        assert "High body temperature has joined (low priority)" in refused["detail"]
        assert (await got(client, f"/v1/alerts/{fast}"))["acknowledged"] is None  # nor is any other of them
        seen |= {new["id"]: new["etag"] for new in refused["new"]}
        ours.connection.execute("UPDATE alert SET priority = 'high' WHERE id = %s", [fast])
        refused = problem(await client.post(path, json={"seen": seen}), 412, "changed_meanwhile")
        assert [new["id"] for new in refused["new"]] == [str(fast)]
        assert "is now high priority" in refused["detail"]
        seen |= {new["id"]: new["etag"] for new in refused["new"]}
        done = await client.post(path, json={"seen": seen})
        assert set(done.json()["covered"]) == {str(fast), str(fever)}
        problem(await client.post(path, json={}), 422, "invalid")
        problem(await client.post(path, json={"seen": seen, "note": "x" * 1001}), 422, "invalid")


async def test_what_somebody_else_acknowledged_stays_theirs(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    fast, fever = ours.alert(patient), ours.alert(patient, priority="medium", **FEVER)
    async with api.client(ours.token(ours.person())) as ada, api.client(ours.token(ours.person("bob"))) as bob:
        path, seen = await seen_of(ada)
        assert (await bob.post(f"/v1/alerts/{fast}/acknowledge")).status_code == 200
        done = await ada.post(path, json={"seen": seen})
        assert done.json()["covered"] == [str(fever)]
        assert done.json()["leading"]["acknowledged"]["by"]["id"] == "bob"


async def test_of_many_at_once_each_alert_is_acknowledged_by_one(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    made = [str(ours.alert(patient, rule=f"rule_{i}", started_at=NOW - HOUR)) for i in range(5)]
    clients = [api.client(ours.token(ours.person(f"nurse-{i}"))) for i in range(4)]
    path, seen = await seen_of(clients[0])
    answers = await asyncio.gather(*(client.post(path, json={"seen": seen}) for client in clients))
    await asyncio.gather(*(client.aclose() for client in clients))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert sorted(alert for answer in answers for alert in answer.json()["covered"]) == sorted(made)
    assert sorted(len(answer.json()["covered"]) for answer in answers) == [0, 0, 0, 5]  # all of it by whoever was first
    query = "SELECT count(*) FROM alert_event WHERE patient_id = %s AND change = 'acknowledged'"
    assert ours.connection.execute(query, [patient]).fetchone() == (5,)


async def test_who_acknowledges_and_the_processor_hold_alerts_in_one_order(migrated: Settings, ours: ApiData) -> None:
    patient = ours.patient("p1")
    first, second = sorted(ours.alert(patient, rule=f"rule_{i}") for i in range(2))
    changes = [AlertChange(one, "resolved", to_ms(NOW)) for one in (second, first)]
    nurse = ours.connection
    async with await psycopg.AsyncConnection.connect(migrated.postgres.conninfo("admin")) as processor:
        with nurse.transaction():  # half of what `incidents.lock_open` does
            nurse.execute("SELECT FROM alert WHERE id = %s FOR UPDATE", [first])
            writing = asyncio.create_task(store_alerts.write(processor, [], changes, [], [], NOW))
            async with asyncio.timeout(5):
                while nurse.execute(BLOCKED, [processor.info.backend_pid]).fetchone() != (True,):
                    await asyncio.sleep(0.01)
            nurse.execute("SELECT FROM alert WHERE id = %s FOR UPDATE NOWAIT", [second])
        await writing
    states = nurse.execute("SELECT DISTINCT state FROM alert WHERE patient_id = %s", [patient]).fetchall()
    assert states == [("resolved",)]


async def test_one_that_is_over_and_one_of_somebody_else_are_refused(api: ServedApi, ours: ApiData) -> None:
    mine, other = ours.patient("p1"), ours.patient("p2")
    over = ended(ours, mine, NOW - 2 * HOUR, NOW - HOUR)
    elsewhere = ours.alert(other)
    async with api.client(ours.token(ours.person())) as client:
        path = "/v1/patients/p1/incidents/{}/acknowledge"
        problem(await client.post(path.format(over), json={"seen": {}}), 409, "alert_closed")
        for unknown in (elsewhere, uuid.uuid4(), "x"):
            problem(await client.post(path.format(unknown), json={"seen": {}}), 404, "not_found")
    async with api.client(ours.token(ours.person("cora", "coordinator"))) as client:
        problem(await client.post(path.format(over), json={"seen": {}}), 403, "role_not_allowed")
    assert {patient for _, patient, _ in ours.audit("incident.acknowledge", "refused")[:3]} == {mine}


async def test_a_worklist_row_names_what_else_is_open_and_what_acknowledging_it_takes(
    api: ServedApi, ours: ApiData
) -> None:
    patient = ours.patient("p1")
    night = ours.alert(patient, **ADAPTIVE, started_at=NOW - 2 * DAY)
    fever = ours.alert(patient, priority="medium", **FEVER)
    battery = ours.alert(patient, kind="technical", rule="battery_low", priority="low", evidence={})
    async with api.client(ours.token(ours.person())) as client:
        (row,) = (await got(client, "/v1/worklist"))["items"]
        assert (row["alert"]["id"], row["open_alerts"]) == (str(fever), 3)
        assert [(other["id"], other["title"]) for other in row["others"]] == [
            (str(night), "Resting heart rate rising"), (str(battery), "Battery low"),
        ]  # fmt: skip
        assert set(row["incident"]["unacknowledged"]) == {str(night), str(fever)}
        seen = {flag["id"]: flag["etag"] for flag in (row["alert"], *row["others"])}
        done = await client.post(f"{row['incident']['link']}/acknowledge", json={"seen": seen})
        assert set(done.json()["covered"]) == {str(night), str(fever)}
        (row,) = (await got(client, "/v1/worklist"))["items"]
        assert (row["attention"], row["incident"]["unacknowledged"]) == ("acknowledged", [])


async def test_a_patient_sees_what_hangs_together_in_plain_words(api: ServedApi, ours: ApiData) -> None:
    from services import teams

    patient = ours.patient("p1")
    ours.alert(patient)
    paul = ours.person("paul", "patient", "Paul")
    teams.link_patient(ours.connection, paul, patient)
    async with api.client(ours.token(paul)) as client:
        (one,) = (await got(client, "/v1/patients/p1/incidents"))["items"]
        assert one["leading"]["sentence"] == "Your heart rate was unusual for you"
        assert not {"adaptive", "unacknowledged"} & one.keys()


# ------------------------------------------------------------------ the alert budget


async def budget(client: httpx.AsyncClient) -> dict[str, Any]:
    return {one["team"]["id"]: one for one in (await got(client, "/v1/alert-budget"))["items"]}


async def test_a_team_sees_what_adaptive_rules_brought_it_and_what_its_programmes_agreed(
    api: ServedApi, ours: ApiData
) -> None:
    first, second = ours.patient("p1"), ours.patient("p2", days=14)
    nurse = ours.person()
    other = ours.patient("p3", team=ours.another_team())
    ended(ours, first, NOW - 20 * DAY, NOW - 18 * DAY, **ADAPTIVE)
    ended(ours, first, NOW - 19 * DAY, NOW - 17 * DAY, **ADAPTIVE | {"rule": "night_skin_temperature_rise"})
    ended(ours, first, NOW - 10 * DAY, NOW - 9 * DAY)  # a safety rule's alone
    ended(ours, second, NOW - 5 * DAY, NOW - 3 * DAY)  # told before the adaptive one that joined it
    ended(ours, second, NOW - 6 * DAY, NOW - 4 * DAY, found_at=NOW - 4.5 * DAY, **ADAPTIVE)
    ended(ours, first, NOW - 29 * DAY, NOW - 28.5 * DAY, **ADAPTIVE)  # before the span
    ours.alert(first, **ADAPTIVE | {"kind": "technical"})
    ours.alert(other, **ADAPTIVE)
    async with api.client(ours.token(nurse)) as client:
        whole = await budget(client)
        assert whole.keys() == {"default"}
        assert whole["default"] == {
            "team": {"id": "default", "name": "Everybody"}, "patients": 2, "patient_weeks": 6.0, "alerts": 2,
            "incidents": 1, "per_patient_week": 0.167, "agreed": None,
        }  # fmt: skip
        programme = ours.connection.execute(
            """INSERT INTO programme (organisation_id, key, state, version, document)
               VALUES (%s, 'heart', 'active', 1, %s) RETURNING id""",
            [ours.organisation, Jsonb(HEART)],
        ).fetchone()
        assert programme is not None
        ours.connection.execute(
            """INSERT INTO enrolment (organisation_id, patient_id, programme_id, state, version, since)
               VALUES (%s, %s, %s, 'active', 1, %s)""",
            [ours.organisation, first, programme[0], NOW - 9 * DAY],
        )
        assert (await budget(client))["default"]["agreed"] == 0.5
    assert ours.audit("budget.read")[0][2]["patient_ids"] == [first, second]


async def test_less_than_a_patient_week_gives_no_rate(api: ServedApi, ours: ApiData) -> None:
    ours.alert(ours.patient("p1", days=2), **ADAPTIVE)
    async with api.client(ours.token(ours.person())) as client:
        (one,) = (await budget(client)).values()
        assert (one["incidents"], one["per_patient_week"]) == (1, None)


async def test_whoever_withholds_something_is_in_no_figure_but_counted(api: ServedApi, ours: ApiData) -> None:
    whole, part, nothing = (ours.patient(key, days=14) for key in ("p1", "p2", "p3"))
    ours.rests(care="consent")
    for patient in (whole, part, nothing):
        ours.alert(patient, **ADAPTIVE)
        ours.consent(patient, "care", at=NOW - 14 * DAY)
    ours.consent(part, "care", "withdrawn", ["vitals"])
    ours.consent(nothing, "care", "withdrawn")
    async with api.client(ours.token(ours.person())) as client:
        page = await got(client, "/v1/alert-budget")
        (one,) = page["items"]
        assert (one["patients"], one["patient_weeks"], one["incidents"]) == (1, 2.0, 1)
        assert page["withheld_by_consent"] == 2
    assert ours.audit("budget.read")[0][2]["patient_ids"] == [whole]
