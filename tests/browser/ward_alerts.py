"""What is told in the ward, in the code's own words: limits judge the ward's readings, the rest have made evidence."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.device_classes import told
from detectors.explain import patient_sentence, sentence
from detectors.limits import Limits
from detectors.protocol import LIMIT_METRICS, Finding, Readings
from detectors.rules import NIGHT_BREATH_RISE, REST_HEART_HOURS, RESTING_HEART, RULES
from detectors.weight_gain import WeightGain
from ingest.clock import to_datetime, to_ms
from tests.api_data import HOUR_MS, NOW, ApiData

OFFSET_MIN = 60
TODAY = to_ms(NOW) // (24 * HOUR_MS)  # days since 1970


def judged(detector: Limits | WeightGain, metric: str, t_ms: NDArray[np.int64], value: NDArray[Any]) -> list[Finding]:
    """What a detector that runs says of one person's readings at rest."""
    n = len(t_ms)
    given = Readings(
        np.zeros(n, np.intp), np.full(n, LIMIT_METRICS.index(metric), np.int16), t_ms, value.astype(np.float32),
        np.ones(n, bool), np.ones(n, bool),
    )  # fmt: skip
    return detector.update(detector.new_state(1), given)


def columns(rule: str, evidence: dict[str, Any], level: int = 0, kind: str = "clinical") -> dict[str, Any]:
    """The columns of an alert that follow from its rule and evidence, words, version and priority among them."""
    evidence = evidence | {"utc_offset_min": OFFSET_MIN}
    about = RULES.get(rule)
    said = {"sentence": sentence(rule, evidence), "patient_sentence": patient_sentence(rule, evidence)}
    return said | {
        "rule": rule,
        "rule_version": about.version if about else 1,
        "kind": kind,
        "priority": about.priority[level] if about else "low",
        "evidence": evidence,
    }


def at(began: datetime, found: datetime) -> dict[str, datetime]:
    return {"started_at": began, "found_at": found, "raised_at": found, "last_evidence_at": found}


def of(finding: Finding) -> dict[str, Any]:
    """The columns of an alert from a finding."""
    when = at(to_datetime(finding.start_ms), to_datetime(finding.at_ms))
    return columns(finding.rule, dict(finding.evidence), finding.level) | when


def night(metric: str, value: float, usual: float, spread: float) -> dict[str, Any]:
    z = round((value - usual) / spread, 3)
    return {
        "change": "raised", "metric": metric, "context": "asleep", "day": TODAY, "value": value, "usual": usual,
        "difference": round(value - usual, 4), "center": usual, "spread": spread, "z": z, "n_days": 14, "minutes": 402,
    }  # fmt: skip


def alerts(data: ApiData, patients: dict[str, int], nurse: int, limits: dict[str, list[Finding]]) -> dict[str, str]:
    """Write them; ``limits`` are those found in the readings of each."""
    fast, gain = limits["p04"]
    fast.evidence["devices"] = [told(f"{data.key}-band-p04", "wrist_optical", "heart_rate", "reading")]
    closed = NOW.replace(hour=9, minute=0, second=0)  # 10:00 local: a night is judged
    hour = NOW.replace(hour=13, minute=0, second=0)
    rest = night("heart_rate", 84.0, 66.0, 3.9) | {
        "context": "rest", "from_ms": to_ms(hour) + HOUR_MS, "to_ms": to_ms(hour) + 2 * HOUR_MS
    }  # fmt: skip
    off = NOW - timedelta(hours=5)
    made = {
        "p04": of(fast) | {"provisional": True},
        "p04a": columns(NIGHT_BREATH_RISE.id, night("respiratory_rate", 18.4, 14.9, 0.8))
        | at(closed - timedelta(hours=35), closed),
        "p04b": columns("battery_low", {"percent": 12.0}, kind="technical") | {"started_at": NOW - timedelta(hours=2)},
        "p04c": of(gain),
        "p02": columns(RESTING_HEART.id, night("heart_rate", 63.2, 54.0, 2.4), level=1)
        | at(closed - timedelta(hours=35), closed),
        "p07": of(limits["p07"][0]) | {"late": True},
        "p03": columns(REST_HEART_HOURS.id, rest)
        | at(hour, hour + timedelta(hours=2))
        | {
            "acknowledged_at": NOW - timedelta(hours=3), "acknowledged_by": nurse,
            "acknowledge_note": "Had visitors, feels well", "unknown_since": NOW - timedelta(minutes=50),
        },
        "p05": columns("not_worn", {"from_ms": to_ms(off)}, kind="technical") | {"started_at": off},
    }  # fmt: skip
    raised, cleared = limits["p02"]
    data.alert(patients["p02"], **of(raised), state="resolved", resolved_at=to_datetime(cleared.at_ms))
    return {key: str(data.alert(patients[key[:3]], **row)) for key, row in made.items()}
