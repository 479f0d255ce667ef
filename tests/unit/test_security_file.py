"""docs/security.md: each point of the ASVS once, with a test that exists and can fail, or the reason why not."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
    for line in PAGE.splitlines()
    if re.match(r"\| \d+\.\d+\.\d+ \|", line)
]
ELSEWHERE = PAGE.partition("### What does not apply")[2]
NAMED = r"`(tests/[\w/]+\.py)::(test_\w+)`"
STATES = ("holds", "partly", "not yet")
LEVELS = {"1": 70, "2": 183}  # of ASVS 5.0.0, together 253


@cache
def _asserting(file: str) -> dict[str, bool]:
    """Return for each function of a file whether it asserts, by itself or through another of the file."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    called = {name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} for name, node in functions.items()}
    said = {name: ast.dump(node) for name, node in functions.items()}
    direct = {name for name in functions if re.search(r"Assert\(|'raises'|id='expect'|id='problem'", said[name])}
    return {name: name in direct or bool(called[name] & direct) for name in functions}


def test_every_point_of_levels_1_and_2_is_there_once() -> None:
    apart = re.findall(r"\d+\.\d+\.\d+", ELSEWHERE)
    points = [row[0] for row in ROWS] + apart
    assert len(points) == len(set(points)) == sum(LEVELS.values())
    for line in ELSEWHERE.splitlines():
        if re.search(r"\d+\.\d+\.\d+", line):
            assert len(line.split("|")[1].split()) >= 2, f"no reason: {line}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_point_has_a_state_a_place_and_a_proof_or_a_reason(row: list[str]) -> None:
    point, level, asked, state, where, proof = row
    assert level in LEVELS, point
    assert asked, point
    assert where, point
    assert state in STATES, point
    reason = re.sub(NAMED, "", proof).strip(" ,;")
    proven = re.findall(NAMED, proof)
    assert len(reason.split()) >= 3 or (proven and state == "holds"), f"{point}: {state} needs a reason: {proof}"
    for path in re.findall(r"`((?:services|ingest|deploy|\.github)/[\w./@-]+)`", where):
        assert (ROOT / path).exists(), f"{point}: there is no {path}"
    for page in re.findall(r"\((\w[\w-]*\.md)\)", where + proof):
        assert (ROOT / "docs" / page).exists(), f"{point}: there is no docs/{page}"


def test_every_proof_is_a_test_that_asserts_something() -> None:
    named = re.findall(NAMED, PAGE)
    assert len(named) >= 120
    for file, name in named:
        assert name in _asserting(file), f"{file} has no {name}"
        assert _asserting(file)[name], f"{file}::{name} asserts nothing"


def test_the_sums_are_those_of_the_rows() -> None:
    counted = [sum(row[3] == state for row in ROWS) for state in STATES]
    told = re.search(r"\*\*(\d+) of (\d+) points that apply hold, (\d+) hold partly, (\d+) do not yet; (\d+) do", PAGE)
    assert told is not None
    holds, apply, partly, not_yet, apart = map(int, told.groups())
    assert [holds, partly, not_yet] == counted
    assert apply == len(ROWS)
    assert apart == sum(LEVELS.values()) - apply


def test_the_page_names_every_boundary() -> None:
    boundaries = PAGE.partition("## Boundaries")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in boundaries.splitlines() if line.startswith("| ")][1:]
    for part in ("gateway", "bridge", "mosquitto", "Kafka", "processor", "PostgreSQL", "browser", "provider", "backup"):
        assert any(part in row[0] for row in rows), part
    for row in rows:
        assert len(row) == 4, row[0]
        assert row[3].strip(), f"{row[0]}: what is not covered?"


def test_the_page_says_how_fast_a_weak_component_is_replaced() -> None:
    told = PAGE.partition("## What we depend on")[2].partition("\n## ")[0]
    assert re.search(r"within \d+ days .*any other within \d+; .*\(`make lock`\) every", told.replace("\n", " "))
