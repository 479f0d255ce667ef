"""The code of an earlier commit, run as it was: what wrote the schema that is upgraded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ingest.client import Credentials
from services.settings import Settings
from tests.fix_doors import Doors, Process, environment

ROOT = Path(__file__).parents[1]


def parent_of_the_commit_that_added(path: str) -> str | None:
    """Return the commit before a file came into the history; None in an export without one."""
    found = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", path).strip()
    return _git("rev-parse", "--verify", "-q", f"{found}^").strip() or None if found else None


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


@dataclass(frozen=True)
class OldCode:
    """A commit's tree, unpacked, with this environment's libraries."""

    folder: Path

    @classmethod
    def of(cls, commit: str, folder: Path) -> OldCode:
        """Unpack a commit into ``folder``."""
        archive = folder.with_suffix(".tar")
        subprocess.run(["git", "-C", str(ROOT), "archive", "-o", str(archive), commit], check=True, timeout=60)
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        return cls(folder)

    def environ(self, settings: Settings) -> dict[str, str]:
        """The environment in which it sees these settings, those it knows of them."""
        ask = "import json; from services.settings import known_keys; print(json.dumps(list(known_keys())))"
        plain = {key: value for key, value in os.environ.items() if not key.startswith("KEEPWELL_")}
        plain["PYTHONPATH"] = str(self.folder)
        answer = subprocess.run(
            [sys.executable, "-c", ask], cwd=self.folder, env=plain, capture_output=True, text=True, check=True, timeout=30
        )  # fmt: skip
        known = {f"KEEPWELL_{key.replace('.', '__')}".upper() for key in json.loads(answer.stdout)}
        wanted = environment(settings)
        return plain | {k: v for k, v in wanted.items() if k in known or k == "KEEPWELL_CONFIG"}

    def keepwell(self, settings: Settings, *words: str) -> str:
        """Run one of its commands and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "services.cli.main", *words], cwd=self.folder, env=self.environ(settings),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def process(self, settings: Settings, words: list[str], log: Path) -> OldProcess:
        """One of its long-running commands, not running yet."""
        return OldProcess(self, settings, words, log)


class OldProcess(Process):
    """A `Process` of the old code."""

    def __init__(self, code: OldCode, settings: Settings, words: list[str], log: Path) -> None:
        super().__init__(settings, words, log)
        self._code = code

    def start(self) -> None:
        """Start it; does not wait until it is ready."""
        argv = [sys.executable, "-m", "services.cli.main", *self._words]
        with self.log.open("ab") as out:
            self._running = subprocess.Popen(
                argv, stdout=out, stderr=out, cwd=self._code.folder, env=self._code.environ(self.settings)
            )


class OldDoors(Doors):
    """Enrols by the old code's own command."""

    code: OldCode

    def enrol(self, *pairs: tuple[str, str], since_days: float = 60) -> list[Credentials]:
        """Enrol (patient, device) pairs, over HTTP, and return the devices' credentials."""
        made = []
        for patient, device in pairs:
            said = self.code.keepwell(self.settings, "enrol", "--patient", patient, "--device", device)
            token = next(line for line in said.splitlines() if line.startswith("token (shown once): "))
            made.append(Credentials(device, token.removeprefix("token (shown once): ").strip()))
        with self.admin() as connection:
            connection.execute("UPDATE device_assignment SET valid_from = '1980-01-01Z'")
        return made
