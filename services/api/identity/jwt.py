"""What a provider signed: access tokens, ID tokens and logout tokens, each taken only as what it is.

A token chooses nothing about how it is judged: the algorithms are the settings', the keys the provider's own, and a
token that brings a key or an address of one along is refused unread (RFC 8725; ASVS 5.0, 9.1 and 9.2).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key
from joserfc.jwt import JWTClaimsRegistry

from services.settings_sections import IdentitySettings

LEEWAY_S: Final = 30
MAX_LIFE_S: Final = 24 * 3600  # an access token that lasts longer is not taken
MAX_KID: Final = 200
CARRIED: Final = ("jwk", "jku", "x5c", "x5u", "crit")  # a token's own key, or where one is to be had
ACCESS_TYPES: Final = ("at+jwt", "application/at+jwt", "jwt", "")
PLAIN_TYPES: Final = ("jwt", "")
LOGOUT_TYPES: Final = ("logout+jwt", "application/logout+jwt", "jwt", "")
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"


class TokenError(ValueError):
    """A token is refused; the text says why, without any of the token.

    ``claims`` is what the provider did sign, to name who tried; empty where it signed nothing of it.
    """

    claims: Mapping[str, Any] = MappingProxyType({})


class Keys(Protocol):
    """Where a provider's public keys come from."""

    async def key(self, kid: str) -> Key | None:
        """Return the key of this id, None when the provider has none."""


class Verifier:
    """Judges a provider's tokens against the settings and the provider's keys."""

    def __init__(self, settings: IdentitySettings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys

    async def access(self, token: str, at_s: int) -> dict[str, Any]:
        """Return the claims of an access token for the API.

        Raises:
            TokenError: it is not one, or not for us, or not now.
        """
        if not self._settings.audience:
            msg = "no access tokens of a provider are taken here: identity.audience is not set"
            raise TokenError(msg)
        header, claims = await self._signed(token)
        try:
            self._judge_access(header, claims, at_s)
        except TokenError as error:
            error.claims = claims if claims.get("iss") == self._settings.issuer else {}
            raise
        return claims

    def _judge_access(self, header: dict[str, Any], claims: dict[str, Any], at_s: int) -> None:
        _typed(header, ACCESS_TYPES)
        if claims.get("typ", "Bearer") != "Bearer":  # how Keycloak tells its tokens apart
            msg = f"it is no access token but of the type {str(claims['typ'])[:20]!r}"
            raise TokenError(msg)
        if any(claim in claims for claim in ("nonce", "at_hash", "c_hash", "events")):
            msg = "it is no access token but an ID token or a logout token"
            raise TokenError(msg)
        self._check(claims, self._settings.audience, at_s, needed=("exp", "sub"))
        if claims["exp"] - at_s > MAX_LIFE_S:
            msg = f"it lasts longer than {MAX_LIFE_S // 3600} h"
            raise TokenError(msg)
        self._for_client(claims)

    async def identity(self, token: str, nonce: str, at_s: int) -> dict[str, Any]:
        """Return the claims of the ID token that answers a sign-in begun with ``nonce``.

        Raises:
            TokenError: it is not one, or of another sign-in.
        """
        header, claims = await self._signed(token)
        _typed(header, PLAIN_TYPES)
        if claims.get("typ", "ID") != "ID":
            msg = f"it is no ID token but of the type {str(claims['typ'])[:20]!r}"
            raise TokenError(msg)
        self._check(claims, self._settings.client_id, at_s, needed=("exp", "iat", "sub", "nonce"))
        if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            msg = "it answers another sign-in (nonce)"
            raise TokenError(msg)
        if claims.get("azp", self._settings.client_id) != self._settings.client_id:
            msg = "it was issued to another client (azp)"
            raise TokenError(msg)
        return claims

    async def logout(self, token: str, at_s: int) -> dict[str, Any]:
        """Return the claims of a back-channel logout token, with ``sub``, ``sid`` or both.

        Raises:
            TokenError: it is not one.
        """
        header, claims = await self._signed(token)
        _typed(header, LOGOUT_TYPES)
        self._check(claims, self._settings.client_id, at_s, needed=("iat", "events"))
        events = claims["events"]
        if not isinstance(events, Mapping) or LOGOUT_EVENT not in events or "nonce" in claims:
            msg = "it is no logout token"
            raise TokenError(msg)
        if not isinstance(claims.get("sid", ""), str) or not (claims.get("sub") or claims.get("sid")):
            msg = "it names neither a subject nor a session"
            raise TokenError(msg)
        if at_s - claims["iat"] > LEEWAY_S + 120:
            msg = "it is too old"
            raise TokenError(msg)
        return claims

    async def _signed(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return header and claims once the signature has been found to be the provider's."""
        header = _header(token)
        carried = [name for name in CARRIED if name in header]
        if carried:
            msg = f"it brings its own {carried[0]} along"
            raise TokenError(msg)
        if header.get("alg") not in self._settings.algorithms:
            msg = f"its algorithm is not taken; those that are: {', '.join(self._settings.algorithms)}"
            raise TokenError(msg)
        kid = header.get("kid")
        if not isinstance(kid, str) or not 1 <= len(kid) <= MAX_KID:
            msg = "it names no key (kid)"
            raise TokenError(msg)
        key = await self._keys.key(kid)
        if key is None:
            msg = "it was signed with a key that is not the provider's"
            raise TokenError(msg)
        try:
            read = jws.deserialize_compact(token, key, algorithms=list(self._settings.algorithms))
            claims = msgspec.json.decode(read.payload or b"", type=dict[str, Any])
        except (JoseError, ValueError, msgspec.MsgspecError) as error:
            msg = "its signature does not match"
            raise TokenError(msg) from error
        return header, claims

    def _check(self, claims: dict[str, Any], audience: str, at_s: int, *, needed: Sequence[str]) -> None:
        registry = JWTClaimsRegistry(
            now=at_s, leeway=LEEWAY_S,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": audience},
        )  # fmt: skip
        missing = [name for name in needed if claims.get(name) in (None, "")]
        if missing:
            msg = f"it has no {missing[0]}"
            raise TokenError(msg)
        try:
            registry.validate(claims)
        except JoseError as error:
            msg = f"it is not for here and now ({getattr(error, 'claim', None) or error.error})"
            raise TokenError(msg) from error

    def _for_client(self, claims: Mapping[str, Any]) -> None:
        taken = (self._settings.client_id, *self._settings.clients)
        for name in ("azp", "client_id"):
            if name in claims and claims[name] not in taken:
                msg = f"it was issued to a client that is not taken ({name}); see identity.clients"
                raise TokenError(msg)


def _header(token: str) -> dict[str, Any]:
    first = token.partition(".")[0]
    try:
        raw = base64.b64decode(first + "=" * (-len(first) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        msg = "it is not a signed token"
        raise TokenError(msg) from error


def _typed(header: Mapping[str, Any], allowed: Sequence[str]) -> None:
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in allowed:
        msg = f"its type {str(kind)[:30]!r} is another"
        raise TokenError(msg)
