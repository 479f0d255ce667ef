"""Cuts the extract beside this file out of the whole recordings: ``python extract.py FOLDER_OF_WEARABLE_HR``."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from ingest.clock import to_ms
from simulators.recording import read_folder, write_zip

# Person → the day that ``onset.csv`` gives for them. 21 days before it, that day and 6 after it are kept.
ONSETS: Final = {"AS2MVDL": date(2020, 11, 7), "AURCTAK": date(2020, 5, 9)}
BEFORE, AFTER = timedelta(days=21), timedelta(days=7)


def extract(source: Path, target: Path) -> None:
    """Write the kept rows of ``source`` into ``target``, row numbers and order as in the original files."""
    for recording in read_folder(source):
        if recording.person not in ONSETS:
            continue
        day = datetime.combine(ONSETS[recording.person], datetime.min.time(), UTC)
        from_ms, to_ms_ = to_ms(day - BEFORE), to_ms(day + AFTER)
        for metric, stream in recording.streams.items():
            kept = np.flatnonzero((stream.t_ms >= from_ms) & (stream.t_ms < to_ms_))
            short = "hr" if metric == "heart_rate" else metric
            path = target / f"{recording.person}_{short}.csv.zip"
            write_zip(path, recording.person, metric, stream.part(kept), kept)


if __name__ == "__main__":
    extract(Path(sys.argv[1]), Path(__file__).parent)
