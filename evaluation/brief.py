"""What the figures come to, in sentences made from the documents: no number on the page that a run could contradict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from evaluation.brief_calibration import calibration
from evaluation.brief_injected import injected
from evaluation.brief_onset import onset
from evaluation.sheet import BUDGETS, between, listed, number
from evaluation.tables import clear_gaps


def brief(document: Mapping[str, Any]) -> str:
    """Return the sentences of a task's document as Markdown bullets, none where a task has none."""
    make = _BRIEFS.get(document["task"])
    lines = make(document) if make and "timelines" not in document else []
    return "".join(f"- {line}\n" for line in lines)


def _joint(d: Mapping[str, Any]) -> list[str]:
    rows = d["budgets"]
    got = listed([f"{between(rows[asked]['rate'], rows[asked]['ci'], 3)} at {asked}" for asked in BUDGETS])
    looser = listed([number(rows[asked]["looser"]["rate"], 3) for asked in BUDGETS])
    not_held = [asked for asked in BUDGETS if not rows[asked]["held"]]
    others = {
        rule: max(rows[asked]["alerts"][rule]["rate"] for asked in BUDGETS)
        for rule in rows["0.1"]["alerts"]
        if "resting_heart_rate" not in rule
    }
    loudest = max(others, key=lambda rule: others[rule])
    kept = f"does not hold at {listed(not_held)}" if not_held else "holds"
    return [
        f"**The budget {kept} for all adaptive rules together**: {d['n']} made-up people with all vitals, others than "
        f"those by whom limits were chosen, had {got} clinical incidents a patient-week. Half a step less strict it "
        f"would be {looser}. Each other rule may cost {d['share']} a week; the loudest, `{loudest}`, costs "
        f"{number(others[loudest], 4)}. Of real people only the slow rule's part is known."
    ]


def _hearts(d: Mapping[str, Any]) -> list[str]:
    both = next(points for name, points in d["measures"].items() if name.startswith("both"))
    said = listed([f"{between(both[a]['more_than_night'], both[a]['more_than_night_ci'])} at {a}" for a in BUDGETS])
    return [
        f"**The heart rate by day** beside the night's: on {d['n']} real recordings the two together find, of the "
        f"rises put in, {said} points more than the night alone; and who wears nothing at night is judged at all. A "
        "circadian model is no part of what runs ([below](#which-heart-rate-of-a-day))."
    ]


def _subgroups(d: Mapping[str, Any]) -> list[str]:
    return [f"**Groups of people**: {clear_gaps(d)}"]


_BRIEFS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[str]]]] = {
    "onset": onset,
    "injected": injected,
    "calibration": calibration,
    "joint": _joint,
    "hearts": _hearts,
    "subgroups": _subgroups,
}
