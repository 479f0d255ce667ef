"""Runs the tools that fetch and unpack, each with a time limit and its error output kept."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.user import ServiceUser


def run(
    argv: Sequence[str],
    *,
    what: str,
    limit_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: ServiceUser | None = None,
    on_tick: Callable[[], None] | None = None,
) -> str:
    """Run a tool to its end and return its standard output; ``on_tick`` is called twice a second meanwhile.

    Raises:
        StackError: it is missing, failed, or took longer than ``limit_s`` (it is then killed).
    """
    drop = {"user": user.uid, "group": user.gid, "extra_groups": []} if user and user.dropped else {}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(  # type: ignore[call-overload]
                argv, cwd=cwd, env=dict(os.environ if env is None else env),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, **drop,
            )  # fmt: skip
        except OSError as error:
            msg = f"{what}: {argv[0]} does not start ({error.strerror}); see `keepwell doctor`"
            raise StackError(msg) from error
        in_time = _wait(child, limit_s, on_tick)
        out.seek(0)
        err.seek(0)
        told = (err.read() + b"\n" + out.read()).decode("utf-8", "replace").strip()
        if not in_time:
            msg = f"{what} took longer than {limit_s:.0f} s and was stopped; try again. It said:\n{_end(told)}"
            raise StackError(msg)
        if child.returncode != 0:
            how = f"{argv[0]} exited with {child.returncode}"
            msg = f"{what} failed ({how}); see `keepwell doctor`. It said:\n{_end(told)}"
            raise StackError(msg)
        out.seek(0)
        return str(out.read().decode("utf-8", "replace"))


def _wait(child: subprocess.Popen[bytes], limit_s: float, on_tick: Callable[[], None] | None) -> bool:
    end = time.monotonic() + limit_s
    try:
        while True:
            try:
                child.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if time.monotonic() > end:
                    return False
                if on_tick is not None:
                    on_tick()
            else:
                return True
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(timeout=5)


def _end(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])


def megabytes(folder: Path) -> float:
    """Return the size of all files below ``folder``, in MB; files that vanish meanwhile count nothing."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total / 1e6
