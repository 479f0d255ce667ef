"""The class-data archive that halves Kafka's start: made once by a broker that runs only for that."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from deploy.local import java, kafka, ports, process
from deploy.local.errors import Report, StackError
from deploy.local.paths import Home
from deploy.local.server import Context
from deploy.local.state import State
from deploy.local.user import ServiceUser
from deploy.local.watch import until_ready

DUMP_S = 90.0


def ensure(programs: Path, user: ServiceUser, report: Report) -> bool:
    """Make the archive where it is missing; return whether it is there. Without it Kafka starts slower."""
    program = java.find_java()
    if program is None:
        return False
    target = kafka.archive(programs, program)
    if target.exists():
        return True
    report("kafka", "preparing a fast start (once)")
    folder = Path(tempfile.mkdtemp(prefix="keepwell-archive-"))
    try:
        folder.chmod(0o755)
        made = _train(folder, programs, user)
        if made is not None:
            fresh = target.with_suffix(".new")
            shutil.copyfile(made, fresh)
            fresh.chmod(0o644)
            os.replace(fresh, target)
    except StackError as error:
        report("kafka", f"no fast start, only slower: {str(error).splitlines()[0]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target.exists()


def _train(folder: Path, programs: Path, user: ServiceUser) -> Path | None:
    """Run a broker to its first acknowledged record and stop it; return the archive it leaves."""
    home = Home(folder, folder / "servers", "")
    home.make(user)
    state = State(ports.choose(), cluster_id=f"archive{secrets.token_hex(7)}a")
    broker = kafka.Kafka(Context(home, user, state, programs, lambda *_: None))
    broker.prepare()
    broker.train_to = home.data("kafka") / "tmp" / "classes.jsa"
    argv = broker.argv()
    who, child = process.spawn(
        argv, user=user, cwd=home.data("kafka"), log=home.log("kafka"),
        env=Context(home, user, state, programs, lambda *_: None).environ("kafka"),
    )  # fmt: skip
    try:
        asyncio.run(until_ready(broker, who, home.log("kafka"), child))
    finally:
        process.stop(who, broker.stop_signal, DUMP_S)
    return broker.train_to if broker.train_to.exists() else None
