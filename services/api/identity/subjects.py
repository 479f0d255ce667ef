"""From a provider's subject to a person here: linked by an invitation, or by a claim that holds the person's key."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from ingest.clock import Clock
from services.api.identity.holders import TokenRefusedProblem
from services.api.identity.jwt import TokenError, Verifier
from services.api.problems import Code, Problem
from services.api.scope import Person
from services.settings_sections import IdentitySettings

MAX_SUBJECT: Final = 255


class ProviderSubjects:
    """The people of one provider."""

    def __init__(self, settings: IdentitySettings, verifier: Verifier, clock: Clock) -> None:
        self._settings = settings
        self._verifier = verifier
        self._clock = clock

    async def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of an access token that is genuine, for us and in time.

        Raises:
            Problem: it is not.
        """
        try:
            return await self._verifier.access(token, self._clock.now_ms() // 1000)
        except TokenError as error:
            msg = f"the token is refused: {error}"
            raise TokenRefusedProblem(msg, error.claims) from error

    async def whose(self, connection: AsyncConnection[Any], claims: Mapping[str, Any]) -> Person | None:
        """Return who a subject is here, whether or not they are let in; None where nobody is. Nothing is changed."""
        subject = [claims.get("iss"), claims.get("sub")]
        row = None
        if all(isinstance(part, str) for part in subject):
            row = await _one(connection, "SELECT * FROM person_of_subject(%s, %s)", subject)
        row = row or await self._named(connection, claims)
        return Person(*row[:5]) if row else None

    async def register(
        self, connection: AsyncConnection[Any], hashed: bytes, claims: Mapping[str, Any], at: datetime
    ) -> None:
        """Store that the token with this hash is its subject's, until it expires.

        Raises:
            Problem: nobody here is this subject, or no role of theirs is known here.
        """
        person = await self.person(connection, claims, at)
        ends = datetime.fromtimestamp(claims["exp"], UTC)
        with suppress(UniqueViolation):  # two first requests with one token at once
            async with connection.transaction():
                await connection.execute(
                    """INSERT INTO person_token (hash, person_id, kind, created_at, expires_at, provider_session)
                       VALUES (%s, %s, 'bearer', %s, %s, %s)""",
                    [hashed, person.id, at, ends, str(claims.get("sid", ""))],
                )

    async def person(self, connection: AsyncConnection[Any], claims: Mapping[str, Any], at: datetime) -> Person:
        """Return who a subject is, with the role the provider gives; the organisation is set.

        Raises:
            Problem: nobody here is this subject, or no role of theirs is known here.
        """
        row = await _one(connection, "SELECT * FROM person_of_subject(%s, %s)", [claims["iss"], claims["sub"]])
        if row is not None:
            person = await _seen(connection, row)
        else:
            person = await self._by_claim(connection, claims, at)
        role = self._role(claims)
        if role is not None and role != person.role:
            await connection.execute("SELECT role_by_provider(%s, %s, %s)", [claims["iss"], str(claims["sub"]), role])
            person = Person(person.id, person.organisation_id, person.key, person.name, role)
        return person

    async def _by_claim(self, connection: AsyncConnection[Any], claims: Mapping[str, Any], at: datetime) -> Person:
        row = await self._named(connection, claims)
        if row is None:
            raise Problem(Code.NOT_KNOWN_HERE, "your sign-in is good, but nobody here is you; ask for an invitation")
        person = await _seen(connection, row)
        await link(connection, person, claims, at)
        return person

    async def _named(self, connection: AsyncConnection[Any], claims: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the person whose key a claim holds, None where it holds nobody's."""
        name = self._settings.person_claim
        key = claims.get(name) if name else None
        if not isinstance(key, str) or not key or "\0" in key:
            return None
        if name == "email" and claims.get("email_verified") is not True:
            return None
        return await _one(connection, "SELECT * FROM account_of(%s, %s)", [self._settings.organisation, key])

    def _role(self, claims: Mapping[str, Any]) -> str | None:
        """Return the first role of the map that the claim names, None when roles are Keepwell's own."""
        if not self._settings.role_map:
            return None
        held = claim(claims, self._settings.role_claim)
        names = [held] if isinstance(held, str) else held if isinstance(held, list) else []
        for theirs, ours in self._settings.role_map.items():
            if theirs in names:
                return ours
        raise Problem(Code.NOT_KNOWN_HERE, "your sign-in is good, but none of your roles is known here")


async def link(connection: AsyncConnection[Any], person: Person, claims: Mapping[str, Any], at: datetime) -> None:
    """Store that a subject is a person, in a transaction of their organisation; each is one other's only.

    Raises:
        Problem: the subject is somebody else, or the person has another subject.
    """
    subject = str(claims["sub"])
    if len(subject) > MAX_SUBJECT:
        raise Problem(Code.NOT_KNOWN_HERE, f"a subject has at most {MAX_SUBJECT} characters")
    try:
        async with connection.transaction():
            await connection.execute(
                """INSERT INTO person_subject (issuer, subject, person_id, organisation_id, linked_at)
                   VALUES (%s, %s, %s, %s, %s)""",
                [claims["iss"], subject, person.id, person.organisation_id, at],
            )
    except UniqueViolation as error:
        row = await _one(connection, "SELECT * FROM person_of_subject(%s, %s)", [claims["iss"], subject])
        if row is None or row[0] != person.id:
            detail = "this sign-in belongs to somebody else here, or you are linked to another; ask who runs Keepwell"
            raise Problem(Code.NOT_KNOWN_HERE, detail) from error


def claim(claims: Mapping[str, Any], path: str) -> object:
    """Return a claim by its name, or by a path with dots into objects; None where it leads nowhere."""
    if path in claims:
        return claims[path]
    found: object = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


async def _seen(connection: AsyncConnection[Any], row: tuple[Any, ...]) -> Person:
    person = Person(*row[:5])
    await connection.execute("SELECT set_config('keepwell.organisation', %s, true)", [str(person.organisation_id)])
    return person


async def _one(connection: AsyncConnection[Any], query: str, values: list[Any]) -> tuple[Any, ...] | None:
    cursor = await connection.execute(query.encode(), values)
    return await cursor.fetchone()
