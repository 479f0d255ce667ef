"""Fixtures: the real Kafka, TimescaleDB and mosquitto, in a home of the tests' own.

The home is ``.keepwell/test`` below the checkout (``KEEPWELL_TEST_HOME`` names another), with a folder a process
where pytest-xdist has several; its data are kept between runs. Sessions that run at the same time share it; the
last one stops it, unless ``KEEPWELL_KEEP_STACK=1``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from deploy.local.errors import StackError
from deploy.local.stack import Running, Stack
from services.settings import Settings, load
from tests.databases import drop_template

HOME = Path(os.environ.get("KEEPWELL_TEST_HOME", Path(__file__).parents[1] / ".keepwell" / "test"))
HOME /= os.environ.get("PYTEST_XDIST_WORKER", "")


@dataclass(frozen=True)
class LiveStack:
    """A running stack: its settings (addresses, passwords, certificates) and the means to disturb it."""

    home: Path
    settings: Settings
    local: Stack

    @property
    def bootstrap(self) -> str:
        """``host:port`` of Kafka."""
        return self.settings.kafka.bootstrap

    def kill(self, name: str) -> None:
        """``kill -9`` of ``kafka``, ``postgres`` or ``mosquitto``."""
        self.local.kill(name)

    def start(self, name: str) -> Running:
        """Bring one server back and wait until it answers."""
        return self.local.start(name)

    def stop(self, name: str) -> None:
        """Stop one server cleanly."""
        self.local.stop(name)

    def pid(self, name: str) -> int | None:
        """The pid of one server, None when it does not run."""
        return self.local.pid(name)


def settings_of(home: Path) -> Settings:
    """The settings a process of this home would see, without this machine's own files and environment."""
    return load({"stack.home": home}, environ={"KEEPWELL_CONFIG": os.devnull}).settings


@pytest.fixture(scope="session")
def stack() -> Iterator[LiveStack]:
    """A running stack in the tests' own home, shared by the whole session."""
    local = Stack(HOME, 0)
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            local.up()
        except StackError as error:
            pytest.fail(f"the test stack does not start: {error}", pytrace=False)
        try:
            yield LiveStack(HOME, settings_of(HOME), local)
        finally:
            drop_template(settings_of(HOME).postgres.port)
            if os.environ.get("KEEPWELL_KEEP_STACK") != "1" and _last_user(users):
                local.down()


@pytest.fixture(scope="session")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A second stack, to be killed at will and erased at the end."""
    stack = Stack(tmp_path_factory.mktemp("side") / "a 'home' with ä", 0)
    stack.up()
    try:
        yield stack
    finally:
        stack.erase()


@pytest.fixture
def whole(side: Stack) -> Iterator[Stack]:
    """The second stack with everything running, before and after."""
    side.up()
    yield side
    side.up()


def _last_user(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
