"""What well-known streaming libraries cost for a value, one Python call an event; ``make kernels`` prints it beside.

Runs in an environment of its own (`requirements/rivals.txt`), without Keepwell: `python -m benchmarks.rivals`. Each
person has an object of their own, warmed up until its window is full; values are a made-up heart rate.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import river
import stumpy
from river import anomaly, drift, stats

SEED: Final = 1
DAY: Final = 1440  # minutes
Feed = Callable[[float], object]  # one event


class Rival(NamedTuple):
    """One way to take an event: ``people`` objects are made, and each is warmed up with so many events."""

    name: str
    stands_for: str
    people: int
    warm_up: int
    make: Callable[[], Feed]


def _trees() -> Feed:
    trees = anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=250, limits={"rate": (30, 220)}, seed=SEED)

    def feed(value: float) -> float:
        event = {"rate": value}
        score: float = trees.score_one(event)
        trees.learn_one(event)
        return score

    return feed


def _profile() -> Feed:
    update: Feed = stumpy.stumpi(next(_values(DAY, 1)), m=60, egress=True).update
    return update


RIVALS: Final = (
    Rival("river stats.Mean", "minute sums", 500, 10, lambda: stats.Mean().update),
    Rival("river stats.Quantile (P²)", "a baseline's median", 500, 100, lambda: stats.Quantile(0.5).update),
    Rival("river stats.RollingQuantile (1,440)", "a baseline's median", 500, DAY,
          lambda: stats.RollingQuantile(0.5, DAY).update),
    Rival("river drift.PageHinkley", "the sum of small rises", 500, 100, lambda: drift.PageHinkley().update),
    Rival("river drift.ADWIN", "the sum of small rises", 500, DAY, lambda: drift.ADWIN().update),
    Rival("river anomaly.HalfSpaceTrees (25 of height 8)", "a score", 5, 500, _trees),
    Rival("stumpy stumpi, egress (m 60, window 1,440)", "a score", 3, 3, _profile),
)  # fmt: skip


def _values(n: int, times: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(SEED)
    for _ in range(times):
        yield np.rint(rng.normal(62, 2.5, n))


def measured(rival: Rival, samples: int) -> list[float]:
    """Return so many times the CPU microseconds an event took, every person having one."""
    feeds = [rival.make() for _ in range(rival.people)]
    for values in _values(rival.people, rival.warm_up):
        for feed, value in zip(feeds, values.tolist(), strict=True):
            feed(value)
    found = []
    for values in _values(rival.people, samples):
        events = list(zip(feeds, values.tolist(), strict=True))
        began = time.process_time_ns()
        for feed, value in events:
            feed(value)
        found.append((time.process_time_ns() - began) / 1000 / rival.people)
    return found


def main() -> None:
    """Print the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    samples = parser.parse_args().samples
    rows = [
        {"name": one.name, "stands_for": one.stands_for, "people": one.people, "us": measured(one, samples)}
        for one in RIVALS
    ]
    versions = {"river": river.__version__, "stumpy": stumpy.__version__, "numpy": np.__version__}
    print(json.dumps({"versions": versions, "rows": rows}))  # noqa: T201 - read by benchmarks.kernels


if __name__ == "__main__":
    main()
