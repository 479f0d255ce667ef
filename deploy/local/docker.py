"""The same stack as containers, from ``deploy/compose.yaml``: for hosts with docker that are not Debian."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local import mosquitto, ports, state
from deploy.local.command import run
from deploy.local.errors import StackError
from deploy.local.paths import Home
from deploy.local.server import Context, NotReadyError, Server
from deploy.local.stack import Running, Stack, server_of

COMPOSE = Path(__file__).parents[1] / "compose.yaml"
PULL_S = 1800.0
COMMAND_S = 120.0


def answers() -> bool:
    """Whether docker with its compose plugin can be used by us."""
    if shutil.which("docker") is None:
        return False
    for words in (["info"], ["compose", "version"]):
        try:
            done = subprocess.run(["docker", *words], capture_output=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode != 0:
            return False
    return True


def compose(home: Home, *words: str, limit_s: float = COMMAND_S, env: dict[str, str] | None = None) -> str:
    """Run one docker compose command of this home's project and return its output.

    Raises:
        StackError: docker failed or took too long.
    """
    project = "keepwell-" + hashlib.sha256(str(home.path).encode()).hexdigest()[:12]
    argv = ["docker", "compose", "-p", project, "-f", str(COMPOSE), *words]
    return run(argv, what=f"docker compose {words[0]}", limit_s=limit_s, env={**os.environ, **(env or {})})


class ComposeStack(Stack):
    """A `Stack` whose servers are containers; a container has no pid of ours."""

    in_containers = True

    def fetch(self) -> None:
        """Do nothing: docker fetches its images when it starts them."""

    async def _bring_up(self, context: Context, names: Sequence[str]) -> list[Running]:
        began = time.monotonic()
        write_files(context)
        self._report("docker", "pulling and starting the images")
        environ = variables(context)
        await asyncio.to_thread(
            compose, self.home, "up", "-d", "--no-recreate", *names, limit_s=PULL_S, env=environ
        )  # fmt: skip
        for name in names:
            await self._answer(server_of(name, context), environ)
        seconds = time.monotonic() - began
        port = {name: context.state.ports[ports.OF_SERVER[name][0]] for name in names}
        return [Running(name, 0, port[name], True, seconds) for name in names]

    async def _answer(self, server: Server, environ: dict[str, str]) -> None:
        end = time.monotonic() + server.ready_s
        while True:
            try:
                await server.probe()
            except NotReadyError as error:
                listed = compose(self.home, "ps", "-q", "--status", "running", server.name, env=environ)
                if not listed.strip() or time.monotonic() > end:
                    told = compose(self.home, "logs", "--tail", "12", server.name, env=environ)
                    msg = f"the container of {server.name} is not ready ({error}); its log ends:\n{told}"
                    raise StackError(msg) from error
                await asyncio.sleep(0.2)
            else:
                self._report(server.name, "ready")
                return

    def down(self) -> list[str]:
        """Stop the containers; their data stay in docker's volumes."""
        known = state.load(self.home)
        if known is None:
            return []
        with state.locked(self.home.lock, f"the stack in {self.home.path}"):
            environ = variables(self.context(known))
            names = compose(self.home, "ps", "--services", "--status", "running", env=environ).split()
            compose(self.home, "stop", "-t", "20", env=environ)
            return names

    def erase(self) -> None:
        """Remove the containers, their volumes and the home."""
        known = state.load(self.home)
        if known is not None:
            compose(self.home, "down", "-v", "-t", "20", env=variables(self.context(known)))
        super().erase()

    def _stop(self, name: str) -> None:
        compose(self.home, "stop", "-t", "20", name, env=variables(self.context(self._known())))

    def kill(self, name: str) -> None:
        """End one container at once."""
        compose(self.home, "kill", "-s", "SIGKILL", name, env=variables(self.context(self._known())))


def variables(context: Context) -> dict[str, str]:
    """Return what ``compose.yaml`` asks for."""
    port = context.state.ports
    return {
        "KEEPWELL_KAFKA_PORT": str(port["kafka"]),
        "KEEPWELL_POSTGRES_PORT": str(port["postgres"]),
        "KEEPWELL_MQTT_PORT": str(port["mqtt"]),
        "KEEPWELL_CLUSTER_ID": context.state.cluster_id,
        "KEEPWELL_ADMIN_PASSWORD": context.state.secrets["admin"],
        "KEEPWELL_MOSQUITTO": str(context.home.data("mosquitto")),
        "KEEPWELL_UID": str(context.user.uid),
        "KEEPWELL_GID": str(context.user.gid),
    }


def write_files(context: Context) -> None:
    """Write mosquitto's files where the container sees them."""
    broker = mosquitto.Mosquitto(context)
    broker.prepare()
    text = mosquitto.configuration(8883, "0.0.0.0", "/mosquitto/keepwell")  # noqa: S104 - inside the container
    context.hand_over(context.home.data("mosquitto") / "mosquitto.conf", text)


def reload_mosquitto(context: Context) -> None:
    """Let a broker that runs in a container read its files again; nothing happens where there is none."""
    if answers():
        compose(context.home, "kill", "-s", "SIGHUP", "mosquitto", env=variables(context))
