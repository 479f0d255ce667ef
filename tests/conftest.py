"""Fixtures live one family a file; they are listed here."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

pytest_plugins = [
    "tests.fix_stack",
    "tests.fix_doors",
    "tests.fix_api",
    "tests.fix_identity",
    "tests.fix_browser",
    "tests.fix_keycloak",
    "tests.fix_processor",
    "tests.fix_faults",
    "tests.fix_consumers",
    "tests.fix_audit",
]


GAP_FILLER: Final = "gw2"


@cache
def needs_servers(file: str) -> bool:
    """Whether a file of tests says of any of them that it needs the servers."""
    return any(f"mark.{name}" in Path(file).read_text("utf-8") for name in ("stack", "browser"))


class EachHasItsServers(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Gives a file that needs servers to a process that has them, and the other files to whoever is free.

    Two processes have servers of their own (tests/fix_stack.py): what kills them disturbs nobody else. One begins with
    ``tests/integration``, but for the API, the audit and the administration; the other with those and the other folders.
    Who is through takes a file from the end of the other's. A third process has no servers and stands back
    (`pytest_configure`).
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        file = self._next(node)
        if file is None:
            node.shutdown()  # what is left needs servers
            return
        self.workqueue.move_to_end(file, last=False)
        super()._assign_work_unit(node)

    def _next(self, node: WorkerController) -> str | None:
        left: list[str] = list(self.workqueue)
        with_servers = [file for file in left if needs_servers(str(self.config.rootpath / file))]
        if with_servers and (node.gateway.id != GAP_FILLER or len(self.nodes) == 1):
            mine = [file for file in with_servers if is_of_the_stream(file) == (node.gateway.id == "gw1")]
            return mine[0] if mine else with_servers[-1]
        return next((file for file in left if file not in with_servers), None)


def is_of_the_stream(file: str) -> bool:
    """Whether a file is of the longer half of what needs servers."""
    return file.startswith("tests/integration/") and not file.startswith("tests/integration/test_a")


def pytest_configure() -> None:
    """Let the process without servers use what the others' waits leave of the cores, and no more."""
    if os.environ.get("PYTEST_XDIST_WORKER") == GAP_FILLER:
        os.nice(5)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> EachHasItsServers:
    """Say how pytest-xdist shares the work."""
    return EachHasItsServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a file that needs the servers and does not say so: two processes would start and stop the same ones."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()) and not needs_servers(str(item.path)):
            msg = f"{item.nodeid} needs the servers: mark it with pytest.mark.stack"
            raise pytest.UsageError(msg)
