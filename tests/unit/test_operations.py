"""The alarm rules, the dashboard and the operations page speak of metrics that exist, with their labels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import operations
from deploy.local import paths, promtool, user
from deploy.local.errors import StackError
from ingest.health import LOOP_STALLED
from services import metrics
from services.watchdog import EXIT_STALLED

PROMETHEUS = operations.ROOT / "deploy" / "prometheus"
OTHERS = {"up": {"job", "instance", "kind"}, "process_resident_memory_bytes": {"job", "instance", "kind"}}
TARGET = {"job", "instance", "kind"}
WORD = re.compile(r"\b(keepwell_\w+|up|process_\w+)\b")
SELECTOR = re.compile(r"\b(keepwell_\w+|up|process_\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def known() -> dict[str, set[str]]:
    """Every series' name with its labels."""
    series: dict[str, set[str]] = {name: set(labels) for name, labels in OTHERS.items()}
    for one in metrics.ALL:
        labels = set(one.labels) | TARGET
        if one.kind == "histogram":
            series |= {f"{one.name}_bucket": labels | {"le"}, f"{one.name}_sum": labels, f"{one.name}_count": labels}
        else:
            series[one.name] = labels
    return series


def expressions() -> Iterator[tuple[str, str]]:
    for rule in operations.rules():
        yield rule["alert"], rule["expr"]
    board = json.loads((operations.ROOT / "deploy" / "grafana" / "keepwell.json").read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]


@pytest.mark.parametrize(("where", "expr"), list(expressions()))
def test_each_expression_names_metrics_and_labels_that_exist(where: str, expr: str) -> None:
    series = known()
    names = set(WORD.findall(re.sub(r'"[^"]*"', '""', expr)))
    assert names, where
    assert names <= series.keys(), (where, names - series.keys())
    for name, matchers in SELECTOR.findall(expr):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= series[name], (where, name, used - series[name])
    everything = set().union(*(series[name] for name in names))
    for group in GROUPED.findall(expr):
        used = {label.strip() for label in group.split(",") if label.strip()}
        assert used <= everything, (where, used - everything)


def test_the_page_is_current() -> None:
    page = operations.PAGE.read_text("utf-8")
    assert page == operations.filled(page), "run `make docs`"


def test_the_page_explains_every_alarm_metric_code_and_exit() -> None:
    page = operations.PAGE.read_text("utf-8")
    for rule in operations.rules():
        assert f"`{rule['alert']}`" in page
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
    for one in metrics.ALL:
        assert f"`{one.name}`" in page
    assert f"`{LOOP_STALLED}`" in page
    assert str(EXIT_STALLED) in page
    codes = set()
    for path in [*Path(operations.ROOT, "services").rglob("*.py"), *Path(operations.ROOT, "ingest").rglob("*.py")]:
        text = path.read_text("utf-8")
        constants = dict(re.findall(r'^([A-Z_]+)(?:: Final)? = "(\w+)"$', text, re.MULTILINE))
        codes |= {constants[name] for name in re.findall(r"NotReady\((?:\w+\.)?([A-Z_]+),", text) if name in constants}
    assert len(codes) >= 6
    for code in codes:
        assert f"`{code}`" in page, code


def test_the_dashboard_can_be_imported() -> None:
    board: dict[str, Any] = json.loads((operations.ROOT / "deploy" / "grafana" / "keepwell.json").read_text("utf-8"))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]
    assert any(one["type"] == "datasource" for one in board["templating"]["list"])


def test_the_scrape_configuration_names_the_default_ports() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text("utf-8"))
    found = {
        one["labels"]["kind"]: int(one["targets"][0].rpartition(":")[2])
        for one in config["scrape_configs"][0]["static_configs"]
    }
    from services.settings_sections import MetricsSettings

    chosen = MetricsSettings()
    assert found == {name: getattr(chosen, f"{name}_port") for name in ("gateway", "bridge", "processor", "api")}


def test_the_unit_restarts_for_ever_but_not_on_a_wrong_setting() -> None:
    unit = (operations.ROOT / "deploy" / "systemd" / "keepwell@.service").read_text("utf-8")
    for line in ("Restart=always", "StartLimitIntervalSec=0", "RestartPreventExitStatus=2"):
        assert line in unit.splitlines()


@pytest.fixture(scope="session")
def tool() -> Path:
    who = user.choose()
    try:
        return promtool.find(paths.programs(who), paths.downloads(), lambda *_: None)
    except StackError as error:
        pytest.skip(f"promtool cannot be had: {error}")


@pytest.mark.stack
@pytest.mark.parametrize(
    "words",
    [("check", "rules", "rules.yaml"), ("check", "config", "prometheus.yaml"), ("test", "rules", "rules.test.yaml")],
)
def test_promtool_agrees(tool: Path, words: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("rules.yaml", "prometheus.yaml", "rules.test.yaml"):
        shutil.copy(PROMETHEUS / name, tmp_path)
    done = subprocess.run([tool, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_alarm_is_raised_in_the_tests_of_the_rules() -> None:
    raised = (PROMETHEUS / "rules.test.yaml").read_text("utf-8")
    for rule in operations.rules():
        assert f'{{alertname="{rule["alert"]}"}}' in raised, rule["alert"]
