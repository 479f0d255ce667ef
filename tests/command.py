"""``keepwell COMMAND`` inside the tests' own process, by the same ``main``: nobody waits a second for its libraries.

That it is a program too, each command's tests show once (`as_program`).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from services.cli.main import main
from services.settings import Settings
from tests.fix_doors import environment

WIDTH = "220"


def keepwell(settings: Settings, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these settings, ``more`` of the environment, and nobody at the keyboard."""
    with ThreadPoolExecutor(1) as beside:  # a thread without the test's event loop: a command runs one of its own
        return beside.submit(_run, environment(settings) | {"COLUMNS": WIDTH} | more, words).result(120)


def as_program(settings: Settings, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The same as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *words], env=environment(settings) | {"COLUMNS": WIDTH} | more,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def _run(environ: dict[str, str], words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with _in_place_of_ours(environ, words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@contextmanager
def _in_place_of_ours(environ: dict[str, str], words: tuple[str, ...]) -> Iterator[None]:
    ours = dict(os.environ), sys.argv, sys.stdin, sys.excepthook
    try:
        os.environ.clear()
        os.environ.update(environ)
        sys.argv, sys.stdin = ["keepwell", *words], io.StringIO()
        yield
    finally:
        os.environ.clear()
        os.environ.update(ours[0])
        sys.argv, sys.stdin, sys.excepthook = ours[1:]
