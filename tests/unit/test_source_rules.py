"""What no source file does: run text as code, go through a shell, read what builds objects, write HTML by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import httpx

from services.web import screens

ROOT = Path(__file__).parents[2]
PACKAGES = ("ingest", "detectors", "services", "simulators", "evaluation", "deploy")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SCRIPTS = sorted([*(ROOT / "services/web/static").glob("*.js"), *(ROOT / "services/cli/page").glob("*.js")])
TEMPLATES = sorted([*(ROOT / "services/web/templates").glob("*.html"), *(ROOT / "services/cli/page").glob("*.html")])
NEVER_CALLED = {"eval", "exec", "compile", "__import__", "Markup"}
NEVER_IMPORTED = {"pickle", "shelve", "marshal", "dill", "yaml", "xml", "lxml", "random"}
MAY_IMPORT = {"simulators": {"random"}, "ingest": {"random"}, "deploy": {"random", "yaml"}}  # no secret; our own files
PLAIN_VALUES = {
    "services/rules/text.py": {"yaml"}
}  # composes nodes and builds nothing of them: tests/unit/test_rules.py
BROKEN = ("md5", "sha1")


def _nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            yield path.relative_to(ROOT), node


def test_no_text_becomes_code_and_no_shell_is_asked() -> None:
    assert len(SOURCES) > 150
    for path, node in _nodes():
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            assert name not in NEVER_CALLED, f"{path}:{node.lineno} calls {name}"
            told = {word.arg: word.value for word in node.keywords}
            shell = told.get("shell")
            assert shell is None or (isinstance(shell, ast.Constant) and not shell.value), f"{path}:{node.lineno}"


def test_nothing_that_builds_objects_of_what_is_read_is_imported() -> None:
    for path, node in _nodes():
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        allowed = MAY_IMPORT.get(path.parts[0], set()) | PLAIN_VALUES.get(str(path), set())
        found = {name.partition(".")[0] for name in names} & (NEVER_IMPORTED - allowed)
        assert not found, f"{path}: {found}"


def test_no_broken_digest_is_used() -> None:
    used = [(str(path), node.attr) for path, node in _nodes() if isinstance(node, ast.Attribute)]
    assert ("services/api/credentials.py", "sha256") in used
    assert not [(path, name) for path, name in used if name.casefold() in BROKEN]


def test_pages_escape_what_they_show() -> None:
    page = screens.render("login.html", token='"><script>', failed="<b>&", login="'", accounts=True, provider=False)
    shown = bytes(page.body).decode()
    assert "<script>" not in shown
    assert "<b>&" not in shown
    assert "&lt;b&gt;&amp;" in shown
    unescaped = [
        (path.name, found) for path in TEMPLATES for found in re.findall(r"{{([^}]*\|\s*safe[^}]*)}}", path.read_text())
    ]
    assert unescaped == [
        ("recording.html", " text|safe "),  # our own styles and scripts, in a page of one file
        ("recording.html", " text|safe "),
        ("invitation.html", " picture|safe "),  # a QR code drawn here
    ]
    assert not [path.name for path in TEMPLATES if "autoescape" in path.read_text()]


def test_scripts_write_no_html_keep_nothing_and_listen_to_nobody() -> None:
    assert {path.name for path in SCRIPTS} == {"charts.js", "live.js", "recording.js"}
    forbidden = (
        "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage",
        "sessionStorage", "indexedDB", "document.cookie", "postMessage", "onmessage", "__proto__", "Object.assign",
    )  # fmt: skip
    for path in SCRIPTS:
        for word in forbidden:
            assert word not in path.read_text("utf-8"), f"{path.name}: {word}"
    base = (ROOT / "services/web/templates/base.html").read_text("utf-8")
    for told in ('"allowEval": false', '"allowScriptTags": false', '"selfRequestsOnly": true', '"historyCacheSize": 0'):
        assert told in base


def test_passwords_are_typed_unseen_and_managers_may_fill_them_in() -> None:
    fields = [tag for path in TEMPLATES for tag in re.findall(r"<input[^>]*>", path.read_text("utf-8"))]
    secret = [tag for tag in fields if re.search(r'name="(password|current|wanted)"', tag)]
    assert len(secret) >= 5
    for tag in secret:
        assert 'type="password"' in tag, tag
        assert re.search(r'autocomplete="(current|new)-password"', tag), tag
        assert "onpaste" not in tag, tag


def test_what_we_ask_of_others_follows_no_redirect() -> None:
    assert httpx.AsyncClient().follow_redirects is False
    assert not [path for path in SOURCES if re.search(r"follow_redirects\s*=\s*True", path.read_text("utf-8"))]
