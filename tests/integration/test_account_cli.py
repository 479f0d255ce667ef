"""``keepwell account``: what it prints works, and what it refuses it refuses in a sentence."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from services.settings import Settings
from tests.api_data import ApiData
from tests.command import as_program, keepwell
from tests.fix_api import RunningClock, serve
from tests.visitor import Visitor

pytestmark = pytest.mark.stack


async def test_an_invitation_and_a_token_work_as_printed(migrated: Settings, ours: ApiData) -> None:
    mine = ("--organisation", ours.key)
    done = as_program(migrated, "account", "invite", "ada", "--role", "pharmacist", "--name", "Ada Farm", *mine)
    assert done.returncode == 0, done.stderr
    link = re.match(r"(http://\S+)/invitation\?token=(\S+)\n", done.stdout)
    assert link is not None, done.stdout
    assert f"for ada@{ours.key}, once, within 7 days" in done.stdout
    made = keepwell(migrated, "account", "token", "reports", "--scope", "alerts:read", "--days", "30", *mine)
    token = re.match(r"token \(shown once\): (kws_[0-9a-f]{8}_\S{43})\n", made.stdout)
    assert token is not None, made.stdout + made.stderr
    async with serve(migrated, credential_clock=RunningClock()) as served:
        async with Visitor(served, "10.1.0.1") as ada:
            await ada.accept(link[2])
            assert "Ada Farm" in (await ada.client.get("/")).text
        async with served.client(token[1]) as program:
            assert (await program.get("/v1/alerts")).status_code == 200
            listed = json.loads(keepwell(migrated, "account", "tokens", "--json", *mine).stdout)
            assert [(row["name"], row["scopes"], row["role"]) for row in listed] == [
                ("reports", "alerts:read", "coordinator")
            ]
            assert keepwell(migrated, "account", "revoke", listed[0]["prefix"], *mine).returncode == 0
            refused: httpx.Response = await program.get("/v1/alerts")
            assert refused.status_code == 401
    again = keepwell(migrated, "account", "invite", "ada", *mine)  # the role and the name stay
    assert again.returncode == 0, again.stderr
    row = ours.connection.execute(
        "SELECT name, role FROM person WHERE organisation_id = %s AND key = 'ada'", [ours.organisation]
    )
    assert row.fetchone() == ("Ada Farm", "pharmacist")
    prefix = listed[0]["prefix"]
    rows = ours.connection.execute(
        """SELECT action, actor, outcome, detail FROM access_audit
           WHERE organisation_id = %s AND actor = 'command' ORDER BY id""",
        [ours.organisation],
    ).fetchall()
    assert rows == [
        ("account.invite", "command", "allowed", {"person": "ada", "role": "pharmacist"}),
        (
            "account.token", "command", "allowed",
            {"program": "reports", "role": "coordinator", "scopes": ["alerts:read"], "days": 30, "prefix": prefix},
        ),
        ("account.tokens", "command", "allowed", {"tokens": 1}),
        ("account.revoke", "command", "allowed", {"prefix": prefix}),
        ("account.invite", "command", "allowed", {"person": "ada", "role": None}),
    ]  # fmt: skip
    assert not [secret for secret in (link[2], token[1]) if secret in str(rows)]


def test_what_was_refused_leaves_no_row(migrated: Settings, ours: ApiData) -> None:
    assert keepwell(migrated, "account", "revoke", "kws_00000000", "--organisation", ours.key).returncode == 2
    rows = ours.connection.execute("SELECT 1 FROM access_audit WHERE organisation_id = %s", [ours.organisation])
    assert rows.fetchall() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("invite", "bob"), "say who it is with --role"),
        (("invite", "bob", "--role", "boss"), "clinician, nurse, coordinator"),
        (("invite", "b@b", "--role", "nurse"), "is not possible"),
        (("token", "reports", "--scope", "everything"), "alerts:read, alerts:acknowledge"),
        (("token", "reports", "--scope", "alerts:read", "--days", "400"), "1 to 366"),
        (("revoke", "kws_00000000"), "keepwell account tokens"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    migrated: Settings, ours: ApiData, words: tuple[str, ...], said: str
) -> None:
    done = keepwell(migrated, "account", *words, "--organisation", ours.key)
    assert done.returncode == 2
    assert said in done.stderr


def test_without_a_key_nobody_is_invited(migrated: Settings, ours: ApiData) -> None:
    words = ("invite", "ada", "--role", "nurse", "--organisation", ours.key)
    done = keepwell(migrated, "account", *words, KEEPWELL_IDENTITY__KEY="", KEEPWELL_IDENTITY__KEY_FILE="")
    assert done.returncode == 2
    assert "identity.key" in done.stderr
