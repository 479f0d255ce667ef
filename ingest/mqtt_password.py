"""Password hashes as mosquitto's password file holds them: ``$7$`` is PBKDF2 with SHA-512."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

# mosquitto's own default. Device tokens are 256 random bits, which more iterations would protect no better.
ITERATIONS = 101
SALT_BYTES = 12
HASH_BYTES = 64


def password_hash(password: str, iterations: int = ITERATIONS) -> str:
    """Return ``$7$iterations$salt$hash`` (salt and hash in base64), the second field of a line ``user:hash``.

    Raises:
        ValueError: an empty password or fewer than one iteration.
    """
    if not password or iterations < 1:
        msg = f"needed: a password and an iteration at least; got {len(password)} characters and {iterations}"
        raise ValueError(msg)
    salt = secrets.token_bytes(SALT_BYTES)
    return _format(password, salt, iterations)


def password_matches(password: str, stored: str) -> bool:
    """Whether ``stored``, made by `password_hash` or ``mosquitto_passwd``, is the hash of ``password``."""
    kind, iterations, salt, _ = stored.removeprefix("$").split("$")
    if kind != "7":
        return False
    made = _format(password, base64.b64decode(salt), int(iterations))
    return hmac.compare_digest(made, stored)


def _format(password: str, salt: bytes, iterations: int) -> str:
    digest = hashlib.pbkdf2_hmac("sha512", password.encode("utf-8"), salt, iterations, HASH_BYTES)
    return f"$7${iterations}${base64.b64encode(salt).decode('ascii')}${base64.b64encode(digest).decode('ascii')}"
