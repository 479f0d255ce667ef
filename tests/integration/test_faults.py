"""A short choice of the fault harness: three cheap rows on one seed; `make faults` runs all of them with the whole load.

`make test-all` takes a second seed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.load import Story, story
from tests.faults.matrix import all_rows
from tests.faults.offline import Alert
from tests.faults.run import undisturbed
from tests.faults.trial import Trial
from tests.fix_stack import LiveStack

pytestmark = pytest.mark.stack

PEOPLE, PART_S = 4, 0.12
ROWS = (1, 16, 17)  # the processor killed; records nobody can read; frames out of order and again
SEEDS = (1, pytest.param(2, marks=pytest.mark.slow))
_known: dict[int, tuple[Story, list[Alert]]] = {}


async def expected(stack: LiveStack, seed: int) -> tuple[Story, list[Alert]]:
    """A seed's story and what an undisturbed run finds in it, made once."""
    if seed not in _known:
        told = story(seed, PEOPLE)
        _known[seed] = told, await undisturbed(stack, told)
    return _known[seed]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("number", ROWS)
async def test_it_holds(stack: LiveStack, tmp_path: Path, number: int, seed: int) -> None:
    told, alerts = await expected(stack, seed)
    assert any(alert[3] == "clinical" for alert in alerts)
    row = next(one for one in all_rows() if one.number == number)
    outcome = await Trial(row, told, stack, tmp_path, PART_S).run(alerts)
    assert outcome.problems == []
    assert outcome.accepted == outcome.stored > 100_000
    assert outcome.alerts == len(alerts)


def test_every_row_of_the_matrix_is_there() -> None:
    assert [row.number for row in all_rows()] == list(range(1, 28))
