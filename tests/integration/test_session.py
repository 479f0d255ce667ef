"""The processor's connection to the database: whoever is frozen while it writes holds nobody up for ever."""

from __future__ import annotations

import psycopg
import pytest

from services.settings import Settings
from services.store import session
from services.store.session import LIMITS, Session

pytestmark = pytest.mark.stack

PLACE = ("readings.v1", 0)


async def test_a_writer_frozen_inside_a_copy_is_ended_by_who_waits_for_its_locks(
    migrated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FROZEN_S", 0.2)
    monkeypatch.setattr(session, "LIMITS", LIMITS.replace("10s", "300ms"))  # who waits gives up sooner
    conninfo = migrated.postgres.conninfo("writer")
    successor = Session(conninfo)
    await successor.connect()
    epochs = [(await successor.take_over([PLACE], "first", 0))[PLACE][1]]
    frozen = await psycopg.AsyncConnection.connect(conninfo)
    await frozen.execute("SET statement_timeout = '100ms'; SET idle_in_transaction_session_timeout = '100ms'")
    await frozen.commit()
    await frozen.execute("CREATE TEMP TABLE stage_frozen (a int)")
    await frozen.execute("SELECT FROM partition_position WHERE topic = %s AND partition = %s FOR SHARE", PLACE)

    async def frozen_meanwhile() -> None:
        async with frozen.cursor().copy("COPY stage_frozen FROM STDIN"):
            with pytest.raises(psycopg.errors.LockNotAvailable):  # none of its own bounds has ended it
                await successor.take_over([PLACE], "second", 0)
            await successor.close()
            await successor.connect()
            epochs.append((await successor.take_over([PLACE], "second", 0))[PLACE][1])

    with pytest.raises(psycopg.errors.AdminShutdown):
        await frozen_meanwhile()
    assert epochs[1] > epochs[0]
    await frozen.close()
    await successor.close()
