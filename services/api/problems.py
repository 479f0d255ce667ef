"""RFC 9457 problem documents of the API, with stable codes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from fastapi import Request
from fastapi.responses import JSONResponse

PROBLEM_TYPE: Final = "application/problem+json"


class Code(StrEnum):
    """The stable codes; each keeps its meaning for ever."""

    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    SIGN_IN_REFUSED = "sign_in_refused"
    NOT_KNOWN_HERE = "not_known_here"
    ROLE_NOT_ALLOWED = "role_not_allowed"
    NOT_YOURS_TO_REVIEW = "not_yours_to_review"
    SCOPE_NOT_ALLOWED = "scope_not_allowed"
    CROSS_SITE = "cross_site"
    CONSENT_WITHHELD = "consent_withheld"
    NOT_FOUND = "not_found"
    FRAME_NOT_PROCESSED = "frame_not_processed"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    ALERT_CLOSED = "alert_closed"
    ALREADY_VISIBLE = "already_visible"
    ALREADY_REVIEWED = "already_reviewed"
    KEY_REUSED = "key_reused"
    STALE_VERSION = "stale_version"
    CHANGED_MEANWHILE = "changed_meanwhile"
    BODY_TOO_LARGE = "body_too_large"
    INVALID = "invalid"
    TOO_MANY_STREAMS = "too_many_streams"
    TOO_MANY_TRIES = "too_many_tries"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    TOO_SLOW = "too_slow"


TITLES: Final = {
    Code.BAD_REQUEST: (400, "The request cannot be read"),
    Code.UNAUTHENTICATED: (401, "Sign in first: the token is missing, unknown, expired or revoked"),
    Code.SIGN_IN_REFUSED: (403, "You were not signed in"),
    Code.NOT_KNOWN_HERE: (403, "Your sign-in is not known here"),
    Code.ROLE_NOT_ALLOWED: (403, "Your role does not allow this"),
    Code.NOT_YOURS_TO_REVIEW: (403, "This is for somebody else to review"),
    Code.SCOPE_NOT_ALLOWED: (403, "The token's scopes do not allow this"),
    Code.CROSS_SITE: (403, "This request came from another site"),
    Code.CONSENT_WITHHELD: (403, "The patient's consent does not cover this"),
    Code.NOT_FOUND: (404, "There is no such thing, or it is not yours to see"),
    Code.FRAME_NOT_PROCESSED: (404, "No frame of this id has been processed"),
    Code.METHOD_NOT_ALLOWED: (405, "This method is not allowed here"),
    Code.ALERT_CLOSED: (409, "The alert is no longer active"),
    Code.ALREADY_VISIBLE: (409, "You see this patient already"),
    Code.ALREADY_REVIEWED: (409, "Somebody has reviewed this"),
    Code.KEY_REUSED: (409, "This Idempotency-Key was used for something else"),
    Code.STALE_VERSION: (409, "Somebody else changed this since you read it"),
    Code.CHANGED_MEANWHILE: (412, "It changed since you read it"),
    Code.BODY_TOO_LARGE: (413, "The body is too large"),
    Code.INVALID: (422, "A value is not allowed"),
    Code.TOO_MANY_STREAMS: (429, "Too many streams are open"),
    Code.TOO_MANY_TRIES: (429, "Too many tries to sign in"),
    Code.INTERNAL: (500, "Something went wrong here"),
    Code.UNAVAILABLE: (503, "The database does not answer at the moment"),
    Code.PROVIDER_UNAVAILABLE: (503, "The sign-in of your organisation does not answer at the moment"),
    Code.TOO_SLOW: (503, "This took too long"),
}


class Problem(Exception):
    """A request is refused.

    ``detail`` is for a reader and says the next step; ``members`` are extension members such as ``field``,
    ``value`` and ``allowed``.
    """

    def __init__(self, code: Code, detail: str, *, retry_after_s: int | None = None, **members: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.title = TITLES[code]
        self.code = code
        self.detail = detail
        self.members = members
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="keepwell"'
        return headers

    def document(self) -> dict[str, Any]:
        """Return the problem document."""
        return {
            "type": f"urn:keepwell:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        } | self.members


def respond(_request: Request, problem: Problem) -> JSONResponse:
    """Return the response to a refused request."""
    return JSONResponse(problem.document(), problem.status, problem.headers(), PROBLEM_TYPE)


def invalid(value: object, field: str, allowed: str) -> Problem:
    """Return the problem of one value that is not allowed."""
    detail = f"{field} = {value!r} is not allowed; allowed: {allowed}"
    return Problem(Code.INVALID, detail, field=field, allowed=allowed)


def not_found(key: object, what: str) -> Problem:
    """Return the problem of something that does not exist for this person."""
    return Problem(Code.NOT_FOUND, f"there is no {what} {str(key)[:80]!r} that you may see")
