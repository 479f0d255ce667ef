"""What the gateway refuses, and with which status: everything that ends before Kafka."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import msgspec
import pytest

from ingest import frame as wire
from ingest.assign import Assignment, Device
from ingest.clock import FrozenClock
from ingest.devices import RegistryUnavailable
from ingest.frame import StampedFrame
from ingest.gateway import Limits, create_gateway
from ingest.limits import RateLimit
from ingest.load import Budget
from ingest.publish import BrokerUnavailable

NOW = 1_795_348_800_000
TOKEN = "known-token-of-a-device"
FRAME = {"session": "s", "seq": 1, "blocks": [{"metric": "heart_rate", "t0": NOW, "values": [72]}]}
BAD_FRAME = {"session": "s", "seq": 2, "blocks": [{"metric": "hart_rate", "t0": NOW, "values": [72]}]}


class OneDevice:
    """Knows one token; or, when told so, nothing at all."""

    ready = True
    gone = False
    revoked = False

    async def by_token(self, token: str) -> Device | None:
        if self.gone:
            raise RegistryUnavailable
        known = token == TOKEN and not self.revoked
        return Device(5, "watch-1", 2, (Assignment(9, 0, 2**62),)) if known else None

    async def by_key(self, key: str) -> Device | None:
        if self.gone:
            raise RegistryUnavailable
        return None


class Shelf:
    """Holds what was published; or, when told so, refuses."""

    ready = True
    gone = False

    def __init__(self) -> None:
        self.frames: list[StampedFrame] = []

    async def publish(self, frames: Sequence[StampedFrame]) -> None:
        if self.gone:
            raise BrokerUnavailable
        self.frames += frames


class Gateway:
    """A gateway with a client in front and a shelf behind."""

    def __init__(self, limits: Limits) -> None:
        self.devices, self.shelf, self.clock = OneDevice(), Shelf(), FrozenClock(NOW)
        self._app = create_gateway(self.devices, self.shelf, self.clock, limits, "https://api.example")

    def post(self, body: Any = None, **headers: str) -> httpx.Response:
        encoded = body if isinstance(body, bytes) else json.dumps(body or {"frames": [FRAME]}).encode()
        return self.send("POST", "/v1/frames", encoded, **headers)

    def send(
        self, method: str, path: str, content: bytes | AsyncIterator[bytes] | None = None, **headers: str
    ) -> httpx.Response:
        defaults = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        sent = {**defaults, **{key.replace("_", "-"): value for key, value in headers.items()}}

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, path, content=content, headers=sent)

        return asyncio.run(request())


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(Limits())


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:keepwell:problem:{code}"
    assert document["title"]
    assert document["detail"]
    return document


def test_a_good_frame_is_accepted_with_its_page(gateway: Gateway) -> None:
    answer = gateway.post()
    assert answer.status_code == 202
    assert answer.json() == {
        "frames": [
            {
                "verdict": "accepted",
                "frame_id": "watch-1~s~1",
                "href": "https://api.example/v1/frames/watch-1~s~1",
                "session": "s",
                "seq": 1,
            }
        ]
    }
    assert [(frame.patient_id, frame.received_ms) for frame in gateway.shelf.frames] == [(9, NOW)]


def test_each_frame_gets_its_own_verdict(gateway: Gateway) -> None:
    answer = gateway.post({"frames": [BAD_FRAME, FRAME]})
    assert answer.status_code == 202
    wrong, right = answer.json()["frames"]
    assert (wrong["verdict"], wrong["field"], wrong["value"]) == ("rejected", "blocks[0].metric", "hart_rate")
    assert wrong["hint"] == "did you mean heart_rate?"
    assert (wrong["session"], wrong["seq"]) == ("s", 2)
    assert right["verdict"] == "accepted"
    assert len(gateway.shelf.frames) == 1


def test_all_frames_rejected_is_422_with_every_verdict(gateway: Gateway) -> None:
    document = problem(gateway.post({"frames": [BAD_FRAME]}), 422, "frames_rejected")
    assert [frame["verdict"] for frame in document["frames"]] == ["rejected"]
    assert gateway.shelf.frames == []


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", "Bearer unknown-token-of-a-device"])
def test_no_valid_token_is_401(gateway: Gateway, header: str) -> None:
    answer = gateway.post(authorization=header)
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert gateway.shelf.frames == []


def test_a_large_body_is_413(gateway: Gateway) -> None:
    problem(gateway.post(b" " * (wire.MAX_REQUEST_BYTES + 1)), 413, "body_too_large")


def test_a_large_body_without_a_length_is_413(gateway: Gateway) -> None:
    async def long() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    problem(gateway.send("POST", "/v1/frames", long()), 413, "body_too_large")


def test_a_body_that_comes_slowly_meets_what_was_revoked_meanwhile(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.gateway.SLOW_BODY_S", 0.0)

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"frames": ['
        gateway.devices.revoked = True
        yield json.dumps(FRAME).encode() + b"]}"

    problem(gateway.send("POST", "/v1/frames", slow()), 401, "unauthenticated")
    assert gateway.shelf.frames == []


def test_a_gzip_bomb_is_413(gateway: Gateway) -> None:
    bomb = gzip.compress(b" " * 300_000_000, 9)
    assert len(bomb) < wire.MAX_REQUEST_BYTES
    problem(gateway.post(bomb, content_encoding="gzip"), 413, "body_too_large")


def test_too_many_frames_is_413(gateway: Gateway) -> None:
    problem(gateway.post({"frames": [FRAME] * 101}), 413, "too_many_frames")


def test_gzip_is_unpacked(gateway: Gateway) -> None:
    packed = gzip.compress(json.dumps({"frames": [FRAME]}).encode())
    assert gateway.post(packed, content_encoding="gzip").status_code == 202


@pytest.mark.parametrize("spoil", [lambda b: b[:-4], lambda b: b + b"more", lambda b: b"not gzip at all"])
def test_broken_gzip_is_422(gateway: Gateway, spoil: Any) -> None:
    packed = gzip.compress(json.dumps({"frames": [FRAME]}).encode())
    problem(gateway.post(spoil(packed), content_encoding="gzip"), 422, "unreadable_body")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/msgpack"])
def test_another_content_type_is_415(gateway: Gateway, content_type: str) -> None:
    problem(gateway.post(content_type=content_type), 415, "unsupported_type")


def test_another_encoding_is_415(gateway: Gateway) -> None:
    problem(gateway.post(content_encoding="br"), 415, "unsupported_type")


def test_a_body_that_is_no_list_of_frames_is_422(gateway: Gateway) -> None:
    problem(gateway.post(b"{"), 422, "unreadable_body")
    problem(gateway.post(b"\xc1", content_type=wire.CONTENT_TYPE), 422, "unreadable_body")


def test_msgpack_is_taken(gateway: Gateway) -> None:
    block = ["heart_rate", "/min", NOW, 0, "f4", b"\x00\x00\x90\x42"]
    body = msgspec.msgpack.encode([[1, "s", 1, NOW, 0, [block]]])
    assert gateway.post(body, content_type=wire.CONTENT_TYPE).status_code == 202


def test_a_device_that_sends_too_fast_is_429() -> None:
    slow = Gateway(Limits(frames_per_second=0.5, burst=3))
    assert slow.post({"frames": [FRAME] * 3}).status_code == 202
    answer = slow.post()
    problem(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "2"
    assert len(slow.shelf.frames) == 3


def test_the_rate_limit_refills_and_knows_devices_apart() -> None:
    now = [0.0]
    limit = RateLimit(per_second=10, burst=20, monotonic=lambda: now[0])
    assert limit.take(1, 20) == 0
    assert limit.take(1, 5) == pytest.approx(0.5)
    assert limit.take(2, 20) == 0
    now[0] = 0.5
    assert limit.take(1, 5) == 0
    assert limit.take(1, 1) > 0
    now[0] = 1000
    assert limit.take(1, 100) == 0  # more than it can ever hold: let through when full
    assert limit.take(1, 1) > 0


def test_no_database_is_503(gateway: Gateway) -> None:
    gateway.devices.gone = True
    answer = gateway.post()
    problem(answer, 503, "registry_unavailable")
    assert answer.headers["retry-after"]
    assert gateway.shelf.frames == []


def test_no_broker_is_503(gateway: Gateway) -> None:
    gateway.shelf.gone = True
    answer = gateway.post()
    problem(answer, 503, "broker_unavailable")
    assert answer.headers["retry-after"]


def test_too_many_in_flight_is_503() -> None:
    full = Gateway(Limits(Budget(max_requests=0)))
    answer = full.post()
    problem(answer, 503, "overloaded")
    assert answer.headers["retry-after"]


def test_readiness_names_what_is_missing(gateway: Gateway) -> None:
    assert gateway.send("GET", "/healthz").status_code == 200
    assert gateway.send("GET", "/readyz").status_code == 200
    gateway.devices.gone = True
    problem(gateway.send("GET", "/readyz"), 503, "registry_unavailable")
    gateway.shelf.ready = False
    problem(gateway.send("GET", "/readyz"), 503, "broker_unavailable")
    assert gateway.send("GET", "/healthz").status_code == 200


def test_other_addresses_and_methods_are_problems_too(gateway: Gateway) -> None:
    problem(gateway.send("GET", "/"), 404, "not_found")
    problem(gateway.send("GET", "/v1/frames"), 405, "method_not_allowed")


def test_before_a_time_lapse_begins_the_hosts_clock_counts(gateway: Gateway) -> None:
    gateway.clock.set(0)
    assert gateway.post().status_code in (202, 422)
    recent = {"session": "s", "seq": 1, "status": {"worn": True}}
    assert gateway.post({"frames": [recent]}).status_code == 202
    assert gateway.shelf.frames[-1].received_ms > 1_700_000_000_000


class SlowShelf(Shelf):
    """Acknowledges when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledge = asyncio.Event()

    async def publish(self, frames: Sequence[StampedFrame]) -> None:
        await self.acknowledge.wait()
        await super().publish(frames)


async def test_a_full_door_refuses_each_frame_as_busy_and_takes_it_later() -> None:
    shelf = SlowShelf()
    limits = Limits(Budget(max_frames=2))
    app = create_gateway(OneDevice(), shelf, FrozenClock(NOW), limits)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:

        async def post(*frames: dict[str, Any]) -> httpx.Response:
            return await client.post("/v1/frames", json={"frames": frames}, headers=headers)

        first = asyncio.create_task(post(FRAME, {**FRAME, "seq": 2}))
        await asyncio.sleep(0.1)  # it waits for its acknowledgement
        answer = await post({**FRAME, "seq": 3}, BAD_FRAME)
        document = problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"]
        assert [frame["verdict"] for frame in document["frames"]] == ["busy", "rejected"]
        assert document["frames"][0] | {"retry_after_s": 0} == {
            "verdict": "busy", "reason": "frames", "retry_after_s": 0, "session": "s", "seq": 3,
        }  # fmt: skip
        shelf.acknowledge.set()
        assert (await first).status_code == 202
        assert (await post({**FRAME, "seq": 3})).status_code == 202
    assert [frame.seq for frame in shelf.frames] == [1, 2, 3]
