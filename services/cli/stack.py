"""``keepwell up | down | status | logs | doctor``: the local stack at the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.settings import Loaded, load

if TYPE_CHECKING:
    from deploy.local.errors import Report
    from deploy.local.plan import Choice
    from deploy.local.stack import Stack

FAILED = 1
NOT_UP = 3
FOLLOW_S = 0.2

HOME = typer.Option(None, "--home", help="folder of the stack; default: setting stack.home", show_default=False)
BASE = typer.Option(
    None, "--base-port", min=0, max=65400, show_default=False,
    help="first of its ports (kafka +92, postgres +32, mqtt +83, gateway +43, api +80); 0: free ones, kept",
)  # fmt: skip
JSON = typer.Option(False, "--json", help="print one JSON document for scripts")


def register(app: typer.Typer) -> None:
    """Add the stack's commands."""
    for command in (up, down, status, logs, doctor):
        app.command()(command)


def up(home: Path | None = HOME, base_port: int | None = BASE, as_json: bool = JSON) -> None:
    """Start Kafka, TimescaleDB and mosquitto, and wait until each one answers.

    The first time they are downloaded (85 MB); no docker is needed and nothing on the host changes. Run it
    again at any time: what died is brought back, what runs is left alone. Servers named in keepwell.toml
    (kafka.bootstrap, postgres.host, mqtt.host) are used instead. Several stacks run side by side, each with
    its own --home and --base-port.
    """
    began = time.monotonic()
    loaded = _settings(home, base_port)
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    with _failing(as_json):
        with show_progress(console) as report:
            stack, choices = _open(loaded, report)
            if not as_json:
                _tell(console, stack, choices)
            named = {choice.server: _check(loaded, choice) for choice in choices if choice.how == "named"}
            running = stack.up() if stack.servers else []
        seconds = time.monotonic() - began
        if as_json:
            document = {
                "home": str(stack.home.path),
                "seconds": round(seconds, 2),
                "user": stack.user.name,
                "choices": [asdict(choice) for choice in choices],
                "servers": [asdict(one) for one in running],
                "named": named,
                "ports": stack.ports() if running else {},
            }
            _print_json(document)
            return
        for server, told in named.items():
            console.print(f"  {server}: {told}")
        for one in running if console.is_terminal else []:
            what = "started" if one.started else "already running"
            where = f", pid {one.pid}" if one.pid else ""
            console.print(f"  {one.name:10} 127.0.0.1:{one.port}  {what} in {one.seconds:.1f} s{where}")
        console.print(f"The stack is up ({seconds:.1f} s). Addresses and passwords: {stack.home.stack_toml}")
        console.print("Next: `keepwell migrate`. To stop it: `keepwell down`.")


def down(
    home: Path | None = HOME,
    erase: bool = typer.Option(False, "--erase", help="also delete its data, logs, certificates and passwords"),
    as_json: bool = JSON,
) -> None:
    """Stop the stack cleanly; its data stay for the next `keepwell up`."""
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    with _failing(as_json):
        with show_progress(console) as report:
            stack, _ = _open(_settings(home, None), report)
            stopped = stack.down()
            if erase:
                stack.erase()
        if as_json:
            _print_json({"home": str(stack.home.path), "stopped": stopped, "erased": erase})
        else:
            console.print(f"Stopped: {', '.join(stopped)}." if stopped else f"Nothing ran in {stack.home.path}.")


def status(home: Path | None = HOME, as_json: bool = JSON) -> None:
    """Ask each server whether it answers. Exits with 3 unless all of them do."""
    with _failing(as_json):
        from deploy.local import status as look

        loaded = _settings(home, None)
        stack, choices = _open(loaded, _nothing)
        rows = look.of(stack)
        named = {choice.server: _check(loaded, choice) for choice in choices if choice.how == "named"}
        if as_json:
            _print_json({"home": str(stack.home.path), "servers": [asdict(row) for row in rows], "named": named})
        else:
            table = Table("server", "state", "port", "pid", "memory", "up for", "", box=None)
            for row in rows:
                style = {"up": "green", "silent": "yellow"}.get(row.state, "red")
                memory, uptime = (f"{row.memory_mb} MB", f"{row.uptime_s} s") if row.pid else ("", "")
                shown = f"[{style}]{row.state}[/]"
                table.add_row(row.name, shown, str(row.port), str(row.pid or ""), memory, uptime, row.note)
            for server, told in named.items():
                table.add_row(server, "[green]up[/]", "", "", "", "", told)
            Console(highlight=False).print(table)
            if not rows and stack.servers:
                Console().print(f"No stack in {stack.home.path}: run `keepwell up`.", highlight=False)
        if len(rows) < len(stack.servers) or any(row.state != "up" for row in rows):
            raise typer.Exit(NOT_UP)


def logs(
    server: str | None = typer.Argument(None, help="kafka, postgres or mosquitto; without it all three"),
    lines: int = typer.Option(40, "--lines", "-n", min=1, max=10_000, help="how many of the last lines"),
    follow: bool = typer.Option(False, "--follow", "-f", help="go on with new lines until Ctrl-C"),
    home: Path | None = HOME,
) -> None:
    """Show the end of the servers' logs."""
    with _failing(as_json=False):
        from deploy.local import process
        from deploy.local.stack import SERVERS

        stack, _ = _open(_settings(home, None), _nothing)
        console = Console(highlight=False, markup=False, soft_wrap=True)
        if server is not None and server not in SERVERS:
            raise typer.BadParameter(f"{server!r} is not a server; choose {', '.join(SERVERS)}")  # noqa: EM102
        files = {name: stack.home.log(name) for name in ([server] if server else SERVERS)}
        ends = {name: path.stat().st_size if path.exists() else 0 for name, path in files.items()}
        for name, path in files.items():
            for line in process.tail(path, lines, limit=lines * 400).splitlines():
                console.print(line if server else f"{name:10} {line}")
        while follow:
            time.sleep(FOLLOW_S)
            for name, path in files.items():
                for line in _new_lines(path, ends, name):
                    console.print(line if server else f"{name:10} {line}")


def doctor(home: Path | None = HOME, base_port: int | None = BASE, as_json: bool = JSON) -> None:
    """Look at what this host has for the stack; say for each lack what to do, and exit with 1."""
    with _failing(as_json):
        from deploy.local.doctor import examine

        loaded = _settings(home, base_port)
        told = loaded.origin["stack.base_port"] != "default"
        found = examine(loaded.settings.stack.home, loaded.settings.stack.base_port if told else None)
        if as_json:
            _print_json({"ok": all(one.ok for one in found), "findings": [asdict(one) for one in found]})
        else:
            table = Table("", "what", "found", box=None)
            for one in found:
                mark = "[green]ok[/]" if one.ok else "[red]no[/]"
                table.add_row(mark, one.what, one.found if one.ok else f"{one.found}\n→ {one.todo}")
            Console(highlight=False).print(table)
        if not all(one.ok for one in found):
            raise typer.Exit(FAILED)


def _settings(home: Path | None, base_port: int | None) -> Loaded:
    return load({"stack.home": home, "stack.base_port": base_port})


def _open(loaded: Loaded, report: Report) -> tuple[Stack, list[Choice]]:
    from deploy.local.plan import open_stack

    return open_stack(loaded, report)


def _check(loaded: Loaded, choice: Choice) -> str:
    from deploy.local.plan import check_named

    return check_named(loaded.settings, choice.server)


def _tell(console: Console, stack: Stack, choices: list[Choice]) -> None:
    reasons: dict[str, list[str]] = {}
    for choice in choices:
        reasons.setdefault(f"{choice.how}: {choice.why}", []).append(choice.server)
    for reason, servers in reasons.items():
        console.print(f"{', '.join(servers)} → {reason}")
    if stack.servers:
        console.print(f"servers run as {stack.user.name} ({stack.user.why}); home {stack.home.path}")
        if stack.home.note:
            console.print(stack.home.note)


def _new_lines(path: Path, ends: dict[str, int], name: str) -> list[str]:
    size = path.stat().st_size if path.exists() else 0
    if size < ends[name]:
        ends[name] = 0
    with path.open("rb") as file:
        file.seek(ends[name])
        text = file.read(1_000_000)
    whole = text[: text.rfind(b"\n") + 1]
    ends[name] += len(whole)
    return whole.decode("utf-8", "replace").splitlines()


def _nothing(_part: str, _text: str) -> None:
    """Report nothing."""


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document))


@contextmanager
def _failing(as_json: bool) -> Iterator[None]:
    """Turn the stack's errors into one plain text on stderr (or JSON) and exit code 1."""
    from deploy.local.errors import StackError

    try:
        yield
    except StackError as error:
        if as_json:
            _print_json({"error": str(error)})
        else:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"keepwell: {error}", style="red", markup=False)
        raise typer.Exit(FAILED) from error


@contextmanager
def show_progress(console: Console) -> Iterator[Report]:
    """Show what each part is doing: a live line each on a terminal, else a line at each step."""
    columns = (SpinnerColumn(), TextColumn("{task.fields[part]:10}"), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}
        last: dict[str, str] = {}

        def report(part: str, text: str) -> None:
            if console.is_terminal:
                if part not in tasks:
                    tasks[part] = progress.add_task(text, part=part, total=None)
                progress.update(tasks[part], description=text)
                return
            step = "".join(character for character in text if not character.isdigit())
            if last.get(part) != step:
                last[part] = step
                console.print(f"  {part:10} {text}", markup=False)

        yield report
