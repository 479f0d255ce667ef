"""A provider's addresses and public keys, fetched when needed, kept a while, and never fetched often.

Keys rotate: a token signed with a key that is not known makes one look at what the provider publishes now, however
many such tokens come. A key that is no longer published is forgotten with the next look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from services.api.problems import Code, Problem
from services.settings_sections import IdentitySettings, safe_address

TIMEOUT_S: Final = 5.0
MAX_DOCUMENT: Final = 256 * 1024
MAX_KEYS: Final = 100
LOOK_AFTER_S: Final = 600.0  # keys are looked at again after this long
LOOK_LEAST_S: Final = 10.0  # and never sooner than this after the last look, whatever comes
KEPT_S: Final = 3600.0  # when the provider does not answer, its keys count this long
KEY_TYPES: Final = ("RSA", "EC", "OKP")  # public keys only: nobody's secret is a provider's key
PUBLIC: Final = frozenset({"kty", "kid", "use", "alg", "n", "e", "crv", "x", "y"})
LEAST_RSA_BITS: Final = 2048

log = structlog.get_logger("keepwell.api.identity")


class Provider:
    """One OpenID Connect provider. ``monotonic`` tells seconds; times of keys are never judged by a wall clock."""

    def __init__(
        self, settings: IdentitySettings, client: httpx.AsyncClient, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._client = client
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._addresses: dict[str, Any] = {}
        self._keys: dict[str, Key] = {}
        self._looked: float | None = None
        self._had: float | None = None

    async def address(self, name: str) -> str | None:
        """Return one of the provider's addresses, e.g. ``token_endpoint``; None when it has none.

        Raises:
            Problem: the provider does not answer.
        """
        async with self._lock:
            if not self._addresses:
                await self._look()
        found = self._addresses.get(name)
        return found if isinstance(found, str) and safe_address(found) else None

    async def key(self, kid: str) -> Key | None:
        """Return a public key of the provider, None when it publishes none of this id.

        Raises:
            Problem: nothing is known, and the provider does not answer.
        """
        async with self._lock:
            since = self._since(self._looked)
            if since > LOOK_AFTER_S or (kid not in self._keys and since > LOOK_LEAST_S):
                await self._look()
            if self._since(self._had) > KEPT_S:
                self._keys = {}
                raise _away()
            return self._keys.get(kid)

    async def post(self, address: str, form: Mapping[str, str]) -> dict[str, Any] | None:
        """Send a form as this client and return the answer; None when it was refused.

        Raises:
            Problem: the provider does not answer.
        """
        secret = self._settings.client_secret.get_secret_value()
        content = {**form, "client_id": self._settings.client_id} if not secret else dict(form)
        basic = httpx.BasicAuth(self._settings.client_id, secret) if secret else None
        return await self._ask("POST", address, data=content, auth=basic)

    def _since(self, moment: float | None) -> float:
        return float("inf") if moment is None else self._monotonic() - moment

    async def _look(self) -> None:
        """Fetch addresses and keys; what cannot be had leaves what was known."""
        if self._since(self._looked) <= LOOK_LEAST_S:
            if not self._addresses:
                raise _away()
            return
        self._looked = self._monotonic()
        try:
            addresses = await self._ask("GET", f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
            if addresses is None or addresses.get("issuer") != self._settings.issuer:
                log.error("provider_refused", issuer=self._settings.issuer, why="its own document names another issuer")
                return
            where = str(addresses.get("jwks_uri"))
            found = await self._ask("GET", where) if safe_address(where) else None
        except Problem as problem:
            if not self._addresses:
                raise
            log.warning("provider_away", issuer=self._settings.issuer, error=problem.detail)
            return
        self._addresses = addresses
        if found is not None:
            self._keys, self._had = public_keys(found), self._monotonic()

    async def _ask(self, method: str, address: str, **what: Any) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._client.stream(method, address, **what) as answer:
                body = b""
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MAX_DOCUMENT:
                        raise _away()
            if answer.status_code >= 500:
                raise _away()
            document = msgspec.json.decode(body, type=dict[str, Any]) if answer.status_code == 200 else None
        except (httpx.HTTPError, TimeoutError, msgspec.MsgspecError) as error:
            log.warning("provider_away", issuer=self._settings.issuer, error=repr(error))
            raise _away() from error
        return document


def public_keys(document: Mapping[str, Any]) -> dict[str, Key]:
    """Return the keys for signatures in a JWK set by their ids; what is no such key is left out."""
    found: dict[str, Key] = {}
    entries = document.get("keys")
    for entry in entries[:MAX_KEYS] if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("kty") not in KEY_TYPES or entry.get("use", "sig") != "sig":
            continue
        try:
            key = JWKRegistry.import_key({name: entry[name] for name in entry if name in PUBLIC})
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        kid = entry.get("kid")
        bits = getattr(key.public_key, "key_size", LEAST_RSA_BITS) if entry["kty"] == "RSA" else LEAST_RSA_BITS
        if isinstance(kid, str) and bits >= LEAST_RSA_BITS:
            found[kid] = key
    return found


def _away() -> Problem:
    return Problem(Code.PROVIDER_UNAVAILABLE, "try again in a moment", retry_after_s=10)
