"""What became of each frame of a batch: how many of its readings and samples were stored, and why the rest was not."""

from __future__ import annotations

import numpy as np

from services.processor import dedupe, intake, waveforms
from services.processor.readings import Table
from services.processor.records import FrameFate


def of_frames(
    taken: intake.Intake, verdict: dedupe.Verdict, sampled: waveforms.Verdict, quarantined: Table, late: Table
) -> list[FrameFate]:
    """Return the fate of each frame taken in, in their order."""
    n = len(taken.frames)

    def count(table: Table) -> list[int]:
        counts: list[int] = np.bincount(table.frame, minlength=n).tolist()
        return counts

    samples = [sampled.counts.get(index, (0, 0, 0)) for index in range(n)]
    first = np.full(n, np.iinfo(np.int64).max)
    last = np.full(n, -1)
    np.minimum.at(first, taken.readings.frame, taken.readings.t_ms)
    np.maximum.at(last, taken.readings.frame, taken.readings.t_ms)
    columns = zip(
        taken.frames, count(verdict.stored), count(verdict.duplicate), count(verdict.conflict), count(quarantined),
        count(late), count(verdict.corrected), samples, first.tolist(), last.tolist(), strict=True,
    )  # fmt: skip
    return [
        FrameFate(
            f.frame_id, f.organisation_id, f.patient_id, f.device_id, f.received_ms, stored + counted[0],
            duplicate + counted[1], conflict + counted[2], bad, behind, None if t_last < 0 else t_first,
            None if t_last < 0 else t_last, corrected=corrected,
        )
        for f, stored, duplicate, conflict, bad, behind, corrected, counted, t_first, t_last in columns
    ]  # fmt: skip
