"""Refused sign-ins in the audit: whose account it was where there is one, from where, and which part was not right.

What was typed is never written: somebody may have typed their password as their name. Tries are slowed down before
they come here (`tries`); those that came too soon are counted by their status alone.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
import structlog
from psycopg import AsyncConnection

from services.api.access import Access
from services.api.credentials import token_hash
from services.api.identity import holders
from services.api.problems import Code
from services.api.scope import Origin, Person, open_scope, set_organisation
from services.store import audit
from services.store.audit import Entry

SIGN_IN: Final = "account.sign_in"
NOBODY: Final = "sign-in"  # who writes it where there is no such account

log = structlog.get_logger("keepwell.api.identity")


async def write(
    access: Access, person: Person | None, origin: Origin, *, action: str = SIGN_IN, organisation: str = "",
    **detail: str,
) -> None:  # fmt: skip
    """Write that a sign-in was refused, in a transaction of its own; a database that is away is only logged.

    Where there is no such account it is written for the ``organisation`` that was named; where that is none either,
    there is nobody to write it for, and the log has it.
    """
    detail = {"code": Code.SIGN_IN_REFUSED.value, **detail}
    try:
        async with access.pool.connection() as connection, connection.transaction():
            if person is not None:
                scope = await open_scope(connection, person, action, access.now(), origin)
                scope.detail.update(detail)
                await audit.write_async(connection, [scope.entry("refused")])
            elif not await _of_nobody(access, connection, organisation, origin, detail):
                log.warning("sign_in_refused", address=origin.address, **detail)
    except psycopg.Error as unwritten:
        log.warning("audit_unwritten", action=action, error=str(unwritten).strip())


async def of_link(access: Access, token: str, origin: Origin, action: str = SIGN_IN) -> None:
    """Write that a link which no longer works was used; of one that never was there is nobody to name."""
    async with access.pool.connection() as connection:
        was = await holders.whose(connection, token_hash(token), access.now(), access.idle)
    if was is not None:
        person = Person(was.person_id, was.organisation_id, was.person_key, was.name, was.role)
        await write(access, person, origin, action=action, by="link")


async def _of_nobody(
    access: Access, connection: AsyncConnection[Any], organisation: str, origin: Origin, detail: dict[str, str]
) -> bool:
    named = organisation if "\0" not in organisation else ""  # no text to the database, and no name either
    cursor = await connection.execute("SELECT organisation_named(%s)", [named])
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return False
    await set_organisation(connection, row[0], access.now())
    entry = Entry(
        access.now(), row[0], "service", SIGN_IN, name=NOBODY, address=origin.address, agent=origin.agent,
        outcome="refused", request_id=origin.request_id, detail=detail | {"account": "unknown"},
    )  # fmt: skip
    await audit.write_async(connection, [entry])
    return True
