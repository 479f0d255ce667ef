"""A proxy that speaks enough Kafka: brokers' addresses in answers become its own, and answers can be made errors."""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from tests.faults.proxy import Edit, Proxy

PRODUCE, FETCH, METADATA, OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, SYNC_GROUP = (
    0,
    1,
    3,
    8,
    10,
    11,
    12,
    14,
)
WITH_ADDRESSES: Final = (METADATA, FIND_COORDINATOR)
HOST: Final = b"127.0.0.1"


class KafkaProxy(Proxy):
    """Every connection of a client that was told this proxy's address runs through it."""

    def __init__(self, target: int, seed: int = 0) -> None:
        super().__init__(target, seed)
        self.errors: deque[tuple[int, int]] = deque()  # (api key, error code): the next such answer becomes that error
        self.answered_wrong: dict[int, int] = {}  # api key → how many answers were made errors

    def edits(self) -> tuple[Edit, Edit]:
        """Follow one connection: which answer belongs to which request is known by their order."""
        asked: deque[tuple[int, int]] = deque()
        requests, answers = _Messages(), _Messages()

        def up(data: bytes) -> bytes:
            for message in requests.take(data):
                asked.append(struct.unpack_from(">hh", message))
            return data

        def down(data: bytes) -> bytes:
            return b"".join(self._answer(message, *asked.popleft()) for message in answers.take(data))

        return up, down

    def _answer(self, message: bytes, api: int, version: int) -> bytes:
        if api in WITH_ADDRESSES:
            message = message.replace(HOST + _port(self.target), HOST + _port(self.port))
        for wanted in list(self.errors):
            if wanted[0] == api and (wrong := failed(message, api, version, wanted[1])) is not None:
                self.errors.remove(wanted)
                self.answered_wrong[api] = self.answered_wrong.get(api, 0) + 1
                message = wrong
                break
        return struct.pack(">i", len(message)) + message


def failed(message: bytes, api: int, version: int, code: int) -> bytes | None:
    """Return the answer with this error code in it, None where it has no place for one.

    Knows the answers whose error stands right behind the correlation id and throttle time, and Produce's.
    """
    at = 4
    if api == PRODUCE:
        at += 4  # topics
        (length,) = struct.unpack_from(">h", message, at)
        at += 2 + length + 4 + 4  # name, partitions, partition
    elif api in (JOIN_GROUP, SYNC_GROUP, HEARTBEAT, FIND_COORDINATOR):
        at += 4 if version >= {JOIN_GROUP: 2}.get(api, 1) else 0  # throttle time
    else:
        return None
    if len(message) < at + 2 or struct.unpack_from(">h", message, at) != (0,):
        return None
    return message[:at] + struct.pack(">h", code) + message[at + 2 :]


class _Messages:
    """Cuts a stream into Kafka's length-prefixed messages."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[bytes]:
        self._rest += data
        found = []
        while len(self._rest) >= 4:
            (size,) = struct.unpack_from(">i", self._rest)
            if len(self._rest) < 4 + size:
                break
            found.append(self._rest[4 : 4 + size])
            self._rest = self._rest[4 + size :]
        return found


def _port(port: int) -> bytes:
    return struct.pack(">i", port)
