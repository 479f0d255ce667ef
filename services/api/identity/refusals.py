"""Refused sign-ins in the audit: whose account it was where there is one, from where, and which part was not right.

What was typed is never written: somebody may have typed their password as their name. Tries are slowed down before
they come here (`tries`); those that came too soon are counted by their status alone.
"""

from __future__ import annotations

import psycopg
import structlog

from services.api.access import Access, Origin, Person, Scope, open_scope, token_hash
from services.api.identity import holders
from services.api.problems import Code
from services.store import audit
from services.store.audit import Entry

SIGN_IN = "account.sign_in"

log = structlog.get_logger("keepwell.api.identity")


async def write(access: Access, person: Person | None, origin: Origin, action: str = SIGN_IN, **detail: str) -> None:
    """Write that a sign-in was refused, in a transaction of its own; a database that is away is only logged.

    ``person`` is None where there is no such account: the row then is of Keepwell itself, for all organisations.
    """
    at, said = access.now(), {"code": str(Code.SIGN_IN_REFUSED), **detail}
    try:
        async with access.pool.connection() as connection, connection.transaction():
            if person is None:
                entry = Entry(
                    at, None, "service", action, name="sign-in", address=origin.address, agent=origin.agent,
                    outcome="refused", request_id=origin.request_id, detail={**said, "account": "unknown"},
                )  # fmt: skip
            else:
                scope: Scope = await open_scope(connection, person, action, at, origin)
                scope.detail.update(said)
                entry = scope.entry("refused")
            await audit.write_async(connection, [entry])
    except psycopg.Error as unwritten:
        log.warning("audit_unwritten", action=action, error=str(unwritten).strip())


async def of_link(access: Access, token: str, origin: Origin, action: str = SIGN_IN) -> None:
    """Write that a link which no longer works was used; of one that never was there is nobody to name."""
    async with access.pool.connection() as connection:
        was = await holders.whose(connection, token_hash(token), access.now(), access.idle)
    if was is not None:
        person = Person(was.person_id, was.organisation_id, was.person_key, was.name, was.role)
        await write(access, person, origin, action, by="link")
