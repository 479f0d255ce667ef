"""What must hold after every row, judged from outside: the devices' book, the database and what a watcher saw."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from evaluation.checker import Verdict, check
from tests.faults.watch import Watch
from tests.fix_faults import System

SHOWN = 3


def kept(system: System, book: Path) -> tuple[Verdict, list[str]]:
    """Compare the book with the database as sets of readings; return the verdict and what is wrong."""
    verdict = check([book], system.settings.postgres.conninfo("admin"))
    return verdict, list(verdict.problems)


def all_answered(book: Path, refused: int = 0) -> list[str]:
    """Every frame of the book has a verdict, and only so many are refused."""
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as connection:
        counts = dict(connection.execute("SELECT state, count(*) FROM frame GROUP BY state").fetchall())
    wrong = []
    if counts.get("sent", 0):
        wrong.append(f"{counts['sent']} frames never got a verdict")
    if counts.get("rejected", 0) != refused:
        wrong.append(f"{counts.get('rejected', 0)} frames were refused, {refused} should be")
    return wrong


def waveforms(system: System, book: Path) -> list[str]:
    """Every accepted waveform block is stored, once and as sent; none is there that nobody sent."""
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as connection:
        bodies = connection.execute("SELECT device, body FROM frame WHERE state = 'accepted' AND session IS NOT NULL")
        sent = {
            (device, block[2], hashlib.sha256(block[5]).hexdigest())
            for device, body in bodies
            for block in msgspec.msgpack.decode(body)[5]
            if block[4] == "i2" and block[0] == "ecg"
        }
    rows = system.query(
        """SELECT d.key, (extract(epoch FROM w.t0) * 1000)::bigint, w.sample
           FROM waveform_block w JOIN device d ON d.id = w.device_id"""
    )
    stored = {(d, t0, hashlib.sha256(np.array(s, "<i2").tobytes()).hexdigest()) for d, t0, s in rows}
    wrong = []
    if lost := sent - stored:
        wrong.append(f"{len(lost)} waveform blocks accepted but not stored, e.g. {sorted(lost)[0][:2]}")
    if more := stored - sent:
        wrong.append(f"{len(more)} waveform blocks stored but never accepted, e.g. {sorted(more)[0][:2]}")
    return wrong


def no_effect_twice(system: System) -> list[str]:
    """No alert is raised, withdrawn or resolved twice, and a frame's counts add up over its deliveries.

    Once as late and once as live: its patient is live again. One that was withdrawn may be raised after all.
    """
    counted = system.query(
        """SELECT alert_id::text, count(*) FILTER (WHERE change = 'raised' AND NOT late),
                  count(*) FILTER (WHERE change = 'raised' AND late), count(*) FILTER (WHERE change = 'withdrawn'),
                  count(*) FILTER (WHERE change = 'resolved') FROM alert_event GROUP BY 1"""
    )
    wrong = [
        f"alert {alert} was raised {live} times, as late {late}, withdrawn {withdrawn}, resolved {resolved}"
        for alert, live, late, withdrawn, resolved in counted
        if max(live, late) > 1 + withdrawn or max(withdrawn, resolved) > max(live, late)
    ][:SHOWN]
    wrong += _alert_without_event(system)
    uneven = system.query(
        """SELECT frame_id, deliveries, stored + duplicate + conflict + quarantined + corrected + erased AS total
           FROM frame_log WHERE (stored + duplicate + conflict + quarantined + corrected + erased) % deliveries <> 0"""
    )
    wrong += [f"frame {frame} came {times} times and counts {total} readings" for frame, times, total in uneven[:SHOWN]]
    return wrong


def _alert_without_event(system: System) -> list[str]:
    rows = system.query(
        """SELECT a.id::text, a.state FROM alert a WHERE NOT EXISTS (SELECT 1 FROM alert_event e
           WHERE e.alert_id = a.id AND e.change IN ('raised', 'revised'))"""
    )
    return [f"alert {alert} ({state}) was never told" for alert, state in rows[:SHOWN]]


def same_alerts(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> list[str]:
    """The settled alerts equal those of the offline run, to the sentence."""
    missing, more = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    wrong = []
    if missing:
        wrong.append(f"{missing.total()} settled alerts are missing, e.g. {_named(next(iter(missing)))}")
    if more:
        wrong.append(f"{more.total()} settled alerts the offline run has not, e.g. {_named(next(iter(more)))}")
    return wrong


def _named(alert: tuple[Any, ...]) -> str:
    patient, rule, priority, _, state, started, *_ = alert
    return f"{patient} {rule} ({priority}, {state}) from {started:%Y-%m-%d %H:%M}"


def events(system: System) -> list[str]:
    """Return the ids of every alert change in the order a stream sends them."""
    return [str(i) for (i,) in system.query("SELECT xid::text || '-' || id FROM alert_event ORDER BY xid, id")]


def seen_once_each(system: System, watch: Watch, *, same: bool = True) -> list[str]:
    """The watcher was sent every alert change, in order, none twice; not ``same``: every one, and perhaps more."""
    wanted, seen = events(system), watch.ids
    gap = set(wanted) - set(seen)
    twice = [one for one, times in Counter(seen).items() if times > 1]
    if wanted == seen or (not same and not gap and not twice):
        return []
    return [
        f"the watcher saw {len(seen)} of {len(wanted)} alert changes: {len(gap)} missing, {len(twice)} twice, "
        f"order {'kept' if sorted(seen, key=_place) == seen else 'broken'}"
    ]


def _place(event: str) -> tuple[int, int]:
    xid, number = event.split("-")
    return int(xid), int(number)
