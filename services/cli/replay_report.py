"""What a replay came to: every reading accounted for, what was new, and the alerts it raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from evaluation import checker
from evaluation.burden import burden
from ingest.frame import decode_stamped
from services.cli.demo_report import alerts
from services.cli.demo_run import counted
from services.cli.replay_run import ReplayRun
from services.cli.replay_send import Person
from services.settings import Settings
from simulators.series import DAY_MS

FATES: Final = ("stored", "duplicate", "conflict", "quarantined", "late")
ASSUMED: Final = "UTC: the recording's local times name no zone"

_SUMS: Final = """
    SELECT coalesce(sum(stored), 0)::bigint, coalesce(sum(duplicate), 0)::bigint, coalesce(sum(conflict), 0)::bigint,
           coalesce(sum(quarantined), 0)::bigint, coalesce(sum(late), 0)::bigint,
           coalesce(sum(deliveries), 0)::bigint
    FROM frame_log"""
_ROWS: Final = """
    SELECT (SELECT count(*) FROM reading_conflict), (SELECT count(*) FROM quarantined_reading),
           (SELECT count(*) FROM alert)"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database had counted at one moment; ``fates`` of all deliveries of all frames, in readings."""

    fates: dict[str, int]
    deliveries: int
    dead: int
    conflicts: int  # distinct
    quarantined: int  # distinct
    alerts: int

    @classmethod
    def take(cls, settings: Settings) -> Snapshot:
        """Look at the database now."""
        *fates, deliveries = counted(settings, _SUMS)[0]
        conflicts, quarantined, found = counted(settings, _ROWS)[0]
        named = {name: int(n) for name, n in zip(FATES, fates, strict=True)}
        return cls(named, int(deliveries), _dead_readings(settings), conflicts, quarantined, found)


def _dead_readings(settings: Settings) -> int:
    total = 0
    for (record,) in counted(settings, "SELECT record FROM dead_letter"):
        try:
            frame = decode_stamped(record)
        except (msgspec.DecodeError, ValueError):
            continue  # never a frame
        total += sum(len(block.values) // (2 if block.dtype == "i2" else 4) for block in frame.blocks)
    return total


@dataclass
class Account:
    """The replay's result; ``broken`` says where the books do not balance."""

    document: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def account(run: ReplayRun, people: Sequence[Person], book: Path, before: Snapshot) -> Account:
    """Compare the devices' books with the database, as sets, and this replay's book with what became of it."""
    settings, result = run.settings, Account()
    after = Snapshot.take(settings)
    sent, frames = checker.sent_readings([book]), checker.sent_frames([book])
    became = {name: after.fates[name] - before.fates[name] for name in FATES} | {"dead": after.dead - before.dead}
    verdict = checker.check(run.books(), settings.postgres.conninfo("writer"))
    result.broken += verdict.problems
    expected = sum(person.recording.n for person in people)
    new = {
        "stored": became["stored"], "conflict": after.conflicts - before.conflicts,
        "quarantined": after.quarantined - before.quarantined, "dead": became["dead"],
    }  # fmt: skip
    result.document |= {
        "people": len(people),
        "readings": expected,
        "sent": sum(sent.values()),
        "rejected": sent["rejected"],
        "accepted": sent["accepted"],
        **became,
        "frames": frames,
        "new": new,
        "new_alerts": after.alerts - before.alerts,
        "already_there": sent["accepted"] - sum(new.values()),
        "distinct": {"accepted": verdict.accepted, "stored": verdict.stored, "conflict": verdict.conflict,
                     "quarantined": verdict.quarantined, "dead": verdict.dead},
        "hash": {"accepted": verdict.accepted_hash, "kept": verdict.kept_hash},
    }  # fmt: skip
    _balance(result, expected, sent, became, after.deliveries - before.deliveries - frames["accepted"])
    _alerts(result, settings, people)
    return result


def _balance(
    result: Account, expected: int, sent: Mapping[str, int], became: Mapping[str, int], redelivered: int
) -> None:
    """Say where the sums do not agree; a frame that came twice is counted twice in its fate."""
    if sent["sent"]:
        result.broken.append(f"{sent['sent']} readings were sent and never got a verdict")
    if sum(sent.values()) != expected:
        result.broken.append(f"the recording holds {expected} readings, {sum(sent.values())} were sent")
    found = sum(became[name] for name in ("stored", "duplicate", "conflict", "quarantined", "dead"))
    result.document["redelivered_frames"] = max(0, redelivered)
    if found < sent["accepted"] or (found > sent["accepted"] and redelivered <= 0):
        told = ", ".join(f"{name} {n}" for name, n in became.items())
        result.broken.append(f"{sent['accepted']} readings were accepted, the frames' fates tell of {found}: {told}")


def _alerts(result: Account, settings: Settings, people: Sequence[Person]) -> None:
    names = {person.patient for person in people}
    found = [alert for alert in alerts(settings) if alert.patient in names]
    weeks = sum(last - first for first, last in (p.recording.span_ms for p in people)) / DAY_MS / 7
    rules: dict[str, dict[str, Any]] = {}
    for alert in found:
        row = rules.setdefault(alert.rule, {"kind": alert.kind, "count": 0, "late": 0, "withdrawn": 0})
        row["count"] += 1
        row["late"] += alert.late
        row["withdrawn"] += alert.state == "withdrawn"
    for row in rules.values():
        row["per_person_week"] = round((row["count"] - row["withdrawn"]) / max(weeks, 1e-9), 3)
    result.document["person_weeks"] = round(weeks, 2)
    result.document["rules"] = dict(sorted(rules.items(), key=lambda item: (item[1]["kind"], -item[1]["count"])))
    result.document["burden"] = burden([[one.joins() for one in found if one.patient == name] for name in names], weeks)
    result.document["alerts"] = [alert.document for alert in found]
