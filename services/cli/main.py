"""The command line: ``keepwell COMMAND``. Each command lives in its own module and is registered here."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape

from deploy.local.errors import StackError
from services.errors import NotInstalled, SettingsError

# module of services.cli → its commands, in the order of the help
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "demo": ("demo",),
    "stack": ("up", "down", "status", "logs", "doctor"),
    "migrate": ("migrate",),
    "doors": ("gateway", "bridge"),
    "processor": ("processor",),
    "api": ("api",),
    "enrol": ("enrol", "revoke", "login"),
    "account": ("account",),
    "admin": ("admin",),
    "simulate": ("simulate",),
    "replay": ("replay",),
    "evaluate": ("evaluate",),
    "health": ("health",),
    "config": ("config",),
    "dead": ("dead",),
    "patient": ("patient",),
    "programme": ("programme",),
    "rules": ("rules",),
    "consent": ("consent",),
    "backup": ("backup", "restore"),
    "audit": ("audit",),
}
OWN: Final = frozenset({"ingest", "detectors", "services", "simulators", "evaluation", "deploy"})
ALONE: Final = frozenset({"replay", "evaluate", "rules"})  # of them something works where no server library is
SERVER: Final = "what runs the servers: pip install 'keepwell[server]'"


def create_app(command: str | None = None) -> typer.Typer:
    """Return the app with one command's module loaded (a quick start), or with all of them (the help).

    Raises:
        ModuleNotFoundError: the one command needs a library that is not there. The help leaves such commands out.
    """
    app = typer.Typer(
        name="keepwell",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Remote monitoring with the wearables people already own. Start with `keepwell demo`. "
        "Not a medical device, not an emergency service.",
    )

    @app.callback()
    def group() -> None:
        """Keep the commands named even when only one is loaded."""

    group.__doc__ = app.info.help
    wanted = [module for module, names in COMMANDS.items() if command in names]
    absent: list[str] = []
    for module in wanted or COMMANDS:
        if not wanted and module not in ALONE and not _has_servers():
            absent += COMMANDS[module]
        else:
            importlib.import_module(f"services.cli.{module}").register(app)
    if absent:
        app.info.epilog = escape(f"Not installed: {', '.join(absent)}. They need {SERVER}")
    return app


def _has_servers() -> bool:
    """Return whether the extra ``server`` is installed: by the database's client, which all that it runs needs."""
    try:
        return importlib.util.find_spec("psycopg") is not None
    except ModuleNotFoundError:
        return False


def _is_own(error: ModuleNotFoundError) -> bool:
    return (error.name or "").partition(".")[0] in OWN


def _run() -> None:
    try:
        create_app(sys.argv[1] if len(sys.argv) > 1 else None)()
    except ModuleNotFoundError as error:  # also of what a command imports once it runs
        if _is_own(error):
            raise
        msg = f"{error.name} is not installed; this command needs {SERVER}"
        raise NotInstalled(msg) from error


def main() -> None:
    """Run the command line; expected trouble ends with one plain sentence and exit code 2."""
    try:
        _run()
    except (SettingsError, StackError, NotInstalled) as error:
        Console(stderr=True).print(f"keepwell: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
