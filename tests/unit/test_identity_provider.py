"""A provider's keys: rotated without a pause, forgotten when withdrawn, and never asked for often."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from services.api.identity.provider import KEPT_S, LOOK_AFTER_S, LOOK_LEAST_S, MAX_DOCUMENT, Provider
from services.api.problems import Code, Problem
from services.settings_sections import IdentitySettings

ISSUER = "https://id.example.org"
KEYS = {kid: RSAKey.generate_key(2048, {"kid": kid}).as_dict(private=False) for kid in ("k1", "k2")}


class FakeProvider:
    """Answers as a provider; what it publishes and whether it answers can be changed."""

    def __init__(self) -> None:
        self.published = ["k1"]
        self.issuer, self.keys_at = ISSUER, f"{ISSUER}/keys"
        self.away = False
        self.looks = 0
        self.extra = ""
        self.now = 1000.0
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.provider = Provider(IdentitySettings(issuer=ISSUER, client_id="c"), client, lambda: self.now)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            msg = "refused"
            raise httpx.ConnectError(msg)
        if request.url.path == "/.well-known/openid-configuration":
            self.looks += 1
            document: dict[str, Any] = {
                "issuer": self.issuer, "jwks_uri": self.keys_at, "token_endpoint": f"{ISSUER}/token",
                "authorization_endpoint": "http://elsewhere.example.org/", "extra": self.extra,
            }  # fmt: skip
            return httpx.Response(200, json=document)
        return httpx.Response(200, json={"keys": [KEYS[kid] for kid in self.published]})


async def test_a_new_key_is_found_and_a_withdrawn_one_forgotten() -> None:
    fake = FakeProvider()
    assert await fake.provider.key("k1") is not None
    fake.published = ["k2"]
    fake.now += LOOK_LEAST_S + 1
    assert await fake.provider.key("k2") is not None
    assert await fake.provider.key("k1") is None
    assert fake.looks == 2


async def test_a_withdrawn_key_is_forgotten_even_when_nothing_new_comes() -> None:
    fake = FakeProvider()
    assert await fake.provider.key("k1") is not None
    fake.published = ["k2"]
    fake.now += LOOK_AFTER_S + 1
    assert await fake.provider.key("k1") is None


async def test_unknown_keys_make_one_look_however_many_come() -> None:
    fake = FakeProvider()
    assert await fake.provider.key("k1") is not None
    fake.now += LOOK_LEAST_S + 1
    found = await asyncio.gather(*(fake.provider.key(f"made-up-{i}") for i in range(200)))
    assert found == [None] * 200
    assert fake.looks == 2
    assert await fake.provider.key("k1") is not None


async def test_its_keys_outlive_a_short_absence_and_no_longer() -> None:
    fake = FakeProvider()
    assert await fake.provider.key("k1") is not None
    fake.away = True
    fake.now += LOOK_AFTER_S + 1
    assert await fake.provider.key("k1") is not None
    fake.now += KEPT_S
    with pytest.raises(Problem) as caught:
        await fake.provider.key("k1")
    assert caught.value.code is Code.PROVIDER_UNAVAILABLE
    fake.away = False
    fake.now += LOOK_LEAST_S + 1
    assert await fake.provider.key("k1") is not None


async def test_never_reached_it_says_so_and_is_not_hammered() -> None:
    fake = FakeProvider()
    fake.away = True
    for _ in range(3):
        with pytest.raises(Problem):
            await fake.provider.key("k1")
    fake.away = False
    with pytest.raises(Problem):
        await fake.provider.key("k1")
    assert fake.looks == 0
    fake.now += LOOK_LEAST_S + 1
    assert await fake.provider.key("k1") is not None


@pytest.mark.parametrize("wrong", ["issuer", "keys_at", "extra"])
async def test_a_document_of_another_issuer_a_plain_address_or_endless_is_not_believed(wrong: str) -> None:
    fake = FakeProvider()
    value = {
        "issuer": "https://evil.example.org",
        "keys_at": "http://id.example.org/keys",
        "extra": "x" * MAX_DOCUMENT,
    }[wrong]
    setattr(fake, wrong, value)
    with pytest.raises(Problem):
        await fake.provider.key("k1")


async def test_only_safe_addresses_are_used() -> None:
    fake = FakeProvider()
    assert await fake.provider.address("token_endpoint") == f"{ISSUER}/token"
    assert await fake.provider.address("authorization_endpoint") is None
    assert await fake.provider.address("end_session_endpoint") is None
