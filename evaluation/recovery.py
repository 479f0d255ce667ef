"""For how long is a heart still up after the last step? ``python -m evaluation.recovery FOLDER`` of raw recordings.

First by how much (``evaluation.exertion``). Then what it would change to leave more than ten minutes out of rest: the
shipped pipeline hears a thousandth of a step in each, which makes it active and counts for nothing else, and rises are
put in as ``evaluation.hearts`` does. Candidates that do not run are judged beside what does. Last, what the safety
limit at rest told: how long after the last step, and after how many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.context import STILL_MINUTES
from detectors.limits import Limits
from detectors.pipeline import Pipeline
from detectors.protocol import HEART_RATE, MINUTE_MS, REST, UNUSUAL, Bools, Doubles, Floats, Longs, Readings
from detectors.slices import hours_of
from evaluation import hearts
from evaluation.exertion import BEFORE, LONGEST, SINCE, Walked, before, excess, walked
from evaluation.wearers import Wearer, read_wearers

MEMORY, MARK = 32, 0.001
MOVING: Final = 50  # steps in the ten minutes before: no rest for a safety limit
FAST: Final = "tachycardia_at_rest"
MEASURES: Final = ("at rest by day", "both (what runs now)")


def remembered(least: float) -> Callable[[Walked], Bools]:
    """Return a candidate: steps fade by a 32nd a minute; recovering while ``least`` are left, for an hour at most."""

    def recovers(of: Walked) -> Bools:
        left, now = np.empty(len(of.steps)), 0.0
        for i, steps in enumerate(of.steps.tolist()):
            now += steps - now / MEMORY
            left[i] = now
        return np.asarray((left >= least) & (of.since <= LONGEST))

    return recovers


CANDIDATES: Final[Mapping[str, Callable[[Walked], Bools]]] = {
    "ten minutes (what runs)": lambda of: of.since <= STILL_MINUTES,
    "while 600 steps are remembered": remembered(600),
    "while 300 steps are remembered": remembered(300),
    "twenty minutes": lambda of: of.since <= 2 * STILL_MINUTES,
    "an hour": lambda of: of.since <= LONGEST,
}


def marked(of: Walked, recovers: Bools) -> Doubles:
    """Return (M,) steps by which no minute that ``recovers`` is at rest; what was no rest stays none."""
    later = np.append(of.since[STILL_MINUTES:], np.zeros(STILL_MINUTES, np.int64)) == of.since + STILL_MINUTES
    recovering = np.append(recovers[STILL_MINUTES:], np.zeros(STILL_MINUTES, bool))
    # A mark makes ten minutes more active by itself.
    return np.where(later & recovering & (of.steps == 0), MARK, of.steps)


def told(person: Wearer, of: Walked, recovers: Bools) -> dict[str, Any]:
    """Return what the shipped pipeline makes of one person where ``recovers`` (M,) is no rest."""
    reported = np.zeros(len(of.steps), bool)
    reported[person.streams["steps"].t_ms // MINUTE_MS - of.minute[0]] = True
    steps = marked(of, recovers)
    heart = person.streams["heart_rate"]
    streams: dict[str, tuple[Longs, Doubles | Floats]] = {
        "heart_rate": (heart.t_ms, heart.value), "steps": (of.minute[reported] * MINUTE_MS, steps[reported])
    }  # fmt: skip
    pipeline, alerts = Pipeline(), dict[str, int]()
    state, z, unusual = pipeline.new_state(1), list[float](), 0
    for hour in hours_of(streams):
        settled = pipeline.settle(state, hour)
        unusual += int((settled.hours.state[:, HEART_RATE] == UNUSUAL).sum())
        days = settled.days
        z += days.z[(days.metric == HEART_RATE) & (days.context == REST) & (days.n_days >= 5)].tolist()
        for finding in settled.findings:
            alerts[finding.rule] = alerts.get(finding.rule, 0) + (finding.change == "raised")
    return {"z": z, "unusual": unusual, "alerts": alerts}


def rises(people: list[Wearer], recovers: Callable[[Walked], Bools]) -> dict[str, Any]:
    """Return what ``evaluation.hearts`` finds where so much is no rest."""
    minutes = []
    for person in people:
        of, measured = walked(person), hearts.minutes_of(person)
        minutes.append(measured._replace(still=measured.still & ~recovers(of)[measured.minute - of.minute[0]]))
    return {name: hearts.compare("", minutes)["measures"][name] for name in MEASURES}


def fast(person: Wearer, of: Walked) -> Iterator[tuple[int, int]]:
    """Yield of each alert of FAST the minutes since the last step, and the steps before, as it began."""
    heart, total = person.streams["heart_rate"], np.concatenate([[0.0], np.cumsum(of.steps)])
    at = heart.t_ms // MINUTE_MS - of.minute[0]
    still = total[at + 1] - total[np.maximum(at - STILL_MINUTES, 0)] < MOVING
    n, limits = len(at), Limits()
    readings = Readings(
        np.zeros(n, np.intp), np.full(n, HEART_RATE, np.int16), heart.t_ms, heart.value, np.ones(n, bool), still
    )
    for finding in limits.update(limits.new_state(1), readings):
        if finding.rule == FAST and finding.change == "raised":
            began = finding.start_ms // MINUTE_MS - of.minute[0]
            yield int(of.since[began]), int(before(of)[began])


def main(folder: Path) -> Iterator[str]:
    """Yield the lines of the report: some minutes.

    Raises:
        NotEvaluable: a file can't be read.
    """
    people = [one for one in read_wearers(folder) if {"heart_rate", "steps"} <= one.streams.keys()]
    steps = [walked(one) for one in people]
    yield f"{len(people)} people; /min above rest, mean of people (SD between them; people, minutes)"
    yield "steps before | minutes since " + " | ".join(f"{a}-{b - 1}" for a, b in zip(SINCE, SINCE[1:], strict=False))
    for least, row in zip(BEFORE, excess(steps), strict=True):
        yield f"{least}+ | " + " | ".join(f"{mean:+.1f} ({sd:.1f}; {n}, {minutes})" for mean, sd, n, minutes in row)
    for name, recovers in CANDIDATES.items():
        yield f"{name}: {_judged(people, steps, recovers)}"
        for measure, points in rises(people, recovers).items():
            gains = (f"{budget}: {one['gain']:.0f} ({_between(one['gain_ci'])})" for budget, one in points.items())
            yield f"  rises found by {measure}: {', '.join(gains)}"
    found = [each for one, of in zip(people, steps, strict=True) for each in fast(one, of)]
    yield f"{FAST}, minutes since the last step and steps before: {found}"


def _judged(people: list[Wearer], steps: list[Walked], recovers: Callable[[Walked], Bools]) -> str:
    which = [recovers(of) for of in steps]
    heard = [told(*one) for one in zip(people, steps, which, strict=True)]
    z = np.concatenate([one["z"] for one in heard])
    out = np.mean([(left & of.rest).sum() / of.rest.sum() for left, of in zip(which, steps, strict=True)])
    alerts: dict[str, int] = {}
    for rule, count in (item for one in heard for item in one["alerts"].items()):
        alerts[rule] = alerts.get(rule, 0) + count
    return (
        f"{out:.1%} of minutes at rest left out, {len(z)} days at rest, SD of z {z.std():.2f}, beyond 3 "
        f"{np.mean(np.abs(z) > 3):.1%}, unusual hours {sum(one['unusual'] for one in heard)}, {alerts}"
    )


def _between(ends: list[float]) -> str:
    return f"{ends[0]:.0f} to {ends[1]:.0f}"


if __name__ == "__main__":
    for line in main(Path(sys.argv[1])):
        print(line, flush=True)  # noqa: T201 - what it is for
