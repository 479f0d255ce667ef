"""Credentials that open nothing: how each is made, what the refusal says, and whether it can name who tried."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.api_data import NOW, ApiData
from tests.stand_in_provider import CLIENT, StandIn, by_hand

NOW_S: Final = int(NOW.timestamp())
STRANGER: Final = RSAKey.generate_key(2048, {"kid": "stranger", "use": "sig"})


@dataclass(frozen=True)
class Bearer:
    """Somebody of an organisation, and the provider that would sign for them."""

    data: ApiData
    person: int
    provider: StandIn

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What the provider says of them in an access token."""
        return self.provider.claims("ada", **({"iat": NOW_S, "exp": NOW_S + 300} | changed))

    def signed(self, **changed: Any) -> str:
        """A token the provider really signed."""
        return self.provider.sign(self.claims(**changed))

    def signed_otherwise(self, key: RSAKey, kid: str, alg: str = "RS256") -> str:
        """The same claims, signed with another key or algorithm."""
        return jwt.encode({"alg": alg, "kid": kid, "typ": "JWT"}, self.claims(), key, [alg])

    @property
    def key(self) -> RSAKey:
        """What the provider signs with."""
        return self.provider.keys[0]


@dataclass(frozen=True)
class Credential:
    """One kind. ``says`` is a word of the refusal; ``names`` whether the audit can say who tried."""

    make: Callable[[Bearer], str]
    says: str
    names: bool


def revoked(bearer: Bearer) -> str:
    token = bearer.data.token(bearer.person)
    bearer.data.connection.execute(
        "UPDATE person_token SET revoked_at = %s WHERE hash = (SELECT hash FROM person_token ORDER BY ctid DESC LIMIT 1)",
        [NOW],
    )
    return token


def unsigned(bearer: Bearer) -> str:
    return by_hand({"alg": "none", "kid": bearer.key.kid, "typ": "JWT"}, bearer.claims())


def shared_secret(bearer: Bearer) -> str:
    """The provider's public key, taken for a secret that both know."""
    header = {"alg": "HS256", "kid": bearer.key.kid, "typ": "JWT"}
    content = by_hand(header, bearer.claims()).rpartition(".")[0]
    signature = hmac.digest(bearer.key.as_pem(private=False), content.encode(), "sha256")
    return f"{content}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


CREDENTIALS: Final = {
    "anonymous": Credential(lambda _: "", "send", names=False),
    "unknown": Credential(lambda _: "x" * 43, "unknown", names=False),
    "login link": Credential(lambda b: b.data.token(b.person, kind="login_link"), "unknown", names=True),
    "expired": Credential(
        lambda b: b.data.token(b.person, expires=NOW - timedelta(seconds=1)), "come to its end", names=True
    ),
    "revoked": Credential(revoked, "ended", names=True),
    "expired at the provider": Credential(lambda b: b.signed(iat=NOW_S - 600, exp=NOW_S - 60), "exp", names=True),
    "wrong audience": Credential(lambda b: b.signed(aud=["account"]), "aud", names=True),
    "ID token": Credential(lambda b: b.signed(typ="ID", nonce="n", aud=CLIENT), "'ID'", names=True),
    "ID token for the API": Credential(lambda b: b.signed(nonce="n"), "ID token", names=True),
    "of another client": Credential(lambda b: b.signed(azp="stranger"), "azp", names=True),
    "other issuer": Credential(lambda b: b.signed(iss="https://id.example.org/realms/other"), "iss", names=False),
    "wrong algorithm": Credential(
        lambda b: b.signed_otherwise(b.key, str(b.key.kid), "RS512"), "algorithm", names=False
    ),
    "algorithm none": Credential(unsigned, "algorithm", names=False),
    "shared secret": Credential(shared_secret, "algorithm", names=False),
    "unknown key": Credential(lambda b: b.signed_otherwise(STRANGER, "stranger"), "not the provider's", names=False),
    "key under another's name": Credential(
        lambda b: b.signed_otherwise(STRANGER, str(b.key.kid)), "signature", names=False
    ),
}  # fmt: skip
QUICK: Final = ("anonymous", "expired", "expired at the provider", "wrong audience", "wrong algorithm", "ID token")
