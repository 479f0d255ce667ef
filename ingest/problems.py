"""RFC 9457 problem documents with stable codes, as plain bytes and headers."""

from __future__ import annotations

from typing import Final

import msgspec

PROBLEM_TYPE: Final = "application/problem+json"

UNAUTHENTICATED: Final = "unauthenticated"
NOT_FOUND: Final = "not_found"
METHOD_NOT_ALLOWED: Final = "method_not_allowed"
BODY_TIMEOUT: Final = "body_timeout"
BODY_TOO_LARGE: Final = "body_too_large"
TOO_MANY_FRAMES: Final = "too_many_frames"
UNSUPPORTED_TYPE: Final = "unsupported_type"
UNREADABLE_BODY: Final = "unreadable_body"
FRAMES_REJECTED: Final = "frames_rejected"
RATE_LIMITED: Final = "rate_limited"
INTERNAL: Final = "internal"
OVERLOADED: Final = "overloaded"
REGISTRY_UNAVAILABLE: Final = "registry_unavailable"
BROKER_UNAVAILABLE: Final = "broker_unavailable"

TITLES: Final = {
    UNAUTHENTICATED: (401, "The device token is missing, unknown or revoked"),
    NOT_FOUND: (404, "There is nothing at this address"),
    METHOD_NOT_ALLOWED: (405, "This method is not allowed here"),
    BODY_TIMEOUT: (408, "The body did not arrive in time"),
    BODY_TOO_LARGE: (413, "The body is too large"),
    TOO_MANY_FRAMES: (413, "The request holds too many frames"),
    UNSUPPORTED_TYPE: (415, "This content type or encoding is not taken"),
    UNREADABLE_BODY: (422, "The body is not a list of frames"),
    FRAMES_REJECTED: (422, "Every frame was rejected"),
    RATE_LIMITED: (429, "The device sends faster than it may"),
    INTERNAL: (500, "Something went wrong here"),
    OVERLOADED: (503, "The door takes no more at the moment"),
    REGISTRY_UNAVAILABLE: (503, "Devices cannot be authenticated at the moment"),
    BROKER_UNAVAILABLE: (503, "The frames could not be kept at the moment"),
}


class Problem(Exception):
    """A request is refused as a whole.

    ``code`` is one of TITLES and never changes its meaning; ``detail`` is for a reader; ``retry_after_s``,
    when given, is the ``Retry-After`` of the answer; ``members`` are extension members such as the frames' verdicts.
    """

    def __init__(self, code: str, detail: str, retry_after_s: float | None = None, **members: object) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.title = TITLES[code]
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members = members

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, -int(-self.retry_after_s // 1)))
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="keepwell"'
        return headers

    def body(self) -> bytes:
        """Return the document."""
        document = {
            "type": f"urn:keepwell:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        return msgspec.json.encode(document | self.members)
