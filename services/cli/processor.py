"""``keepwell processor``: run a stream processor."""

from __future__ import annotations

import typer

from services.settings import load


def register(app: typer.Typer) -> None:
    """Add the ``processor`` command."""

    @app.command()
    def processor(
        instance_id: str = typer.Option(
            None, "--instance-id", help="a name unique to this process: a quick restart keeps its partitions"
        ),
    ) -> None:
        """Run a stream processor: readings in, baselines, alerts and trends out.

        Several share the partitions: start as many as there are cores. Each stops loudly at anything unexpected;
        let a supervisor (systemd, compose) start it again: nothing is lost or done twice.
        """
        from services.processor.app import run

        raise typer.Exit(run(load({"processor.instance_id": instance_id}).settings))
