"""Java and Maven: found on the host, or as root installed with apt."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.command import run
from deploy.local.errors import Report, StackError

LEAST = 17
INSTALL_S = 900.0
HOW = "apt-get install --no-install-recommends default-jre-headless maven"


def version(java: str) -> int:
    """Return the major version of one ``java``; 0 when it does not run."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)(?:\.(\d+))?', told)
    if not found:
        return 0
    major = int(found.group(1))
    return int(found.group(2) or 0) if major == 1 else major


def find_java() -> str | None:
    """Return a Java of at least 17: ``JAVA_HOME``'s, the one on PATH, or one below ``/usr/lib/jvm``."""
    candidates = [Path(os.environ["JAVA_HOME"], "bin/java")] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True)
    for candidate in candidates:
        if candidate.exists() and version(str(candidate)) >= LEAST:
            return str(candidate.resolve())
    return None


def find_maven() -> str | None:
    """Return ``mvn`` on PATH."""
    return shutil.which("mvn")


def ensure(report: Report, *, maven: bool) -> str:
    """Return a usable Java, installing it (and Maven when asked) as root where missing.

    Raises:
        StackError: missing, and we are not root or apt failed; the text says how to install it.
    """
    java = find_java()
    if java and (find_maven() or not maven):
        return java
    missing = " and ".join([*([] if java else ["Java >= 17"]), *([] if find_maven() or not maven else ["Maven"])])
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        msg = f"{missing} not found; as root: {HOW}"
        raise StackError(msg)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    report("java", f"installing {missing} with apt-get")
    run(["apt-get", "-q", "update"], what="reading the host's package lists", limit_s=INSTALL_S, env=environ)
    run(
        [*HOW.split()[:2], "-q", "-y", *HOW.split()[2:]],
        what=f"installing {missing}",
        limit_s=INSTALL_S,
        env=environ,
    )
    java = find_java()
    if not java:
        msg = f"the default Java of this release is older than {LEAST}; install a newer one and set JAVA_HOME"
        raise StackError(msg)
    return java
