"""The canonical form of the audit: nothing else has the same bytes, and the database makes the very same."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.settings import Settings
from services.store.audit_chain import NULL, packed

# PostgreSQL has no NUL in a text, and UTF-8 no surrogates.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
FIELDS = st.lists(st.none() | TEXT, max_size=12)


def unpacked(form: bytes) -> Iterator[str | None]:
    """What the docstring says, read back."""
    while form:
        if form.startswith(NULL):
            yield None
            form = form[4:]
            continue
        (size,) = struct.unpack(">i", form[:4])
        yield form[4 : 4 + size].decode()
        form = form[4 + size :]


@given(FIELDS)
def test_fields_can_be_read_back_so_no_two_lists_have_the_same_form(fields: list[str | None]) -> None:
    assert list(unpacked(packed(fields))) == fields


def test_the_form_of_version_1_never_changes() -> None:
    assert packed(["a", None, "", "ä1"]).hex() == "0000000161ffffffff0000000000000003c3a431"


@pytest.fixture(scope="module")
def admin(migrated: Settings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated.postgres.conninfo("admin"), autocommit=True) as connection:
        yield connection


@pytest.mark.stack
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.lists(st.none() | TEXT, min_size=1, max_size=12))
def test_the_database_packs_the_same(admin: psycopg.Connection[Any], fields: list[str | None]) -> None:
    row = admin.execute("SELECT audit_packed(%s::text[])", [fields]).fetchone()
    assert row == (packed(fields),)
