"""The processor's own code over people's readings in memory, in the shape in which the evaluation judges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

import numpy as np

from detectors.daily import Budget
from evaluation.heard import Alert, Heard, Nights, Streams
from ingest.catalogue import catalogue
from services.processor.in_memory import LOOKED_AT, Told, days
from services.processor.readings import Table

EPOCH: Final = date(1970, 1, 1).toordinal()
HEART: Final = catalogue()["heart_rate"].id


def process(
    people: Sequence[Streams],
    offsets_min: Sequence[int],
    told: Callable[[int, int], None] = lambda *_: None,
    budget: Budget = "0.1",
    *,
    swapped_ms: Sequence[int | None] | None = None,
) -> list[Heard]:
    """Return what the processor says of N people's readings, all in time, side by side.

    ``told`` hears how many days are done, of how many; ``budget`` is that of the processor's settings; ``swapped_ms``
    from when on another device measures whom. Metrics that no detector looks at are left out.
    """
    looked_at = [{metric: s for metric, s in streams.items() if metric in LOOKED_AT} for streams in people]
    swaps = swapped_ms or [None] * len(people)
    tables = [table_of(slot, streams, swaps[slot]) for slot, streams in enumerate(looked_at)]
    alerts = Told(len(people))
    hours: list[list[int]] = [[] for _ in people]
    nights: list[list[tuple[Any, ...]]] = [[] for _ in people]
    for day in days(tables, [[(0, offset)] for offset in offsets_min], budget):
        alerts.take(day.effects)
        for hour in day.slices:
            for slot, hour_ms in zip(hour.rows.tolist(), hour.hour_ms.tolist(), strict=True):
                hours[slot].append(hour_ms)
        for row in day.effects.days:
            if row[1] == HEART and row[2] == "asleep":
                nights[row[0]].append(row)
        told(day.number, day.of)
    return [
        Heard(
            alerts=[
                Alert(a.rule, a.kind, a.started_ms, a.found_ms, a.resolved_ms, alerts.worse(a)) for a in alerts.of(slot)
            ],
            nights=_nights(nights[slot]),
            hours=np.array(hours[slot], np.int64),
        )
        for slot in range(len(people))
    ]


def table_of(slot: int, streams: Streams, swapped_ms: int | None = None) -> Table:
    """Return one person's readings as one device's, from ``swapped_ms`` on as another's, sorted by instant."""
    parts = []
    for metric, stream in streams.items():
        n = len(stream.t_ms)
        device = np.where(stream.t_ms < (np.inf if swapped_ms is None else swapped_ms), 1, 2).astype(np.int32)
        parts.append(
            Table(
                np.full(n, slot, np.intp), device, np.full(n, catalogue()[metric].id, np.int16),
                stream.t_ms, stream.value, stream.quality, np.full(n, -1, np.int32),
            )
        )  # fmt: skip
    table = Table.concatenate(parts)
    return table.sorted(table.t_ms, table.metric)


def _nights(nights: list[tuple[Any, ...]]) -> Nights:
    column = list(zip(*nights, strict=True)) or [()] * 12
    return Nights(
        day=np.array([day.toordinal() - EPOCH for day in column[3]], np.int32),
        value=np.array(column[4], np.float64),
        center=np.array(column[6], np.float64),
        spread=np.array(column[7], np.float64),
        n_days=np.array(column[8], np.int32),
        z=np.array(column[9], np.float64),
        learned=np.array(column[11], bool),
    )
