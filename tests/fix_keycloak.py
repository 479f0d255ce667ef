"""Fixtures: a real Keycloak of this session's own, fetched with Maven, in memory, on loopback, ended by its pid.

It takes a minute or two to start, so its tests run only where ``KEEPWELL_KEYCLOAK=1`` asks for them
(``make test-keycloak``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import java, paths
from deploy.local.command import run
from deploy.local.errors import StackError, silent
from tests.fix_doors import free_port

VERSION = "26.7.3"
REALM = Path(__file__).parents[1] / "deploy" / "keycloak" / "realm.json"
FETCH_S, START_S, STOP_S = 600.0, 300.0, 20.0
CLIENT = "keepwell-screens"


@dataclass(frozen=True)
class Keycloak:
    """A running Keycloak: where it is, its secrets, and the address Keepwell must be served at."""

    url: str
    keepwell_port: int
    client_secret: str
    password: str
    admin_password: str

    @property
    def issuer(self) -> str:
        return f"{self.url}/realms/keepwell"

    def token(self, who: str) -> dict[str, Any]:
        """What Keycloak gives a program that signs in for somebody."""
        answer = httpx.post(
            f"{self.issuer}/protocol/openid-connect/token",
            data={
                "grant_type": "password", "client_id": "keepwell-reports", "username": who, "password": self.password,
                "scope": "openid",
            },
        )  # fmt: skip
        answer.raise_for_status()
        return dict(answer.json())

    def rotate(self) -> None:
        """Let Keycloak sign with a new key from now on."""
        with self._admin() as admin:
            component = {
                "name": f"rotated-{secrets.token_hex(4)}", "providerId": "rsa-generated",
                "providerType": "org.keycloak.keys.KeyProvider", "config": {"priority": ["900"], "algorithm": ["RS256"]},
            }  # fmt: skip
            admin.post("/admin/realms/keepwell/components", json=component).raise_for_status()

    def end_sessions(self, who: str) -> None:
        """End somebody's sign-ins at Keycloak, as an administrator does there."""
        with self._admin() as admin:
            (user,) = admin.get("/admin/realms/keepwell/users", params={"username": who, "exact": "true"}).json()
            admin.post(f"/admin/realms/keepwell/users/{user['id']}/logout").raise_for_status()

    @contextlib.contextmanager
    def _admin(self) -> Iterator[httpx.Client]:
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": "admin",
            "password": self.admin_password,
        }
        with httpx.Client(base_url=self.url, timeout=30) as client:
            answer = client.post("/realms/master/protocol/openid-connect/token", data=form)
            answer.raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            yield client


def fetch() -> Path:
    """Return the folder Keycloak is unpacked in, downloading it first where it is missing.

    Raises:
        StackError: Java or Maven is missing, or the download failed.
    """
    folder = paths.downloads() / "keycloak"
    unpacked = folder / f"keycloak-{VERSION}"
    if (unpacked / ".complete").exists():
        return unpacked
    java.ensure(silent, maven=True)
    archive = folder / f"keycloak-quarkus-dist-{VERSION}.zip"
    own = [] if paths.maven_repository() else [f"-Dmaven.repo.local={paths.downloads() / 'maven'}"]
    if not archive.exists():
        run(
            ["mvn", "-B", "-q", *own, "dependency:copy", f"-DoutputDirectory={folder}",
             f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"],
            what="downloading Keycloak with Maven", limit_s=FETCH_S,
        )  # fmt: skip
    shutil.rmtree(unpacked, ignore_errors=True)
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    for script in (unpacked / "bin").glob("*.sh"):
        script.chmod(0o755)
    (unpacked / ".complete").touch()
    return unpacked


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """A running Keycloak with the realm of ``deploy/keycloak``."""
    if os.environ.get("KEEPWELL_KEYCLOAK") != "1":
        pytest.skip("Keycloak takes minutes: `make test-keycloak`")
    try:
        home = fetch()
    except StackError as error:
        pytest.fail(f"no Keycloak: {error}", pytrace=False)
    port, management, ours = free_port(), free_port(), free_port()
    made = Keycloak(f"http://127.0.0.1:{port}", ours, *(secrets.token_urlsafe(24) for _ in range(3)))
    (home / "data" / "import").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(REALM, home / "data" / "import" / "keepwell-realm.json")
    environ = {
        **os.environ, "KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": made.admin_password,
        "KEEPWELL_URL": f"http://127.0.0.1:{ours}", "KEEPWELL_CLIENT_SECRET": made.client_secret,
        "KEEPWELL_TEST_PASSWORD": made.password, "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx384m",
    }  # fmt: skip
    argv = [
        "bash", str(home / "bin" / "kc.sh"), "start-dev", "--db=dev-mem", "--import-realm", "--http-host=127.0.0.1",
        f"--http-port={port}", f"--http-management-port={management}", "--health-enabled=true", "--cache=local",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("keycloak") / "keycloak.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            _wait(child, f"http://127.0.0.1:{management}/health/ready", log)
            yield made
        finally:
            _end(child)


def _wait(child: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and child.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(ready, timeout=2).status_code == 200:
                return
        time.sleep(0.5)
    pytest.fail(f"Keycloak does not start:\n{log.read_text('utf-8', 'replace')[-3000:]}", pytrace=False)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the script and the Java it started: they are a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=STOP_S)
            return
