"""Recordings on disk: zipped CSV as ``wearable_hr`` has them. A CSV of one's own is read by ``own_csv``.

Rows are kept in the order of the file, also where its clock goes back or an instant comes twice. Times are read as
UTC (local time = UTC, offset 0): those recordings name no zone.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.frame import MAX_BLOCKS, Block
from simulators.series import DAY_MS, HOUR_MS, Series, blocks

COLUMNS: Final = {"heartrate": "heart_rate", "steps": "steps"}
EXPECTED: Final = "`,user,datetime,heartrate` or `,user,datetime,steps`"
MAX_FILE_BYTES: Final = 1 << 30  # unpacked; what is larger is no recording of one person


class NotARecording(ValueError):
    """A file cannot be read; the text names it, the line and what was expected."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What one person's device recorded; each stream in the order of its file."""

    person: str
    streams: dict[str, Series]  # by metric; instants may go back or repeat
    offsets: tuple[tuple[int, int], ...] = ()  # (from which ms on, local time minus UTC in minutes); none: 0

    @property
    def n(self) -> int:
        """How many readings it holds."""
        return sum(len(stream.t_ms) for stream in self.streams.values())

    @property
    def span_ms(self) -> tuple[int, int]:
        """Its first and last instant, Unix ms UTC."""
        instants = [stream.t_ms for stream in self.streams.values() if len(stream.t_ms)]
        return min(int(t.min()) for t in instants), max(int(t.max()) for t in instants)

    def offset_at(self, at_ms: int) -> int:
        """Return the wearer's local time minus UTC at an instant, minutes: the last one noted before, or the first."""
        steps = self.offsets or ((0, 0),)
        return next((minutes for from_ms, minutes in reversed(steps) if from_ms <= at_ms), steps[0][1])

    def fingerprint(self) -> str:
        """Return a name made of the content: the same readings in the same order give the same name."""
        digest = hashlib.sha256()
        for metric in sorted(self.streams):
            stream = self.streams[metric]
            digest.update(metric.encode() + stream.t_ms.tobytes() + stream.value.tobytes())
        return digest.hexdigest()[:16]

    def shifted(self, ms: int) -> Recording:
        """Return the same recording, ``ms`` later."""
        moved = {metric: s._replace(t_ms=s.t_ms + ms) for metric, s in self.streams.items()}
        return Recording(self.person, moved, tuple((from_ms + ms, minutes) for from_ms, minutes in self.offsets))

    def hours(self) -> Iterator[tuple[int, list[Block]]]:
        """Yield (start of the hour, its blocks) as a device would send them: hour after hour.

        Rows whose clock went back are sent where they stand in the file, beside the newest hour before them.
        """
        pieces: list[tuple[int, str, Series]] = []
        for metric, stream in self.streams.items():
            hour = np.maximum.accumulate(stream.t_ms) // HOUR_MS * HOUR_MS
            edges = np.flatnonzero(np.diff(hour)) + 1
            for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(hour)], strict=True):
                pieces.append((int(hour[start]), metric, stream.part(slice(start, stop))))
        pieces.sort(key=lambda piece: piece[0])
        for start_ms, group in groupby(pieces, key=lambda piece: piece[0]):
            cut = [block for _, metric, part in group for block in blocks({metric: part})]
            for at in range(0, len(cut), MAX_BLOCKS):
                yield start_ms, cut[at : at + MAX_BLOCKS]


def read_folder(folder: Path) -> Iterator[Recording]:
    """Yield one recording a person of a folder of ``PERSON_hr.csv.zip`` and ``PERSON_steps.csv.zip``.

    Raises:
        NotARecording: no such files, or one that can't be read.
    """
    people = sorted({path.name.split("_")[0] for path in folder.glob("*_*.csv.zip")})
    if not people:
        msg = f"{folder} holds no PERSON_hr.csv.zip or PERSON_steps.csv.zip; name a folder of such recordings"
        raise NotARecording(msg)
    for person in people:
        paths = sorted(folder.glob(f"{person}_*.csv.zip"))
        yield Recording(person, dict(_read_zip(path) for path in paths))


def _read_zip(path: Path) -> tuple[str, Series]:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.infolist()[0]
            if inside.file_size > MAX_FILE_BYTES:
                msg = f"{path} unpacks to {inside.file_size} bytes; {MAX_FILE_BYTES} are allowed"
                raise NotARecording(msg)
            text = archive.read(inside).decode("ascii")
    except (IndexError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        msg = f"{path} is not a zipped CSV of {EXPECTED}: {error}"
        raise NotARecording(msg) from error
    header, _, rest = text.partition("\n")
    columns = header.strip().split(",")
    if len(columns) != 4 or columns[:3] != ["", "user", "datetime"] or columns[3] not in COLUMNS:
        msg = f"{path} line 1: the columns are {header.strip()[:80]!r}; expected is {EXPECTED}"
        raise NotARecording(msg)
    lines = rest.splitlines()
    try:
        return COLUMNS[columns[3]], _parse(lines)
    except ValueError as error:
        at = _first_bad(lines)
        msg = f"{path} line {at + 2}: {lines[at][:80]!r} is not like `0,PERSON,2020-03-01 00:00:00,61` ({error})"
        raise NotARecording(msg) from error


def _parse(lines: Sequence[str]) -> Series:
    """Return the rows of a file; ValueError where one can't be read."""
    instants, values = [], []
    for line in lines:
        _, _, moment, value = line.split(",")
        instants.append(moment)
        values.append(value)
    moments = np.array(instants, "M8[s]")
    if np.isnat(moments).any():
        msg = "a time is missing"
        raise ValueError(msg)
    return _stream(moments.astype(np.int64) * 1000, np.array(values, np.float64))


def _first_bad(lines: Sequence[str]) -> int:
    """Return the place of the first line that can't be read."""
    for at, line in enumerate(lines):
        try:
            _parse([line])
        except ValueError:
            return at
    return 0


def _stream(t_ms: NDArray[np.int64] | list[int], value: NDArray[np.float64] | list[float]) -> Series:
    t = np.asarray(t_ms, np.int64)
    return Series(t, np.asarray(value, np.float64).astype(np.float32), np.zeros(len(t), np.uint8))


def write_zip(path: Path, person: str, metric: str, stream: Series, numbers: NDArray[np.int64]) -> None:
    """Write one stream in the format it was read in; ``numbers`` are the row numbers of the original file."""
    column = next(name for name, key in COLUMNS.items() if key == metric)
    text = io.StringIO()
    text.write(f",user,datetime,{column}\n")
    for number, t_ms, value in zip(numbers.tolist(), stream.t_ms.tolist(), stream.value.tolist(), strict=True):
        moment = datetime.fromtimestamp(t_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        text.write(f"{number},{person},{moment},{value:g}\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # a fixed stamp: the same rows give the same bytes
        entry = zipfile.ZipInfo(path.name.removesuffix(".zip"), (2020, 1, 1, 0, 0, 0))
        archive.writestr(entry, text.getvalue(), zipfile.ZIP_DEFLATED, 9)


def ending_at(recording: Recording, now_ms: int) -> Recording:
    """Return the recording shifted by whole days so that it ends within the day after ``now_ms``."""
    _, last_ms = recording.span_ms
    return recording.shifted(-((last_ms - now_ms) // DAY_MS) * DAY_MS)
