"""Accounts of our own: a password and a code at each sign-in, and changing them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from services.api.access import Access
from services.api.identity import factor, passwords, refusals, sessions, tries
from services.api.identity.vault import Vault
from services.api.problems import Code, Problem
from services.api.scope import Origin, Person, Scope

NO_ACCOUNT: Final = "you have no password here: you sign in with a link or at your organisation"


class Accounts:
    """Signs people in and lets them change what they sign in with; made once for each app."""

    def __init__(self, access: Access, vault: Vault) -> None:
        self._access = access
        self._vault = vault
        self._hasher = passwords.Hasher()

    async def sign_in(self, login: str, password: str, code: str, *, origin: Origin, agent: str) -> str:
        """Return a new session's token for ``KEY@ORGANISATION``, a password and a code.

        Raises:
            Problem: something was not right, and nobody is told what; or the try came too soon.
        """
        login, at = login.strip(), self._access.now()
        of = tries.subjects(login, origin.address)
        row = await self._counted(of, login, at)
        right = await self._hasher.matches(password, row[5] if row else None)
        person = Person(*row[:5]) if row else None
        if row is None or person is None or not right:
            await refusals.write(self._access, person, origin, organisation=login.rpartition("@")[2], factor="password")
            raise Problem(Code.SIGN_IN_REFUSED, factor.NOT_RIGHT)
        try:
            async with self._access.for_person(person, refusals.SIGN_IN, at, origin) as scope:
                await factor.use(scope, self._vault, bytes(row[6]), code)
                await tries.forgive(scope.connection, of)
                return await sessions.make(scope.connection, person.id, agent, at, self._access.session)
        except Problem:
            await refusals.write(self._access, person, origin, factor="code")
            raise

    async def confirm(self, scope: Scope, password: str, code: str, *, address: str) -> None:
        """Let the person of a session show once more that it is they, before something that cannot be undone.

        Raises:
            Problem: no account, or something was not right.
        """
        login = f"{scope.person.key}@{await organisation_key(scope)}"
        of = tries.subjects(login, address)
        row = await self._counted(of, login, scope.at)
        if row is None:
            raise Problem(Code.SIGN_IN_REFUSED, NO_ACCOUNT)
        if not await self._hasher.matches(password, row[5]):
            raise Problem(Code.SIGN_IN_REFUSED, factor.NOT_RIGHT)
        await factor.use(scope, self._vault, bytes(row[6]), code)
        await tries.forgive(scope.connection, of)

    async def change_password(self, scope: Scope, current: str, wanted: str, code: str, *, address: str) -> int:
        """Change the password and end the person's other sessions; return how many.

        Raises:
            Problem: no account, something was not right, or the new password may not be used.
        """
        stored = await self.stored(wanted, scope.person, await organisation_key(scope))
        await self.confirm(scope, current, code, address=address)
        await scope.connection.execute(
            "UPDATE account SET password_hash = %s, password_at = %s WHERE person_id = %s",
            [stored, scope.at, scope.person.id],
        )
        return await sessions.end_all(scope.connection, scope.person.id, scope.at, keep=scope.token_id)

    async def stored(self, password: str, person: Person, organisation: str) -> str:
        """Return what is stored of a new password.

        Raises:
            Problem: it may not be used.
        """
        refused = passwords.refusal(password, person.key, person.name, organisation, "Keepwell")
        if refused is not None:
            raise Problem(Code.INVALID, f"choose another password: {refused}", field="password")
        return await self._hasher.hash(password)

    async def _counted(self, of: list[tries.Subject], login: str, at: datetime) -> tuple[Any, ...] | None:
        """Count the try, then return the account, None when there is none of that name."""
        key, _, organisation = login.rpartition("@")
        async with self._access.pool.connection() as connection, connection.transaction():
            await tries.take(connection, of, at)
            if "\x00" in login:  # no text to the database, and no name either
                return None
            cursor = await connection.execute("SELECT * FROM account_of(%s, %s)", [organisation, key])
            row = await cursor.fetchone()
        return row if row and row[5] is not None else None


async def organisation_key(scope: Scope) -> str:
    """Return the key of the scope's organisation, the second half of a sign-in name."""
    cursor = await scope.connection.execute("SELECT organisation_key()")
    row = await cursor.fetchone()
    return str(row[0]) if row else ""
