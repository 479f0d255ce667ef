"""Enrolling, handing over, revoking and logging in: idempotent, in one transaction, with only hashes stored."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from ingest.clock import SystemClock, to_datetime
from ingest.devices import DeviceRegistry, token_hash
from ingest.mqtt_password import password_matches
from services import devices, people
from services.devices import Enrolment, EnrolmentError
from services.store.programmes import Who, limit_organisation
from services.store.steps import run
from tests.fix_doors import ORGANISATION, Doors

pytestmark = pytest.mark.stack

NOW = to_datetime(SystemClock().now_ms())
DAY = timedelta(days=1)


def wanted(prefix: str, n: int) -> list[Enrolment]:
    return [Enrolment(f"{prefix}-p{i}", f"{prefix}-d{i}", NOW - DAY) for i in range(n)]


def test_enrolling_again_changes_nothing_and_shows_no_token(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        first = devices.enrol_many(connection, ORGANISATION, wanted("again", 30), NOW, partitions=12)
        second = devices.enrol_many(connection, ORGANISATION, wanted("again", 30), NOW, partitions=12)
    assert all(one.token for one in first)
    assert [one.token for one in second] == [None] * 30
    assert [(one.patient_id, one.device_id) for one in first] == [(one.patient_id, one.device_id) for one in second]


def test_newcomers_have_the_organisations_limits_from_the_start(doors: Doors) -> None:
    key = "limited-organisation"
    with doors.admin() as connection:
        organisation = devices.create_organisation(connection, key, "Limited")
        (before,) = devices.enrol_many(connection, key, wanted("limited", 1), NOW, partitions=12)
        who = Who(organisation, None, None, "our protocol", NOW, 12)
        assert run(connection, limit_organisation(who, {"fever": {"levels": [38, 39]}}, NOW)) == (1, 1)
        (_, after) = devices.enrol_many(connection, key, wanted("limited", 2), NOW, partitions=12)
        devices.enrol_many(connection, key, wanted("limited", 2), NOW, partitions=12)
        rows = connection.execute(
            """SELECT patient_id, subject, version, payload FROM patient_change WHERE kind = 'limits'
               AND organisation_id = %s ORDER BY 1""",
            [organisation],
        ).fetchall()
    said = {"rules": {"fever": {"levels": [38.0, 39.0]}}}
    assert rows == [(before.patient_id, "organisation", 1, said), (after.patient_id, "organisation", 1, said)]


def test_only_hashes_of_tokens_are_stored(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        (done,) = devices.enrol_many(connection, ORGANISATION, wanted("hash", 1), NOW, partitions=12)
        assert done.token is not None
        query = "SELECT hash, mqtt_hash FROM device_token WHERE device_id = %s"
        ((stored, mqtt_hash),) = connection.execute(query, [done.device_id]).fetchall()
        dump = repr(connection.execute("SELECT t::text FROM device_token t").fetchall())
    assert stored == token_hash(done.token)
    assert password_matches(done.token, str(mqtt_hash))
    assert len(done.token) >= 43
    assert done.token not in dump


def test_renewing_revokes_the_old_token(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        (first,) = devices.enrol_many(connection, ORGANISATION, wanted("renew", 1), NOW, partitions=12)
        (second,) = devices.enrol_many(connection, ORGANISATION, wanted("renew", 1), NOW, partitions=12, renew=True)
        passwords = devices.mqtt_passwords(connection)
    assert second.token is not None
    assert first.token != second.token
    assert password_matches(second.token, passwords["renew-d0"])


def test_an_earlier_start_moves_the_assignment_back(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        devices.enrol_many(connection, ORGANISATION, [Enrolment("back-p", "back-d", NOW)], NOW, partitions=12)
        devices.enrol_many(
            connection, ORGANISATION, [Enrolment("back-p", "back-d", NOW - 30 * DAY)], NOW, partitions=12
        )
        query = """SELECT a.valid_from FROM device_assignment a JOIN device d ON d.id = a.device_id
                   WHERE d.key = 'back-d'"""
        assert connection.execute(query).fetchall() == [(NOW - 30 * DAY,)]


def test_what_cannot_be_enrolled_says_why_and_leaves_nothing(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        devices.create_organisation(connection, "others", "Others")
        devices.enrol_many(connection, ORGANISATION, wanted("taken", 1), NOW, partitions=12)
    cases = [
        ("others", Enrolment("x", "taken-d0", NOW), "another organisation"),
        (ORGANISATION, Enrolment("other-patient", "taken-d0", NOW), "another patient"),
        (ORGANISATION, Enrolment("x", "has space", NOW), "not possible"),
        (ORGANISATION, Enrolment("x", "bridge", NOW), "not possible"),
        ("nowhere", Enrolment("x", "y", NOW), "organisation nowhere"),
        (
            ORGANISATION,
            Enrolment("x", "y", NOW, device_class="bracelet"),
            "'bracelet' is not known; allowed: wrist_opt",
        ),
    ]
    for organisation, one, reason in cases:
        with doors.admin() as connection, pytest.raises(EnrolmentError, match=reason):
            devices.enrol_many(connection, organisation, [one], NOW, partitions=12)
        with doors.admin() as connection:
            query = "SELECT count(*) FROM patient WHERE key IN ('x', 'other-patient')"
            assert connection.execute(query).fetchone() == (0,)


async def test_the_registry_sees_assignments_in_order_and_forgets_the_revoked(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        one, other = devices.enrol_many(connection, ORGANISATION, wanted("reg", 2), NOW, partitions=12)
        devices.assign(connection, one.device, other.patient, NOW, NOW, partitions=12)
        with pytest.raises(EnrolmentError, match="handed on"):
            devices.assign(connection, one.device, one.patient, NOW - DAY / 2, NOW, partitions=12)
    registry = DeviceRegistry(doors.settings.postgres.conninfo("gateway"))
    await registry.start()
    try:
        assert one.token is not None
        by_token, by_key = await registry.by_token(one.token), await registry.by_key(one.device)
        assert by_token is not None
        assert by_token == by_key
        assert [a.patient_id for a in by_token.assignments] == [one.patient_id, other.patient_id]
        assert by_token.assignments[0].to_ms == by_token.assignments[1].from_ms
        assert await registry.by_token("not-a-token-that-exists") is None
        assert await registry.by_token("") is None
        assert await registry.by_key("no-such-device") is None
        with doors.admin() as connection:
            assert devices.revoke(connection, one.device, NOW) == 1
        await asyncio.sleep(1.0)
        assert await registry.by_token(one.token) is None
        assert await registry.by_key(one.device) is None
    finally:
        await registry.stop()


def test_the_gateways_role_reads_devices_and_nothing_else(doors: Doors) -> None:
    with psycopg.connect(doors.settings.postgres.conninfo("gateway"), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM device").fetchone()
        for statement in (
            "SELECT * FROM reading_block",
            "SELECT * FROM alert",
            "SELECT * FROM person_token",
            "UPDATE device_token SET revoked_at = NULL",
            "INSERT INTO device (organisation_id, key, created_at) VALUES (1, 'x', '2026-01-01Z')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_a_login_link_works_once_within_a_quarter_of_an_hour(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        person = people.create_person(connection, ORGANISATION, "nurse", "Nurse", "nurse")
        again = people.create_person(connection, ORGANISATION, "nurse", "Nurse Two", "clinician")
        late = people.login_token(connection, ORGANISATION, "nurse", NOW)
        link = people.login_token(connection, ORGANISATION, "nurse", NOW)
        with pytest.raises(EnrolmentError, match="no person nobody"):
            people.login_token(connection, ORGANISATION, "nobody", NOW)
    assert person == again
    exchange = "SELECT exchange_login_link(%s, %s, %s, %s)"

    def exchanged(token: str, session: str, after: timedelta) -> object:
        with psycopg.connect(doors.settings.postgres.conninfo("api")) as connection:
            values = [token_hash(token), token_hash(session), NOW + after, NOW + DAY]
            row = connection.execute(exchange, values).fetchone()
            return row[0] if row else None

    assert exchanged(link, "session-1", timedelta(minutes=14)) == person
    assert exchanged(link, "session-2", timedelta(minutes=14)) is None
    assert exchanged(late, "session-3", timedelta(minutes=16)) is None


def test_what_class_a_device_is_is_told_once_and_changed_on_purpose(doors: Doors) -> None:
    def enrol(device_class: str) -> None:
        one = Enrolment("kind-p", "kind-d", NOW - DAY, device_class=device_class)
        with doors.admin() as connection:
            devices.enrol_many(connection, ORGANISATION, [one], NOW, partitions=12)

    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        (other,) = devices.enrol_many(connection, ORGANISATION, wanted("kinds", 1), NOW, partitions=12)
    for said in ("unknown", "cuff", "unknown", "cuff"):  # what is not said changes nothing
        enrol(said)
    with pytest.raises(
        EnrolmentError, match="kind-d is of class cuff, not scale; .* `keepwell admin device class kind-d scale`"
    ):
        enrol("scale")
    with doors.admin() as connection:
        for before in ("cuff", "scale"):
            assert devices.classify(connection, ORGANISATION, "kind-d", "scale", NOW, partitions=12) == before
        devices.assign(connection, "kind-d", other.patient, NOW, NOW, partitions=12)
        devices.assign(connection, "kind-d", "kind-p", NOW + DAY, NOW, partitions=12)  # back again tomorrow
        assert devices.classify(connection, ORGANISATION, "kind-d", "cuff", NOW, partitions=12) == "scale"
        with pytest.raises(EnrolmentError, match="'bracelet' is not known; allowed: .*, phone, unknown"):
            devices.classify(connection, ORGANISATION, "kind-d", "bracelet", NOW, partitions=12)
        with pytest.raises(EnrolmentError, match="'nobody' is not known in"):
            devices.classify(connection, ORGANISATION, "nobody", "cuff", NOW, partitions=12)
        told = connection.execute(
            """SELECT p.key, c.effective_at, c.payload->>'device_class' FROM patient_change c
               JOIN patient p ON p.id = c.patient_id WHERE c.subject = 'kind-d' ORDER BY c.id"""
        ).fetchall()
    assert told == [
        ("kind-p", NOW - DAY, "unknown"), ("kind-p", NOW, "cuff"), ("kind-p", NOW, "scale"), ("kind-p", NOW, None),
        (other.patient, NOW, "scale"), (other.patient, NOW + DAY, None), ("kind-p", NOW + DAY, "scale"),
        (other.patient, NOW, "cuff"), ("kind-p", NOW + DAY, "cuff"),
    ]  # fmt: skip


def test_each_assignment_and_its_end_is_written_down_and_told(doors: Doors) -> None:
    with doors.admin() as connection:
        devices.create_organisation(connection, ORGANISATION, "Tests")
        one, other = devices.enrol_many(connection, ORGANISATION, wanted("told", 2), NOW, partitions=12)
        devices.enrol_many(connection, ORGANISATION, wanted("told", 2), NOW, partitions=12)  # nothing new
        devices.assign(connection, one.device, other.patient, NOW, NOW, partitions=12)
        written = connection.execute(
            """SELECT patient_id, subject, version, payload FROM patient_change WHERE kind = 'assignment'
               AND subject IN (%s, %s) ORDER BY id""",
            [one.device, other.device],
        ).fetchall()
        told = connection.execute("SELECT count(*) FROM outbox WHERE record_key = %s", [b"%d" % one.patient_id])
        assert written == [
            (one.patient_id, one.device, 1, {"assigned": True, "device_class": "unknown"}),
            (other.patient_id, other.device, 1, {"assigned": True, "device_class": "unknown"}),
            (one.patient_id, one.device, 2, {"assigned": False}),
            (other.patient_id, one.device, 1, {"assigned": True, "device_class": "unknown"}),
        ]
        assert told.fetchone() == (2,)
