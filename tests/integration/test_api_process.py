"""``keepwell api`` as a process: it serves, survives cut connections, and stops at once in spite of open streams."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from services.cli.api import server_config
from services.settings import Settings, SettingsError
from tests.api_data import ApiData
from tests.fix_api import ServedApi
from tests.fix_doors import Process, wait_until

pytestmark = pytest.mark.stack


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_it_serves_and_stops_within_seconds_though_a_stream_is_open(
    migrated: Settings, ours: ApiData, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{migrated.api.port}"
    token = ours.token(ours.person())
    ours.patient("p1")
    headers = {"Authorization": f"Bearer {token}"}
    with Process(migrated, ["api"], tmp_path / "api.log") as process:
        wait_until(lambda: is_ready(url) or not process.alive(), "the API's readiness")
        assert process.alive(), process.log.read_text()
        assert httpx.get(f"{url}/v1/patients", headers=headers).json()["items"][0]["id"] == "p1"
        with httpx.stream("GET", f"{url}/v1/alerts/stream", headers=headers, timeout=10) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            began = time.monotonic()
            process.stop()
            assert time.monotonic() - began < 4
            assert [line for line in lines if line and not line.startswith(":")] == []
        log = process.log.read_text()
        assert token not in log
        assert "Traceback" not in log, log


async def test_requests_go_on_after_every_connection_was_cut(api: ServedApi, ours: ApiData) -> None:
    async with api.client(ours.token(ours.person())) as client:
        for _ in range(3):
            cut = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND usename = 'keepwell_api'"""
            assert ours.connection.execute(cut).fetchone() != (0,)
            assert (await client.get("/v1/patients")).status_code == 200


def test_plain_http_does_not_leave_the_machine(migrated: Settings) -> None:
    exposed = migrated.model_copy(update={"api": migrated.api.model_copy(update={"host": "0.0.0.0"})})  # noqa: S104
    bare = exposed.model_copy(update={"tls": exposed.tls.model_copy(update={"cert_file": None})})
    with pytest.raises(SettingsError, match="--behind-proxy"):
        server_config(bare)
    assert server_config(bare, behind_proxy=True)["ssl_certfile"] is None
    assert server_config(exposed)["ssl_certfile"] == exposed.tls.cert_file
    assert server_config(migrated)["ssl_certfile"] is None  # loopback
