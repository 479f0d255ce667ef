"""What the audit costs: the same reads with it and without it, in turns, by two API processes on one database.

Each round is a slice with audit (row in the read's transaction, sealer running) and one without (neither), their order
alternating; clients ask for one patient's page as fast as they are answered. Told are reads a second, and the CPU time
of API process and database together for a thousand reads, which other work on the machine disturbs less; each as the
ratio of the two slices of a round, median and quartiles. The promise: at most 20 % of either.

Runs on servers of its own (``--home``), which it stops at its end. `python -m benchmarks.audit --help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql
from rich.console import Console

from deploy.local.stack import Stack
from ingest.clock import SystemClock, to_datetime
from services.api.credentials import new_token, token_hash
from services.settings import Settings, load
from services.store.audit_verify import verify
from services.store.migrate import migrate_database

PATIENTS: Final = 500
READY_S: Final = 30.0
SEALED: Final = 20_000
PROMISE: Final = 0.2
TICKS: Final = os.sysconf("SC_CLK_TCK")
PEOPLE: Final = (
    "INSERT INTO organisation (key, name) VALUES ('bench', 'Benchmark')",
    "INSERT INTO person (organisation_id, key, name, role) VALUES (1, 'ada', 'Ada', 'nurse')",
    """INSERT INTO patient (organisation_id, key, name, enrolled_at)
       SELECT 1, 'p' || i, '', '2025-01-01Z' FROM generate_series(1, {patients}) i""",
    "INSERT INTO care_team (organisation_id, key, name, is_default) VALUES (1, 'default', 'Everybody', true)",
    "INSERT INTO care_team_member (organisation_id, team_id, person_id, valid_from) VALUES (1, 1, 1, '2025-01-01Z')",
    """INSERT INTO care_team_patient (organisation_id, team_id, patient_id, valid_from)
       SELECT 1, 1, id, '2025-01-01Z' FROM patient""",
    """INSERT INTO metric_state SELECT 1, p, m, 'normal', NULL, '2026-11-01Z', 60, '2026-11-01Z'
       FROM generate_series(1, {patients}) p, generate_series(1, 3) m""",
)


class Slice(NamedTuple):
    """Some seconds of reads."""

    reads: int
    seconds: float
    cpu_s: float  # of the API process and of every process of the database

    @property
    def rate(self) -> float:
        """Reads a second."""
        return self.reads / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a read."""
        return self.cpu_s * 1000 / self.reads


def serve(port: int, audited: bool) -> None:
    """Run the API, with or without its audit, until it is told to stop."""
    from services.api import access
    from services.api.scope import Scope
    from services.api.sealer import Sealer
    from services.cli.api import serve_api, server_config
    from services.runtime import run

    if not audited:

        async def unwritten(scope: Scope) -> None:
            """Leave out what is measured."""

        async def unsealed(self: Sealer) -> None:
            """Leave out what is measured."""

        access.write_audit = unwritten  # type: ignore[attr-defined]
        Sealer.start = unsealed  # type: ignore[method-assign]
    settings = load({"api.port": port}).settings
    run(lambda: serve_api(settings, server_config(settings)))


async def read_for(port: int, token: str, seconds: float, clients: int) -> tuple[int, float]:
    """Ask for pages of patients as fast as they are answered; return how many came, and the time it took."""
    began = time.monotonic()
    counts = await asyncio.gather(*(_client(port, token, began + seconds, number) for number in range(clients)))
    return sum(counts), time.monotonic() - began


async def _client(port: int, token: str, until: float, number: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.monotonic() < until:
        patient = 1 + (number * 31 + count) % PATIENTS
        writer.write(
            f"GET /v1/patients/p{patient} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            msg = f"not answered: {head.decode()[:200]}"
            raise RuntimeError(msg)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        count += 1
    writer.close()
    return count


def cpu_s(pids: list[int]) -> float:
    """Return the CPU seconds used so far by processes, their living children and those that have ended."""
    total = 0
    children = {str(pid) for pid in pids}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name in children:
            total += sum(map(int, fields[11:15]))
        elif fields[1] in children:
            total += sum(map(int, fields[11:13]))
    return total / TICKS


@contextmanager
def bench_on(settings: Settings) -> Iterator[tuple[Settings, str]]:
    """Make a database with patients and somebody who may read them; drop it at the end."""
    postgres = settings.postgres.model_copy(update={"database": f"kw_audit_{secrets.token_hex(3)}"})
    own = settings.model_copy(update={"postgres": postgres})
    migrate_database(postgres)
    token = new_token()
    with psycopg.connect(postgres.conninfo("admin")) as admin:
        for statement in PEOPLE:
            admin.execute(statement.format(patients=PATIENTS).encode())
        admin.execute(
            "INSERT INTO person_token VALUES (%s, 1, 'api', '2025-01-01Z', '2125-01-01Z')", [token_hash(token)]
        )
        admin.commit()
        admin.autocommit = True
        admin.execute("VACUUM ANALYZE")
    try:
        yield own, token
    finally:
        with psycopg.connect(postgres.conninfo("admin", "postgres"), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(postgres.database)))


@contextmanager
def server(settings: Settings, audited: bool) -> Iterator[tuple[int, int]]:
    """Run an API process; give its port and pid."""
    port = free_port()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("KEEPWELL_")} | {
        "KEEPWELL_CONFIG": os.devnull,
        "KEEPWELL_STACK__HOME": str(settings.stack.home),
        "KEEPWELL_POSTGRES__DATABASE": settings.postgres.database,
        "KEEPWELL_METRICS__API_PORT": "0",
    }
    words = [sys.executable, "-m", "benchmarks.audit", "--serve", str(port), *([] if audited else ["--without"])]
    child = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port, child.pid
    finally:
        child.terminate()
        child.wait(20)


def free_port() -> int:
    """Return a port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ready(port: int, token: str) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + READY_S
    while True:
        try:
            await read_for(port, token, 0.1, 1)
        except (OSError, EOFError):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def measure(
    ports: dict[bool, tuple[int, int]], database: int, token: str, chosen: argparse.Namespace
) -> list[dict[bool, Slice]]:
    """Return the two slices of each round; a first one of each warms up."""
    for port, _ in ports.values():
        await ready(port, token)
        await read_for(port, token, 2.0, chosen.clients)
    rounds = []
    for number in range(chosen.rounds):
        slices = {}
        for audited in (True, False) if number % 2 else (False, True):
            port, pid = ports[audited]
            before = cpu_s([pid, database])
            reads, seconds = await read_for(port, token, chosen.seconds, chosen.clients)
            if audited:
                await asyncio.sleep(1.5)  # the sealer's last look is this slice's cost
            slices[audited] = Slice(reads, seconds, cpu_s([pid, database]) - before)
        rounds.append(slices)
        said = ", ".join(f"{'with' if a else 'without'} {s.rate:.0f}/s {s.cpu_ms:.2f} ms" for a, s in slices.items())
        Console(stderr=True, highlight=False).print(f"round {number + 1} of {chosen.rounds}: {said}")
    return rounds


def main() -> int:
    """Run the rounds, print the figures; exit with 1 when the promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".keepwell/bench"), help="folder of its own servers")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each slice")
    parser.add_argument("--clients", type=int, default=16, help="who ask at once")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--without", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve, audited=not chosen.without)
        return 0
    home = chosen.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    stack = Stack(home, 0)
    stack.up()
    try:
        settings = load({"stack.home": home}, environ={"KEEPWELL_CONFIG": os.devnull}).settings
        with bench_on(settings) as (own, token):
            with server(own, True) as audited, server(own, False) as bare:
                postgres = stack.pid("postgres")
                assert postgres is not None  # noqa: S101 - `up` returned
                rounds = asyncio.run(measure({True: audited, False: bare}, postgres, token, chosen))
            document = summary(rounds, chosen) | sealed(own) | {"sealed_a_second": seal_rate(own)}
    finally:
        stack.down()
    show(document)
    if chosen.json:
        chosen.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return 0 if document["kept"] else 1


def sealed(settings: Settings) -> dict[str, Any]:
    """Return what the reads left: rows, bytes a row, how long they waited for the seal; the chain must be whole."""
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        row = connection.execute(
            """SELECT (SELECT count(*) FROM access_audit), pg_total_relation_size('access_audit'),
                      pg_total_relation_size('audit_block'),
                      (SELECT percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY b.sealed_at - a.recorded_at)
                       FROM audit_block b CROSS JOIN LATERAL unnest(b.ids) AS i JOIN access_audit a ON a.id = i)"""
        ).fetchone()
    assert row is not None  # noqa: S101 - one row of sums
    count, rows, blocks, (median, late) = row
    began = time.monotonic()
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        result = verify(connection, [], lambda _: None)
    if result.trouble is not None:
        raise RuntimeError(result.trouble.sentence)
    return {
        "rows": count, "bytes_a_row": round((rows + blocks) / count), "waiting": result.waiting,
        "sealed_after_s": {"p50": round(median.total_seconds(), 2), "p99": round(late.total_seconds(), 2)},
        "verified_a_second": round(result.rows / (time.monotonic() - began)),
    }  # fmt: skip


def seal_rate(settings: Settings) -> int:
    """Return how many rows a second the sealer can seal, on a machine that has nothing else of ours to do."""
    with psycopg.connect(settings.postgres.conninfo("admin"), autocommit=True) as connection:
        connection.execute(
            """INSERT INTO access_audit (at, organisation_id, person_id, role, action, patient_id, address, agent,
                                         request_id, detail)
               SELECT '2026-11-01Z', 1, 1, 'nurse', 'trend.read', 1 + mod(i, 500), '127.0.0.1', 'Mozilla/5.0 (X11)',
                      md5(i::text), '{"metric": "heart_rate"}' FROM generate_series(1, %s) i""",
            [SEALED],
        )
        began, count = time.monotonic(), 0
        while count < SEALED:
            row = connection.execute("SELECT sealed FROM seal_audit(2000)").fetchone()
            count += row[0] if row else 0
        return round(count / (time.monotonic() - began))


def summary(rounds: list[dict[bool, Slice]], chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the medians with their quartiles, and whether the promise is kept."""
    figures = {
        "reads_a_second_with": [one[True].rate for one in rounds],
        "reads_a_second_without": [one[False].rate for one in rounds],
        "cpu_ms_a_read_with": [one[True].cpu_ms for one in rounds],
        "cpu_ms_a_read_without": [one[False].cpu_ms for one in rounds],
        "reads_lost": [1 - one[True].rate / one[False].rate for one in rounds],
        "cpu_added": [one[True].cpu_ms / one[False].cpu_ms - 1 for one in rounds],
    }
    told = {name: _spread(values) for name, values in figures.items()}
    return {
        "date": to_datetime(SystemClock().now_ms()).isoformat(),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load_1m": os.getloadavg()[0]},
        "rounds": len(rounds), "seconds": chosen.seconds, "clients": chosen.clients,
        "reads": sum(slice_.reads for one in rounds for slice_ in one.values()),
        **told,
        "promise": PROMISE, "kept": max(told["reads_lost"]["median"], told["cpu_added"]["median"]) <= PROMISE,
    }  # fmt: skip


def _spread(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values)
    return {"median": round(median, 3), "low": round(low, 3), "high": round(high, 3)}


def show(document: dict[str, Any]) -> None:
    """Print the figures."""
    console = Console(highlight=False, soft_wrap=True)
    for name, value in document.items():
        told = (
            f"{value['median']} ({value['low']} to {value['high']})"
            if isinstance(value, dict) and "low" in value
            else value
        )
        console.print(f"{name.replace('_', ' '):26} {told}")


if __name__ == "__main__":
    sys.exit(main())
