"""promtool for the tests of the Prometheus rules: the one on PATH, or Debian's, unpacked into a folder of our own."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from deploy.local import debian
from deploy.local.command import run
from deploy.local.errors import Report, StackError

PACKAGES = ("promtool", "libc6", "libgcc-s1")
PROGRAM = "usr/bin/promtool"
START = """#!/bin/sh
exec {loader} --library-path {libraries} {root}/{program} "$@"
"""
UPDATE_S = 180.0
DOWNLOAD_S = 300.0


def find(programs: Path, downloads: Path, report: Report) -> Path:
    """Return promtool: the host's own, or Debian's below ``programs``, fetched (20 MB) where it is missing.

    Raises:
        StackError: none on PATH, and none can be fetched here; the text says why.
    """
    found = shutil.which("promtool")
    if found:
        return Path(found)
    digest = hashlib.sha256(" ".join([debian.SUITE, *PACKAGES, PROGRAM, START]).encode()).hexdigest()[:12]
    root = programs / f"promtool-{debian.SUITE}-{digest}"
    if not (root / ".complete").exists():
        if not debian.is_debian():
            msg = "no promtool on PATH, and this host is not Debian; install Prometheus"
            raise StackError(msg)
        _fetch(root, downloads / "promtool", report)
        (root / ".complete").touch()
    return root / "promtool"


def _fetch(root: Path, folder: Path, report: Report) -> None:
    debs = folder / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    for part in ("lists/partial", "cache/archives/partial", "sources", "empty", "debs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "APT_CONFIG": str(debian.configure_apt(folder)), "LC_ALL": "C.UTF-8"}
    report("promtool", "downloading")
    run(["apt-get", "-q", "update"], what="reading the package lists", limit_s=UPDATE_S, env=environ)
    run(
        ["apt-get", "-q", "download", *PACKAGES],
        what="downloading promtool", limit_s=DOWNLOAD_S, cwd=debs, env=environ,
    )  # fmt: skip
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for deb in sorted(debs.glob("*.deb")):
        run(["dpkg-deb", "-x", str(deb), str(root)], what=f"unpacking {deb.name}", limit_s=120)
    shutil.rmtree(folder, ignore_errors=True)
    libraries = debian.library_folder(root)
    loader = next(libraries.glob("ld-linux-*.so.*"))
    start = root / "promtool"
    start.write_text(START.format(loader=loader, libraries=libraries, root=root, program=PROGRAM), "utf-8")
    start.chmod(0o755)
