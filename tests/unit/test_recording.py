"""Recordings are read as they are, and what can't be read is named: file, line, what is expected."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ingest.frame import Block, block_times_ms, block_values
from simulators.own_csv import read_csv
from simulators.recording import NotARecording, Recording, read_folder
from simulators.reframe import reframed
from simulators.series import HOUR_MS, series

HEAD = ",user,datetime,heartrate\n"
GOOD = HEAD + "0,P1,2020-03-01 00:00:00,61\n1,P1,2020-03-01 00:00:05,62\n"


def folder(path: Path, text: str) -> Path:
    with zipfile.ZipFile(path / "P1_hr.csv.zip", "w") as archive:
        archive.writestr("P1_hr.csv", text)
    return path


def test_rows_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD + "2,P1,2020-03-01 00:00:00,64\n3,P1,2020-02-29 23:59:00,60\n"
    (recording,) = read_folder(folder(tmp_path, text))
    stream = recording.streams["heart_rate"]
    assert recording.person == "P1"
    assert stream.value.tolist() == [61, 62, 64, 60]
    assert (stream.t_ms - stream.t_ms[0]).tolist() == [0, 5000, 0, -60_000]
    sent = [block for _, blocks in recording.hours() for block in blocks]
    assert sum(len(block.values) // 2 for block in sent) == 4
    assert len(sent) == 3  # an instant that comes again, or goes back, begins another block


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time,bpm\n", r"P1_hr.csv.zip line 1: .*expected is `,user,datetime,heartrate`"),
        (GOOD + "2,P1,soon,61\n", r"P1_hr.csv.zip line 4: '2,P1,soon,61' is not like"),
        (GOOD + "2,P1,,61\n", r"line 4"),
        (GOOD + "2,P1,2020-03-01 00:00:10\n", r"line 4"),
        (GOOD + "2,P1,2020-03-01 00:00:10,fast\n", r"line 4"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(NotARecording, match=told):
        list(read_folder(folder(tmp_path, text)))


def test_an_unreadable_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "P1_hr.csv.zip").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(NotARecording, match=r"P1_hr\.csv\.zip is not a zipped CSV"):
        list(read_folder(tmp_path))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotARecording, match=re.escape(str(tmp_path))):
        list(read_folder(tmp_path))


def test_csv_with_units_and_without_a_zone(tmp_path: Path) -> None:
    path = tmp_path / "anna.csv"
    path.write_text(
        "time,metric,value,unit\n2026-11-22T08:30:00+01:00,body_temperature,98.6,[degF]\n2026-11-22T08:00:00,heart_rate,61,\n"
    )
    recording = read_csv(path)
    assert recording.streams["body_temperature"].value.tolist() == pytest.approx([37.0])
    assert recording.streams["body_temperature"].t_ms.tolist() == [1_795_332_600_000]
    assert recording.streams["heart_rate"].t_ms.tolist() == [1_795_334_400_000]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("2026-11-22T08:30:00,hart_rate,61", "line 2: .*heart_rate"),
        ("yesterday,heart_rate,61", "line 2"),
        ("2026-11-22T08:30:00,heart_rate,61,mmHg", "line 2: .*allowed are /min"),
        ("2026-11-22T08:30:00,ecg,0.1", "line 2: ecg is a waveform"),
    ],
)
def test_a_bad_csv_line_is_named(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "anna.csv"
    path.write_text(f"time,metric,value,unit\n{row}\n")
    with pytest.raises(NotARecording, match=told):
        read_csv(path)


def test_reframed_it_is_the_same_readings_in_other_frames() -> None:
    t = np.sort(np.random.default_rng(2).integers(0, 40 * HOUR_MS, 5000)) // 1000 * 1000 + 1_583_020_800_000
    one = Recording("ANNA", {"heart_rate": series(t, np.arange(5000, dtype=np.float64) % 50 + 60)})

    def told(cut: Iterator[tuple[int, list[Block]]]) -> tuple[list[tuple[int, float]], list[int]]:
        blocks = [block for _, packed in cut for block in packed]
        pairs = [
            (int(t), float(v))
            for b in blocks
            for t, v in zip(block_times_ms(b, len(block_values(b))), block_values(b), strict=True)
        ]
        return pairs, [b.t0_ms for b in blocks]

    straight, starts = told(one.hours())
    shuffled, other_starts = told(reframed(one, 7))
    assert sorted(shuffled) == sorted(straight)
    assert shuffled != straight
    assert other_starts != sorted(other_starts)
    assert told(reframed(one, 7)) == (shuffled, other_starts)
    assert told(reframed(one, 8))[1] != other_starts
