"""Fixtures live one family a file; they are listed here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = [
    "tests.fix_stack",
    "tests.fix_doors",
    "tests.fix_browser",
    "tests.fix_api",
    "tests.fix_keycloak",
    "tests.fix_processor",
    "tests.fix_faults",
    "tests.fix_consumers",
    "tests.fix_audit",
]


@cache
def needs_servers(file: str) -> bool:
    """Whether a file of tests says of any of them that it needs the servers."""
    return any(f"mark.{name}" in Path(file).read_text("utf-8") for name in ("stack", "browser"))


class OneHasTheServers(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Gives all files that need the servers to one process of pytest-xdist, in order, and the other tests one by one."""

    def _split_scope(self, nodeid: str) -> str:
        file = self.config.rootpath / nodeid.partition("::")[0]
        return "servers" if needs_servers(str(file)) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneHasTheServers:
    """Say how pytest-xdist shares the work."""
    return OneHasTheServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a file that needs the servers and does not say so: two processes would start and stop the same ones."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()) and not needs_servers(str(item.path)):
            msg = f"{item.nodeid} needs the servers: mark it with pytest.mark.stack"
            raise pytest.UsageError(msg)
