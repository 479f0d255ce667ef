"""The public CI runs what .ci/run says, with pinned actions and no more rights than it needs; the lock pins everything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
LOCKS = ("requirements/lock.txt", "requirements/bootstrap.txt")


def _jobs(path: Path) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    return jobs


def test_every_action_is_pinned_by_commit() -> None:
    used = [
        step["uses"] for path in WORKFLOWS for job in _jobs(path).values() for step in job["steps"] if "uses" in step
    ]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action


def test_jobs_read_the_code_and_hold_nothing_else() -> None:
    for path in WORKFLOWS:
        text = path.read_text("utf-8")
        assert yaml.safe_load(text)["permissions"] == {}
        assert "pull_request_target" not in text
        assert "secrets." not in text
        assert "${{" not in text  # nothing somebody else wrote becomes part of a command
        for name, job in _jobs(path).items():
            assert job["permissions"] == {"contents": "read"}, name
            assert job["timeout-minutes"] <= 60, name
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False, name


def test_it_runs_the_checks_the_audit_of_the_lock_and_the_sbom() -> None:
    said = [step.get("run", "") for path in WORKFLOWS for job in _jobs(path).values() for step in job["steps"]]
    assert ".ci/run" in said
    assert "make sbom" in said
    assert any(re.search(r"pip-audit@[\d.]+ .*-r requirements/lock\.txt", command) for command in said)


@pytest.mark.parametrize("name", LOCKS)
def test_everything_installed_is_pinned_by_hash_and_names_no_registry(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.+!-]+", entry), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]
