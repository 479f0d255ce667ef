"""Forged tokens: each is refused for what is wrong with it, and none makes the provider be asked more than once."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

from services.api.identity.jwt import LEEWAY_S, LOGOUT_EVENT, TokenError, Verifier
from services.api.identity.provider import public_keys
from services.settings_sections import IdentitySettings
from tests.stand_in_provider import by_hand

NOW = 1_800_000_000
ISSUER = "https://id.example.org/realms/care"
RSA = RSAKey.generate_key(2048, {"kid": "r1"})
OTHER = RSAKey.generate_key(2048, {"kid": "r1"})  # another's, under the same name
EC = ECKey.generate_key("P-256", {"kid": "e1"})
PEM = RSA.as_pem(private=False)
SETTINGS = IdentitySettings(
    issuer=ISSUER, client_id="screens", audience="keepwell-api", clients=("reports",), algorithms=("RS256", "ES256")
)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "sub": "42", "aud": ["account", "keepwell-api"], "azp": "screens", "typ": "Bearer",
    "iat": NOW - 10, "exp": NOW + 290,
}  # fmt: skip
ID_CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "sub": "42", "aud": "screens", "azp": "screens", "typ": "ID", "nonce": "n-1", "iat": NOW, "exp": NOW + 60,
}  # fmt: skip
LOGOUT: dict[str, Any] = {
    "iss": ISSUER, "aud": "screens", "sub": "42", "sid": "s-1", "jti": "j", "iat": NOW, "events": {LOGOUT_EVENT: {}},
}  # fmt: skip


class Published:
    """The provider's keys as they are published."""

    def __init__(self) -> None:
        self.keys = public_keys({"keys": [RSA.as_dict(private=False), EC.as_dict(private=False)]})
        self.asked: list[str] = []

    async def key(self, kid: str) -> Key | None:
        self.asked.append(kid)
        return self.keys.get(kid)


def signed(claims: dict[str, Any], key: Key = RSA, alg: str = "RS256", **header: Any) -> str:
    registry = None
    kept = {"alg": alg, "kid": key.kid, "typ": "JWT"} | header
    if extra := set(kept) - {"alg", "kid", "typ"}:
        from joserfc.jws import JWSRegistry

        registry = JWSRegistry(algorithms=[alg], strict_check_header=not extra)
    return jwt.encode({k: v for k, v in kept.items() if v is not None}, claims, key, [alg], registry, default_type=None)


async def access(token: str, at: int = NOW, settings: IdentitySettings = SETTINGS) -> dict[str, Any]:
    return await Verifier(settings, Published()).access(token, at)


async def refused(token: str, why: str, at: int = NOW, settings: IdentitySettings = SETTINGS) -> None:
    with pytest.raises(TokenError, match=why) as caught:
        await access(token, at, settings)
    assert "42" not in str(caught.value)  # nothing of the token in the answer


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
async def test_a_genuine_access_token_is_taken(key: Key) -> None:
    alg = "RS256" if key is RSA else "ES256"
    assert (await access(signed(CLAIMS, key, alg)))["sub"] == "42"
    plain = {name: value for name, value in CLAIMS.items() if name not in ("typ", "azp")}
    assert (await access(signed(plain, key, alg, typ="at+jwt")))["sub"] == "42"
    assert (await access(signed(CLAIMS | {"azp": "reports"}, key, alg)))["azp"] == "reports"


async def test_unsigned_and_shared_secret_tokens_are_refused() -> None:
    for alg in ("none", "None", "nOnE", "HS256", "HS512", "RS512", "", None):
        await refused(by_hand({"alg": alg, "kid": "r1", "typ": "JWT"}, CLAIMS), "algorithm")
    unsigned = by_hand({"alg": "HS256", "kid": "r1", "typ": "JWT"}, CLAIMS).rpartition(".")[0]
    signature = hmac.digest(PEM, unsigned.encode(), "sha256")  # the public key as a shared secret
    await refused(f"{unsigned}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}", "algorithm")


async def test_an_algorithm_of_another_kind_of_key_is_refused() -> None:
    await refused(signed(CLAIMS, EC, "ES256", kid="r1"), "signature")
    await refused(signed(CLAIMS, RSA, "RS256", kid="e1"), "signature")


async def test_a_key_that_came_with_the_token_is_refused_unread() -> None:
    jwk = OTHER.as_dict(private=False)
    for header in (
        {"jwk": jwk}, {"jku": "https://evil.example.org/keys"}, {"x5u": "https://evil.example.org/c"}, {"x5c": ["MII="]},
        {"crit": ["exp"]},
    ):  # fmt: skip
        published = Published()
        token = by_hand({"alg": "RS256", "kid": "r1", "typ": "JWT"} | header, CLAIMS, b"x" * 256)
        with pytest.raises(TokenError, match="along"):
            await Verifier(SETTINGS, published).access(token, NOW)
        assert published.asked == []


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "r1' OR '1'='1", "", 7, None, ["r1"], "x" * 201, "r1\x00", "file:///etc/passwd"]
)
async def test_a_kid_is_a_name_and_nothing_else(kid: object) -> None:
    await refused(by_hand({"alg": "RS256", "kid": kid, "typ": "JWT"}, CLAIMS, b"x"), "key")


async def test_another_key_under_the_same_name_is_refused() -> None:
    await refused(signed(CLAIMS, OTHER), "signature")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": NOW - LEEWAY_S}, "exp"), ({"exp": None}, "no exp"), ({"exp": "soon"}, "exp"),
        ({"exp": NOW + 25 * 3600}, "longer than"), ({"nbf": NOW + LEEWAY_S + 1}, "nbf"),
        ({"iat": NOW + LEEWAY_S + 1}, "iat"),
        ({"aud": "account"}, "aud"), ({"aud": []}, "aud"), ({"aud": None}, "aud"), ({"aud": "screens"}, "aud"),
        ({"iss": "https://id.example.org/realms/care/"}, "iss"), ({"iss": "https://evil.example.org"}, "iss"),
        ({"iss": None}, "iss"), ({"sub": None}, "no sub"), ({"sub": ""}, "no sub"), ({"sub": 7}, "sub"),
        ({"azp": "stranger"}, "azp"), ({"client_id": "stranger"}, "client_id"),
        ({"typ": "ID"}, "'ID'"), ({"typ": "Refresh"}, "'Refresh'"), ({"typ": "Logout"}, "'Logout'"),
        ({"nonce": "n-1", "typ": "Bearer"}, "ID token"), ({"at_hash": "x"}, "ID token"), ({"events": {}}, "logout token"),
    ],
)  # fmt: skip
async def test_a_signed_token_for_another_time_place_or_use_is_refused(changed: dict[str, Any], why: str) -> None:
    claims = {name: value for name, value in (CLAIMS | changed).items() if value is not None}
    await refused(signed(claims), why)


async def test_an_id_token_never_opens_the_api_even_with_the_right_audience() -> None:
    await refused(signed(ID_CLAIMS), "'ID'")
    await refused(signed(ID_CLAIMS | {"aud": ["screens", "keepwell-api"], "typ": "Bearer"}), "ID token")


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "id_token"])
async def test_other_types_in_the_header_are_refused(typ: str) -> None:
    await refused(signed(CLAIMS, typ=typ), "type")


async def test_small_clock_differences_are_borne() -> None:
    assert await access(signed(CLAIMS | {"exp": NOW - LEEWAY_S + 1}))
    assert await access(signed(CLAIMS | {"nbf": NOW + LEEWAY_S}))


async def test_without_an_audience_no_access_token_is_taken() -> None:
    await refused(signed(CLAIMS), "identity.audience", settings=SETTINGS.model_copy(update={"audience": ""}))


async def test_an_id_token_answers_its_own_sign_in_only() -> None:
    judge = Verifier(SETTINGS, Published())
    assert (await judge.identity(signed(ID_CLAIMS), "n-1", NOW))["sub"] == "42"
    for claims, why in (
        (ID_CLAIMS | {"nonce": "n-2"}, "nonce"), (CLAIMS | {"aud": "screens"}, "'Bearer'"), (ID_CLAIMS | {"aud": "x"}, "aud"),
        (ID_CLAIMS | {"azp": "x"}, "azp"), (ID_CLAIMS | {"exp": NOW - 60}, "exp"), (ID_CLAIMS | {"iss": "https://x"}, "iss"),
        ({k: v for k, v in ID_CLAIMS.items() if k != "nonce"}, "no nonce"),
    ):  # fmt: skip
        with pytest.raises(TokenError, match=why):
            await judge.identity(signed(claims), "n-1", NOW)


async def test_a_logout_token_is_one_and_fresh() -> None:
    judge = Verifier(SETTINGS, Published())
    assert (await judge.logout(signed(LOGOUT, typ="logout+jwt"), NOW))["sid"] == "s-1"
    for claims, why in (
        (ID_CLAIMS, "no events"), (LOGOUT | {"nonce": "n"}, "no logout token"), (LOGOUT | {"events": {"x": 1}}, "no logout"),
        (LOGOUT | {"sub": "", "sid": ""}, "neither"), (LOGOUT | {"iat": NOW - 600}, "too old"), (LOGOUT | {"aud": "x"}, "aud"),
    ):  # fmt: skip
        with pytest.raises(TokenError, match=why):
            await judge.logout(signed(claims), NOW)


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: by_hand({"alg": "RS256"}, {}, raw)))
async def test_noise_is_refused_in_one_way(token: str) -> None:
    with pytest.raises(TokenError):
        await access(token)


@given(st.data())
async def test_one_changed_character_is_enough(data: st.DataObject) -> None:
    token = signed(CLAIMS)
    at = data.draw(st.integers(0, len(token) - 2))  # the last one holds unused bits
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."))
    changed = token[:at] + letter + token[at + 1 :]
    if changed != token:
        with pytest.raises(TokenError):
            await access(changed)


def test_only_public_keys_for_signatures_are_keys_of_a_provider() -> None:
    good = RSA.as_dict(private=False)
    assert set(public_keys({"keys": [good]})) == {"r1"}
    private = public_keys({"keys": [RSA.as_dict(private=True)]})["r1"]
    assert not private.is_private
    for entry in (
        OctKey.generate_key(256, {"kid": "o"}).as_dict(private=True), good | {"use": "enc"}, good | {"kid": 7},
        {"kty": "RSA", "kid": "x"}, {"kty": "XYZ", "kid": "x"}, "r1", None,
    ):  # fmt: skip
        assert public_keys({"keys": [entry]}) == {}
    assert public_keys({}) == public_keys({"keys": "r1"}) == {}
