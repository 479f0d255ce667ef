"""Somebody with a browser, without the browser: cookies, forms and pages over the API's own door."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pyotp

from services import people
from services.roles import Role
from tests.api_data import ApiData
from tests.fix_api import ServedApi

PASSWORD = "seven quiet herons at dusk"


@dataclass
class Member:
    """What somebody signs in with."""

    login: str
    password: str
    secret: str
    recovery: list[str] = field(default_factory=list)


class Visitor:
    """One browser; ``address`` is where it comes from, so that tests do not slow each other down."""

    def __init__(self, served: ServedApi, address: str, agent: str = "Firefox 140 on Linux") -> None:
        self._served = served
        self.client = httpx.AsyncClient(
            base_url=served.url, timeout=20,
            headers={"Origin": served.url, "X-Forwarded-For": address, "User-Agent": agent},
        )  # fmt: skip

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    def code(self, secret: str) -> str:
        """What the app shows now."""
        return pyotp.TOTP(secret).at(self._served.credential_clock.now_ms() // 1000)

    def next_code(self, secret: str) -> str:
        """Wait for the app's next code, and return it."""
        self._served.credential_clock.advance(30_000)
        return self.code(secret)

    async def accept(self, invitation: str, password: str = PASSWORD) -> Member:
        """Follow an invitation to its end."""
        page = (await self.client.get("/invitation", params={"token": invitation})).text
        form = {"token": invitation, "sealed": hidden(page, "sealed"), "password": password}
        secret = key_of(page)
        answer = await self.client.post("/invitation", data=form | {"code": self.code(secret)})
        assert answer.status_code == 200, answer.text
        login = re.search(r"sign in as <strong>([^<]+)", answer.text)
        assert login is not None
        return Member(login[1], password, secret, re.findall(r"<li>([A-Z2-7-]{27})</li>", answer.text))

    async def sign_in(self, member: Member, code: str | None = None, password: str | None = None) -> httpx.Response:
        """Fill in the sign-in page."""
        form = {
            "name": member.login, "password": member.password if password is None else password,
            "code": self.next_code(member.secret) if code is None else code,
        }  # fmt: skip
        return await self.client.post("/login/password", data=form)


def invited(data: ApiData, served: ServedApi, key: str = "ada", role: Role = "nurse", name: str = "Ada Nurse") -> str:
    """An invitation's token, as `keepwell account invite` makes it."""
    at = datetime.fromtimestamp(served.credential_clock.now_ms() / 1000, UTC)
    return people.invite(data.connection, data.key, key, name, role, at)


def hidden(page: str, name: str) -> str:
    """What a hidden field holds."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return html.unescape(found[1])


def key_of(page: str) -> str:
    """The key an app is to be told."""
    found = re.search(r"Key:</span>([A-Z2-7 ]+)<", page)
    assert found is not None, page
    return found[1].replace(" ", "")
