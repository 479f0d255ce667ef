"""``keepwell health``: asks every process of this installation how it is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import typer
from rich.console import Console
from rich.table import Table

from services.ops import PORTS_TRIED
from services.settings import Settings, load

PROCESSES: Final = ("gateway", "bridge", "processor", "api")
ANSWER_S: Final = 3.0
NOT_WELL: Final = 1


def register(app: typer.Typer) -> None:
    """Add the ``health`` command."""

    @app.command()
    def health(as_json: bool = typer.Option(False, "--json", help="print one JSON document for scripts")) -> None:
        """Ask every process how it is: does it turn, and is each part it needs there.

        Asks /readyz on the ports of the settings section metrics, on this machine (several processes of a kind
        take the next free ports). Exits with 1 when one is not ready, or a kind of process is not there.
        What each code means and what to do about it: docs/operations.md. The servers: `keepwell status`.
        """
        settings = load().settings
        found = ask_all(settings)
        absent = [name for name in PROCESSES if _port(settings, name) and not any(f["process"] == name for f in found)]
        well = not absent and all(one["status"] == "ready" for one in found)
        if as_json:
            Console().print_json(json.dumps({"well": well, "processes": found, "absent": absent}))
        else:
            _show(found, absent)
        raise typer.Exit(0 if well else NOT_WELL)


def ask_all(settings: Settings) -> list[dict[str, Any]]:
    """Return the health documents of this installation's processes on this machine, with their ports."""
    ours = settings.kafka.prefix + settings.postgres.database
    ports = [
        (name, _port(settings, name) + i) for name in PROCESSES if _port(settings, name) for i in range(PORTS_TRIED)
    ]
    with ThreadPoolExecutor(len(PROCESSES) * PORTS_TRIED) as pool:
        answers = pool.map(lambda one: _ask(settings.metrics.host, *one), ports)
    return [answer for answer in answers if answer is not None and answer.get("of") == ours]


def _port(settings: Settings, name: str) -> int:
    return int(getattr(settings.metrics, f"{name}_port"))


def _ask(host: str, process: str, port: int) -> dict[str, Any] | None:
    try:
        answer = httpx.get(f"http://{host}:{port}/readyz", timeout=ANSWER_S, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return None
    if not isinstance(answer, dict) or answer.get("process") != process:
        return None
    return {**answer, "port": port}


def _show(found: list[dict[str, Any]], absent: list[str]) -> None:
    table = Table("process", "pid", "port", "state", "what is missing, or how it stands", box=None)
    for one in found:
        missing = [f"{name}: {p['code']}, {p['detail']}" for name, p in one["parts"].items() if not p["ready"]]
        figures = [
            f"{key.replace('_', ' ')} {value}"
            for part in one["parts"].values()
            for key, value in part.items()
            if key not in ("ready", "code", "detail")
        ]
        state = "[green]ready[/]" if one["status"] == "ready" else "[red]not ready[/]"
        table.add_row(
            one["process"], str(one["pid"]), str(one["port"]), state, "\n".join(missing) or ", ".join(figures)
        )
    for name in absent:
        table.add_row(name, "", "", "[red]absent[/]", f"nothing of this installation answers; start `keepwell {name}`")
    Console(highlight=False).print(table)
