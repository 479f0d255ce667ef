"""A CSV of one's own is judged where no server library is installed, as the processor judges it, and told in words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Browser
from typer.testing import CliRunner

from evaluation.wearers import in_order
from services.cli.evaluate_stream import process
from services.cli.main import COMMANDS, create_app
from services.cli.replay_alone import judge
from services.cli.replay_words import lines
from simulators.own_csv import read_csv

SERVERS = (
    "aiokafka", "aiomqtt", "alembic", "argon2", "cryptography", "fastapi", "faust", "httptools", "httpx", "joserfc", "mode",
    "prometheus_client", "psycopg", "psycopg_pool", "pyotp", "segno", "starlette", "structlog",
    "tsdownsample", "uvicorn", "uvloop",
)  # fmt: skip
ALONE = f"""
import importlib, pkgutil, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {SERVERS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refused())
import detectors
for module in pkgutil.iter_modules(detectors.__path__, "detectors."):
    importlib.import_module(module.name)
from services.cli.main import main

ended = []
for arguments in (sys.argv[1:], *{{then}}):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        ended.append(end.code or 0)
sys.exit(max(ended))
"""
START = datetime(2026, 9, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
DAYS, RISEN = 19, range(14, 18)


def alone(*arguments: str, then: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command, and another, where no server library can be imported."""
    program = ALONE.replace("{then}", repr([[then]] if then else []))
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def a_month(path: Path) -> Path:
    """DAYS of a watch in India: 60 /min asleep, 68 in the nights of RISEN; one desaturation; two impossible values."""
    rng = np.random.default_rng(4)
    rows = ["time,heart_rate,steps,spo2,hrv_sdnn"]
    for day in range(DAYS):
        level = 60 + rng.normal(0, 0.8) + (8 if day in RISEN else 0)
        for minute in range(0, 1440, 2):
            at, asleep = START + timedelta(days=day, minutes=minute), not 8 * 60 <= minute < 22 * 60
            rate = level + (0 if asleep else 14) + rng.normal(0, 2)
            spo2 = "" if not asleep else "82" if day == 9 and 180 <= minute < 200 else "97"
            rows.append(f"{at.isoformat()},{rate:.1f},{0 if asleep else 5},{spo2},")
    end = START + timedelta(days=DAYS)
    rows += [f"{end.isoformat()},0,,0.97,70.5", f"{end.isoformat()},61,,,", f"{end.isoformat()},62,,,"]
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Any, Path]:
    folder = tmp_path_factory.mktemp("alone")
    path = a_month(folder / "<anna>.csv")
    page, out = folder / "out" / "page.html", folder / "out" / "found.json"
    done = alone("replay", str(path), "--no-stack", "--plot", str(page), "--json", str(out))
    assert (done.returncode, done.stderr.strip()) == (0, "")
    return path, done.stdout, json.loads(out.read_text("utf-8")), page


def test_no_server_library_is_needed_to_find_and_say_what_is_unusual(told: tuple[Path, str, Any, Path]) -> None:
    _, said, document, _ = told
    (person,) = document["people"]
    rules = [finding["rule"] for finding in person["findings"]]
    assert rules.count("spo2_low") == 1
    assert rules.count("resting_heart_rate_rise") == 1
    rise = next(finding for finding in person["findings"] if finding["rule"] == "resting_heart_rate_rise")
    assert rise["sentence"] in said
    assert re.search(
        r"Resting heart rate in the night to \d+ Sep was 6\d /min, \d above this person's usual 60 /min", said
    )
    assert rise["patient_sentence"].startswith("Your resting heart rate")
    assert rise["found"].endswith("10:00:00+05:30")  # a day ends at 10:00 local time
    low = next(finding for finding in person["findings"] if finding["rule"] == "spo2_low")
    assert datetime.fromisoformat(low["ended"]) > datetime.fromisoformat(low["found"])
    assert "2026-09-10 03:06 high   Oxygen saturation fell to 82 %" in said


def test_what_could_not_be_judged_is_said(told: tuple[Path, str, Any, Path]) -> None:
    _, said, document, _ = told
    (person,) = document["people"]
    assert person["repeated"] == 1
    assert {(one["metric"], one["value"], one["reason"]) for one in person["set_aside"]} == {
        ("heart_rate", 0.0, "out_of_range"),
        ("spo2", 0.97, "unit_suspected"),
    }
    assert "set aside: heart_rate 0 at 2026-09-20 00:00; allowed are 20 to 300 /min" in said
    assert "(is it in another unit?)" in said
    assert "1 reading; no rule looks at it" in said
    usual = {one["context"]: one for one in person["metrics"]["heart_rate"]["usual"]}
    assert usual["asleep"]["learned"]
    assert usual["asleep"]["center"] == pytest.approx(60, abs=1)


def test_a_fast_gain_of_weight_is_told_of_ones_own_csv(tmp_path: Path) -> None:
    path = tmp_path / "scale.csv"
    mornings = enumerate([80.0, 80.2, 82.4, 82.6, 82.5, 82.4])
    rows = [f"{(START + timedelta(days=day, hours=7)).isoformat()},{kilograms}" for day, kilograms in mornings]
    path.write_text("\n".join(["time,weight", *rows]) + "\n", "utf-8")
    done = alone("replay", str(path), "--no-stack")
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "medium Weight rose by 2.6 kg, from 80 kg on " in done.stdout
    assert "Weight: 6 readings; a fast gain of it would be told, no usual range is learned of it" in done.stdout


def test_a_metric_measured_too_seldom_for_a_night_is_said_to_be(tmp_path: Path) -> None:
    rows = ["time,heart_rate,resting_heart_rate"]
    for place in range(3 * 72):
        rows.append(f"{(START + timedelta(minutes=20 * place)).isoformat()},61,{58 if place % 72 == 30 else ''}")
    (tmp_path / "anna.csv").write_text("\n".join(rows) + "\n", "utf-8")
    (one,) = judge([read_csv(tmp_path / "anna.csv")])
    said = "\n".join(lines(one))
    assert "Heart rate: 216 readings; measured too seldom for a night: needs 180 minutes, had 30 at the most" in said
    assert "Resting heart rate: 3 readings; shown as a trend and not judged" in said
    assert "learning" not in said


def test_it_is_what_the_processor_finds_in_whatever_order_the_rows_come(tmp_path: Path) -> None:
    t = int(START.timestamp()) * 1000 + 60_000 * np.arange(2000)
    rows = [f"{ms},{82 if 300 <= place < 320 else 97}" for place, ms in enumerate(t.tolist())]
    said = []
    for order in (np.arange(2000), np.random.default_rng(5).permutation(2000)):
        (tmp_path / "anna.csv").write_text("time,spo2\n" + "\n".join(rows[at] for at in order) + "\n", "utf-8")
        (one,) = judge([read_csv(tmp_path / "anna.csv")])
        said.append([*lines(one)])
    assert said[0] == said[1]
    assert "Oxygen saturation fell to 82 %" in said[0][1]
    (heard,) = process([in_order(one.recording)], [330])
    assert [(alert.rule, alert.found_ms) for alert in heard.alerts] == [
        (row.rule, row.found_ms) for row in one.findings
    ]


def test_the_page_stands_alone_and_escapes_what_it_shows(told: tuple[Path, str, Any, Path]) -> None:
    _, _, document, page = told
    text = page.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)\s*=\s*["']""", text)
    assert "<anna>" not in text
    assert "&lt;anna&gt;" in text
    for finding in document["people"][0]["findings"]:
        assert text.count(finding["sentence"].replace("'", "&#39;")) == 2  # in the list, and under its chart
    charts = [json.loads(data) for data in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    heart = next(chart for chart in charts if chart["title"] == "Heart rate")
    assert heart["by_the_hour"]
    assert len(heart["t"]) == len(heart["mean"]) == len(heart["low"]) == len(heart["high"]) > DAYS * 24
    assert {band["context"] for band in heart["band"]} == {"asleep", "active"}
    assert all(low <= mean <= high for low, mean, high in zip(heart["low"], heart["mean"], heart["high"], strict=True))
    spo2 = next(chart for chart in charts if chart["title"] == "Oxygen saturation")
    assert None in spo2["mean"]  # a night's end breaks the line


@pytest.mark.browser
async def test_the_page_draws_itself_and_asks_nobody(told: tuple[Path, str, Any, Path], browser: Browser) -> None:
    page = await browser.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    await page.goto(told[3].as_uri())
    assert await page.locator("figure.trend canvas").count() == 4
    drawn = await page.evaluate(
        "() => [...document.querySelectorAll('figure.trend canvas')].map((one) => one.getContext('2d')"
        ".getImageData(0, 0, one.width, one.height).data.some((byte) => byte > 0))"
    )
    assert drawn == [True] * 4
    assert asked == [told[3].as_uri()]
    assert wrong == []
    await page.close()


def test_a_command_that_needs_the_servers_says_how_to_get_them() -> None:
    done = alone("gateway", then="--help")
    assert "is not installed; this command needs what runs the servers: pip install 'keepwell[server]'" in done.stderr
    listed, _, absent = done.stdout.partition("Not installed: ")
    offered = set(re.findall(r"^│ (\w+) ", listed, re.MULTILINE)) - {"Usage"}
    assert offered == {"replay", "evaluate", "rules"}
    assert (
        set(re.findall(r"\w+", absent.partition(". They need")[0]))
        == {name for names in COMMANDS.values() for name in names} - offered
    )
    assert "pip install 'keepwell[server]'" in " ".join(absent.split())
    assert done.returncode == 2


def test_rules_are_tried_without_servers(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/rules.md").read_text("utf-8")
    (tmp_path / "copd.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0], "utf-8")
    done = alone("rules", "test", str(tmp_path / "copd.yaml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok  ") == text.partition("```yaml\n")[2].partition("```")[0].count("- name:")
    assert json.loads(alone("rules", "schema").stdout)["title"] == "Keepwell rules file"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--no-stack", "--speed", "60"], "--speed, --name, --fresh and --reframe are of the way through the servers"),
        (["--plot", "x.html"], "--plot, --zone and --detector go with --no-stack"),
        (
            ["--no-stack", "--zone", "Mars/Olympus"],
            "--zone 'Mars/Olympus' is no time zone; write it like Europe/Berlin",
        ),
        (["--no-stack", "--zone", "../etc"], "is no time zone"),
        (["--no-stack"], "none.csv does not exist; name a CSV"),
    ],
)
def test_a_wrong_flag_or_file_is_one_sentence(arguments: list[str], told: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(create_app("replay"), ["replay", str(tmp_path / "none.csv"), *arguments])
    assert result.exit_code == 2
    assert told in result.stderr


def test_the_help_shows_an_example() -> None:
    shown = CliRunner().invoke(create_app("replay"), ["replay", "--help"], env={"COLUMNS": "140"}).stdout
    assert "time,heart_rate,steps,spo2" in shown
    assert "2026-11-22T08:30:00+01:00,61,0,97" in shown
