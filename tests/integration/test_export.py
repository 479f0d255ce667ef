"""A patient's data taken along: exactly what is stored, only what is theirs to see, written down, and nothing left open."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
import zipfile
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from typer.testing import CliRunner

from ingest.catalogue import catalogue
from ingest.clock import to_ms
from services import teams
from services.api.export.tables import FILES
from services.cli.main import create_app
from services.processor.readings import Table
from services.settings import Settings
from services.store import blocks, copy
from tests.api_data import HOUR_MS, NOW, ApiData, minutes
from tests.export_readers import Reading, from_bundle, from_csv, stored, table
from tests.fix_api import ServedApi
from tests.fix_doors import environment

pytestmark = pytest.mark.stack

GOLDEN = Path(__file__).parent / "golden" / "export.fhir.json"
OPEN = """SELECT count(*) FROM pg_stat_activity
          WHERE usename = 'keepwell_api' AND datname = current_database() AND backend_xmin IS NOT NULL"""

# Runs of one metric: (metric, device, first second, step in seconds or None for uneven, values, quality).
run = st.tuples(
    st.sampled_from(["heart_rate", "spo2", "body_temperature", "battery", "steps"]),
    st.integers(0, 1),
    st.integers(0, 40_000),
    st.sampled_from([1, 5, 60, None]),
    st.lists(st.floats(0, 300, width=32), min_size=1, max_size=40),
    st.sampled_from([0, 0, 1, 3, 5]),
)


def write(data: ApiData, patient: int, devices: list[int], runs: list[Any]) -> None:
    """Store runs as the processor stores readings, each instant of a series once."""
    seen: dict[tuple[int, int, int], tuple[float, int]] = {}
    for metric, device, start, step, values, quality in runs:
        for i, value in enumerate(values):
            t_ms = to_ms(NOW) - 50_000_000 + start * 1000 + (i * step * 1000 if step else i * i * 700)
            seen.setdefault((catalogue()[metric].id, devices[device], t_ms), (value, quality if i % 3 else 0))
    keys = sorted(seen)
    put(
        data, patient, np.array([k[1] for k in keys]), np.array([k[0] for k in keys]), np.array([k[2] for k in keys]),
        np.array([seen[k][0] for k in keys]), np.array([seen[k][1] for k in keys]),
    )  # fmt: skip


def put(data: ApiData, patient: int, device: Any, metric: Any, t_ms: Any, value: Any, quality: Any) -> None:
    n = len(t_ms)
    made = Table(
        np.zeros(n, np.intp), device.astype(np.int32), metric.astype(np.int16), t_ms.astype(np.int64),
        value.astype(np.float32), quality.astype(np.uint8), np.zeros(n, np.int32),
    )  # fmt: skip
    with (
        data.connection.cursor() as cursor,
        cursor.copy(f"COPY reading_block ({blocks.COLUMNS}) FROM STDIN (FORMAT binary)".encode()) as target,
    ):
        for part in copy.copy_stream(blocks.copy_rows(made, np.array([patient], np.int32))):
            target.write(part)


def bulk(data: ApiData, patient: int, device: int) -> None:
    """So many uneven heart rates that no socket's buffer holds their Bundle (20 MB)."""
    i = np.arange(40_000)
    t_ms = to_ms(NOW) - 41_000_000 + i * 1000 + i % 2 * 3
    put(data, patient, np.full(len(i), device), np.ones(len(i)), t_ms, 60 + i % 40, np.zeros(len(i)))


async def taken(client: httpx.AsyncClient, key: str, form: str) -> bytes:
    answer = await client.get(f"/v1/patients/{key}/export", params={"format": form})
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.usefixtures("migrated")
async def test_bundle_and_csv_give_back_the_stored_readings_exactly(api: ServedApi, ours: ApiData) -> None:
    token = ours.token(ours.person("doc", "clinician"))
    number = iter(range(1000))

    @examples(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(run, min_size=1, max_size=6))
    def any_runs(runs: list[Any]) -> None:
        key = f"p{next(number)}"
        patient = ours.patient(key, zone="America/St_Johns")
        devices = [ours.device(f"{ours.key}-{key}-{i}", patient) for i in (0, 1)]
        write(ours, patient, devices, runs)
        kept = sorted(stored(ours.connection, patient))
        assert kept
        with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {token}"}) as client:
            both = [client.get(f"/v1/patients/{key}/export", params={"format": form}) for form in ("fhir", "csv")]
        Bundle.model_validate_json(both[0].content)
        assert sorted(from_bundle(both[0].json())) == kept
        assert sorted(from_csv(both[1].content)) == kept

    await asyncio.to_thread(any_runs)


def small(data: ApiData) -> None:
    """One patient with one of everything."""
    patient = data.patient("golden", "Grete Golden", days=3)
    device = data.device("golden-watch", patient)
    t_ms = to_ms(NOW) // HOUR_MS * HOUR_MS - HOUR_MS + np.array([0, 60_000, 120_000, 180_000, 200_500], np.int64)
    data.readings(patient, device, "heart_rate", t_ms, np.array([61, 62, 64.5, 63, 99]), rollups=False)
    data.readings(patient, device, "body_temperature", t_ms[:1], np.array([36.6]), rollups=False, quality=1)
    data.readings(patient, device, "spo2", t_ms[:3], np.array([97, 96, 97]), rollups=False, quality=5)
    data.connection.execute(
        """INSERT INTO waveform_block (patient_id, metric_id, device_id, t0, step_us, scale, "offset", sample)
           VALUES (%s, 20, %s, %s, 7812, 0.0025, -0.1, '{0,4,-3,120,9}')""",
        [patient, device, NOW - timedelta(hours=1)],
    )
    data.connection.execute(
        "INSERT INTO daily_value VALUES (%s, 1, 'asleep', '2026-11-21', 58.2, 400, 57, 3, 9, 0.3, NULL, true)",
        [patient],
    )
    for n, (state, kind, priority) in enumerate(
        (("resolved", "clinical", "high"), ("withdrawn", "clinical", "medium"), ("active", "technical", "low"))
    ):
        data.alert(
            patient, id=uuid.UUID(int=n + 1), state=state, kind=kind, priority=priority,
            started_at=NOW - timedelta(hours=9 - n), resolved_at=NOW - timedelta(hours=8) if n == 0 else None,
            sentence="for clinicians", patient_sentence=f"Your number {n} was unusual for you",
        )  # fmt: skip


async def test_the_bundle_of_a_small_patient_is_the_golden_one_and_valid_fhir(
    api: ServedApi, migrated: Settings
) -> None:
    with contextlib.closing(ApiData(migrated, "golden-clinic")) as clinic:
        small(clinic)
        async with api.client(clinic.token(clinic.person("doc", "clinician"))) as client:
            text = await taken(client, "golden", "fhir")
    Bundle.model_validate_json(text)
    if "KEEPWELL_GOLDEN" in os.environ:  # made anew on purpose, and looked at before it is committed
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert json.loads(text) == json.loads(GOLDEN.read_text("utf-8"))
    kinds = [entry["resource"]["resourceType"] for entry in json.loads(text)["entry"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {"Patient": 1, "Device": 1, "Flag": 3, "Observation": 6}


async def test_the_archive_explains_itself_and_guards_against_formulas(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1", "=HYPERLINK()")
    pat = ours.person("pat", "patient", "@pat")
    teams.link_patient(ours.connection, pat, patient)
    ours.alert(patient, patient_sentence="=1+1 is what you read", sentence="for clinicians")
    async with api.client(ours.token(pat)) as client:
        await client.get("/v1/patients/p1")
        archive = await taken(client, "p1", "csv")
        assert (await client.get("/v1/patients/p1/export", params={"format": "xml"})).json()["allowed"] == "fhir or csv"
    with zipfile.ZipFile(BytesIO(archive)) as zipped:
        assert zipped.namelist() == ["README.txt", "profile.json", *(file.name for file in FILES)]
        readme, profile = zipped.read("README.txt").decode(), json.loads(zipped.read("profile.json"))
        for file in FILES:
            assert zipped.read(file.name).decode().splitlines()[0] == ",".join(file.columns)
            assert all(f"  {name}: " in readme for name in file.columns)
    assert (profile["name"], profile["not_open_to_who_asked"]) == ("=HYPERLINK()", [])
    (alert,) = table(archive, "alerts.csv")
    assert (alert["what"], alert["began"][-6:]) == ("'=1+1 is what you read", "+01:00")
    looked = table(archive, "accesses.csv")
    assert [row["action"] for row in looked] == [
        "patient.read",
        "patient.export",
    ]  # this export too: written down before
    assert looked[1]["who"] == "'@pat (patient)"
    assert "for clinicians" not in "".join(map(str, (alert, looked)))


async def test_a_proxy_takes_along_what_they_may_see_and_is_told_what_is_missing(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-w", patient)
    ours.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(hours=1), 30))
    ours.alert(patient)
    for what, readings, alerts in (("readings", 30, 0), ("alerts", 0, 1)):
        mia = ours.person(f"mia-{what}", "proxy")
        teams.grant_proxy(ours.connection, mia, patient, [what], NOW - timedelta(1), NOW + timedelta(1))  # type: ignore[list-item]
        async with api.client(ours.token(mia)) as client:
            archive = await taken(client, "p1", "csv")
            assert (len(table(archive, "readings.csv")), len(table(archive, "alerts.csv"))) == (readings, alerts)
            with zipfile.ZipFile(BytesIO(archive)) as zipped:
                missing = "alerts" if what == "readings" else "readings"
                assert f"The {missing} are not in here" in zipped.read("README.txt").decode()
            assert len(from_bundle(json.loads(await taken(client, "p1", "fhir")))) == readings


async def test_it_is_written_down_as_the_patients_right_before_anything_is_sent(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("p1")
    async with api.client(ours.token(ours.person("doc", "clinician", "Dora"))) as client:
        ours.connection.execute(
            "ALTER TABLE access_audit ADD CONSTRAINT broken CHECK (action <> 'patient.export') NOT VALID"
        )
        try:
            assert (await client.get("/v1/patients/p1/export")).status_code == 500
        finally:
            ours.connection.execute("ALTER TABLE access_audit DROP CONSTRAINT broken")
        await taken(client, "p1", "fhir")
        said = (await client.get("/v1/patients/p1/accesses")).json()["items"]
    query = "SELECT purpose, patient_id, outcome, detail FROM access_audit WHERE organisation_id = %s AND action = 'patient.export'"
    assert ours.connection.execute(query, [ours.organisation]).fetchall() == [
        ("patient_right", patient, "allowed", {"format": "fhir"})
    ]
    assert "Dora (clinician) took a copy of your data, because you have a right to it." in [
        one["sentence"] for one in said
    ]


async def test_what_is_stored_while_it_is_sent_is_not_in_it_and_who_leaves_leaves_nothing_open(
    api: ServedApi, ours: ApiData
) -> None:
    patient = ours.patient("big")
    device = ours.device(f"{ours.key}-w", patient)
    bulk(ours, patient, device)
    before = sorted(stored(ours.connection, patient))
    async with api.client(ours.token(ours.person("doc", "clinician"))) as client:
        async with client.stream("GET", "/v1/patients/big/export?format=fhir") as answer:
            pieces = answer.aiter_bytes()
            first = await anext(pieces)
            ours.readings(patient, device, "battery", np.array([to_ms(NOW)]), np.array([50.0]), rollups=False)
            rest = b"".join([piece async for piece in pieces])
        assert sorted(from_bundle(json.loads(first + rest))) == before
        for _ in range(3):  # more than may be under way at once: none of them is left
            async with client.stream("GET", "/v1/patients/big/export?format=fhir") as answer:
                assert answer.status_code == 200, await answer.aread()
                pieces = answer.aiter_bytes()
                await anext(pieces)
                assert ours.connection.execute(OPEN).fetchone() == (1,)
            async with asyncio.timeout(5):
                while ours.connection.execute(OPEN).fetchone() != (0,):
                    await asyncio.sleep(0.02)
        assert len(from_csv(await taken(client, "big", "csv"))) == len(before) + 1


async def test_no_more_than_two_are_under_way_at_once(api: ServedApi, ours: ApiData) -> None:
    patient = ours.patient("big")
    bulk(ours, patient, ours.device(f"{ours.key}-w", patient))
    async with api.client(ours.token(ours.person("doc", "clinician"))) as client:
        address = "/v1/patients/big/export?format=fhir"
        async with client.stream("GET", address) as one, client.stream("GET", address) as two:
            begun = one.aiter_bytes(), two.aiter_bytes()  # kept: a stream nobody holds is closed
            assert all([await anext(pieces) for pieces in begun])
            third = await client.get(address)
            assert (third.status_code, third.json()["code"]) == (429, "too_many_streams")
            assert third.headers["retry-after"] == "60"
        async with asyncio.timeout(5):
            while (await client.get("/v1/patients/big/export?format=csv")).status_code != 200:
                await asyncio.sleep(0.05)


def test_the_operators_hand_a_patient_the_same_file(
    migrated: Settings, ours: ApiData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = ours.patient("p1")
    device = ours.device(f"{ours.key}-w", patient)
    ours.readings(patient, device, "heart_rate", *minutes(NOW - timedelta(hours=1), 30))
    ours.alert(patient)
    made = {form: tmp_path / f"p1.{form}" for form in ("csv", "fhir")}
    runner, kept = CliRunner(), sorted(stored(ours.connection, patient))
    for form, file in made.items():
        arguments = [
            "admin",
            "patients",
            "export",
            "p1",
            "--out",
            str(file),
            "--format",
            form,
            "--organisation",
            ours.key,
        ]
        done = runner.invoke(create_app("admin"), arguments, env=environment(migrated))
        assert done.exit_code == 0, done.output
        assert file.stat().st_mode & 0o777 == 0o600
        again = runner.invoke(create_app("admin"), arguments, env=environment(migrated))
        assert again.exit_code == 2
    found: list[list[Reading]] = [from_csv(made["csv"].read_bytes()), from_bundle(json.loads(made["fhir"].read_text()))]
    assert [sorted(one) for one in found] == [kept, kept]
    assert len(table(made["csv"].read_bytes(), "alerts.csv")) == 1
    query = (
        "SELECT actor, purpose, patient_id FROM access_audit WHERE organisation_id = %s AND action = 'patient.export'"
    )
    assert ours.connection.execute(query, [ours.organisation]).fetchall() == [("command", "patient_right", patient)] * 2
