"""What must be read again, and by nobody else: sealed with the key in ``identity.key`` or ``identity.key_file``."""

from __future__ import annotations

import base64
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.settings import PLACEHOLDERS, SettingsError
from services.settings_sections import IdentitySettings

LEAST_KEY: Final = 32  # characters
HOW: Final = "make one with `openssl rand -base64 32` and keep it beside the backups, not in them"


class SealBrokenError(ValueError):
    """What was to be opened was sealed with another key or for another purpose, was changed, or is too old."""


class Vault:
    """Seals and opens, with a key of its own for each purpose: what was sealed for one opens for no other."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def seal(self, content: bytes, purpose: str, at_s: int) -> bytes:
        """Return ``content`` encrypted and authenticated, stamped with the second it was sealed at."""
        return self._fernet(purpose).encrypt_at_time(content, at_s)

    def open(self, sealed: bytes, purpose: str, *, within_s: int | None = None, at_s: int = 0) -> bytes:
        """Return what was sealed; with ``within_s`` only when it was no longer ago than that at ``at_s``.

        Raises:
            SealBrokenError: it does not open.
        """
        fernet = self._fernet(purpose)
        try:
            return fernet.decrypt(sealed) if within_s is None else fernet.decrypt_at_time(sealed, within_s, at_s)
        except InvalidToken as error:
            msg = f"a sealed {purpose} does not open; was identity.key changed?"
            raise SealBrokenError(msg) from error

    def _fernet(self, purpose: str) -> Fernet:
        derived = HKDF(SHA256(), 32, None, f"keepwell {purpose}".encode()).derive(self._key)
        return Fernet(base64.urlsafe_b64encode(derived))


def open_vault(settings: IdentitySettings) -> Vault | None:
    """Return the vault of the settings' key; None when there is no key, and so no accounts of our own.

    Raises:
        SettingsError: a file that others can read, a placeholder, or a key that is too short.
    """
    key, where = settings.key.get_secret_value(), "identity.key"
    if not key and settings.key_file is not None:
        where = f"identity.key_file {settings.key_file}"
        try:
            mode = settings.key_file.stat().st_mode
            key = settings.key_file.read_text("utf-8").strip()
        except OSError as error:
            msg = f"{where} cannot be read ({error.strerror}); {HOW}"
            raise SettingsError(msg) from error
        if mode & 0o007:
            msg = f"{where} is open to everybody (mode {mode & 0o777:04o}); chmod 0600, and {HOW} if others were here"
            raise SettingsError(msg)
    if not key:
        return None
    if key.lower() in PLACEHOLDERS or len(set(key)) < 8:
        msg = f"{where} still holds a placeholder; {HOW}"
        raise SettingsError(msg)
    if len(key) < LEAST_KEY:
        msg = f"{where} has {len(key)} characters, at least {LEAST_KEY} are needed; {HOW}"
        raise SettingsError(msg)
    return Vault(key)
