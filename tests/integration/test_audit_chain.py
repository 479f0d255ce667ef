"""The audit's chain: whatever is done to rows or blocks is found and named; who writes at once seals in order."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from services.store.audit_chain import TEXTS, leaf
from tests import command
from tests.fix_audit import INSERT, Chain

pytestmark = pytest.mark.stack


def keepwell(chain: Chain, *words: str) -> subprocess.CompletedProcess[str]:
    return command.keepwell(chain.settings, *words)


def test_a_whole_chain_is_whole_and_its_leaves_are_those_computed_here(chain: Chain) -> None:
    ids = chain.sealed(6)
    chain.write("not.yet")
    result = chain.verify(chain.checkpoint())
    assert (result.trouble, result.rows, result.blocks, result.waiting, result.checkpoints) == (None, 6, 3, 1, 1)
    query = f"SELECT {TEXTS} FROM access_audit WHERE id = {ids[0]}"
    (fields,) = chain.admin.execute(query.encode()).fetchall()
    stored = chain.admin.execute("SELECT substr(leaves, 1, 32) FROM audit_block WHERE number = 1").fetchone()
    assert stored == (leaf(fields),)


@pytest.mark.parametrize(
    ("statement", "kind", "row", "said"),
    [
        ("UPDATE access_audit SET person_id = 2 WHERE id = 3", "row_edited", 3, "Row 3 was edited after it was sealed"),
        ("UPDATE access_audit SET at = at + interval '1 microsecond' WHERE id = 6", "row_edited", 6, "block 3, sealed 20"),
        ("UPDATE access_audit SET xid = '1' WHERE id = 4", "row_moved", 4, "Row 4 was moved"),
        ("DELETE FROM access_audit WHERE id = 2", "row_deleted", 2, "Row 2 was deleted; it is in block 1"),
        ("DELETE FROM access_audit WHERE id > 4", "row_deleted", 5, "Row 5 was deleted"),
        ("""INSERT INTO access_audit (id, at, organisation_id, person_id, action, xid) OVERRIDING SYSTEM VALUE
            SELECT 99, at, 1, 1, 'made.up', xid FROM access_audit WHERE id = 4""", "row_inserted", 99, "in no block"),
        ("UPDATE audit_block SET ids = ARRAY[ids[2], ids[1]] WHERE number = 2", "block_edited", None, "in block 2"),
        ("DELETE FROM audit_block WHERE number = 2", "block_deleted", None, "Block 2 was deleted"),
        ("DELETE FROM audit_block WHERE number = 0", "block_deleted", None, "Block 0 was deleted"),
        ("DELETE FROM audit_block", "block_deleted", None, "There is no chain"),
    ],
)  # fmt: skip
def test_what_was_done_is_named(chain: Chain, statement: str, kind: str, row: int | None, said: str) -> None:
    assert chain.sealed(6) == [1, 2, 3, 4, 5, 6]
    chain.tamper(statement)
    trouble = chain.verify().trouble
    assert trouble is not None
    assert (trouble.kind, trouble.row) == (kind, row), trouble
    assert said in trouble.sentence


def test_two_rows_that_changed_places_are_named(chain: Chain) -> None:
    chain.sealed(6)
    chain.tamper(
        "UPDATE access_audit a SET (action, detail) = (b.action, b.detail) FROM access_audit b "
        "WHERE a.id IN (3, 4) AND a.id + b.id = 7"
    )
    trouble = chain.verify().trouble
    assert trouble is not None
    assert (trouble.kind, trouble.row) == ("row_edited", 3)


REHASHED = "UPDATE audit_block b SET hash = audit_block_hash(b) WHERE number = {}"


def test_a_block_made_anew_breaks_the_link_to_the_next(chain: Chain) -> None:
    chain.sealed(6)
    chain.tamper(
        "UPDATE access_audit SET person_id = 2 WHERE id = 3",
        """UPDATE audit_block SET leaves = (SELECT string_agg(audit_leaf(a), ''::bytea ORDER BY id) FROM access_audit a
           WHERE id IN (3, 4)) WHERE number = 2""",
        REHASHED.format(2),
    )
    trouble = chain.verify().trouble
    assert trouble is not None
    assert (trouble.kind, trouble.block) == ("block_replaced", 3)


def test_rows_turned_round_in_the_last_block_are_named(chain: Chain) -> None:
    chain.sealed(4)
    chain.tamper(
        """UPDATE audit_block SET ids = ARRAY[ids[2], ids[1]], leaves = substr(leaves, 33) || substr(leaves, 1, 32)
           WHERE number = 2""",
        REHASHED.format(2),
    )
    trouble = chain.verify().trouble
    assert trouble is not None
    assert trouble.kind == "row_moved"


def test_only_a_checkpoint_shows_a_cut_tail_or_a_chain_made_anew(chain: Chain) -> None:
    chain.sealed(6)
    kept = chain.checkpoint()
    chain.tamper("DELETE FROM access_audit WHERE id > 4", "DELETE FROM audit_block WHERE number > 2")
    assert chain.verify().trouble is None, "a chain alone can't know"
    trouble = chain.verify(kept).trouble
    assert trouble is not None
    assert trouble.kind == "tail_cut"
    assert "knew block 3 and 6 rows, the chain ends at block 2 with 4" in trouble.sentence
    chain.sealed(2)  # it goes on, and is as long as it was
    trouble = chain.verify(kept).trouble
    assert trouble is not None
    assert (trouble.kind, trouble.block) == ("chain_rewritten", 3)


def test_another_chain_is_not_taken_for_the_one_a_checkpoint_knew(chain: Chain) -> None:
    chain.sealed(2)
    kept = chain.checkpoint()
    chain.tamper(
        "DELETE FROM audit_block WHERE number = 1",
        "UPDATE audit_block SET previous = '\\x00'",
        REHASHED.format(0),
    )
    assert chain.seal() == 2
    assert chain.verify().trouble is None
    trouble = chain.verify(kept).trouble
    assert trouble is not None
    assert "made anew from its beginning" in trouble.sentence


# ------------------------------------------------------------------ who writes at once


def test_a_row_whose_transaction_is_open_holds_the_chain_back_and_is_never_left_out(chain: Chain) -> None:
    """The first writer takes its number first and commits last."""
    with chain.application() as slow:
        slow.execute(INSERT.replace(" RETURNING id", ""), ["slow.one", "{}"])
        (quick,) = chain.write("quick.one")
        assert chain.seal() == 0, "sealed past a row that was not visible yet"
        waited = chain.admin.execute("SELECT waited_s FROM seal_audit(1)").fetchone()
        assert waited is not None
        assert waited[0] > 0
        slow.commit()
    assert chain.seal() == 2
    ids = chain.admin.execute("SELECT ids FROM audit_block WHERE number = 1").fetchone()
    assert ids == ([quick - 1, quick],)
    assert chain.verify().trouble is None


def test_writers_and_sealers_at_once_seal_every_row_once(chain: Chain) -> None:
    done = threading.Event()

    def write() -> None:
        with chain.application() as connection:
            for number in range(150):
                connection.execute(INSERT.replace(" RETURNING id", ""), ["busy", "{}"])
                if number % 7 == 6:
                    connection.rollback()
                    connection.execute("SELECT set_config('keepwell.organisation', '1', false)")
                connection.commit()

    def seal() -> None:
        with psycopg.connect(chain.settings.postgres.conninfo("api"), autocommit=True) as connection:
            while not done.is_set():
                connection.execute("SELECT seal_audit(20)")

    writers = [threading.Thread(target=write) for _ in range(3)]
    sealers = [threading.Thread(target=seal) for _ in range(2)]
    for thread in writers + sealers:
        thread.start()
    for thread in writers:
        thread.join(60)
    done.set()
    for thread in sealers:
        thread.join(60)
    while chain.seal():
        pass
    result = chain.verify()
    assert (result.trouble, result.rows, result.waiting) == (None, 3 * 129, 0)
    assert result.blocks > 3 * 129 / 20


def test_a_sealer_that_crashes_before_its_commit_leaves_a_whole_chain(chain: Chain) -> None:
    chain.write("one", "two")
    connection = chain.application()
    assert connection.execute("SELECT sealed FROM seal_audit(1000)").fetchone() == (2,)
    assert chain.seal() == 0, "two sealed at once"
    pid = connection.info.backend_pid
    chain.admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    connection.close()
    assert chain.verify().waiting == 2
    assert chain.seal() == 2
    assert (chain.verify().trouble, chain.verify().rows) == (None, 2)


# ------------------------------------------------------------------ what the application's role can't do


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM access_audit",
        "UPDATE access_audit SET action = 'x'",
        "DELETE FROM access_audit",
        "TRUNCATE access_audit",
        "INSERT INTO access_audit (at, organisation_id, person_id, action, xid) VALUES ('2026-01-01Z', 1, 1, 'x', '3')",
        "INSERT INTO access_audit (at, organisation_id, person_id, action, recorded_at) VALUES ('2026-01-01Z', 1, 1, 'x', '2026-01-01Z')",
        "INSERT INTO access_audit (at, organisation_id, person_id, action) VALUES ('2026-01-01Z', 2, 1, 'x')",
        "SELECT * FROM audit_block",
        "INSERT INTO audit_block VALUES (9, '2026-01-01Z', 0, '0', 0, '{}', '', '', '')",
        "SET ROLE keepwell_auditor",
        "CREATE OR REPLACE FUNCTION seal_audit(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_the_applications_role_may_only_add(chain: Chain, statement: str) -> None:
    chain.sealed(2)
    with chain.application() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_an_instant_that_has_no_number_is_refused_so_that_it_cannot_stop_the_sealer(chain: Chain) -> None:
    with chain.application() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "INSERT INTO access_audit (at, organisation_id, person_id, action) VALUES ('infinity', 1, 1, 'x')"
        )


def test_the_search_sees_one_organisation_and_without_one_nothing(chain: Chain) -> None:
    chain.write("ours")
    chain.admin.execute(
        "INSERT INTO access_audit (at, organisation_id, person_id, action) VALUES ('2026-01-01Z', 2, 9, 'theirs')"
    )
    chain.admin.execute("INSERT INTO access_audit (at, actor, action) VALUES ('2026-01-01Z', 'command', 'everybodys')")
    query = b"SELECT action FROM audit_rows(NULL, NULL, NULL, NULL, NULL, NULL, 10)"
    with chain.application() as connection:
        assert [row[0] for row in connection.execute(query)] == ["everybodys", "ours"]
        connection.execute("SELECT set_config('keepwell.organisation', '', false)")
        assert connection.execute(query).fetchall() == []


def test_who_seals_and_searches_can_log_in_nowhere(chain: Chain) -> None:
    rows = chain.admin.execute(
        """SELECT rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname IN (
               SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname IN ('access_audit', 'audit_block')
               UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname IN ('seal_audit', 'audit_rows'))"""
    ).fetchall()
    assert rows == [(False, False, False)]


# ------------------------------------------------------------------ the commands


def test_the_commands_say_it_and_exit_with_1(chain: Chain, tmp_path: Path) -> None:
    chain.sealed(4)
    file = tmp_path / "elsewhere" / "points.jsonl"
    done = command.as_program(chain.settings, "audit", "checkpoint", str(file))
    assert (done.returncode, "block 2, 4 rows" in done.stdout) == (0, True), done.stderr
    whole = keepwell(chain, "audit", "verify", "--checkpoint", str(file))
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines() == [
        "4 rows in 2 blocks are as they were sealed; 0 wait to be sealed.", "The chain agrees with 1 checkpoints.",
    ]  # fmt: skip
    alone = keepwell(chain, "audit", "verify")
    assert "no checkpoint to compare with" in alone.stdout
    chain.tamper("UPDATE access_audit SET action = 'nothing' WHERE id = 3")
    broken = keepwell(chain, "audit", "verify")
    assert broken.returncode == 1
    assert broken.stdout.startswith("Row 3 was edited after it was sealed in block 2")
    document = json.loads(keepwell(chain, "audit", "verify", "--json").stdout)
    assert (document["whole"], document["trouble"]["kind"], document["trouble"]["row"]) == (False, "row_edited", 3)
    file.write_text("no json\n")
    refused = keepwell(chain, "audit", "verify", "--checkpoint", str(file))
    assert refused.returncode == 2
    assert "line 1 is no checkpoint" in refused.stderr


def test_search_finds_by_patient_person_action_and_time_and_is_noted_itself(chain: Chain) -> None:
    chain.write("trend.read", "patient.read")
    chain.admin.execute(
        """INSERT INTO access_audit (at, organisation_id, person_id, action, detail)
           VALUES ('2026-11-23T10:00Z', 1, 1, 'worklist.read', '{"patient_ids": [1, 2], "patients": 2}')"""
    )

    def found(*words: str) -> list[str]:
        done = keepwell(chain, "audit", "search", "--organisation", "o", "--json", *words)
        assert done.returncode == 0, done.stderr
        return [row["action"] for row in json.loads(done.stdout)]

    assert found("--action", "trend.read") == ["trend.read"]
    assert found("--person", "ada") == ["worklist.read", "patient.read", "trend.read"]
    assert found("--patient", "p1", "--to", "2026-11-24T00:00Z") == ["worklist.read", "patient.read", "trend.read"]
    assert found("--patient", "p1", "--from", "2026-11-23T00:00Z", "--to", "2026-11-24T00:00Z") == ["worklist.read"]
    assert found("--action", "audit.read") == ["audit.read"] * 5
    noted = chain.admin.execute(
        "SELECT DISTINCT actor, purpose, person_id, patient_id, address FROM access_audit WHERE action = 'audit.read' ORDER BY 4"
    ).fetchall()
    assert noted == [
        ("command", "operations", None, 1, "command line"),
        ("command", "operations", None, None, "command line"),
    ]
    refused = keepwell(chain, "audit", "search", "--organisation", "o", "--person", "nobody")
    assert (refused.returncode, "there is no person nobody" in refused.stderr) == (2, True)


def test_a_restored_chain_is_whole_and_goes_on(chain: Chain, tmp_path: Path) -> None:
    chain.sealed(4)
    chain.write("waiting")
    file = tmp_path / "audit.backup"
    assert keepwell(chain, "backup", str(file)).returncode == 0
    point = chain.checkpoint()
    chain.admin.close()
    name = chain.settings.postgres.database
    with psycopg.connect(chain.settings.postgres.conninfo("admin", "postgres"), autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    done = keepwell(chain, "restore", str(file))
    assert done.returncode == 0, done.stderr
    chain.admin = psycopg.connect(chain.settings.postgres.conninfo("admin"), autocommit=True)
    assert chain.seal() == 3
    result = chain.verify(point)
    assert (result.trouble, result.rows, result.blocks) == (None, 7, 3)
    actions = [row[0] for row in chain.admin.execute("SELECT action FROM access_audit ORDER BY id DESC LIMIT 3")]
    assert actions == ["database.restore", "database.backup", "waiting"]


async def test_the_chain_is_whole_after_an_erasure(chain: Chain) -> None:
    from ingest.clock import SystemClock, to_datetime
    from services.store import changes, erasure

    chain.sealed(4)
    now = to_datetime(SystemClock().now_ms())
    wanted = changes.Wanted(1, "erase", "", now, {}, "asked", None, now)
    changes.write(chain.admin, wanted, 1)
    async with await psycopg.AsyncConnection.connect(chain.settings.postgres.conninfo("writer")) as connection:
        for _ in range(2):
            await erasure.erase(connection, [1], now)
    assert chain.seal() == 1
    result = chain.verify()
    assert (result.trouble, result.rows) == (None, 5)
    rows = chain.admin.execute(
        "SELECT actor, name, action, patient_id FROM access_audit ORDER BY id DESC LIMIT 1"
    ).fetchall()
    assert rows == [("service", "processor", "patient.erased", 1)]
