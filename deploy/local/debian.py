"""PostgreSQL with TimescaleDB, and mosquitto, from Debian packages unpacked into a folder of our own.

apt runs with a private configuration: the host's own sources with the suite changed, the host's mirrors,
keys, proxies and logins, but its own lists, status and cache, so nothing on the host changes. The programs
then get the unpacked C library by patchelf, so any host release will do.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

from deploy.local.command import megabytes, run
from deploy.local.errors import Report, StackError

SUITE = "trixie"
PACKAGES = (
    "postgresql-17 postgresql-client-17 postgresql-17-timescaledb mosquitto libc6 libgcc-s1 libstdc++6 "
    "zlib1g libzstd1 libssl3t64 libpam0g libaudit1 libcap-ng0 libsystemd0 libcap2 libselinux1 "
    "libpcre2-8-0 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1 libcom-err2 "
    "libldap2 libsasl2-2 libxml2 libicu76 liblzma5 liblz4-1 libxslt1.1 libpq5 libreadline8t64 libtinfo6 "
    "libuuid1 libgcrypt20 libgpg-error0 tzdata libedit2 libbsd0 libmd0 libcjson1 libmosquitto1 libdlt2 "
    "libwebsockets19t64 libwrap0"
).split()
PROGRAMS = (
    "usr/lib/postgresql/17/bin/postgres",
    "usr/lib/postgresql/17/bin/initdb",
    "usr/lib/postgresql/17/bin/psql",
    "usr/lib/postgresql/17/bin/pg_dump",
    "usr/lib/postgresql/17/bin/pg_restore",
    "usr/sbin/mosquitto",
)
UPDATE_S = 180.0
DOWNLOAD_S = 600.0


def os_release() -> dict[str, str]:
    """Return the host's ``/etc/os-release`` as a mapping; empty where there is none."""
    try:
        lines = Path("/etc/os-release").read_text("utf-8").splitlines()
    except OSError:
        return {}
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines) if key}


def is_debian() -> bool:
    """Whether this host is Debian with its package tools."""
    return os_release().get("ID") == "debian" and all(map(shutil.which, ("apt-get", "apt-config", "dpkg-deb")))


def tree(programs: Path) -> Path:
    """Return where the packages are unpacked; another list of packages or an edit here is another folder."""
    digest = hashlib.sha256(" ".join([SUITE, *PACKAGES, *PROGRAMS]).encode()).hexdigest()[:12]
    return programs / f"debian-{SUITE}-{digest}"


def fetch(programs: Path, downloads: Path, report: Report) -> Path:
    """Return the unpacked tree, downloading and unpacking it first where it is missing.

    Raises:
        StackError: not Debian, no matching source, or a download, unpacking or check failed.
    """
    root = tree(programs)
    if (root / ".complete").exists():
        return root
    if not is_debian():
        msg = (
            f"Debian packages cannot be fetched on {os_release().get('PRETTY_NAME', 'this system')}; "
            "install docker, or name your servers in keepwell.toml: kafka.bootstrap, postgres.host, mqtt.host"
        )
        raise StackError(msg)
    debs = _download(downloads / "debian", report)
    report("debian", f"unpacking {len(debs)} packages")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for deb in debs:
        run(["dpkg-deb", "-x", str(deb), str(root)], what=f"unpacking {deb.name}", limit_s=120)
    _patch(root)
    (root / ".complete").touch()
    return root


def _download(folder: Path, report: Report) -> list[Path]:
    debs = folder / SUITE
    for part in ("lists/partial", "cache/archives/partial", "sources", "empty"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    debs.mkdir(exist_ok=True)
    environ = {**os.environ, "APT_CONFIG": str(configure_apt(folder)), "LC_ALL": "C.UTF-8"}
    report("debian", "reading the package lists")
    unread: StackError | None = None
    try:
        run(["apt-get", "-q", "update"], what="reading the package lists", limit_s=UPDATE_S, env=environ)
    except StackError as error:
        unread = error  # one source of several may be away, and the others hold all we need
    for old in debs.glob("*.deb"):
        old.unlink()
    try:
        run(
            ["apt-get", "-q", "download", *PACKAGES],
            what="downloading PostgreSQL, TimescaleDB and mosquitto",
            limit_s=DOWNLOAD_S,
            cwd=debs,
            env=environ,
            on_tick=lambda: report("debian", f"downloading packages, {megabytes(debs):.0f} of 42 MB"),
        )
    except StackError as error:
        raise unread or error from error
    found = sorted(debs.glob("*.deb"))
    if len(found) != len(PACKAGES):
        msg = f"{len(PACKAGES)} packages were asked for and {len(found)} arrived in {debs}; try again"
        raise StackError(msg)
    return found


def configure_apt(folder: Path) -> Path:
    """Write the private apt configuration and return its file."""
    _write_sources(folder / "sources")
    (folder / "status").touch()
    host = run(["apt-config", "dump"], what="reading apt's configuration", limit_s=30)
    kept = [line for line in host.splitlines() if line.startswith("Acquire::") and '""' not in line]
    own = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": folder / "empty",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": folder / "empty",
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
    }
    path = folder / "apt.conf"
    path.touch(mode=0o600)
    path.write_text("\n".join([*kept, *(f'{key} "{value}";' for key, value in own.items())]) + "\n", "utf-8")
    return path


def _write_sources(folder: Path) -> None:
    codename = os_release().get("VERSION_CODENAME", "")
    host = Path("/etc/apt")
    written = 0
    for path in [host / "sources.list", *sorted((host / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.exists():
            continue
        text = path.read_text("utf-8")
        changed = rewrite_deb822(text, codename) if path.suffix == ".sources" else rewrite_list(text, codename)
        (folder / path.name).write_text(changed, "utf-8")
        written += bool(changed)
    if not written:
        msg = f"nothing under /etc/apt names Debian's archive for {codename or 'this release'}; add its source"
        raise StackError(msg)


def _suites(suites: str, codename: str) -> list[str]:
    """Return the suites of one source moved to ours; what is not Debian's own archive is left out."""
    moved = []
    for suite in suites.split():
        base, dash, rest = suite.partition("-")
        if base in {codename, "stable"} and rest in {"", "updates", "security"}:
            moved.append(SUITE + dash + rest)
    return moved


def rewrite_deb822(text: str, codename: str) -> str:
    """Return the stanzas of a ``.sources`` file that serve ``codename``, with the suite changed to ours."""
    kept = []
    for stanza in re.split(r"\n\s*\n", text):
        found = re.search(r"^Suites:(.*)$", stanza, re.MULTILINE | re.IGNORECASE)
        components = re.search(r"^Components:(.*)$", stanza, re.MULTILINE | re.IGNORECASE)
        suites = _suites(found.group(1), codename) if found else []
        if found and suites and components and "main" in components.group(1).split():
            start, end = found.span()
            kept.append(stanza[:start] + "Suites: " + " ".join(suites) + stanza[end:])
    return "\n\n".join(kept) + "\n" if kept else ""


def rewrite_list(text: str, codename: str) -> str:
    """Return the lines of a ``.list`` file that serve ``codename``, with the suite changed to ours."""
    kept = []
    for line in text.splitlines():
        found = re.match(r"^\s*deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$", line)
        suites = _suites(found.group(3), codename) if found else []
        if found and suites and "main" in found.group(4).split():
            kept.append(f"deb {found.group(1) or ''}{found.group(2)} {suites[0]} {found.group(4)}")
    return "\n".join(kept) + "\n" if kept else ""


def library_folder(root: Path) -> Path:
    """Return the folder of the unpacked C library, whatever the machine's architecture."""
    loaders = sorted(root.glob("usr/lib/*/ld-linux-*.so.*"))
    if not loaders:
        msg = f"no C library below {root}; remove that folder and run `keepwell up` again"
        raise StackError(msg)
    return loaders[0].parent


def _patch(root: Path) -> None:
    """Make the programs use the unpacked loader and libraries, and check that none is missing."""
    libraries = library_folder(root)
    loader = next(libraries.glob("ld-linux-*.so.*"))
    tool = patchelf()
    for name in PROGRAMS:
        program = str(root / name)
        elf = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", str(libraries)]
        run([tool, *elf, program], what=f"patching {name}", limit_s=60)
        listed = run([str(loader), "--list", program], what=f"checking {name}", limit_s=60)
        missing = [line.split()[0] for line in listed.splitlines() if "not found" in line]
        if missing:
            msg = f"{name} needs {', '.join(missing)}, which no fetched package holds; please report this"
            raise StackError(msg)
    for folder, _, files in os.walk(root):
        os.chmod(folder, 0o755)  # noqa: S103 - programs, to be run by an account without rights
        for name in files:
            with contextlib.suppress(OSError):
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | 0o444)


def patchelf() -> str:
    """Return the patchelf beside our Python, or the one on PATH.

    Raises:
        StackError: there is none.
    """
    beside = Path(sys.executable).with_name("patchelf")
    found = str(beside) if beside.exists() else shutil.which("patchelf")
    if not found:
        msg = "patchelf is missing; run `make install` (it is a Python package)"
        raise StackError(msg)
    return found
