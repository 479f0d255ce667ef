"""A CSV of one's own: both shapes, every way to write a time, and errors that name line, value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.own_csv import read_csv
from simulators.recording import NotARecording
from simulators.recordings_at import recordings_at

MOMENT_MS = 1_795_332_600_000  # 2026-11-22T07:30:00Z


def written(folder: Path, text: str) -> Path:
    path = folder / "anna.csv"
    path.write_text(text, "utf-8")
    return path


def test_a_column_for_each_metric(tmp_path: Path) -> None:
    one = read_csv(
        written(
            tmp_path,
            "\ufefftime,heart_rate, steps ,spo2\n2026-11-22T08:30:00+01:00,61,0,97\n2026-11-22T08:31:00+01:00,64,12,\n\n"
            f"{MOMENT_MS + 120_000},,7\n",
        )
    )
    assert one.person == "anna"
    assert one.streams["heart_rate"].t_ms.tolist() == [MOMENT_MS, MOMENT_MS + 60_000]
    assert one.streams["heart_rate"].value.tolist() == [61, 64]
    assert one.streams["steps"].value.tolist() == [0, 12, 7]
    assert one.streams["spo2"].value.tolist() == [97]


@pytest.mark.parametrize(
    ("time", "offset"),
    [
        ("2026-11-22T08:30:00+01:00", 60),
        ("2026-11-22T07:30:00Z", 0),
        ("2026-11-22 07:30:00", 0),
        (str(MOMENT_MS), 0),
        ("2026-11-22T13:00:00+05:30", 330),
    ],
)
def test_every_way_to_write_a_time(tmp_path: Path, time: str, offset: int) -> None:
    one = read_csv(written(tmp_path, f"time,heart_rate\n{time},61\n"))
    assert one.streams["heart_rate"].t_ms.tolist() == [MOMENT_MS]
    assert one.offset_at(MOMENT_MS) == offset


def test_a_zone_reads_local_times_and_tells_night_from_day_through_a_change_of_the_clock(tmp_path: Path) -> None:
    rows = ["2026-10-25 01:30:00,60", "2026-10-25 12:00:00,61", "2026-10-25T11:00:00Z,62", "1792926000000,63"]
    one = read_csv(written(tmp_path, "time,heart_rate\n" + "\n".join(rows) + "\n"), ZoneInfo("Europe/Berlin"))
    t = one.streams["heart_rate"].t_ms
    assert (t - t[0]).tolist() == [0, 41_400_000, 41_400_000, 41_400_000]  # 11.5 h: an hour came twice
    assert [one.offset_at(int(ms)) for ms in t] == [120, 60, 60, 60]
    assert one.shifted(86_400_000).offset_at(int(t[1]) + 86_400_000) == 60


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: the columns are nothing; needed are time"),
        ("when,heart_rate\n", "line 1: the columns are when,heart_rate; needed are time"),
        ("time,heart_rate,heart_rate\n", "line 1: .*each name once"),
        ("time,hart_rate\n", "line 1: metric 'hart_rate' is not in the catalogue; did you mean heart_rate"),
        ("time,xyzzy\n", "line 1: metric 'xyzzy' is not in the catalogue; allowed are heart_rate, "),
        ("time,ecg\n", "line 1: ecg is a waveform"),
        ("time,heart_rate\nsoon,61\n", "line 2: time 'soon' can't be read; allowed are ISO 8601"),
        ("time,heart_rate\n,61\n", "line 2: time '' can't be read"),
        ("time,heart_rate\n1795332600,61\n", "line 2: time '1795332600' .*Unix milliseconds, e.g. 1795332600000"),
        ("time,heart_rate\n9999-12-31T23:59:59-23:00,61\n", "line 2: time .*1974 to 2099"),
        ("time,heart_rate\n1795332600000,61\n1795332660000,fast\n", "line 3: heart_rate 'fast' is no number"),
        ("time,heart_rate\n1795332600000,nan\n", "line 2: heart_rate 'nan' is no number"),
        ("time,metric,value\n1795332600000,heart_rate,\n", "line 2: heart_rate '' is no number"),
        ("time,metric,value,unit\n1795332600000,glucose,5.5,bar\n", "line 2: glucose .* 'bar'; allowed are mg/dL"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(NotARecording, match=rf"anna\.csv {told}"):
        read_csv(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "anna.csv"
    path.write_bytes(b"time,heart_rate\n\xff\xfe\x00")
    with pytest.raises(NotARecording, match="not a CSV file in UTF-8"):
        read_csv(path)


def test_a_path_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotARecording, match="does not exist"):
        recordings_at(tmp_path / "none.csv")
    with pytest.raises(NotARecording, match="holds no readings"):
        recordings_at(written(tmp_path, "time,heart_rate\n1795332600000,\n"))
    with pytest.raises(NotARecording, match="leave --zone out"):
        recordings_at(tmp_path, ZoneInfo("Europe/Berlin"))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(20, 300)), min_size=1, max_size=30))
def test_both_shapes_hold_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]]) -> None:
    folder = tmp_path_factory.mktemp("csv")
    wide = "".join(f"{MOMENT_MS + ms},{value}\n" for ms, value in rows)
    long = "".join(f"{MOMENT_MS + ms},heart_rate,{value}\n" for ms, value in rows)
    one = read_csv(written(folder, "time,heart_rate\n" + wide)).streams["heart_rate"]
    other = read_csv(written(folder, "time,metric,value\n" + long)).streams["heart_rate"]
    assert one.t_ms.tolist() == [MOMENT_MS + ms for ms, _ in rows]
    np.testing.assert_array_equal(one.t_ms, other.t_ms)
    np.testing.assert_array_equal(one.value, other.value)
