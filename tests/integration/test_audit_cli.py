"""What the command line does with patients' data is in the audit, as done by whom and in the same transaction."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from services.settings import Settings
from tests import command
from tests.api_data import NOW, ApiData
from tests.fix_audit import Chain

pytestmark = pytest.mark.stack


def keepwell(settings: Settings, *words: str, code: int = 0, **env: str) -> str:
    done = command.keepwell(settings, *words, **env)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def noted(ours: ApiData) -> list[tuple[Any, ...]]:
    return ours.connection.execute(
        """SELECT action, actor, person_id, patient_id, purpose, address, detail FROM access_audit
           WHERE organisation_id = %s ORDER BY id""",
        [ours.organisation],
    ).fetchall()


def test_what_is_changed_about_a_patient(migrated: Settings, ours: ApiData) -> None:
    patient = ours.patient("p1")
    mine = ("--organisation", ours.key)
    keepwell(migrated, "patient", "new-normal", "p1", "heart_rate", "--reason", "beta blocker", *mine, LOGNAME="anna")
    keepwell(migrated, "patient", "new-normal", "p1", "heart_rate", "--version", "0", *mine, code=2)
    keepwell(migrated, "patient", "changes", "p1", *mine)
    rows = noted(ours)
    assert [row[:6] for row in rows] == [
        ("patient.new_normal", "command", None, patient, "operations", "command line"),
        ("patient.changes", "command", None, patient, "operations", "command line"),
    ]
    assert rows[0][6] == {"kind": "new_normal", "subject": "heart_rate"}
    (name,) = ours.connection.execute(
        "SELECT name FROM access_audit WHERE organisation_id = %s ORDER BY id LIMIT 1", [ours.organisation]
    ).fetchall()[0]
    assert name.startswith("anna@")


def test_enrolling_revoking_and_lending_a_login(chain: Chain) -> None:
    keepwell(chain.settings, "enrol", "--patient", "p9", "--organisation", "o")
    keepwell(chain.settings, "revoke", "--device", "watch-p9")
    keepwell(chain.settings, "login", "--person", "ada", "--organisation", "o")
    rows = chain.admin.execute(
        "SELECT action, organisation_id, patient_id, detail FROM access_audit ORDER BY id"
    ).fetchall()
    assert rows == [
        ("patient.enrol", 1, 2, {"device": "watch-p9", "renew": False}),
        ("device.revoke", 1, 2, {"device": "watch-p9"}),
        ("person.login_link", 1, None, {"person": "ada"}),
    ]


def test_dead_letters_name_the_patients_they_are_about_each_in_its_organisation(chain: Chain) -> None:
    chain.admin.execute("INSERT INTO organisation (key, name) VALUES ('other', 'Other')")
    chain.admin.execute(
        """INSERT INTO patient (organisation_id, key, name, enrolled_at)
           VALUES (2, 'q1', '', '2025-01-01Z'), (2, 'q2', '', '2025-01-01Z')"""
    )
    for offset, key in enumerate([b"1", b"2", b"3", b"77", None]):
        chain.admin.execute(
            "INSERT INTO dead_letter VALUES ('readings.v1', 0, %s, 'undecodable', 'no msgpack', %s, '\\x00', %s)",
            [offset, key, NOW],
        )
    keepwell(chain.settings, "dead", "list")
    keepwell(chain.settings, "dead", "show", "readings.v1", "0", "1")
    keepwell(chain.settings, "dead", "give-up", "readings.v1", "0", "4", "--note", "noise")
    rows = chain.admin.execute(
        "SELECT action, organisation_id, patient_id, detail - ARRAY['topic', 'partition', 'offset'] FROM access_audit ORDER BY action, organisation_id"
    ).fetchall()
    assert rows == [
        ("dead.give_up", None, None, {}),
        ("dead.list", 1, 1, {}),
        ("dead.list", 2, None, {"patient_ids": [2, 3], "patients": 2}),
        ("dead.list", None, None, {}),
        ("dead.show", 2, 2, {}),
    ]


def test_quarantined_values_are_reads_too(chain: Chain) -> None:
    chain.admin.execute("INSERT INTO device (organisation_id, key, created_at) VALUES (1, 'd', '2025-01-01Z')")
    chain.admin.execute("INSERT INTO quarantined_reading VALUES (1, 1, 1, '2026-01-02Z', 900, 'out_of_range', 'f')")
    assert "900" in keepwell(chain.settings, "dead", "quarantined")
    assert chain.admin.execute("SELECT action, patient_id FROM access_audit").fetchall() == [("quarantine.list", 1)]


def test_what_cannot_be_noted_is_not_done(chain: Chain) -> None:
    chain.admin.execute("ALTER TABLE access_audit RENAME COLUMN purpose TO older")
    try:
        said = keepwell(chain.settings, "patient", "new-normal", "p1", "heart_rate", "--organisation", "o", code=2)
    finally:
        chain.admin.execute("ALTER TABLE access_audit RENAME COLUMN older TO purpose")
    assert "run `keepwell migrate`" in said
    assert chain.admin.execute("SELECT count(*) FROM patient_change").fetchone() == (0,)


def test_a_backup_is_noted_in_the_backup(chain: Chain, tmp_path: Any) -> None:
    chain.admin.execute(
        "INSERT INTO access_audit (at, organisation_id, person_id, action, detail) VALUES ('2026-01-01Z', 1, 1, 'x', %s)",
        [Jsonb({})],
    )
    keepwell(chain.settings, "backup", str(tmp_path / "one.backup"))
    rows = chain.admin.execute("SELECT action, organisation_id, detail FROM access_audit ORDER BY id").fetchall()
    assert rows[1:] == [("database.backup", None, {"file": "one.backup"})]
