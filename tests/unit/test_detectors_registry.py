"""Detectors of other packages are found, judged by our suite, and refused in words; what docs/detectors.md shows runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from detectors import registry
from detectors.protocol import DayValues, Detector
from services.cli.main import create_app
from services.cli.replay_beside import ALWAYS
from tests.unit import test_detectors_behaviour as behaviour
from tests.unit.people import START_MS, hour_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/detectors.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL))
GOOD = '''
import numpy as np
from detectors.protocol import {takes}
class Mine:
    """Source: none. Units: none. Valid: nobody. State: 1 bytes."""
    takes = {takes}
    dtype = {dtype}
    def __init__(self{needs}): pass
    def new_state(self, n): return np.zeros(n, self.dtype)
    def reset(self, state, rows): state[rows] = 0
    def {update}(self, state, given): return []
'''
FITS = {"takes": "HourSlice", "dtype": 'np.dtype([("n", "u1")])', "needs": "", "update": "update"}


def installed(folder: Path, package: str, code: str, points: str) -> Path:
    """Lay a package and its metadata down as an installer would."""
    (folder / f"{package}.py").write_text(code, "utf-8")
    about = folder / f"{package}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n", "utf-8")
    (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{points}\n", "utf-8")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def theirs(site: Path) -> Path:
    """The page's own detector, installed as the page says."""
    points = EXAMPLES["pyproject.toml"].replace('"', "").split("\n", 1)[1].strip()
    return installed(site, "far_from_own_mean", EXAMPLES["far_from_own_mean.py"], points)


def test_ours_are_found_and_are_detectors_and_the_page_lists_each() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][registry.GROUP]
    assert set(ours) <= set(registry.names())
    for name in registry.names():
        assert isinstance(registry.load(name)(), Detector)
    assert set(ALWAYS) == {name for name in ours if registry.load(name).takes is not DayValues}
    assert dict(re.findall(r"\| `(\w+)` \| `([\w.]+:\w+)` \|", PAGE)) == ours


def test_the_page_names_the_bound_of_the_suite() -> None:
    assert f"at most {behaviour.BYTES:,} bytes" in PAGE


def test_the_detector_of_the_page_finds_what_it_says(site: Path) -> None:
    theirs(site)
    detector: Any = registry.load("far_from_own_mean")()
    state = detector.new_state(2)
    found = []
    for number in range(50):
        rate = np.array([60.0, 60.0 + 45 * (number >= 48)])
        found += [one for one in detector.update(state, hour_of(number, rate)) if number >= 48]
    (rise,) = [one for one in found if one.row == 1 and one.change == "raised"]
    assert rise.start_ms == START_MS + 48 * 3_600_000
    assert rise.at_ms - rise.start_ms == 10 * 60_000
    assert re.fullmatch(r"Heart rate was 1\d\d /min, this person's own mean is 6\d /min", rise.evidence["sentence"])


def test_the_detector_of_the_page_passes_the_suite_that_judges_ours(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs(site)
    whole = behaviour.given_to
    monkeypatch.setattr(behaviour, "given_to", lambda detector: whole(detector)[:60])  # the slow test takes all of it
    suite = [
        test
        for test in vars(behaviour).values()
        if any(mark.args[:1] == ("detector",) for mark in getattr(test, "pytestmark", []))
    ]
    assert len(suite) >= 10
    for test in suite:
        test(registry.load("far_from_own_mean")())


def test_the_detector_of_the_page_looks_at_a_recording_beside_ours(site: Path) -> None:
    theirs(site)
    rates = [150 if 2000 <= minute < 2015 else 60 for minute in range(2100)]
    rows = [f"{START_MS + minute * 60_000},{rate}" for minute, rate in enumerate(rates)]
    (site / "anna.csv").write_text("time,heart_rate\n" + "\n".join(rows), "utf-8")
    name, out = "far_from_own_mean", site / "found.json"
    asked = ["replay", str(site / "anna.csv"), "--no-stack", "--detector", name, "--json", str(out)]
    result = CliRunner().invoke(create_app("replay"), asked)
    assert result.exit_code == 0, result.output
    (found,) = [one for one in json.loads(out.read_text("utf-8"))["people"][0]["findings"] if one["rule"] == name]
    assert found["sentence"] == "Heart rate was 150 /min, this person's own mean is 60 /min"
    assert found["sentence"] in result.output
    assert (found["priority"], found["patient_sentence"]) == ("low", None)
    moments = [datetime.fromisoformat(found[when]).timestamp() for when in ("began", "found", "ended")]
    assert moments == [START_MS / 1000 + minute * 60 for minute in (2000, 2010, 2016)]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, f"--detector {name}: it always runs; leave it out") for name in ALWAYS),
        ("daily", "it takes DayValues, which no recording holds; allowed are Readings, HourSlice"),
        ("dayly", "no detector is called 'dayly'; installed are"),
    ],
)
def test_a_detector_that_cannot_look_is_refused(tmp_path: Path, name: str, told: str) -> None:
    result = CliRunner().invoke(create_app("replay"), ["replay", str(tmp_path), "--no-stack", "--detector", name])
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.slow
def test_the_suite_finds_a_detector_that_is_installed(tmp_path: Path) -> None:
    theirs(tmp_path)
    suite = ["tests/unit/test_detectors_behaviour.py", "-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suite, "-k", "far_from_own_mean"],
        capture_output=True, text=True, timeout=200, check=False, cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed, \d+ deselected", done.stdout, re.MULTILINE)
    assert passed, done.stdout
    assert int(passed.group(1)) >= 10


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"update": "advance"},
            r"'mine' \(mine:Mine of mine 1\.2\) is no detector: it has no update\. docs/detectors\.md",
        ),
        ({"dtype": 'np.dtype("u1")'}, "dtype is dtype.'uint8'.; allowed is a structured dtype without objects"),
        ({"dtype": 'np.dtype([("x", "O")])'}, "without objects"),
        ({"takes": "Finding"}, "takes is .*Finding.*; allowed are Readings, HourSlice, DayValues"),
        ({"takes": "DayValues"}, "it takes DayValues and has no channels"),
        ({"needs": ", limit"}, "it can't be made without arguments: TypeError"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(site: Path, change: dict[str, str], told: str) -> None:
    installed(site, "mine", GOOD.format(**{**FITS, **change}), "mine = mine:Mine")
    sys.modules.pop("mine", None)
    with pytest.raises(registry.NotADetector, match=told):
        registry.load("mine")
    assert registry.load("limits").__name__ == "Limits"  # nobody else's is kept from working


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import nowhere_to_be_found", "can't be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("1 / 0", "can't be imported: ZeroDivisionError"),
        ("", "can't be imported: AttributeError"),
        ("Mine = 5", "is no detector: it is 5, not a class"),
        ("class Mine: pass", "its docstring lacks Source:, Units:, Valid:, State:; it has no takes, dtype, new_state"),
    ],
)
def test_what_does_not_load_is_refused_by_name(site: Path, code: str, told: str) -> None:
    installed(site, "mine", code, "mine = mine:Mine")
    sys.modules.pop("mine", None)
    with pytest.raises(registry.NotADetector, match=told):
        registry.load("mine")


def test_an_unknown_name_and_one_that_is_taken_are_refused(site: Path) -> None:
    with pytest.raises(registry.NotADetector, match=r"no detector is called 'limit'; installed are .*limits"):
        registry.load("limit")
    installed(site, "mine", GOOD.format(**FITS), "limits = mine:Mine")
    with pytest.raises(registry.NotADetector, match=r"two detectors are called 'limits': .*mine:Mine of mine 1\.2"):
        registry.load("limits")


def test_the_library_example_of_the_page_finds_a_rise(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    t = np.arange(START_MS, START_MS + 16 * 86_400_000, 120_000)
    local = (t // 60_000 + 60) % 1440
    asleep = (local >= 22 * 60) | (local < 8 * 60)
    rise = 10 * ((t - START_MS) // 86_400_000 >= 12)
    heart, zone = 60 + rise + 14 * ~asleep + rng.normal(0, 2, len(t)), timezone(timedelta(hours=1))
    rows = [
        f"{datetime.fromtimestamp(at / 1000, zone).isoformat()},{rate:.1f},{steps if place % 3 == 0 else ''}"
        for place, (at, rate, steps) in enumerate(zip(t.tolist(), heart, 5 * ~asleep, strict=True))
    ]
    (tmp_path / "anna.csv").write_text("\n".join(["time,heart_rate,steps", *rows]) + "\n", "utf-8")
    (tmp_path / "own_csv.py").write_text(EXAMPLES["own_csv.py"], "utf-8")
    done = subprocess.run(
        [sys.executable, "own_csv.py", "anna.csv"], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert re.search(r"^raised Resting heart rate in the night to \d+ Oct was (69|7\d) /min", done.stdout, re.MULTILINE)
    code = [line for line in EXAMPLES["own_csv.py"].splitlines() if line and "import" not in line]
    assert len(code) <= 10
