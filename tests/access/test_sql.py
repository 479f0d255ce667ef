"""The same boundaries in SQL, with the application's own roles: what a forgotten filter would show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest

from services.roles import ROLES
from services.settings import Settings
from tests.access.world import World, grant, made
from tests.api_data import NOW

pytestmark = pytest.mark.stack

LOGINS: Final = ("keepwell_writer", "keepwell_api", "keepwell_gateway", "keepwell_notifier", "keepwell_research")
OF_READINGS: Final = {
    "metric_state", "frame_log", "reading_block_view", "waveform_block_view", "rollup_view", "baseline_band_view",
    "daily_value", "reading_conflict", "quarantined_reading", "reading_superseded",
}  # fmt: skip
OF_ALERTS: Final = {"alert", "alert_event", "suppressed_finding"}
EMPTY: Final = {"waveform_block_view"}
# Relations with a patient in them that this role may select from.
WITH_PATIENT: Final = """
    SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.attname = 'patient_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'v')
      AND c.relnamespace = 'public'::regnamespace AND has_any_column_privilege(current_user, c.oid, 'SELECT')"""


@pytest.fixture(scope="module")
def world(migrated: Settings) -> Iterator[World]:
    with made(migrated) as whole:
        for one in whole.subjects.values():
            one.opened()
        yield whole


@pytest.fixture
def sql(migrated: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the API's role."""
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as connection:
        yield connection


def seen(sql: psycopg.Connection[Any], world: World) -> dict[str, set[str]]:
    """Return relation → whose rows it shows, of the world's patients."""
    names = {one.id: whose for whose, one in world.subjects.items()}
    relations = [name for (name,) in sql.execute(WITH_PATIENT.encode())]
    assert relations
    found = {
        name: {
            names[row[0]] for row in sql.execute(f"SELECT DISTINCT patient_id FROM {name}".encode()) if row[0] in names
        }
        for name in relations
        if name not in ("person",)
    }
    keys = {one.key: whose for whose, one in world.subjects.items()}
    return found | {"patient": {keys[key] for (key,) in sql.execute("SELECT key FROM patient")}}


def expected(role: str) -> dict[str, set[str]]:
    """What a person of each role who has to do with the own patient sees where."""
    mine = set() if role in ("researcher", "administrator") else {"own"}
    ours = {"own", "other"} if role == "administrator" else mine
    team = mine if role not in ("patient", "proxy") else set()
    erased = ours if role == "administrator" else set()
    teams = ("team_patient", "my_team_patient", "cared_for")
    special = {"patient": ours, "break_glass": ours, "erasure": erased, **dict.fromkeys(teams, team)}
    return special | {"consent": set()} if role == "proxy" else special  # what patients decide is not their proxies'


@pytest.mark.parametrize("role", ROLES)
def test_every_relation_shows_a_person_their_own_patients_and_nobody_else(
    world: World, sql: psycopg.Connection[Any], role: str
) -> None:
    world.ours.enter(sql, world.people[role])
    found, special = seen(sql, world), expected(role)
    assert found.keys() >= {*OF_READINGS, *OF_ALERTS, "device_assignment", "patient_change"}
    mine = set() if role in ("researcher", "administrator") else {"own"}
    for name, whose in found.items():
        assert whose == (set() if name in EMPTY else special.get(name, mine)), name
    may = sql.execute(
        "SELECT may_see_patient(%s), may_see_patient(%s)", [world.subjects["own"].id, world.subjects["other"].id]
    )
    assert may.fetchone() == (bool(mine), False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"keepwell.organisation": "ours"},
        {"keepwell.person": "nurse"},
        {"keepwell.organisation": "theirs", "keepwell.person": "nurse"},
        {"keepwell.organisation": "ours", "keepwell.person": ""},
    ],
    ids=str,
)
def test_half_of_the_settings_show_nothing(
    world: World, sql: psycopg.Connection[Any], settings: dict[str, str]
) -> None:
    values = {"ours": world.ours.organisation, "theirs": world.theirs.organisation, "nurse": world.people["nurse"]}
    for name, value in settings.items():
        sql.execute("SELECT set_config(%s, %s, false)", [name, str(values.get(value, ""))])
    assert {name for name, whose in seen(sql, world).items() if whose} == set()


@pytest.mark.parametrize(("what", "hidden"), [("readings", OF_ALERTS), ("alerts", OF_READINGS)])
def test_a_proxy_granted_half_sees_half(
    world: World, sql: psycopg.Connection[Any], what: Any, hidden: set[str]
) -> None:
    proxy = world.ours.person(f"half-{what}", "proxy")
    grant(world.ours, proxy, world.subjects["own"], what)
    world.ours.enter(sql, proxy)
    found = seen(sql, world)
    assert {name for name in (OF_READINGS | OF_ALERTS) - EMPTY if not found[name]} == hidden - EMPTY
    assert found["patient"] == {"own"}


def test_a_nurse_of_one_team_can_write_about_no_other(world: World, sql: psycopg.Connection[Any]) -> None:
    world.ours.enter(sql, world.people["nurse"])
    other = world.subjects["other"]
    changed = sql.execute("UPDATE alert SET acknowledge_note = 'x' WHERE patient_id <> %s", [world.subjects["own"].id])
    assert changed.rowcount == 0
    refused = {
        """INSERT INTO alert_event (organisation_id, patient_id, alert_id, change, priority, late, at, recorded_at, sentence)
           VALUES (%(o)s, %(p)s, %(a)s, 'acknowledged', 'high', false, %(at)s, %(at)s, '')""",
        """INSERT INTO patient_change (organisation_id, patient_id, kind, version, effective_at, payload, reason, recorded_at)
           VALUES (%(o)s, %(p)s, 'monitoring', 9, %(at)s, '{}', '', %(at)s)""",
        """INSERT INTO break_glass (organisation_id, person_id, patient_id, reason, opened_at, until)
           VALUES (%(o)s, 1, %(p)s, '', %(at)s, %(at)s)""",
        "INSERT INTO care_team_patient VALUES (%(o)s, 1, %(p)s, %(at)s)",
        "INSERT INTO proxy_grant (organisation_id, person_id, patient_id, what) VALUES (%(o)s, 1, %(p)s, '{}')",
        "UPDATE person SET role = 'administrator'",
        "UPDATE break_glass SET until = 'infinity', person_id = 1",
    }
    values = {"o": world.ours.organisation, "p": other.id, "a": other.alert, "at": NOW}
    for statement in refused:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sql.execute(statement.encode(), values)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        sql.execute("COPY care_team_member TO STDOUT")
    with sql.cursor().copy("COPY alert (patient_id) TO STDOUT") as copied:
        assert {int(row[0]) for row in copied.rows()} == {world.subjects["own"].id}


def test_nobody_may_review_for_themselves_or_from_outside_the_team(world: World, sql: psycopg.Connection[Any]) -> None:
    own, other = world.subjects["own"], world.subjects["other"]
    review = """UPDATE break_glass SET reviewed_at = %s, reviewed_by = %s, verdict = 'justified'
                WHERE patient_id = %s AND reviewed_at IS NULL"""
    for person, subject, rows in (
        (own.opener, own, 0),  # their own
        (other.opener, own, 0),  # sees another patient by break-glass
        (world.people["clinician"], other, 0),
        (world.people["researcher"], own, 0),
    ):
        world.ours.enter(sql, person)
        assert sql.execute(review.encode(), [NOW, person, subject.id]).rowcount == rows
    world.ours.enter(sql, world.people["clinician"])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # in somebody else's name
        sql.execute(review.encode(), [NOW, world.people["nurse"], own.id])


def test_the_roles_hold_what_they_are_meant_to_and_nothing_more(migrated: Settings) -> None:
    with psycopg.connect(migrated.postgres.conninfo("admin"), autocommit=True) as admin:
        roles = admin.execute(
            "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication FROM pg_roles WHERE rolname LIKE 'keepwell\\_%%' AND rolname <> %s",
            [migrated.postgres.admin_user],
        ).fetchall()
        owners = ("keepwell_reader", "keepwell_auditor")
        assert sorted(roles) == sorted(
            [*((name, True, False) for name in LOGINS), *((name, False, False) for name in owners)]
        )
        member = admin.execute("SELECT count(*) FROM pg_auth_members WHERE member = ANY(%s::regrole[])", [list(LOGINS)])
        assert member.fetchone() == (0,)
        owned = admin.execute(
            """SELECT count(*) FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
               WHERE s.deptype = 'o' AND r.rolname = ANY(%s)
                 AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                 AND NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = s.objid AND c.relpersistence = 't')""",
            [list(LOGINS)],
        )
        assert owned.fetchone() == (0,)
        held = """SELECT c.oid::regclass::text FROM pg_class c
                  WHERE c.relkind IN ('r', 'v', 'p') AND has_any_column_privilege(%s, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
                    AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) AND (%s)"""
        chunk = "c.relname LIKE '\\_hyper%%' OR c.relname IN (SELECT hypertable_name FROM timescaledb_information.hypertables)"
        for role in LOGINS[1:]:
            assert admin.execute(held.replace("(%s)", f"({chunk})").encode(), [role]).fetchall() == [], role
        mine = "c.relnamespace = 'public'::regnamespace"
        for role in ("keepwell_notifier", "keepwell_research"):
            assert admin.execute(held.replace("(%s)", mine).encode(), [role]).fetchall() == [("alembic_version",)]


def test_every_table_with_people_or_patients_is_under_row_level_security(migrated: Settings) -> None:
    with psycopg.connect(migrated.postgres.conninfo("admin"), autocommit=True) as admin:
        open_tables = admin.execute(
            """SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
               WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped
                 AND (a.attname IN ('patient_id', 'person_id', 'organisation_id') OR c.relname = 'patient')
                 AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"""
        ).fetchall()
        assert open_tables == []
        views = admin.execute(
            """SELECT c.relname, pg_get_userbyid(c.relowner) FROM pg_class c
               WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace"""
        ).fetchall()
        assert {owner for _, owner in views} == {"keepwell_reader"}
        barrier = admin.execute(
            """SELECT count(*) FROM pg_class c WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace
               AND c.relname LIKE '%_view' AND NOT 'security_barrier=true' = ANY (coalesce(c.reloptions, '{}'))"""
        )
        assert barrier.fetchone() == (0,)
