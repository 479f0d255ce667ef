"""Everything that says who somebody is, put together for one app as its settings ask."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from ingest.clock import Clock
from services.api.access import Access, Pool
from services.api.identity.accounts import Accounts
from services.api.identity.invitations import Invitations
from services.api.identity.jwt import Verifier
from services.api.identity.oidc import SignIn
from services.api.identity.provider import Provider
from services.api.identity.subjects import ProviderSubjects
from services.api.identity.vault import HOW, Vault, open_vault
from services.settings import SettingsError
from services.settings_sections import IdentitySettings


@dataclass(frozen=True)
class Identity:
    """``accounts`` and ``invitations`` are None without a key, ``sign_in`` without a provider."""

    access: Access
    accounts: Accounts | None
    invitations: Invitations | None
    sign_in: SignIn | None
    client: httpx.AsyncClient


def make_identity(settings: IdentitySettings, pool: Pool, clock: Clock) -> Identity:
    """Return what the app asks; ``clock`` tells the time credentials are judged at.

    Raises:
        SettingsError: the key is open to others, a placeholder, too short, or missing where it is needed.
    """
    vault, client = open_vault(settings), httpx.AsyncClient()
    if not settings.issuer:
        return _assembled(Access(pool, clock, settings), vault, None, client)
    if vault is None:
        msg = f"identity.issuer needs identity.key or identity.key_file too; {HOW}"
        raise SettingsError(msg)
    provider = Provider(settings, client)
    verifier = Verifier(settings, provider)
    people = ProviderSubjects(settings, verifier, clock)
    access = Access(pool, clock, settings, people)
    return _assembled(access, vault, SignIn(settings, access, provider, verifier, people, vault), client)


def _assembled(access: Access, vault: Vault | None, sign_in: SignIn | None, client: httpx.AsyncClient) -> Identity:
    if vault is None:
        return Identity(access, None, None, sign_in, client)
    accounts = Accounts(access, vault)
    return Identity(access, accounts, Invitations(access, accounts, vault), sign_in, client)
