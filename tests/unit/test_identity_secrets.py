"""Passwords, codes, sealed secrets and waiting times: the rules by themselves."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from services.api.identity import codes, passwords, tries
from services.api.identity.scopes import SCOPES, check
from services.api.identity.vault import SealBrokenError, Vault, open_vault
from services.api.problems import Code, Problem
from services.settings import SettingsError, load
from services.settings_sections import IdentitySettings

KEY = "a key of more than thirty-two characters, for tests"
NAMES = ("ada", "Ada Lovelace", "northward", "Keepwell")


@pytest.mark.parametrize(
    "password",
    [
        "password1234", "Password12345!", "123456789012", "aaaaaaaaaaaaaaa", "abababababab", "qwertyuiop12", "iloveyou2026!!",
        "letmeinletmein", "qwertyqwerty", "1qaz2wsx3edc", "keepwell2026!", "Northward-2026", "lovelace-ada-1", "AdaLovelace1815",
        "short", "", "x" * 257,
    ],
)  # fmt: skip
def test_passwords_that_are_guessed_first_are_refused_with_a_reason(password: str) -> None:
    assert passwords.refusal(password, *NAMES)


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple", "zwölf Böxkämpfer jagen", "lowercaseonlybutodd", "9281 7463 0192 8374", "x7!Gq2#Lm9@Z",
     "Ada likes very green umbrellas", "long " * 12 + "enough?", "🐢🐇🦊🐝 walk on the moon"],
)  # fmt: skip
def test_no_kind_of_character_is_asked_for_and_long_ones_are_taken(password: str) -> None:
    assert passwords.refusal(password, *NAMES) is None


@given(st.text(min_size=64, max_size=256, alphabet=st.characters(codec="utf-8")))
@settings(max_examples=50)
def test_any_long_password_with_some_variety_is_taken(password: str) -> None:
    if len(set(password.casefold())) >= 20:
        assert passwords.refusal(password) is None


async def test_only_the_password_itself_matches_and_nobody_takes_as_long() -> None:
    hasher = passwords.Hasher()
    stored = await hasher.hash("correct horse battery staple")
    assert stored.startswith("$argon2id$")
    assert "correct" not in stored
    assert await hasher.matches("correct horse battery staple", stored)
    assert not await hasher.matches("correct horse battery staplE", stored)
    assert not await hasher.matches("the password of nobody", None)
    assert not await hasher.matches("x", "no hash at all")


@given(st.integers(1_700_000_000, 2_000_000_000), st.integers(-4, 4))
def test_a_code_belongs_to_its_half_minute_and_its_neighbours(at_s: int, steps: int) -> None:
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    code = pyotp.TOTP(secret).at(at_s + steps * codes.STEP_S)
    found = codes.step_of(f" {code[:3]} {code[3:]} ", secret, at_s)
    if abs(steps) <= 1:
        assert found is not None
        assert pyotp.TOTP(secret).generate_otp(found) == code
    else:
        assert found is None or pyotp.TOTP(secret).generate_otp(found) == code  # two steps may share a code


@given(st.text(max_size=80))
def test_what_is_no_code_is_refused(text: str) -> None:
    found = codes.step_of(text, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", 1_800_000_000)
    assert found is None or re.fullmatch(r"[0-9]{6}", codes.tidy(text))


def test_recovery_codes_are_ten_different_ones_and_typed_as_one_likes() -> None:
    fresh = codes.new_recovery_codes()
    assert len(set(fresh)) == 10
    assert all(re.fullmatch(r"[A-Z2-7]{6}(-[A-Z2-7]{6}){3}", code) for code in fresh)
    assert codes.recovery_hash(fresh[0].lower().replace("-", " ")) == codes.recovery_hash(fresh[0])
    assert codes.recovery_hash(fresh[0]) != codes.recovery_hash(fresh[1])


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_waiting_grows_and_is_bounded(count: int, free: int) -> None:
    wait, next_wait = tries.wait_after(count, free), tries.wait_after(count + 1, free)
    assert timedelta(0) <= wait <= next_wait <= tries.FORGOTTEN
    assert (wait == timedelta(0)) == (count < free)


@given(st.binary(max_size=200))
def test_what_was_sealed_opens_for_its_purpose_and_key_only(content: bytes) -> None:
    sealed = Vault(KEY).seal(content, "totp", 1_000_000)
    assert Vault(KEY).open(sealed, "totp") == content
    assert content not in sealed or len(content) < 4
    for vault, purpose in ((Vault(KEY), "invitation"), (Vault(KEY + "x"), "totp")):
        with pytest.raises(SealBrokenError):
            vault.open(sealed, purpose)
    assert Vault(KEY).open(sealed, "totp", within_s=60, at_s=1_000_059) == content
    with pytest.raises(SealBrokenError):
        Vault(KEY).open(sealed, "totp", within_s=60, at_s=1_000_061)


def test_a_key_file_is_closed_to_others_and_no_placeholder(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n", "utf-8")
    wanted = IdentitySettings(key_file=file)
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="open to everybody"):
        open_vault(wanted)
    file.chmod(0o600)
    vault = open_vault(wanted)
    assert vault is not None
    assert Vault(KEY).open(vault.seal(b"x", "totp", 1), "totp") == b"x"
    for text, why in (("change-me", "placeholder"), ("x" * 40, "placeholder"), ("Ab3!x9Zq-short", "14 characters")):
        file.write_text(text, "utf-8")
        with pytest.raises(SettingsError, match=why):
            open_vault(wanted)
    with pytest.raises(SettingsError, match="cannot be read"):
        open_vault(IdentitySettings(key_file=tmp_path / "none"))
    assert open_vault(IdentitySettings()) is None


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"ISSUER": "http://id.example.org", "CLIENT_ID": "c"}, "https"),
        ({"ISSUER": "https://id.example.org"}, "client_id is needed"),
        ({"ISSUER": "https://id.example.org", "CLIENT_ID": "c", "AUDIENCE": "c"}, "must differ"),
        ({"PERSON_CLAIM": "preferred_username"}, "go together"),
        ({"ROLE_MAP": '{"kc-nurse": "nurze"}'}, "nurze"),
        ({"ALGORITHMS": '["HS256"]'}, "RS256"),
        ({"ALGORITHMS": '["none"]'}, "RS256"),
        ({"CLIENT_SECRET": "secret"}, "placeholder"),
        ({"IDLE_MINUTES": "0"}, "identity.idle_minutes"),
    ],
)
def test_identity_settings_that_do_not_go_together_are_refused(environ: dict[str, str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        load(environ={f"KEEPWELL_IDENTITY__{name}": value for name, value in environ.items()})


def test_a_refused_section_never_shows_a_secret() -> None:
    environ = {
        "KEEPWELL_IDENTITY__CLIENT_SECRET": "s3cr3t-value",
        "KEEPWELL_IDENTITY__ISSUER": "https://id.example.org",
    }
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    assert "s3cr3t" not in str(caught.value)


def test_identity_settings_are_read_from_the_environment() -> None:
    environ = {"KEEPWELL_IDENTITY__ROLE_MAP": '{"kc-nurse": "nurse"}', "KEEPWELL_IDENTITY__CLIENTS": '["reports"]'}
    found = load(environ=environ).settings.identity
    assert (found.role_map, found.clients) == ({"kc-nurse": "nurse"}, ("reports",))
    assert isinstance(found.key, SecretStr)


def test_scopes_name_actions_that_exist_and_allow_nothing_else() -> None:
    source = "".join(path.read_text("utf-8") for path in Path("services/api").glob("*.py"))
    for action in (action for actions in SCOPES.values() for action in actions):
        assert f'"{action}"' in source, action
    check(None, "anything.at_all")
    check(["alerts:read", "frames:read"], "frame.read")
    check(["worklist:read"], "wearing.read")
    for held, action in (
        (["alerts:read"], "alert.acknowledge"),
        ([], "alert.read"),
        (["alerts:read"], "account.password"),
    ):
        with pytest.raises(Problem) as caught:
            check(held, action)
        assert caught.value.code is Code.SCOPE_NOT_ALLOWED


def test_the_local_stacks_key_is_found_beside_it_and_a_key_of_ones_own_wins(tmp_path: Path) -> None:
    (tmp_path / "identity.key").write_text(KEY, "utf-8")
    (tmp_path / "identity.key").chmod(0o600)
    loaded = load({"stack.home": tmp_path}, environ={})
    assert loaded.settings.identity.key_file == tmp_path / "identity.key"
    assert loaded.origin["identity.key_file"] == "the local stack"
    stacks = open_vault(loaded.settings.identity)
    environ = {"KEEPWELL_IDENTITY__KEY": KEY[::-1]}
    own = open_vault(load({"stack.home": tmp_path}, environ=environ).settings.identity)
    assert stacks is not None
    assert own is not None
    assert stacks.open(Vault(KEY).seal(b"x", "totp", 1), "totp") == b"x"
    assert own.open(Vault(KEY[::-1]).seal(b"x", "totp", 1), "totp") == b"x"
    none = load({"stack.home": tmp_path}, environ={"KEEPWELL_IDENTITY__KEY_FILE": ""}).settings.identity
    assert open_vault(none) is None
