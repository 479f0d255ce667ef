"""What the API's app gives away and takes, without a database: headers, faults, methods, cookies, ciphers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from structlog.testing import capture_logs

from deploy.local import tls
from ingest.clock import SystemClock
from services.api.app import create_api, make_pool
from services.api.credentials import cookie_name
from services.cli import api, doors
from services.settings import Settings, load
from services.web.sign_in import BEGUN_COOKIE, forget

TOLD = "Ada Lovelace 61.34 SELECT hash FROM person_token"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings()
    app = create_api(settings, SystemClock(), make_pool(settings.postgres))
    _break(app, "/v1/broken")
    _break(app, "/broken")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://keepwell.test") as asking:
        yield asking


def _break(app: FastAPI, path: str) -> None:
    @app.get(path)
    async def broken() -> None:
        raise RuntimeError(TOLD)


@pytest.mark.parametrize("path", ["/v1/broken", "/broken"])
async def test_a_fault_is_answered_without_a_word_of_it_and_dressed_like_any_answer(
    client: httpx.AsyncClient, path: str
) -> None:
    with capture_logs() as logged:
        answer = await client.get(path)
    assert answer.status_code == 500
    for word in (*TOLD.split(), "RuntimeError", "Traceback", ".py"):
        assert word not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["x-request-id"]) == 16
    (entry,) = logged
    assert entry["event"] == "unexpected"
    assert isinstance(entry["exc_info"], RuntimeError)
    assert "error" not in entry  # the log cleans what an exception says, not what we make of it


@pytest.mark.parametrize("path", ["/v1/broken", "/login", "/v1/none", "/static/app.css"])
async def test_over_tls_a_browser_is_told_to_stay_there(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
    for name, value in {
        "referrer-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }.items():  # fmt: skip
        assert answer.headers[name] == value
    policy = answer.headers["content-security-policy"]
    for part in ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"):
        assert part in policy


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/login", "text/html; charset=utf-8"),
        ("/none", "text/html; charset=utf-8"),
        ("/v1/none", "application/problem+json"),
        ("/v1/openapi.json", "application/json"),
        ("/static/app.css", "text/css; charset=utf-8"),
        ("/static/live.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_every_answer_says_what_it_is(client: httpx.AsyncClient, path: str, kind: str) -> None:
    assert (await client.get(path)).headers["content-type"] == kind


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/metrics", "/debug", "/.git/config", "/static/", "/static/../app.py"]
)
async def test_nothing_is_served_that_was_not_meant_to_be(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_no_other_site_may_read_and_no_strange_method_is_taken(client: httpx.AsyncClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (await client.get("/login", headers=asked), await client.options("/login", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    for method in ("TRACE", "CONNECT", "PROPFIND"):
        assert (await client.request(method, "/login")).status_code == 403
        bearer = {"Authorization": "Bearer x"}
        assert (await client.request(method, "/login", headers=bearer)).status_code == 405


@pytest.mark.parametrize("name", ["keepwell_session", BEGUN_COOKIE])
def test_over_tls_a_cookie_is_this_hosts_alone_and_can_be_taken_back(name: str) -> None:
    request = Request({"type": "http", "scheme": "https", "server": ("k.test", 443), "path": "/", "headers": []})
    assert cookie_name(request, name) == f"__Host-{name}"
    taken = forget(request, Response(), name).headers["set-cookie"]
    assert taken.startswith(f'__Host-{name}=""')
    for part in ("Max-Age=0", "Path=/", "Secure", "HttpOnly"):  # without Secure a browser keeps a __Host- cookie
        assert part in taken
    assert "Domain" not in taken
    plain = Request({"type": "http", "scheme": "http", "server": ("127.0.0.1", 80), "path": "/", "headers": []})
    assert forget(plain, Response(), name).headers["set-cookie"].startswith(f'{name}=""')


def test_both_servers_take_tls_1_2_or_newer_and_only_ciphers_of_today(tmp_path: Path) -> None:
    tls.ensure(tmp_path, SystemClock())
    settings = load(
        {
            "stack.home": tmp_path / "none", "postgres.host": "db", "api.host": "0.0.0.0",  # noqa: S104
            "tls.cert_file": tmp_path / "server.pem", "tls.key_file": tmp_path / "server.key",
        },
        environ={},
    ).settings  # fmt: skip
    for told in (api.server_config(settings), doors.server_config(settings, insecure=False)):
        config = uvicorn.Config(FastAPI(), **told, log_config=None)
        config.load()
        context = config.ssl
        assert context is not None
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        names = [cipher["name"] for cipher in context.get_ciphers()]
        assert names
        for name in names:
            assert name.startswith(("TLS_", "ECDHE-")), name
            assert "GCM" in name or "CHACHA20" in name, name
