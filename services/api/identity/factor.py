"""The second factor as it is stored: a code uses up its half minute, a recovery code itself."""

from __future__ import annotations

from typing import Final

from services.api.identity import codes
from services.api.identity.vault import Vault
from services.api.problems import Code, Problem
from services.api.scope import Scope

NOT_RIGHT: Final = "name, password or code is not right; each code works once, so wait for the next one"


async def use(scope: Scope, vault: Vault, sealed: bytes, code: str) -> None:
    """Use up a code of the app or a recovery code, in the scope's transaction.

    Raises:
        Problem: it is neither, or was used before.
    """
    secret = vault.open(sealed, "totp").decode()
    step = codes.step_of(code, secret, int(scope.at.timestamp()))
    if step is not None:
        cursor = await scope.connection.execute(
            "UPDATE account SET totp_step = %s WHERE person_id = %s AND totp_step < %s",
            [step, scope.person.id, step],
        )
    else:
        cursor = await scope.connection.execute(
            "UPDATE recovery_code SET used_at = %s WHERE hash = %s AND person_id = %s AND used_at IS NULL",
            [scope.at, codes.recovery_hash(code), scope.person.id],
        )
    if cursor.rowcount != 1:
        raise Problem(Code.SIGN_IN_REFUSED, NOT_RIGHT)
    scope.detail["factor"] = "app" if step is not None else "recovery code"


async def renew_recovery_codes(scope: Scope) -> list[str]:
    """Replace the person's recovery codes and return the new ones: they are stored as hashes, so shown once."""
    person, fresh = scope.person, codes.new_recovery_codes()
    await scope.connection.execute("DELETE FROM recovery_code WHERE person_id = %s", [person.id])
    await scope.connection.cursor().executemany(
        "INSERT INTO recovery_code (hash, person_id, organisation_id) VALUES (%s, %s, %s)",
        [(codes.recovery_hash(code), person.id, person.organisation_id) for code in fresh],
    )
    return fresh


async def recovery_codes_left(scope: Scope) -> int | None:
    """Return how many recovery codes the person has left, None when they have no account of ours."""
    cursor = await scope.connection.execute(
        """SELECT (SELECT count(*) FROM recovery_code r WHERE r.person_id = a.person_id AND r.used_at IS NULL)
           FROM account a WHERE a.person_id = %s""",
        [scope.person.id],
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else None
