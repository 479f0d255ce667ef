"""Fixtures: a small database with a chain of its own, which a test may break."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from services.settings import Settings
from services.store.audit_verify import Verified, verify
from services.store.checkpoints import Checkpoint
from tests.databases import copy_database, drop_database
from tests.fix_stack import LiveStack

INSERT = """INSERT INTO access_audit (at, organisation_id, person_id, action, patient_id, detail)
            VALUES ('2026-11-22T10:00Z', 1, 1, %s, 1, %s) RETURNING id"""

BLANK = (
    b"SET session_replication_role = replica",
    b"TRUNCATE access_audit, audit_block, organisation RESTART IDENTITY CASCADE",
    b"""INSERT INTO audit_block
        VALUES (0, clock_timestamp(), 0, '0', 0, '{}', '', uuid_send(gen_random_uuid()), '')""",
    b"UPDATE audit_block b SET hash = audit_block_hash(b)",
    b"RESET session_replication_role",
)


class Chain:
    """The audit of one organisation with one person and one patient, as the owner of the database sees it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.admin = psycopg.connect(settings.postgres.conninfo("admin"), autocommit=True)
        for statement in BLANK:
            self.admin.execute(statement)
        self.admin.execute("INSERT INTO organisation (key, name) VALUES ('o', 'One')")
        self.admin.execute("INSERT INTO person (organisation_id, key, name, role) VALUES (1, 'ada', 'Ada', 'nurse')")
        self.admin.execute(
            "INSERT INTO patient (organisation_id, key, name, enrolled_at) VALUES (1, 'p1', 'P', '2025-01-01Z')"
        )

    def application(self) -> psycopg.Connection[Any]:
        """A connection as the API's role, with its organisation set."""
        connection = psycopg.connect(self.settings.postgres.conninfo("api"))
        connection.execute("SELECT set_config('keepwell.organisation', '1', false)")
        connection.commit()
        return connection

    def write(self, *actions: str) -> list[int]:
        """Write a row of each action, each in its own transaction, and return their ids."""
        rows = [self.admin.execute(INSERT, [action, Jsonb({"of": action})]).fetchone() for action in actions]
        return [int(row[0]) for row in rows if row]

    def seal(self, most: int = 1000) -> int:
        """Seal once, as the API's role; return how many rows."""
        with self.application() as connection:
            row = connection.execute("SELECT sealed FROM seal_audit(%s)", [most]).fetchone()
        assert row is not None
        return int(row[0])

    def sealed(self, count: int) -> list[int]:
        """Write and seal rows, two to a block."""
        ids: list[int] = []
        while len(ids) < count:
            ids += self.write(*(f"act.{len(ids) + i}" for i in range(2)))
            assert self.seal() == 2
        return ids

    def tamper(self, *statements: str) -> None:
        """Do what a superuser can: the triggers do not fire."""
        with self.admin.transaction():
            self.admin.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                assert self.admin.execute(statement.encode()).rowcount > 0, statement

    def verify(self, *known: Checkpoint) -> Verified:
        """Verify on a connection of its own."""
        with psycopg.connect(self.settings.postgres.conninfo("admin")) as connection:
            return verify(connection, known, lambda _: None)

    def checkpoint(self) -> Checkpoint:
        """Where the chain stands."""
        row = self.admin.execute(
            """SELECT (SELECT hash FROM audit_block WHERE number = 0), number, hash, total, sealed_at
               FROM audit_block ORDER BY number DESC LIMIT 1"""
        ).fetchone()
        assert row is not None
        return Checkpoint(*row)


@pytest.fixture(scope="session")
def audit_database(stack: LiveStack) -> Iterator[Settings]:
    """A migrated database of the session's own, for chains that are broken on purpose."""
    postgres = stack.settings.postgres.model_copy(update={"database": f"kw_audit_{secrets.token_hex(3)}"})
    settings = stack.settings.model_copy(update={"postgres": postgres})
    copy_database(settings.postgres)
    yield settings
    drop_database(settings)


@pytest.fixture
def chain(audit_database: Settings, tmp_path: Path) -> Iterator[Chain]:
    """A chain that begins with the test."""
    home = audit_database.stack.model_copy(update={"home": tmp_path / "home"})
    made = Chain(audit_database.model_copy(update={"stack": home}))
    yield made
    made.admin.close()
