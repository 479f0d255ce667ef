"""What this host has and lacks for the local stack, and for each lack the way to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local import debian, docker, java, kafka, paths, ports, state, user
from deploy.local.errors import StackError

LEAST_DISK_MB = 1500
LEAST_MEMORY_MB = 1200


@dataclass(frozen=True)
class Finding:
    """One look: what was looked at, whether it will do, what was found, and what to do if not."""

    what: str
    ok: bool
    found: str
    todo: str = ""


def examine(home: Path, base_port: int | None) -> list[Finding]:
    """Return all findings for a stack at ``home``; nothing is changed or downloaded."""
    looks: list[Callable[[], Finding]] = [
        _python,
        _system,
        _user,
        lambda: _folders(home),
        _java,
        _maven,
        _tools,
        _fetched,
        lambda: _disk(home),
        _memory,
        _zones,
        lambda: _ports(home, base_port),
    ]
    return [look() for look in looks]


def _python() -> Finding:
    found = platform.python_version()
    return Finding("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _system() -> Finding:
    name = debian.os_release().get("PRETTY_NAME", platform.system())
    if debian.is_debian():
        return Finding("system", True, f"{name}, {platform.machine()}")
    answers = docker.answers()
    told = f"{name}; docker {'answers' if answers else 'does not answer'}"
    return Finding("system", answers, told, "install docker with compose, or name servers in keepwell.toml")


def _user() -> Finding:
    try:
        who = user.choose()
    except StackError as error:
        return Finding("user", False, "root", str(error))
    return Finding("user", True, f"servers run as {who.name} ({who.why})")


def _folders(home: Path) -> Finding:
    try:
        who = user.choose()
    except StackError as error:
        return Finding("folders", False, "none can be chosen", str(error))
    where = paths.home(home, who)
    told = f"home {where.path}; {where.note or 'data below it'}; programs in {paths.programs(who)}"
    nearest = next(folder for folder in [where.path, *where.path.parents] if folder.exists())
    writable = os.access(nearest, os.W_OK)
    return Finding("folders", writable, told, f"make {nearest} writable, or give another --home")


def _java() -> Finding:
    found = java.find_java()
    told = f"{java.version(found)} at {found}" if found else f"none of version {java.LEAST} or newer"
    return Finding("java", found is not None, told, _install())


def _maven() -> Finding:
    found = java.find_maven()
    if found is None and _jars_there():
        return Finding("maven", True, "missing, and not needed: Kafka was fetched before")
    return Finding("maven", found is not None, found or "missing", _install())


def _jars_there() -> bool:
    return (kafka.jars(paths.programs(user.choose())) / ".complete").exists()


def _install() -> str:
    return "nothing: `keepwell up` installs it with apt" if os.geteuid() == 0 else f"as root: {java.HOW}"


def _tools() -> Finding:
    missing = [name for name in ("apt-get", "apt-config", "dpkg-deb") if not shutil.which(name)]
    try:
        debian.patchelf()
    except StackError:
        missing.append("patchelf")
    told = f"missing: {', '.join(missing)}" if missing else "apt-get, apt-config, dpkg-deb, patchelf"
    return Finding(
        "package tools", not missing, told, "install the Debian packages apt and dpkg, and run `make install`"
    )


def _fetched() -> Finding:
    programs = paths.programs(user.choose())
    parts = {"TimescaleDB and mosquitto": debian.tree(programs), "Kafka": kafka.jars(programs)}
    missing = [name for name, folder in parts.items() if not (folder / ".complete").exists()]
    if missing:
        return Finding("downloads", True, f"{' and '.join(missing)} not fetched yet: `keepwell up` downloads 85 MB")
    return Finding("downloads", True, f"all in {programs}")


def _disk(home: Path) -> Finding:
    who = user.choose()
    places = {paths.home(home, who).servers, paths.programs(who), paths.downloads()}
    free: dict[Path, int] = {}
    for place in places:
        nearest = next(folder for folder in [place, *place.parents] if folder.exists())
        free[nearest] = shutil.disk_usage(nearest).free // 1_000_000
    tightest = min(free, key=lambda folder: free[folder])
    told = f"{free[tightest]} MB free at {tightest}"
    return Finding(
        "disk",
        free[tightest] >= LEAST_DISK_MB,
        told,
        f"free {LEAST_DISK_MB} MB there, or give another --home",
    )


def _memory() -> Finding:
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    available = next(int(line.split()[1]) // 1000 for line in lines if line.startswith("MemAvailable:"))
    told = f"{available} MB available"
    return Finding(
        "memory", available >= LEAST_MEMORY_MB, told, f"the stack needs {LEAST_MEMORY_MB} MB; stop something"
    )


def _zones() -> Finding:
    there = Path("/usr/share/zoneinfo/Europe/Berlin").exists()
    todo = "install the package tzdata: PostgreSQL reads the host's time zones"
    return Finding("time zones", there, "/usr/share/zoneinfo" if there else "none on this host", todo)


def _ports(home: Path, base_port: int | None) -> Finding:
    who = user.choose()
    where = paths.home(home, who)
    try:
        settled = state.with_ports(state.load(where), base_port)
        for server in ports.OF_SERVER:
            if not where.pid_file(server).exists():
                ports.require_free(server, settled.ports)
    except StackError as error:
        return Finding("ports", False, str(error), "give --base-port, 0 chooses free ones")
    told = ", ".join(f"{name} {port}" for name, port in settled.ports.items())
    return Finding("ports", True, told)
