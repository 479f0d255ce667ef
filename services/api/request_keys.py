"""Idempotency-Keys: a write that is sent again under its key is done once."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Final

from services.api.problems import Code, Problem, invalid
from services.api.query import first
from services.api.scope import Scope

MAX_KEY: Final = 200
KEY_LIFE: Final = timedelta(days=1)


async def claim(scope: Scope, key: str, request: str) -> bool:
    """Return whether ``request`` is to be done now; False when this very one was done before under this key.

    A claim is part of the request's transaction: when the request is refused, the key is free again.

    Raises:
        Problem: an impossible key, or one that was used for something else.
    """
    if not 1 <= len(key) <= MAX_KEY:
        raise invalid(key[:20], "Idempotency-Key", f"1 to {MAX_KEY} characters")
    person, digest = scope.person, hashlib.sha256(request.encode()).digest()
    await scope.connection.execute(
        "DELETE FROM request_key WHERE person_id = %s AND created_at < %s", [person.id, scope.at - KEY_LIFE]
    )
    claimed = await first(
        scope.connection,
        """INSERT INTO request_key (organisation_id, person_id, key, request, created_at)
           VALUES (%s, %s, %s, %s, %s) ON CONFLICT (person_id, key) DO NOTHING RETURNING key""",
        [person.organisation_id, person.id, key, digest, scope.at],
    )
    if claimed is not None:
        return True
    found = await first(
        scope.connection, "SELECT request FROM request_key WHERE person_id = %s AND key = %s", [person.id, key]
    )
    if found is None or bytes(found["request"]) != digest:
        raise Problem(Code.KEY_REUSED, "send a fresh Idempotency-Key with each new request")
    return False
