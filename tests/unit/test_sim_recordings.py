"""The real recordings: the extract that is carried, and the whole ones where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest.frame import MAX_BLOCKS
from simulators.recording import Recording, ending_at, read_folder
from simulators.recordings.extract import ONSETS, extract
from simulators.sending import RecordedDevice
from simulators.series import DAY_MS

CARRIED = Path(__file__).parents[2] / "simulators" / "recordings"
WHOLE = Path(__file__).parents[3] / "shared" / "data" / "wearable_hr"
needs_whole = pytest.mark.skipif(not WHOLE.exists(), reason=f"the whole recordings are not at {WHOLE}")


@pytest.fixture(scope="module")
def carried() -> list[Recording]:
    return list(read_folder(CARRIED))


def test_the_extract_is_small_and_carries_its_licence(carried: list[Recording]) -> None:
    assert sum(path.stat().st_size for path in CARRIED.iterdir() if path.is_file()) < 3_000_000
    assert (CARRIED / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2020 Gireesh Bogu")
    assert "d0cb42a2" in (CARRIED / "README.md").read_text()
    assert [recording.person for recording in carried] == sorted(ONSETS)
    assert [recording.n for recording in carried] == [79_249, 75_739]


def test_shifted_recordings_end_now_and_keep_their_time_of_day(carried: list[Recording]) -> None:
    now_ms = 1_795_379_000_123
    for recording in carried:
        shifted = ending_at(recording, now_ms)
        assert now_ms <= shifted.span_ms[1] < now_ms + DAY_MS
        assert (shifted.span_ms[0] - recording.span_ms[0]) % DAY_MS == 0


def test_a_played_recording_sends_every_row_once(carried: list[Recording]) -> None:
    recording = carried[0]
    first, last = recording.span_ms
    device = RecordedDevice("watch", recording)
    frames = [
        frame for at in range(first, last + 1, DAY_MS // 4) for frame in device.parcel(at, at + DAY_MS // 4).frames
    ]
    assert sum(len(block.values) // 2 for frame in frames for block in frame.blocks) == recording.n
    assert [frame.seq for frame in frames] == list(range(len(frames)))


@needs_whole
def test_the_extract_can_be_made_again(tmp_path: Path) -> None:
    extract(WHOLE, tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_bytes() == (CARRIED / path.name).read_bytes()


@needs_whole
def test_the_whole_recordings_are_read_as_they_are() -> None:
    people, readings, twice, sent = 0, 0, 0, 0
    for recording in read_folder(WHOLE):
        people += 1
        readings += recording.n
        twice += sum(len(one.t_ms) - len(np.unique(one.t_ms)) for one in recording.streams.values())
        for _, cut in recording.hours():
            assert 0 < len(cut) <= MAX_BLOCKS
            sent += sum(len(block.values) // 2 for block in cut)
    assert (people, readings, twice, sent) == (8, 2_979_995, 121, 2_979_995)
