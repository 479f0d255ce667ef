"""The ways to sign in, each with what a test needs of it: accounts of our own, a stand-in provider, Keycloak."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

from playwright.async_api import Page, expect
from pydantic import SecretStr

from services.settings_sections import IdentitySettings
from tests import stand_in_provider
from tests.fix_api import ServedApi
from tests.fix_keycloak import CLIENT, Keycloak
from tests.stand_in_provider import StandIn
from tests.visitor import Member, Visitor

ROLE_MAP = {"care-nurse": "nurse", "care-research": "researcher"}
KEY = SecretStr("the key of tests, thirty-two characters or more")


class WayIn(Protocol):
    """One way in."""

    provider: bool

    def settings(self, organisation: str) -> IdentitySettings:
        """What Keepwell is told."""

    async def sign_in(self, page: Page, who: str) -> None:
        """Sign somebody in by what the screen shows, beginning at any page of Keepwell."""

    def access_token(self, who: str) -> str:
        """A token for the API."""

    def id_token(self, who: str) -> str:
        """A genuine token of the provider for something else."""

    def rotate(self) -> None:
        """Sign with a new key from now on."""

    async def end_sessions(self, served: ServedApi, who: str) -> None:
        """End somebody's sign-ins at the provider."""


def of_provider(issuer: str, secret: str, organisation: str) -> IdentitySettings:
    return IdentitySettings(
        key=KEY, issuer=issuer, client_id=CLIENT, client_secret=SecretStr(secret), audience="keepwell-api",
        clients=("keepwell-reports",), role_claim="roles", role_map=ROLE_MAP, person_claim="preferred_username",
        organisation=organisation,
    )  # fmt: skip


@dataclass
class StandInWay:
    """A provider of the tests' own, over real HTTP."""

    it: StandIn
    provider: bool = True

    def settings(self, organisation: str) -> IdentitySettings:
        return of_provider(self.it.issuer, stand_in_provider.SECRET, organisation)

    async def sign_in(self, page: Page, who: str) -> None:
        self.it.present = who
        await page.goto("/login")
        await page.get_by_role("link", name="Sign in at your organisation").click()

    def access_token(self, who: str) -> str:
        return self.it.access_token(who)

    def id_token(self, who: str) -> str:
        return self.it.access_token(who, typ="ID", nonce="n", aud=CLIENT)

    def rotate(self) -> None:
        self.it.rotate()

    async def end_sessions(self, served: ServedApi, who: str) -> None:
        async with served.client() as client:
            answer = await client.post("/login/provider/ended", data={"logout_token": self.it.logout_token(who)})
        assert answer.status_code == 200, answer.text


@dataclass
class KeycloakWay:
    """A real Keycloak, with its own pages to fill in."""

    it: Keycloak
    provider: bool = True

    def settings(self, organisation: str) -> IdentitySettings:
        return of_provider(self.it.issuer, self.it.client_secret, organisation)

    async def sign_in(self, page: Page, who: str) -> None:
        await page.goto("/login")
        await page.get_by_role("link", name="Sign in at your organisation").click()
        await expect(page).to_have_url(re.compile(re.escape(self.it.issuer)))
        await page.locator("#username").fill(who)
        await page.locator("#password").fill(self.it.password)
        await page.locator("#kc-login").click()

    def access_token(self, who: str) -> str:
        return str(self.it.token(who)["access_token"])

    def id_token(self, who: str) -> str:
        return str(self.it.token(who)["id_token"])

    def rotate(self) -> None:
        self.it.rotate()

    async def end_sessions(self, served: ServedApi, who: str) -> None:
        import asyncio

        await asyncio.to_thread(self.it.end_sessions, who)


@dataclass
class OwnAccounts:
    """Accounts of Keepwell's own; ``members`` were invited before."""

    served: ServedApi | None = None
    members: dict[str, Member] | None = None
    provider: bool = False

    def settings(self, organisation: str) -> IdentitySettings:
        return IdentitySettings(key=KEY)

    async def sign_in(self, page: Page, who: str) -> None:
        assert self.served is not None
        member = (self.members or {}).get(
            who, Member(f"{who}@nowhere", "no password at all", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
        )
        await page.goto("/login")
        await page.get_by_label("Name").fill(member.login)
        await page.get_by_label("Password").fill(member.password)
        await page.get_by_label("Code", exact=True).fill(Visitor(self.served, "127.0.0.1").next_code(member.secret))
        await page.get_by_role("button", name="Sign in").click()

    def access_token(self, who: str) -> str:
        raise NotImplementedError

    def id_token(self, who: str) -> str:
        raise NotImplementedError

    def rotate(self) -> None:
        raise NotImplementedError

    async def end_sessions(self, served: ServedApi, who: str) -> None:
        raise NotImplementedError


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unjudged."""
    import base64

    import msgspec

    part = token.split(".")[1]
    return msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Any])
