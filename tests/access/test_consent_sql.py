"""Consent underneath, in SQL: each relation, the plans, and the same rules as in Python."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from ingest.catalogue import catalogue
from ingest.clock import to_ms
from services.consent import CLASSES, DEFAULT_BASIS, PURPOSE_OF, Decision, minor_until, standing, withheld
from services.roles import ROLES
from services.settings import Settings
from tests.access.test_consent import watched
from tests.api_data import ENROLLED, NOW, ApiData, minutes

pytestmark = pytest.mark.stack


def test_in_sql_each_relation_leaves_out_what_is_withheld(ours: ApiData, migrated: Settings) -> None:
    patient = watched(ours)
    ours.band(patient, "steps", "rest", to_ms(NOW) - 7_200_000, 62, 4)
    ours.connection.execute(
        "INSERT INTO suppressed_finding VALUES (%s, %s, 'device_silent', %s, %s, 'medium', 'paused', 'x', %s)",
        [ours.organisation, patient, NOW, NOW, NOW],
    )
    ours.rests(care="consent")
    ours.consent(patient, "care", at=ENROLLED)
    nurse, steps = ours.person(), catalogue()["steps"].id
    tables = ("reading_block_view", "rollup_view", "metric_state")
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as sql:
        ours.enter(sql, nurse)

        def metrics(table: str) -> set[int]:
            return {row[0] for row in sql.execute(f"SELECT DISTINCT metric_id FROM {table}".encode())}

        def counted(table: str) -> int:
            row = sql.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert row is not None
            return int(row[0])

        whole = (
            *tables,
            "baseline_band_view",
            "alert",
            "alert_event",
            "suppressed_finding",
            "patient",
            "device",
            "device_assignment",
        )
        assert all(counted(table) for table in whole)
        assert all(steps in metrics(table) for table in tables)
        ours.consent(patient, "care", "withdrawn", ["activity"])
        for table in tables:
            assert metrics(table) == {catalogue()["heart_rate"].id}, table
        assert counted("baseline_band_view") == counted("suppressed_finding") == 0
        assert (counted("alert"), counted("alert_event")) == (1, 1)
        assert sql.execute(
            "SELECT count(*) FROM readings(%s, %s::smallint, '2020-01-01Z', '2030-01-01Z')", [patient, steps]
        ).fetchone() == (0,)
        ours.consent(patient, "care", "withdrawn")
        for table in whole:
            assert counted(table) == 0, table
        for statement in ("SELECT * FROM withheld(1, 'care', '{1}')", "SELECT * FROM withheld_at_the_doors('{1}')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql.execute(statement.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):  # in somebody else's name
            sql.execute(
                """INSERT INTO consent (organisation_id, patient_id, purpose, decision, effective_at, relation, decided_by,
                                        form, reason, recorded_by, recorded_at)
                   VALUES (%s, %s, 'care', 'given', %s, 'self', '', 'x', '', %s, %s)""",
                [ours.organisation, patient, NOW, ours.person("eve"), NOW],
            )
        far = ours.person("far", team=ours.another_team())
        ours.enter(sql, far)
        assert sql.execute("SELECT count(*) FROM consent").fetchone() == (0,)
        assert sql.execute("SELECT count(*) FROM consent_state(%s)", [patient]).fetchone() == (0,)
        sql.execute("RESET keepwell.person")
        assert sql.execute("SELECT count(*) FROM consent_state(%s)", [patient]).fetchone() == (0,)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM reading_block_view WHERE patient_id = %s AND metric_id = 1 AND t0 > '2026-09-01Z'",
        "SELECT * FROM rollup_view WHERE patient_id = %s AND metric_id = 1 AND bucket_s = 3600 AND t0 > '2026-09-01Z'",
        "SELECT * FROM alert WHERE patient_id <> %s AND state = 'active'",
    ],
    ids=["blocks", "rollups", "alerts"],
)
def test_the_list_of_what_is_withheld_is_made_once_a_query_however_many_chunks(
    ours: ApiData, migrated: Settings, query: str
) -> None:
    patient, nurse = watched(ours), ours.person()
    watched(ours, "p2")
    device = ours.device(f"{ours.key}-long", patient)
    for days in (45, 30, 15):
        ours.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(days=days), 60))
    with psycopg.connect(migrated.postgres.conninfo("api"), autocommit=True) as sql:
        ours.enter(sql, nurse)
        row = sql.execute(f"EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) {query}".encode(), [patient]).fetchone()
        assert row is not None
        found = list(nodes(row[0][0]["Plan"]))
    scans = [one for one in found if str(one.get("Schema", "")) == "_timescaledb_internal"]
    assert "alert" in query or (len(scans) > 1 and any("Index" in one["Node Type"] for one in scans))
    asked = [one for one in found if "my_withheld" in str(one.get("Output"))]
    assert sum(one["Actual Loops"] for one in asked) >= 1
    assert all(one["Parent Relationship"] == "InitPlan" and one["Actual Loops"] <= 1 for one in asked)
    assert not [one for one in found if "my_withheld" in str(one.get("Filter"))]


def test_the_purposes_of_roles_and_the_defaults_are_the_same_in_sql(ours: ApiData) -> None:
    one = ours.connection.execute
    rows = one("SELECT role, purpose_of(role) FROM unnest(%s::text[]) AS role", [list(ROLES)]).fetchall()
    assert {role: purpose for role, purpose in rows if purpose} == PURPOSE_OF
    for purpose, basis in DEFAULT_BASIS.items():
        assert one("SELECT consent_basis(%s, %s)", [ours.organisation, purpose]).fetchone() == (basis,)
    assert one("SELECT consent_classes()").fetchone() == (list(CLASSES),)
    assert dict(one("SELECT key, data_class FROM metric").fetchall()) == {
        k: m.data_class for k, m in catalogue().items()
    }


@given(born=st.dates(date(1990, 1, 1), date(2020, 12, 31)), age=st.integers(13, 21), known=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_birthday_is_the_same_in_sql(ours: ApiData, born: date, age: int, known: bool) -> None:
    facts = {"birth_date": born.isoformat()} if known else {"age_band": "under_16"}
    row = ours.connection.execute(
        "SELECT CASE WHEN isfinite(u) THEN u END, u > '2100-01-01Z' FROM (SELECT minor_until(%s, %s) AS u) AS x",
        [Jsonb(facts), age],
    ).fetchone()
    assert row is not None
    until = minor_until(facts, age)
    assert (until is not None and until.year == 9999) == row[1]
    if known:
        assert row[0] == until


SAYING = st.tuples(
    st.sampled_from(["given", "refused", "withdrawn"]),
    st.one_of(st.none(), st.frozensets(st.sampled_from(CLASSES), min_size=1)),
    st.integers(-90, 90),
    st.one_of(st.none(), st.integers(1, 90)),
)


@given(
    st.lists(SAYING, max_size=6),
    st.sampled_from(["research", "programme", "care"]),
    st.sampled_from(["consent", "other"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_stands_is_the_same_in_sql(ours: ApiData, history: list[Any], purpose: str, basis: str) -> None:
    with ours.connection.transaction(force_rollback=True):
        ours.rests(16, **{purpose: basis})
        patient = ours.patient("same")
        decisions = []
        for said_, about, begins, lasts in history:
            effective = NOW + timedelta(minutes=begins)
            ends = effective + timedelta(minutes=lasts) if lasts and said_ == "given" else None
            number = ours.consent(patient, purpose, said_, sorted(about) if about else None, at=effective, expires=ends)
            decisions.append(Decision(number, about, said_, effective, ends))
        for minute in (-91, -30, 0, 30, 200):
            at = NOW + timedelta(minutes=minute)
            ours.connection.execute("SELECT set_config('keepwell.at', %s, true)", [at.isoformat()])
            rows = ours.connection.execute(
                "SELECT data_class, decision_id, holds, withheld FROM consent_state(%s) WHERE purpose = %s",
                [patient, purpose],
            ).fetchall()
            for name, number, holds, gone in rows:
                stands = standing(decisions, name, at)
                assert (number, holds) == (stands and stands.id, stands is not None and stands.holds(at))
                assert gone == (name in withheld(decisions, purpose, basis, at))
