"""The local stack without its servers: sources, passwords, certificates, identities, ports, state."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy.local import debian, kafka, paths, ports, process, state, tls, user
from deploy.local.command import run
from deploy.local.errors import StackError
from deploy.local.user import ServiceUser
from ingest.clock import FrozenClock, to_datetime
from ingest.mqtt_password import password_hash, password_matches

DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000

DEB822 = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://third.example/apt
Suites: nodistro
Components: main

Types: deb
URIs: https://containers.example/linux/debian
Suites: bookworm
Components: stable
"""


def test_deb822_sources_keep_mirror_and_key_and_change_the_suite() -> None:
    changed = debian.rewrite_deb822(DEB822, "bookworm")
    assert "Suites: trixie trixie-updates\n" in changed
    assert "Suites: trixie-security\n" in changed
    assert changed.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg") == 2
    assert changed.count("mirror.example") == 2
    assert "third.example" not in changed
    assert "containers.example" not in changed


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb http://m.example/debian bookworm main", "deb http://m.example/debian trixie main\n"),
        (
            "deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm-updates main non-free",
            "deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian trixie-updates main non-free\n",
        ),
        ("# deb http://m.example/debian bookworm main", ""),
        ("deb-src http://m.example/debian bookworm main", ""),
        ("deb http://pg.example/apt bookworm-pgdg main", ""),
        ("deb http://m.example/ubuntu noble main", ""),
    ],
)
def test_one_line_sources(line: str, expected: str) -> None:
    assert debian.rewrite_list(line, "bookworm") == expected


def test_paths_in_java_properties_may_hold_anything() -> None:
    assert kafka.escaped(Path("/home/a b/\\x/ä€😀")) == r"/home/a b/\u005cx/\u00e4\u20ac\ud83d\ude00"


def test_password_hash_is_salted_and_checkable() -> None:
    first, second = password_hash("a token"), password_hash("a token")
    assert first != second
    assert first.startswith("$7$101$")
    assert password_matches("a token", first)
    assert not password_matches("another", first)


def test_password_hash_equals_what_mosquitto_made() -> None:
    """Made by `mosquitto_passwd -U` 2.0 for the password `keepwell`."""
    made = (
        "$7$101$Va+XJ/yGTWKzeq7h$5ZIPN4w2mHywuFZM5yRZTKExtGa1Vtrt0T85Cw50IrXx"
        "aAoHTkmMAuuW1Rxv9SFWrDNJalfwNNj95gZ/Gf4dSw=="
    )
    assert password_matches("keepwell", made)


@pytest.mark.parametrize(("password", "iterations"), [("", 101), ("x", 0)])
def test_password_hash_refuses_nothing(password: str, iterations: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        password_hash(password, iterations)


def test_certificates_are_kept_then_renewed_before_they_end(tmp_path: Path) -> None:
    assert tls.ensure(tmp_path, FrozenClock(NOW_MS))
    authority, server = (tmp_path / "ca.pem").read_bytes(), (tmp_path / "server.pem").read_bytes()
    assert not tls.ensure(tmp_path, FrozenClock(NOW_MS + DAY_MS))
    assert (tmp_path / "server.pem").read_bytes() == server

    later = NOW_MS + (tls.SERVER_DAYS - tls.RENEW_DAYS + 1) * DAY_MS
    assert tls.ensure(tmp_path, FrozenClock(later))
    assert (tmp_path / "ca.pem").read_bytes() == authority
    renewed = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    assert renewed.not_valid_after_utc > to_datetime(later) + timedelta(days=300)
    renewed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_pid_file_names_one_process_and_no_other(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    path = tmp_path / "it.json"
    who = process.identify(child.pid)
    assert who is not None
    process.write_pid(path, who)
    assert process.read_pid(path) == who
    process.write_pid(path, process.Identity(who.pid, who.started + 1, who.boot))
    assert process.read_pid(path) is None
    process.write_pid(path, process.Identity(who.pid, who.started, "another boot"))
    assert process.read_pid(path) is None
    path.write_text('{"pid": 12')
    assert process.read_pid(path) is None
    child.kill()
    process.wait_until(lambda: process.identify(child.pid) is None, 5)
    assert not process.alive(who), "a zombie counts as dead"
    assert child.wait(5) == -signal.SIGKILL


def test_stop_kills_what_does_not_end_when_asked() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = deaf + "; print(1, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    who = process.identify(child.pid)
    assert who is not None
    assert process.stop(who, signal.SIGTERM, 0.3) is False
    assert child.wait(5) == -signal.SIGKILL
    child.stdout.close()


def test_tools_have_a_time_limit_and_tell_what_they_said() -> None:
    slow = [sys.executable, "-c", "import time; print('half way', flush=True); time.sleep(60)"]
    with pytest.raises(StackError, match=r"(?s)fetching took longer than 1 s.*half way"):
        run(slow, what="fetching", limit_s=1)
    with pytest.raises(StackError, match=r"(?s)fetching failed.*exited with 3.*no such mirror"):
        run(
            [sys.executable, "-c", "import sys; print('no such mirror'); sys.exit(3)"],
            what="fetching",
            limit_s=9,
        )
    with pytest.raises(StackError, match="no-such-tool does not start"):
        run(["no-such-tool"], what="fetching", limit_s=9)


def test_ports_of_a_base_and_the_way_out_when_taken() -> None:
    assert ports.of_base(29000)["kafka"] == 29092
    with pytest.raises(StackError, match="base port 80 is not possible"):
        ports.of_base(80)
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        with pytest.raises(StackError, match=rf"port {taken} \(mqtt\).*pid {os.getpid()}.*--base-port"):
            ports.require_free("mosquitto", {"mqtt": taken})
    assert ports.is_free(taken)


def test_ports_are_remembered_until_another_base_is_given() -> None:
    known = state.with_ports(None, 0)
    assert known.chosen
    assert state.with_ports(known, None).ports == state.with_ports(known, 0).ports == known.ports
    assert state.with_ports(known, 31000).ports["postgres"] == 31032
    assert state.with_ports(None, None).ports["postgres"] == 29032


def test_state_survives_and_says_when_it_is_torn(tmp_path: Path) -> None:
    home = paths.Home(tmp_path, tmp_path / "servers", "")
    assert state.load(home) is None
    settled = state.with_ports(None, 31000)
    settled.complete()
    state.save(home, settled)
    assert state.load(home) == settled
    assert len(set(settled.secrets.values())) == len(state.SECRETS)
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o600
    home.state.write_text(json.dumps({"ports": {}, "strange": 1}))
    with pytest.raises(StackError, match="cannot be read"):
        state.load(home)


def test_lock_is_waited_for_only_so_long(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path / "lock", "the stack"),
        pytest.raises(StackError, match="another keepwell works on the stack"),
        state.locked(tmp_path / "lock", "the stack", limit_s=0.1),
    ):
        pass
    with state.locked(tmp_path / "lock", "the stack", limit_s=0.1):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up its rights")
def test_data_go_where_the_unprivileged_user_can_enter(tmp_path: Path) -> None:
    somebody = ServiceUser("somebody", 54321, 54321, "a test")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    chosen = paths.home(closed / "home", somebody)
    assert chosen.path == closed / "home"
    assert chosen.servers.parent == paths.ROOT_DATA
    assert "somebody cannot enter" in chosen.note
    assert user.choose().uid != 0
