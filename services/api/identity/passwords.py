"""Passwords: what may be one (ASVS 5.0, 6.2), and Argon2 for what is stored of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from services.api.problems import Code, Problem

LEAST: Final = 12
ADVISED: Final = 15
MOST: Final = 256  # characters; a limit only so that a request has one
SHORTEST_WORD: Final = 4  # of a person's or organisation's name; shorter ones are in many good passwords
AT_ONCE: Final = 2  # each holds 64 MiB while it is worked on
WAIT_S: Final = 5.0

_HASHER: Final = PasswordHasher()  # the low-memory choice of RFC 9106: Argon2id, 3 rounds, 64 MiB, 4 lanes
_EDGES: Final = re.compile(r"^[\W\d_]+|[\W\d_]+$")


@cache
def _common() -> frozenset[str]:
    text = files(__package__).joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


def refusal(password: str, *names: str) -> str | None:
    """Return why a password may not be used, None when it may.

    There is no rule about kinds of characters. ``names`` are those of the person, the account and the organisation:
    a password that is little more than one of them is the first that is tried.
    """
    if len(password) < LEAST:
        return f"it has {len(password)} characters; at least {LEAST} are needed, {ADVISED} or more are better"
    if len(password) > MOST:
        return f"it has {len(password)} characters; at most {MOST} are taken"
    if _is_common(password.casefold()):
        return "it is one of those that are tried first; take several words that do not belong together"
    own = {word for name in names for word in re.split(r"\W+", name.casefold()) if len(word) >= SHORTEST_WORD}
    left = password.casefold()
    for word in sorted(own, key=len, reverse=True):
        left = left.replace(word, "")
    if len(left) < len(password) and len(_EDGES.sub("", left)) < LEAST // 2:
        return "it is made of your name or your organisation's; take words that have nothing to do with them"
    return None


def _is_common(password: str) -> bool:
    """Whether it is a common password, one repeated, or one with figures and signs around it."""
    core = _EDGES.sub("", password)
    candidates = {password, core} | {text[:n] for text in (password, core) for n in range(1, len(text) // 2 + 1)}
    repeated = {unit for unit in candidates if unit and any(_repeats(text, unit) for text in (password, core))}
    return (
        len(set(password)) < 5 or _is_run(password) or bool({password, core} & _common()) or bool(repeated & _common())
    )


def _is_run(password: str) -> bool:
    """Whether it mostly counts up or down, or stays: ``1234567890…``, ``abcdef…``."""
    steps = [ord(after) - ord(before) for before, after in pairwise(password)]
    return sum(abs(step) <= 1 for step in steps) > 0.7 * len(steps)


def _repeats(text: str, unit: str) -> bool:
    times = len(text) // len(unit)
    return times >= 2 and unit * times == text


class Hasher:
    """Argon2 beside the event loop, no more than `AT_ONCE` at a time."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    async def hash(self, password: str) -> str:
        """Return what is stored of a password.

        Raises:
            Problem: too many wait already.
        """
        async with self._turn():
            return await asyncio.to_thread(_HASHER.hash, password)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether a password is the stored one; without a stored one it takes as long, and is not.

        Raises:
            Problem: too many wait already.
        """
        async with self._turn():
            return await asyncio.to_thread(_verify, password, stored or _nobodys()) and stored is not None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._free.acquire(), WAIT_S)
        except TimeoutError as error:
            raise Problem(Code.UNAVAILABLE, "many sign in at once; try again in a moment", retry_after_s=5) from error
        try:
            yield
        finally:
            self._free.release()


@cache
def _nobodys() -> str:
    return _HASHER.hash("the password of nobody")


def _verify(password: str, stored: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
