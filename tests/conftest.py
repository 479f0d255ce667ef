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
    "tests.fix_api",
    "tests.fix_identity",
    "tests.fix_browser",
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


class EachHasItsServers(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Gives the files that need servers to two processes of pytest-xdist, in order, and the other tests one by one.

    Each process has servers of its own (tests/fix_stack.py): what kills them disturbs nobody else. ``tests/integration``
    goes to one, but for the API, the audit and the administration, with which the other folders are about as long.
    """

    def _split_scope(self, nodeid: str) -> str:
        name = nodeid.partition("::")[0]
        if not needs_servers(str(self.config.rootpath / name)):
            return nodeid
        integration = name.startswith("tests/integration/") and not name.startswith("tests/integration/test_a")
        return "integration" if integration else "others with servers"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> EachHasItsServers:
    """Say how pytest-xdist shares the work."""
    return EachHasItsServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a file that needs the servers and does not say so: two processes would start and stop the same ones."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()) and not needs_servers(str(item.path)):
            msg = f"{item.nodeid} needs the servers: mark it with pytest.mark.stack"
            raise pytest.UsageError(msg)
