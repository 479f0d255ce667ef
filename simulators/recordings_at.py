"""Whatever recordings a path names: a folder of ``wearable_hr``'s format, or a CSV file of one's own."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import Final

from simulators.own_csv import read_csv
from simulators.recording import NotARecording, Recording, read_folder
from simulators.series import DAY_MS

MAX_READINGS: Final = 50_000_000  # held in memory at 13 bytes a reading
MAX_PEOPLE: Final = 2_000
SPAN_MS: Final = (DAY_MS, 4_102_444_800_000)  # what is not from this century the gateway refuses, and says so


def recordings_at(path: Path, zone: tzinfo | None = None) -> list[Recording]:
    """Return the people of a folder, or the one of a CSV file; nobody without a reading.

    ``zone``: where the person of a CSV file lives, as ``own_csv.read_csv`` has it.

    Raises:
        NotARecording: there is nothing there, or something that can't be read.
    """
    if not path.exists():
        msg = f"{path} does not exist; name a CSV with a column time, or a folder of PERSON_hr.csv.zip files"
        raise NotARecording(msg)
    if path.is_dir() and zone is not None:
        msg = f"{path} is a folder of recordings, whose times are local already; leave --zone out"
        raise NotARecording(msg)
    people: list[Recording] = []
    total = 0
    for recording in read_folder(path) if path.is_dir() else [read_csv(path, zone)]:
        total += recording.n
        if total > MAX_READINGS or len(people) == MAX_PEOPLE:
            msg = (
                f"{path} holds more than {MAX_READINGS:,} readings or {MAX_PEOPLE:,} people; "
                "replay it in parts: what was sent before is kept and counted"
            )
            raise NotARecording(msg)
        if recording.n:
            _check_span(path, recording)
            people.append(recording)
    if not people:
        msg = f"{path} holds no readings"
        raise NotARecording(msg)
    return people


def _check_span(path: Path, recording: Recording) -> None:
    first_ms, last_ms = recording.span_ms
    if not (SPAN_MS[0] <= first_ms and last_ms < SPAN_MS[1]):
        msg = f"{path}: {recording.person} has instants outside the years 1970 to 2100; check its times"
        raise NotARecording(msg)
