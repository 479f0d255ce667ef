"""The second factor: codes of an app (TOTP, RFC 6238), each once, and ten recovery codes for when it is lost."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from io import BytesIO
from typing import Final

import pyotp
import segno

STEP_S: Final = 30
DRIFT: Final = (0, -1, 1)  # steps: a telephone's clock may be half a minute off
ISSUER: Final = "Keepwell"
RECOVERY_CODES: Final = 10
RECOVERY_GROUPS, GROUP = 4, 6  # characters of 5 bits: 120 bits, so that a plain hash is enough (ASVS 6.5.2)
MOST: Final = 64


def new_secret() -> str:
    """Return 160 random bits in base 32."""
    return pyotp.random_base32()


def address(secret: str, account: str) -> str:
    """Return the ``otpauth://`` address an app reads."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=ISSUER)


def picture(text: str) -> str:
    """Return a QR code as an SVG element, dark on light whatever the page's colours."""
    out = BytesIO()
    segno.make(text, error="m").save(
        out, kind="svg", scale=4, border=3, xmldecl=False, svgns=False, light="#fff", omitsize=True
    )
    return out.getvalue().decode("utf-8").strip()


def step_of(code: str, secret: str, at_s: int) -> int | None:
    """Return the step (half minutes since 1970) whose code this is, None when it is of none around ``at_s``."""
    code, found = tidy(code), None
    if not (len(code) == 6 and code.isascii() and code.isdigit()):
        return None
    for drift in DRIFT:
        if hmac.compare_digest(pyotp.TOTP(secret).at(at_s, counter_offset=drift), code) and found is None:
            found = at_s // STEP_S + drift
    return found


def new_recovery_codes() -> list[str]:
    """Return fresh recovery codes, ``ABCDEF-GHIJKL-…``."""
    return [_grouped(base64.b32encode(secrets.token_bytes(15)).decode()) for _ in range(RECOVERY_CODES)]


def recovery_hash(code: str) -> bytes:
    """Return what is stored of a recovery code; case, spaces and hyphens do not matter."""
    return hashlib.sha256(tidy(code).upper().encode("utf-8", "replace")).digest()


def tidy(code: str) -> str:
    """Return a code without what people put between its characters."""
    return "".join(code[:MOST].replace("-", "").split())


def _grouped(text: str) -> str:
    return "-".join(text[i : i + GROUP] for i in range(0, RECOVERY_GROUPS * GROUP, GROUP))
