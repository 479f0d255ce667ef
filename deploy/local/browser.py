"""A browser for the tests: the one on PATH, or Debian's headless Chromium unpacked into a folder of our own.

As with the servers, apt runs with a private configuration and nothing on the host changes. apt resolves what
the browser needs against an empty list of installed packages, so its C library and fonts come along and any
Debian release will do. A start script sets the libraries and fonts, because Chromium starts itself again for
each child.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from deploy.local import debian
from deploy.local.command import megabytes, run
from deploy.local.errors import Report, StackError

ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium-headless-shell", "fonts-inter", "fonts-liberation")
# What only a graphics card or a desktop needs: a third of the download.
LEFT_OUT = frozenset({"libllvm19", "libz3-4", "mesa-libgallium", "libgl1-mesa-dri", "systemd", "xdg-utils"})
PROGRAM = "usr/lib/chromium/chromium-headless-shell"
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{root}/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>Liberation Mono</family></prefer></alias>
</fontconfig>
"""
START = """#!/bin/sh
export LD_LIBRARY_PATH={libraries}:{libraries}/pulseaudio FONTCONFIG_FILE={root}/fonts.conf
exec {root}/{program} "$@"
"""
UPDATE_S = 180.0
DOWNLOAD_S = 600.0


def find(programs: Path, downloads: Path, report: Report) -> Path:
    """Return a browser Playwright can start: the host's own, or one fetched and unpacked below ``programs``.

    Raises:
        StackError: none on PATH, and none can be fetched here; the text says why.
    """
    for name in ON_PATH:
        found = shutil.which(name)
        if found:
            return Path(found)
    return _fetch(programs, downloads, report)


def tree(programs: Path) -> Path:
    """Return where the browser is unpacked; another list of packages or start script is another folder."""
    recipe = [debian.SUITE, *PACKAGES, *sorted(LEFT_OUT), PROGRAM, FONTS, START]
    digest = hashlib.sha256(" ".join(recipe).encode()).hexdigest()[:12]
    return programs / f"browser-{debian.SUITE}-{digest}"


def _fetch(programs: Path, downloads: Path, report: Report) -> Path:
    root = tree(programs)
    if not (root / ".complete").exists():
        if not debian.is_debian():
            msg = f"no browser on PATH ({', '.join(ON_PATH)}), and this host is not Debian; install chromium"
            raise StackError(msg)
        debs = _download(downloads / "browser", report)
        _unpack(debs, root, report)
        (root / ".complete").touch()
        shutil.rmtree(downloads / "browser", ignore_errors=True)  # 110 MB that are not needed again
    return root / "browser"


def _download(folder: Path, report: Report) -> Path:
    debs = folder / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    for part in ("lists/partial", "cache/archives/partial", "sources", "empty", "debs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "APT_CONFIG": str(debian.configure_apt(folder)), "LC_ALL": "C.UTF-8"}
    report("browser", "reading the package lists")
    run(["apt-get", "-q", "update"], what="reading the package lists", limit_s=UPDATE_S, env=environ)
    plan = run(
        ["apt-get", "-q", "--simulate", "--no-install-recommends", "install", *PACKAGES],
        what="asking apt what the browser needs", limit_s=60, env=environ,
    )  # fmt: skip
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    wanted = [name for name in names if name not in LEFT_OUT]
    run(
        ["apt-get", "-q", "download", *wanted], what="downloading the browser", limit_s=DOWNLOAD_S,
        cwd=debs, env=environ,
        on_tick=lambda: report("browser", f"downloading {len(wanted)} packages, {megabytes(debs):.0f} MB"),
    )  # fmt: skip
    return debs


def _unpack(debs: Path, root: Path, report: Report) -> None:
    packages = sorted(debs.glob("*.deb"))
    report("browser", f"unpacking {len(packages)} packages")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for deb in packages:
        run(["dpkg-deb", "-x", str(deb), str(root)], what=f"unpacking {deb.name}", limit_s=120)
    libraries = debian.library_folder(root)
    loader = next(libraries.glob("ld-linux-*.so.*"))
    program = root / PROGRAM
    if not program.exists():
        msg = f"the fetched browser has no {PROGRAM}; please report this, and install chromium meanwhile"
        raise StackError(msg)
    run(
        [debian.patchelf(), "--set-interpreter", str(loader), str(program)],
        what="patching the browser",
        limit_s=60,
    )
    (root / "fonts.conf").write_text(FONTS.format(root=root), "utf-8")
    start = root / "browser"
    start.write_text(START.format(root=root, libraries=libraries, program=PROGRAM), "utf-8")
    start.chmod(0o755)
    version = run([str(start), "--version", "--no-sandbox"], what="starting the browser", limit_s=30)
    report("browser", f"ready: {version.strip() or 'Chromium'}")
