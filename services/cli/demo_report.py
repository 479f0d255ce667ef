"""What a demo run came to: counts, alerts against the known truth, and the invariants that must hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from detectors import incidents
from detectors.protocol import Priority
from detectors.rules import ADAPTIVE
from evaluation import checker
from evaluation.burden import burden
from ingest.clock import to_ms
from services.cli.demo_cast import Part
from services.cli.demo_run import counted
from services.settings import Settings
from simulators.scenarios import Expected, Scenario, Span

# Found on absolute limits or on what devices say: missing one of these is an error, not bad luck.
CERTAIN: Final = frozenset(
    {
        "spo2_low",
        "tachycardia_at_rest",
        "fever",
        "device_silent",
        "not_worn",
        "poor_signal",
        "battery_low",
        "clock_fault",
    }
)
ADAPTIVE_DAY: Final = "resting_heart_rate_rise"

_ALERTS: Final = """
    SELECT a.id::text, p.key, a.rule, a.kind, a.priority, a.state, a.late, a.provisional, a.started_at, a.found_at,
           a.raised_at, CASE a.state WHEN 'active' THEN NULL
                        ELSE greatest(a.started_at, coalesce(a.resolved_at, a.last_evidence_at)) END, a.sentence
    FROM alert a JOIN patient p ON p.id = a.patient_id ORDER BY a.raised_at, a.started_at, p.key"""
_FATES: Final = """
    SELECT p.key, sum(f.stored)::bigint, sum(f.duplicate)::bigint,
           sum(f.conflict)::bigint, sum(f.quarantined)::bigint, sum(f.late)::bigint
    FROM frame_log f JOIN patient p ON p.id = f.patient_id GROUP BY p.key"""
# A day that an open alert of the adaptive rule overlaps must not have taught the baseline.
_LEARNED: Final = """
    SELECT p.key, m.key, d.day FROM daily_value d
    JOIN patient p ON p.id = d.patient_id JOIN metric m ON m.id = d.metric_id
    JOIN alert a ON a.patient_id = d.patient_id AND a.rule = %s AND m.key = 'heart_rate' AND d.context = 'asleep'
    WHERE d.used AND a.state <> 'withdrawn'
      AND d.day > (a.found_at AT TIME ZONE p.time_zone)::date
      AND d.day < coalesce((a.resolved_at AT TIME ZONE p.time_zone)::date, 'infinity'::date)
    ORDER BY p.key, d.day"""


@dataclass(frozen=True)
class Alert:
    """One alert as stored; times in Unix ms UTC."""

    id: str
    patient: str
    rule: str
    kind: Literal["clinical", "technical"]
    priority: Priority
    state: str
    late: bool
    provisional: bool
    started_ms: int
    found_ms: int  # when its rule had seen enough
    raised_ms: int
    ended_ms: int | None  # None: it is active
    sentence: str
    document: dict[str, Any]

    def joins(self) -> incidents.Alert:
        """Return it as incidents are joined of."""
        return incidents.Alert(
            self.id, self.started_ms, self.found_ms, self.ended_ms, self.kind, self.priority, self.rule in ADAPTIVE,
            self.state != "withdrawn",
        )  # fmt: skip


@dataclass
class Report:
    """The run's result; ``broken`` names the invariants that do not hold."""

    document: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def alerts(settings: Settings) -> list[Alert]:
    """Return every alert of the run, in the order they were raised."""
    found = []
    for row in counted(settings, _ALERTS):
        key, patient, rule, kind, priority, state, late, provisional, started, found_at, raised, ended, sentence = row
        document = {
            "patient": patient, "rule": rule, "kind": kind, "priority": priority, "state": state, "late": late,
            "started": started.isoformat(), "raised": raised.isoformat(), "sentence": sentence,
        }  # fmt: skip
        found.append(
            Alert(
                key, patient, rule, kind, priority, state, late, provisional, to_ms(started), to_ms(found_at),
                to_ms(raised), None if ended is None else to_ms(ended), sentence, document,
            )
        )  # fmt: skip
    return found


def judge(
    settings: Settings, parts: Sequence[Part], span: Span, books: Sequence[Path], *, strict: bool = True
) -> Report:
    """Return counts, alerts and truth of a run, with every broken invariant named.

    ``strict``: every device has a book, and every certain finding must have been made.
    """
    report = Report()
    found = alerts(settings)
    fates = {key: dict(zip(("stored", "duplicate", "conflict", "quarantined", "late"), row, strict=True))
             for key, *row in counted(settings, _FATES)}  # fmt: skip
    _sets(report, settings, books, fates, only_booked=not strict)
    stories = [part.story for part in parts if part.story is not None]
    rejected = {part.patient: checker.rejected_frames(books, part.source.key) for part in parts}
    report.document["alerts"] = [alert.document for alert in found]
    report.document["truth"] = {
        name: _truth(report, [s for s in stories if s.name == name], found, span, strict=strict)
        for name in dict.fromkeys(story.name for story in stories)
    }
    report.document["burden"] = burden(
        [[alert.joins() for alert in found if alert.patient == story.patient] for story in stories],
        len(stories) * span.days / 7,
    )
    for story in stories:
        _counts(report, story, fates.get(story.patient, {}) | {"rejected": rejected[story.patient]})
    _contamination(report, settings)
    return report


def _sets(
    report: Report,
    settings: Settings,
    books: Sequence[Path],
    fates: Mapping[str, Mapping[str, int]],
    *,
    only_booked: bool,
) -> None:
    verdict = checker.check(books, settings.postgres.conninfo("writer"), only_booked=only_booked)
    report.broken += verdict.problems
    sent = checker.sent_readings(books)
    if sent["sent"]:
        report.broken.append(f"{sent['sent']} readings were sent and never got a verdict")
    sums = {
        name: sum(int(row[name]) for row in fates.values())
        for name in ("stored", "duplicate", "conflict", "quarantined")
    }
    sums["dead"] = verdict.dead
    if not only_booked and sum(sums.values()) != sent["accepted"]:
        report.broken.append(
            f"{sent['accepted']} readings were accepted, the frames' fates tell of {sum(sums.values())}: {sums}"
        )
    report.document |= {
        "sent": sum(sent.values()),
        "rejected": sent["rejected"],
        "accepted": sent["accepted"],
        **sums,
        "frames": checker.sent_frames(books),
        "late": sum(int(row["late"]) for row in fates.values()),
        "distinct": {"accepted": verdict.accepted, "stored": verdict.stored, "conflict": verdict.conflict,
                     "quarantined": verdict.quarantined, "dead": verdict.dead},
        "hash": {"accepted": verdict.accepted_hash, "kept": verdict.kept_hash},
    }  # fmt: skip


def _truth(
    report: Report, stories: Sequence[Scenario], found: Sequence[Alert], span: Span, *, strict: bool
) -> dict[str, Any]:
    expected = raised = false = false_incidents = 0
    missing = []
    for story in stories:
        mine = [alert for alert in found if alert.patient == story.patient and alert.state != "withdrawn"]
        for wanted in story.expected:
            expected += 1
            if any(matches(alert, wanted) for alert in mine):
                raised += 1
                continue
            missing.append(f"{story.patient}: {wanted.rule}")
            if strict and wanted.rule in CERTAIN:
                late = " as a late finding" if wanted.late else ""
                report.broken.append(
                    f"{story.name} of {story.patient} was not found{late}: no {wanted.rule} where it happened"
                )
        untrue = {alert.id for alert in mine if is_false(alert, story, span)}
        false += len(untrue)
        false_incidents += sum(
            {alert.key for alert in incident.alerts} <= untrue
            for incident in incidents.join(alert.joins() for alert in mine)
        )
    weeks = len(stories) * span.days / 7
    return {
        "expected": expected,
        "raised": raised,
        "missing": missing,
        "false_clinical": false,
        "false_incidents": false_incidents,  # in which no alert is true
        "patient_weeks": round(weeks, 2),
        "patients": [story.patient for story in stories],
    }


def matches(alert: Alert, wanted: Expected) -> bool:
    """Whether an alert is the expected one: its rule and kind, found in its time, late where it must be.

    An alert that was open before, for another reason, does not count. A technical one is told while it lasts or
    listed when it is over, whichever comes first.
    """
    same = (alert.rule, alert.kind) == (wanted.rule, wanted.kind)
    in_its_way = alert.late == wanted.late or alert.kind == "technical"
    return same and in_its_way and wanted.from_ms <= alert.found_ms <= wanted.to_ms


def is_false(alert: Alert, story: Scenario, span: Span) -> bool:
    """Whether a clinical alert has nothing in the patient's story to answer for it; live additions don't count."""
    return alert.kind == "clinical" and alert.rule not in story.allowed and alert.started_ms < span.end_ms


def _counts(report: Report, story: Scenario, counts: Mapping[str, int]) -> None:
    for name in sorted(story.counts):
        if not counts.get(name):
            report.broken.append(f"{story.name} of {story.patient}: nothing was counted as {name}")


def _contamination(report: Report, settings: Settings) -> None:
    learned = counted(settings, _LEARNED, ADAPTIVE_DAY)
    for patient, metric, day in learned[:3]:
        report.broken.append(f"{patient}: the baseline of {metric} learned from {day}, within an open {ADAPTIVE_DAY}")
    report.document["learned_from_anomalies"] = len(learned)
