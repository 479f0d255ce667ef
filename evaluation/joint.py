"""What all adaptive rules together bring of healthy people: incidents, as an alert budget counts them, and alerts.

The pipeline itself settles made-up people's hours (``evaluation.made_up_hours``), from their first day on; its findings
are joined into incidents as everywhere (``detectors.incidents``). ``detectors.daily.LIMITS`` is to hold, of the limits
of the slow rule in steps of ``STEP``, the least strict one at which all rules together keep to the budget. The other
rules' thresholds are the same at every budget; each may cost ``detectors.rules.SHARE``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from detectors.daily import LIMITS, Budget
from detectors.incidents import Alert, join
from detectors.pipeline import Pipeline
from detectors.protocol import Finding
from detectors.rules import ADAPTIVE_RULES, NEW_NORMAL, RESTING_HEART, SHARE
from evaluation.cells import ALLOWED
from evaluation.made_up import SEED
from evaluation.made_up_hours import bodies, hours
from evaluation.seeds import Interval, rate

CAST: Final = (400, 84)  # people, days
FIRST: Final = 1000  # of the made-up people: others than those by whom limits were chosen
KIND: Final[Mapping[str, Literal["clinical", "technical"]]] = {
    rule.id: "technical" if rule.kind == "technical" else "clinical" for rule in ADAPTIVE_RULES
}
STEP: Final = 0.5
Told = list[list[tuple[str, Alert]]]  # by person: (rule, alert)


def evaluate(told: Any = lambda *_: None, cast: tuple[int, int] = CAST) -> dict[str, Any]:
    """Return the task's document: each budget's rates of incidents, and of each rule's alerts, a patient-week."""
    wanted = {limit for shipped in LIMITS.values() for limit in (shipped, shipped - STEP)}
    heard = settle(cast, sorted(wanted), told, FIRST)
    weeks = cast[0] * cast[1] / 7
    return {
        "task": "joint",
        "data": "made-up people",
        "n": cast[0],
        "days": cast[1],
        "weeks": round(weeks, 2),
        "seed": SEED,
        "share": SHARE,
        "budgets": {
            budget: _budget(budget, heard[limit], weeks) | {"looser": _together(heard, limit - STEP, weeks)}
            for budget, limit in LIMITS.items()
        },
    }


def settle(
    cast: tuple[int, int], limits: Sequence[float], told: Any = lambda *_: None, first: int = 0
) -> dict[float, Told]:
    """Return what is told of so many people, from the ``first`` on, and days at each limit of the slow rule.

    All see the same hours.
    """
    pipelines = {limit: Pipeline() for limit in limits}
    for limit, pipeline in pipelines.items():
        pipeline.limit = limit
    states = {limit: pipeline.new_state(cast[0]) for limit, pipeline in pipelines.items()}
    findings: dict[float, list[Finding]] = {limit: [] for limit in limits}
    for number, hour in enumerate(hours(bodies(*cast, first))):
        for limit, pipeline in pipelines.items():
            findings[limit] += pipeline.update(states[limit], hour)
        told("made-up days", number // 24, cast[1])
    return {limit: alerts_of(found, cast[0]) for limit, found in findings.items()}


def alerts_of(findings: Iterable[Finding], people: int) -> Told:
    """Return each person's alerts of adaptive rules, each from its raised finding to its cleared one."""
    alerts: Told = [[] for _ in range(people)]
    open_at: dict[tuple[int, str], int] = {}
    for one in findings:
        mine, which = alerts[one.row], (one.row, one.rule)
        if one.change == "raised":
            key = f"{one.rule} {one.start_ms}"
            open_at[which] = len(mine)
            mine.append(
                (
                    one.rule,
                    Alert(key, one.start_ms, one.at_ms, None, KIND.get(one.rule, "clinical"), "low", adaptive=True),
                )
            )
        elif one.change == "cleared":
            place = open_at.pop(which)
            mine[place] = (one.rule, mine[place][1]._replace(end_ms=one.at_ms))
    return alerts


def incidents(people: Told) -> int:
    """Return how many clinical incidents all that comes to: what a budget is for."""
    return sum(len(join(alert for _, alert in alerts if alert.kind == "clinical")) for alerts in people)


def _budget(budget: Budget, people: Told, weeks: float) -> dict[str, Any]:
    told = [rule for alerts in people for rule, _ in alerts]
    together = rate(incidents(people), weeks)
    return {
        "asked": float(budget),
        **_together({LIMITS[budget]: people}, LIMITS[budget], weeks),
        "held": together.low < ALLOWED * float(budget),
        "shown": together.high < ALLOWED * float(budget),
        "people": sum(bool(alerts) for alerts in people),
        "alerts": {rule.id: _alerts(rule.id, told.count(rule.id), weeks) for rule in ADAPTIVE_RULES},
    }


def _together(heard: Mapping[float, Told], limit: float, weeks: float) -> dict[str, Any]:
    n = incidents(heard[limit])
    return {"limit": limit, "incidents": n, **_rounded(rate(n, weeks))}


def _alerts(rule: str, n: int, weeks: float) -> dict[str, Any]:
    found = rate(n, weeks)
    share = None if rule in (RESTING_HEART.id, NEW_NORMAL.id) else found.low < SHARE  # those are what LIMITS is for
    return {"n": n, **_rounded(found), "share_held": share}


def _rounded(found: Interval) -> dict[str, Any]:
    return {"rate": round(found.value, 4), "ci": [round(found.low, 4), round(found.high, 4)]}
