"""Signing in at a provider: Authorization Code with PKCE, state and nonce (OpenID Connect Core, RFC 7636, RFC 9207).

What must be known when the provider sends the browser back travels with the browser, sealed, in a cookie of ten
minutes: nothing is stored for sign-ins that nobody finishes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from services.api.access import Access
from services.api.identity import invitations, refusals, sessions, subjects
from services.api.identity.jwt import TokenError, Verifier
from services.api.identity.provider import Provider
from services.api.identity.vault import SealBrokenError, Vault
from services.api.problems import Code, Problem
from services.api.scope import Origin, open_scope, write_audit
from services.settings_sections import IdentitySettings

BEGUN_S: Final = 600
BACK: Final = "/login/provider/back"
AGAIN: Final = "this sign-in is not the one begun here, or took too long; begin again"
REFUSED_THERE: Final = "your organisation did not sign you in; begin again, or ask there"


class Begun(msgspec.Struct):
    """A sign-in under way."""

    state: str
    nonce: str
    verifier: str
    invitation: str
    base: str  # where the browser is to come back to


class SignIn:
    """Sends people to the provider and takes them back; made once for each app."""

    def __init__(
        self, settings: IdentitySettings, access: Access, provider: Provider, verifier: Verifier,
        people: subjects.ProviderSubjects, vault: Vault,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._access = access
        self._provider = provider
        self._verifier = verifier
        self._people = people
        self._vault = vault

    async def begin(self, base: str, invitation: str = "") -> tuple[str, str]:
        """Return the provider's address to send a browser to, and what its cookie holds.

        ``base`` is our own address, without a slash at its end; with an invitation, the subject becomes its person.

        Raises:
            Problem: the provider does not answer.
        """
        begun = Begun(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), invitation, base)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code", "client_id": self._settings.client_id, "redirect_uri": base + BACK,
            "scope": self._scope(), "state": begun.state, "nonce": begun.nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        address = await self._address("authorization_endpoint")
        sealed = self._vault.seal(msgspec.json.encode(begun), "sign-in", self._now_s())
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", sealed.decode()

    async def finish(self, cookie: str, state: str, code: str, issuer: str, *, origin: Origin, agent: str) -> str:
        """Return a new session's token for what the provider sent the browser back with.

        Raises:
            Problem: it is not the sign-in that was begun, the provider refuses it, or nobody here is that subject.
        """
        begun = self._begun(cookie)
        if not hmac.compare_digest(begun.state.encode(), state.encode()) or issuer not in ("", self._settings.issuer):
            raise Problem(Code.SIGN_IN_REFUSED, AGAIN)
        if not code:
            raise Problem(Code.SIGN_IN_REFUSED, REFUSED_THERE)
        answer = await self._provider.post(
            await self._address("token_endpoint"),
            {"grant_type": "authorization_code", "code": code, "redirect_uri": begun.base + BACK,
             "code_verifier": begun.verifier},
        )  # fmt: skip
        token = (answer or {}).get("id_token")
        if not isinstance(token, str):
            raise Problem(Code.SIGN_IN_REFUSED, AGAIN)
        at = self._access.now()
        try:
            claims = await self._verifier.identity(token, begun.nonce, self._now_s())
        except TokenError as error:
            raise Problem(Code.SIGN_IN_REFUSED, f"the provider's token is refused: {error}") from error
        try:
            return await self._let_in(begun, claims, token, at, origin, agent)
        except Problem:
            async with self._access.pool.connection() as connection:
                who = await self._people.whose(connection, claims)
            await refusals.write(self._access, who, origin, organisation=self._settings.organisation, by="provider")
            raise

    async def _let_in(
        self, begun: Begun, claims: dict[str, Any], token: str, at: datetime, origin: Origin, agent: str
    ) -> str:
        async with self._access.pool.connection() as connection, connection.transaction():
            if begun.invitation:
                token_id, person, _ = await invitations.find(connection, begun.invitation, at)
                await subjects.link(connection, person, claims, at)
                await invitations.use(connection, token_id, at)
            person = await self._people.person(connection, claims, at)
            scope = await open_scope(connection, person, refusals.SIGN_IN, at, origin)
            scope.detail["by"] = "provider"
            hint = self._vault.seal(token.encode(), "id token", self._now_s())
            session = await sessions.make(
                connection, person.id, agent, at, self._access.session,
                provider_session=str(claims.get("sid", "")), id_token=hint,
            )  # fmt: skip
            await write_audit(scope)
        return session

    async def leave(self, sealed: bytes | None, base: str) -> str | None:
        """Return where a browser ends its sign-in at the provider too, None when there is no such place."""
        if sealed is None:
            return None
        try:
            address = await self._provider.address("end_session_endpoint")
            hint = self._vault.open(sealed, "id token").decode()
        except (Problem, SealBrokenError):
            return None
        asked = {
            "id_token_hint": hint, "client_id": self._settings.client_id,
            "post_logout_redirect_uri": f"{base}/login",
        }  # fmt: skip
        return f"{address}?{urlencode(asked)}" if address else None

    async def ended_there(self, token: str) -> int:
        """End what the provider says has ended (back-channel logout); return how many sessions and tokens.

        Raises:
            Problem: the token is not the provider's.
        """
        try:
            claims = await self._verifier.logout(token, self._now_s())
        except TokenError as error:
            raise Problem(Code.BAD_REQUEST, f"the logout token is refused: {error}") from error
        async with self._access.pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT end_provider_session(%s, %s, %s, %s)",
                [claims["iss"], claims.get("sub"), claims.get("sid"), self._access.now()],
            )
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    def _scope(self) -> str:
        """Return what is asked of the provider: no more about a person than says who they are."""
        wanted = self._settings.person_claim
        return "openid email" if wanted == "email" else "openid profile" if wanted else "openid"

    def _now_s(self) -> int:
        return int(self._access.now().timestamp())

    async def _address(self, name: str) -> str:
        address = await self._provider.address(name)
        if address is None:
            raise Problem(Code.PROVIDER_UNAVAILABLE, f"the provider names no {name}", retry_after_s=10)
        return address

    def _begun(self, cookie: str) -> Begun:
        try:
            content = self._vault.open(cookie.encode(), "sign-in", within_s=BEGUN_S, at_s=self._now_s())
            return msgspec.json.decode(content, type=Begun)
        except (SealBrokenError, msgspec.MsgspecError) as error:
            raise Problem(Code.SIGN_IN_REFUSED, AGAIN) from error
