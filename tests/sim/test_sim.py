"""The simulation as a test: some hundred seeds hold every invariant, and it finds what is planted."""

from __future__ import annotations

import pytest

from tests.sim.bugs import BUGS
from tests.sim.run import find, run_many, run_seed

SEEDS = 100
WITHIN = 150  # each of these is found within a fraction of this


def test_every_invariant_holds_on_many_seeds() -> None:
    for result in run_many(0, SEEDS, jobs=1):
        assert result.ok, (
            f"{result.invariant}: {result.detail}; again: python -m tests.sim --start {result.seed} --seeds 1 --history"
        )


def test_a_seed_repeats_itself() -> None:
    once, again, other = run_seed(3), run_seed(3), run_seed(4)
    assert once.fingerprint == again.fingerprint != other.fingerprint
    assert once.steps > 50


@pytest.mark.parametrize("bug", ["no-fence", "position-outside", "conflict-is-duplicate"])
def test_a_planted_bug_is_found(bug: str) -> None:
    found = find(bug, WITHIN)
    assert found.seeds is not None, f"{bug} ({BUGS[bug].what}) was not found in {WITHIN} seeds"


def test_a_failing_seed_tells_how_to_repeat_it() -> None:
    failed = next(result for result in run_many(0, WITHIN, jobs=1, bug="relay-order") if not result.ok)
    assert failed.invariant.startswith("relay order")
    assert run_seed(failed.seed, "relay-order").fingerprint == failed.fingerprint
    assert run_seed(failed.seed).ok
