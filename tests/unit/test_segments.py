"""The fault harness's lossy link: what is lost is sent again by TCP, and comes whole."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.faults import segments

TEXT = b"every piece of it"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        with far:
            far.settimeout(10)
            yield near, far


def test_a_lost_segment_is_sent_again_once_the_link_is_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    segments.lose(far, 1)
    near.sendall(TEXT)
    far.settimeout(0.5)
    with pytest.raises(TimeoutError):
        far.recv(100)
    segments.lose(far, 0)
    far.settimeout(10)
    assert far.recv(100) == TEXT
    assert segments.sent_again(near) > 0


def test_a_whole_link_sends_nothing_again(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    segments.lose(far, 0)
    near.sendall(TEXT)
    assert far.recv(100) == TEXT
    assert segments.sent_again(near) == 0
