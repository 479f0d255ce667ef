"""One-time invitations: whoever holds the link sets a password and an app for codes, once, within seven days.

Following the link uses nothing up: mail programs and scanners follow links too. The app's secret travels sealed in
the page, so that a reload or a mistyped code keeps it, and is stored only when a code of it was shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection

from services.api.access import Access
from services.api.credentials import token_hash
from services.api.identity import codes, factor, sessions
from services.api.identity.accounts import Accounts
from services.api.identity.vault import SealBrokenError, Vault
from services.api.problems import Code, Problem
from services.api.scope import Origin, Person

PAGE_S: Final = 3600  # how long an open page may be filled in
GONE: Final = "this invitation was used before, has expired, or never was; ask for another"
CODE: Final = (
    "the code is not the app's: type the six figures it shows now, and check the clock of your telephone if they "
    "still do not match"
)


@dataclass(frozen=True)
class Invitation:
    """An open invitation: whom it is for, and the secret their app is shown."""

    person: Person
    organisation: str
    token: str
    token_id: int
    secret: str
    sealed: str

    @property
    def login(self) -> str:
        """The name they will sign in with."""
        return f"{self.person.key}@{self.organisation}"


class Invitations:
    """Opens invitations and uses them up; made once for each app."""

    def __init__(self, access: Access, accounts: Accounts, vault: Vault) -> None:
        self._access = access
        self._accounts = accounts
        self._vault = vault

    async def open(self, token: str, sealed: str = "") -> Invitation:
        """Return an invitation that can still be used; ``sealed`` is the page's secret, empty for a new one.

        Raises:
            Problem: the link or the page does not work any more.
        """
        at = self._access.now()
        async with self._access.pool.connection() as connection, connection.transaction():
            token_id, person, organisation = await find(connection, token, at)
        mark, at_s = token_hash(token).hex(), int(at.timestamp())
        if not sealed:
            secret = codes.new_secret()
            sealed = self._vault.seal(f"{mark} {secret}".encode(), "invitation", at_s).decode()
            return Invitation(person, organisation, token, token_id, secret, sealed)
        try:
            opened = self._vault.open(sealed.encode(), "invitation", within_s=PAGE_S, at_s=at_s).decode()
        except SealBrokenError:
            opened = ""
        known, _, secret = opened.partition(" ")
        if known != mark:
            raise Problem(Code.SIGN_IN_REFUSED, "this page was open too long; follow the link again")
        return Invitation(person, organisation, token, token_id, secret, sealed)

    async def accept(
        self, invitation: Invitation, password: str, code: str, *, origin: Origin, agent: str
    ) -> tuple[str, list[str]]:
        """Use an invitation up and make the account; return a session's token and ten recovery codes, shown once.

        An account that was there is replaced, and its sessions end: this is also the way back in.

        Raises:
            Problem: the password may not be used, the code is not the app's, or the invitation was used meanwhile.
        """
        person, at = invitation.person, self._access.now()
        stored = await self._accounts.stored(password, person, invitation.organisation)
        step = codes.step_of(code, invitation.secret, int(at.timestamp()))
        if step is None:
            raise Problem(Code.INVALID, CODE, field="code")
        sealed = self._vault.seal(invitation.secret.encode(), "totp", int(at.timestamp()))
        async with self._access.for_person(person, "account.accept", at, origin) as scope:
            await use(scope.connection, invitation.token_id, at)
            await scope.connection.execute(
                """INSERT INTO account (person_id, organisation_id, password_hash, password_at, totp_secret, totp_step)
                   VALUES (%s, %s, %s, %s, %s, %s)
                   ON CONFLICT (person_id) DO UPDATE SET password_hash = excluded.password_hash,
                       password_at = excluded.password_at, totp_secret = excluded.totp_secret,
                       totp_step = excluded.totp_step""",
                [person.id, person.organisation_id, stored, at, sealed, step],
            )
            fresh = await factor.renew_recovery_codes(scope)
            await sessions.end_all(scope.connection, person.id, at)
            session = await sessions.make(scope.connection, person.id, agent, at, self._access.session)
        return session, fresh


async def find(connection: AsyncConnection[Any], token: str, at: object) -> tuple[int, Person, str]:
    """Return (id of the token, person, key of the organisation) of an open invitation; its organisation is set.

    Raises:
        Problem: it was used, has expired, or never was.
    """
    cursor = await connection.execute(
        """SELECT h.token_id, h.person_id, h.organisation_id, h.person_key, h.name, h.role,
                  set_config('keepwell.organisation', h.organisation_id::text, true)
           FROM holder_of_token(%s, %s, '1 day') AS h WHERE h.kind = 'invitation' AND h.state = 'open'""",
        [token_hash(token), at],
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem(Code.SIGN_IN_REFUSED, GONE)
    cursor = await connection.execute("SELECT organisation_key()")
    organisation = await cursor.fetchone()
    return row[0], Person(*row[1:6]), str(organisation[0]) if organisation else ""


async def use(connection: AsyncConnection[Any], token_id: int, at: object) -> None:
    """Use an invitation up, in a transaction of its organisation.

    Raises:
        Problem: somebody else did so meanwhile.
    """
    cursor = await connection.execute(
        "UPDATE person_token SET used_at = %s WHERE id = %s AND kind = 'invitation' AND used_at IS NULL "
        "AND revoked_at IS NULL AND expires_at > %s",
        [at, token_id, at],
    )
    if cursor.rowcount != 1:
        raise Problem(Code.SIGN_IN_REFUSED, GONE)
