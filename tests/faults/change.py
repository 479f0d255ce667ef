"""Rows in which the system itself is changed: another version beside it, a backup brought back."""

from __future__ import annotations

import asyncio
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Final

from detectors.pipeline import Pipeline
from services.processor.core import layout_of
from tests.faults.matrix import row
from tests.faults.trial import Trial, eventually_so
from tests.fix_upgrade import OldCode

ROOT: Final = Path(__file__).parents[2]
LOOK_BACK: Final = 40  # commits
BESIDE_S: Final = 4
RECORDS: Final = 60


@row(
    26, "upgrade",
    how="the oldest of the last commits with this schema processes alone, then beside this version, then this version alone",
    figure="differing alerts, commits between, people learned anew", alone=True, slower=3, moment=(0, 0),
)  # fmt: skip
async def upgrade(trial: Trial) -> None:
    new = trial.system.processor
    with trial.out_of_order(new):
        await asyncio.to_thread(new.stop)  # before it has learned anything: nobody goes back to an older version
        commit, between = await asyncio.to_thread(_older)
        trial.read("commits between", between)
        trial.read("old version", commit[:7])
        old = await asyncio.to_thread(OldCode.of, commit, trial.folder / "old")
        with old.process(
            trial.system.told, ["processor", "--instance-id", "faulty-1"], trial.folder / "old.log"
        ) as before:
            await trial.load.until(
                trial.rng.uniform(0.6, 0.75)
            )  # most of the stories' alerts come next, or while it learns
            sent = await trial.system.ends()
            await eventually_so(lambda: trial.caught_up(sent), 60, "work by the old version")
            other = "SELECT count(*) FROM patient_baseline WHERE layout <> %s"
            trial.read("learned anew", (await trial.query(other, layout_of(Pipeline().dtype)))[0][0])
            beside = trial.system.another("beside")
            with beside:
                await asyncio.sleep(BESIDE_S)
                trial.require(before.alive(), "the old version ended beside the new one")
                await asyncio.to_thread(before.stop)
                await asyncio.sleep(1)
                await asyncio.to_thread(beside.stop)
        new.start()


def _older() -> tuple[str, int]:
    """Return the oldest of the last commits whose schema is this one's, and how many commits lie between."""
    schema = _git("rev-parse", "HEAD:services/store/migrations")
    found = ("", 0)
    for number, commit in enumerate(_git("rev-list", "--first-parent", f"-n{LOOK_BACK}", "HEAD").split()):
        if number and _git("rev-parse", f"{commit}:services/store/migrations") == schema:
            found = (commit, number)
    if not found[0]:
        found = (_git("rev-parse", "HEAD"), 0)
    return found


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


async def _worked(trial: Trial, before: int) -> bool:
    return await trial.processed() >= before + RECORDS or await trial.caught_up()


@row(
    27, "backup and restore",
    how="keepwell backup under load; later everything stops, keepwell restore into another database, everything starts on it",
    figure="s to back up, s to restore, differing alerts", same_stream=False,
)  # fmt: skip
async def backup_and_restore(trial: Trial) -> None:
    file = trial.folder / "keepwell.backup"
    began = time.monotonic()
    done = await asyncio.to_thread(trial.command, "backup", str(file))
    trial.read("s to back up", time.monotonic() - began)
    trial.require(done.returncode == 0, f"keepwell backup: {done.stderr.strip()[-200:]}")
    if done.returncode:
        return
    at_backup = await trial.processed()
    await eventually_so(partial(_worked, trial, at_backup), 60, "work after the backup")
    processes = trial.running()
    began = time.monotonic()
    with trial.all_out_of_order():
        for process in processes:
            process.kill()
        lost = await trial.processed() - at_backup
        settings = trial.system.settings
        other = f"{settings.postgres.database}_back"
        done = await asyncio.to_thread(trial.command, "restore", str(file), "--database", other)
        trial.require(done.returncode == 0, f"keepwell restore: {done.stderr.strip()[-300:]}")
        if done.returncode == 0:
            trial.moved_to(other)
        for process in processes:
            process.start()
    trial.read("s to restore and start", time.monotonic() - began)
    trial.read("frames processed again", lost)
