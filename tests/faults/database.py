"""Rows that break PostgreSQL, or the way to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from services.settings import Settings
from tests.faults.matrix import row
from tests.faults.trial import Trial, eventually_so
from tests.faults.watch import sign_in

FULL_S: Final = 6
DISK_MB: Final = 220
LOCK_S: Final = 8
THROTTLE_BYTES_S: Final = 125_000  # 1 Mbit/s
THROTTLE_S: Final = 5
EXHAUSTED_S: Final = 5
TAKEN: Final = "faults-taken"
MOST_CONNECTIONS: Final = 500
FAST_S: Final = 3.0  # a refusal slower than this is no refusal


@row(9, "database kill -9", how="SIGKILL of the postmaster, started again", figure="seconds to the first commit")
async def database_killed(trial: Trial) -> None:
    before = await trial.processed()
    began = time.monotonic()
    trial.stack.kill("postgres")
    await trial.pause(0, 1)
    await asyncio.to_thread(trial.stack.start, "postgres")
    trial.read("s without a database", time.monotonic() - began)
    await eventually_so(partial(_worked, trial, before), 60, "the first commit")
    trial.read("s to the first commit", time.monotonic() - began)


async def _worked(trial: Trial, before: int) -> bool:
    return await trial.processed() > before or await trial.caught_up()


@asynccontextmanager
async def small_disk(trial: Trial, settings: Settings) -> AsyncIterator[None]:
    """Move the row's database to a tablespace on a small disk of its own."""
    home, user = trial.stack.local.home, trial.stack.local.user
    place = home.servers / "small"
    place.mkdir(exist_ok=True)
    await _run(
        "mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,uid={user.uid},gid={user.gid},mode=700", "tmpfs", str(place)
    )
    name = sql.Identifier(f"small_{settings.postgres.database}")
    try:
        (place / "space").mkdir()
        os.chown(place / "space", user.uid, user.gid)
        with _alone(settings) as admin:
            admin.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(name, str(place / "space")))
            admin.execute(
                sql.SQL("ALTER DATABASE {} SET TABLESPACE {}").format(sql.Identifier(settings.postgres.database), name)
            )
        yield
    finally:
        (place / "ballast").unlink(missing_ok=True)
        for process in trial.running():
            process.kill()
        with _alone(settings) as admin:
            admin.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(settings.postgres.database))
            )
            admin.execute(sql.SQL("DROP TABLESPACE IF EXISTS {}").format(name))
        await _run("umount", str(place))


@row(
    10, "database full", how=f"its tablespace on a tmpfs of {DISK_MB} MB, filled for {FULL_S} s (ENOSPC), then freed",
    figure="frames stored while full, seconds to not ready", prepare=small_disk,
)  # fmt: skip
async def database_full(trial: Trial) -> None:
    place = trial.stack.local.home.servers / "small"
    began = time.monotonic()
    _fill(place / "ballast")
    before = await trial.processed()
    red: float | None = None
    while time.monotonic() - began < FULL_S or (red is None and time.monotonic() - began < 3 * FULL_S):
        if red is None and await trial.not_ready("processor"):
            red = time.monotonic() - began
        await asyncio.sleep(0.2)
    trial.read("frames stored while full", await trial.processed() - before)
    trial.require(
        red is not None, f"/readyz of the processor did not tell within {3 * FULL_S} s that nothing can be stored"
    )
    trial.read("s to not ready", red if red is not None else "never")
    (place / "ballast").unlink()


def _fill(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(8192)):
            pass


@row(
    11, "database slow, locked",
    how=f"LOCK TABLE alert, frame_log for {LOCK_S} s, then a proxy at 1 Mbit/s for {THROTTLE_S} s",
    figure="alert latency", proxied=("postgres",),
)  # fmt: skip
async def database_slow(trial: Trial) -> None:
    async with await psycopg.AsyncConnection.connect(trial.system.settings.postgres.conninfo("admin")) as holder:
        await holder.execute("SET idle_in_transaction_session_timeout = 0")
        await holder.execute("LOCK TABLE alert, frame_log IN EXCLUSIVE MODE")
        await asyncio.sleep(LOCK_S)
        await holder.rollback()
    proxy = trial.proxies["postgres"]
    proxy.up.bytes_per_s = proxy.down.bytes_per_s = THROTTLE_BYTES_S
    await asyncio.sleep(THROTTLE_S)
    proxy.up.bytes_per_s = proxy.down.bytes_per_s = 0


@row(
    12, "no connection left", how=f"every connection of PostgreSQL taken for {EXHAUSTED_S} s, the others' ended",
    figure="p99 of the API's 503 s, pages that showed another organisation",
)  # fmt: skip
async def no_connection_left(trial: Trial) -> None:
    tokens = {"tests": sign_in(trial.system, "reader"), "others": _others(trial)}
    leaks, slow, answers = 0, [], []
    async with contextlib.AsyncExitStack() as stack:
        taken = await _take_all(trial, stack)
        trial.read("connections taken", taken)
        until = time.monotonic() + EXHAUSTED_S
        while time.monotonic() < until:
            for organisation, token in tokens.items():
                status, seconds, leaked = await _patients(trial, organisation, token)
                leaks += leaked
                answers.append(status)
                if status == 503:
                    slow.append(seconds)
    for organisation, token in tokens.items():
        await eventually_so(partial(_served, trial, organisation, token), 30, "pages again")
    trial.require(503 in answers, f"the API was never out of connections: it answered {sorted(set(answers))}")
    trial.require(set(answers) <= {200, 503}, f"the API answered {sorted(set(answers))}")
    trial.require(not leaks, f"{leaks} pages showed another organisation's patients")
    worst = sorted(slow)[int(len(slow) * 0.99)] if slow else 0.0
    trial.require(worst < FAST_S, f"the API took {worst:.1f} s to say 503")
    trial.read("p99 of 503 s", worst)
    trial.read("pages of another organisation", leaks)


async def _take_all(trial: Trial, stack: contextlib.AsyncExitStack) -> int:
    """Take every connection there is, ending those of others; return how many."""
    conninfo = make_conninfo(trial.system.settings.postgres.conninfo("admin"), application_name=TAKEN)
    end_others = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE backend_type = 'client backend' AND application_name <> %s"""
    first = await stack.enter_async_context(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))
    taken = 1
    for _ in range(3):  # whoever was ended comes again at once
        await first.execute(end_others, [TAKEN])
        with contextlib.suppress(psycopg.OperationalError):
            while taken < MOST_CONNECTIONS:
                await stack.enter_async_context(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))
                taken += 1
    return taken


def _others(trial: Trial) -> str:
    with trial.system.doors.admin() as connection:
        connection.execute("INSERT INTO organisation (key, name) VALUES ('others', 'Others')")
        connection.execute(
            """INSERT INTO patient (organisation_id, key, name, enrolled_at)
               SELECT id, 'others-1', 'Somebody', '2025-01-01Z' FROM organisation WHERE key = 'others'"""
        )
    return sign_in(trial.system, "other-reader", "others")


async def _patients(trial: Trial, organisation: str, token: str) -> tuple[int, float, bool]:
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{trial.system.settings.api.port}/v1/patients"
    async with httpx.AsyncClient(headers=headers, timeout=20, trust_env=False) as client:
        answer = await client.get(url)
    found = [one["id"] for one in answer.json()["items"]] if answer.status_code == 200 else []
    leaked = any((one == "others-1") is not (organisation == "others") for one in found)
    return answer.status_code, time.monotonic() - began, leaked


async def _served(trial: Trial, organisation: str, token: str) -> bool:
    status, _, leaked = await _patients(trial, organisation, token)
    trial.require(not leaked, "a page showed another organisation's patients afterwards")
    return status == 200


def _alone(settings: Settings) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(settings.postgres.conninfo("admin", "postgres"), autocommit=True)


async def _run(*argv: str) -> None:
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(argv[:2])} is not possible here: {done.stderr.strip()}"
        raise RuntimeError(msg)
