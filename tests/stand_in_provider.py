"""A small OpenID Connect provider on loopback, strict about what a client must send; for tests only."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from services.api.identity.jwt import LOGOUT_EVENT

CLIENT, SECRET, AUDIENCE = "keepwell-screens", secrets.token_urlsafe(24), "keepwell-api"
ROLES = {"ada": ["care-nurse"], "rolf": ["care-research"], "vera": ["visitor"], "gast": ["care-nurse"]}


class StandIn:
    """Signs in whoever ``present`` names, without asking."""

    def __init__(self) -> None:
        self.issuer = ""
        self.present = "ada"
        self.signed_in = False
        self.refuses = False
        self.keys = [self._fresh("k1")]
        self.codes: dict[str, dict[str, str]] = {}
        self.spoil: dict[str, Any] = {}  # claims an ID token is given instead of the right ones
        self.asked_for_keys = 0
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.describe), Route("/keys", self.publish),
                Route("/authorize", self.authorize), Route("/token", self.token, methods=["POST"]),
                Route("/logout", self.logout),
            ]
        )  # fmt: skip

    def _fresh(self, kid: str) -> RSAKey:
        return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish it alone."""
        self.keys = [self._fresh(f"k{secrets.token_hex(4)}")]

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        key = self.keys[0]
        return jwt.encode({"alg": "RS256", "kid": key.kid, "typ": "JWT"} | header, claims, key, ["RS256"])

    def claims(self, who: str, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": f"sub-{who}", "aud": [AUDIENCE, "account"], "azp": CLIENT, "iat": now, "exp": now + 300,
            "typ": "Bearer", "preferred_username": who, "roles": ROLES[who], "jti": secrets.token_hex(8), "sid": f"sid-{who}",
        }  # fmt: skip
        return claims | changed

    def access_token(self, who: str, **changed: Any) -> str:
        return self.sign(self.claims(who, **changed))

    def logout_token(self, who: str) -> str:
        claims = {
            "iss": self.issuer, "sub": f"sub-{who}", "aud": CLIENT, "iat": int(time.time()), "jti": secrets.token_hex(8),
            "events": {LOGOUT_EVENT: {}}, "sid": f"sid-{who}",
        }  # fmt: skip
        return self.sign(claims, typ="logout+jwt")

    async def describe(self, _request: Request) -> Response:
        names = {"authorization": "authorize", "token": "token", "end_session": "logout"}
        document = {f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in names.items()}
        return JSONResponse(document | {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"})

    async def publish(self, _request: Request) -> Response:
        self.asked_for_keys += 1
        return JSONResponse({"keys": [key.as_dict(private=False) for key in self.keys]})

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        if self.refuses:
            back = {"error": "access_denied", "state": asked["state"], "iss": self.issuer}
            return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", 303)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked | {"who": self.present}
        self.signed_in = True
        back = {"code": code, "state": asked["state"], "iss": self.issuer}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", 303)

    async def token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = self.codes.pop(form.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            asked is None
            or request.headers.get("authorization") != f"Basic {basic}"
            or base64.urlsafe_b64encode(challenge).decode().rstrip("=") != asked["code_challenge"]
            or form.get("redirect_uri") != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        who, now = asked["who"], int(time.time())
        claims = {
            "iss": self.issuer, "sub": f"sub-{who}", "aud": CLIENT, "azp": CLIENT, "iat": now, "exp": now + 60, "typ": "ID",
            "nonce": asked["nonce"], "preferred_username": who, "roles": ROLES[who], "sid": f"sid-{who}",
        } | self.spoil  # fmt: skip
        return JSONResponse(
            {
                "access_token": self.access_token(who),
                "token_type": "Bearer",
                "id_token": self.sign(claims),
                "expires_in": 300,
            }
        )

    async def logout(self, request: Request) -> Response:
        assert request.query_params["id_token_hint"]
        self.signed_in = False
        return RedirectResponse(request.query_params["post_logout_redirect_uri"], 303)


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token as somebody writes it who has no key."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@contextlib.asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    """A running provider on a free port."""
    provider = StandIn()
    config = uvicorn.Config(provider.app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    from tests.fix_api import QuietServer

    server = QuietServer(config)
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
    provider.issuer = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.should_exit = True
        await running
