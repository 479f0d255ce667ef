"""The HTTPS door: ``POST /v1/frames``, 202 only after Kafka's acknowledgement.

Everything is bounded: body, frames, time, requests in flight, rate per device. What is refused for overload
is refused before the 202.
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass

import structlog
from msgspec import Raw
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ingest import frame as wire
from ingest import parse, problems
from ingest.assign import Device
from ingest.clock import Clock
from ingest.devices import Devices, RegistryUnavailable
from ingest.intake import Intake
from ingest.limits import RateLimit
from ingest.problems import PROBLEM_TYPE, Problem
from ingest.publish import BrokerUnavailable, Publisher
from ingest.verdict import encode_verdicts

BODY_TIMEOUT_S = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """How much one gateway takes: requests at once, and frames a second (and at once) of one device."""

    max_in_flight: int = 512
    frames_per_second: float = 50.0
    burst: float = 2000.0


def create_gateway(
    devices: Devices, publisher: Publisher, clock: Clock, limits: Limits, frame_base: str = ""
) -> Starlette:
    """Return the ASGI application; devices and publisher are started and stopped by the caller."""
    gateway = _Gateway(devices, Intake(publisher, clock, frame_base), publisher, limits)
    return Starlette(
        routes=[
            Route("/v1/frames", gateway.post_frames, methods=["POST"]),
            Route("/healthz", gateway.alive, methods=["GET"]),
            Route("/readyz", gateway.ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _internal_problem},
    )


class _Gateway:
    def __init__(self, devices: Devices, intake: Intake, publisher: Publisher, limits: Limits) -> None:
        self._devices = devices
        self._intake = intake
        self._publisher = publisher
        self._limits = limits
        self._rate = RateLimit(limits.frames_per_second, limits.burst)
        self._in_flight = 0

    async def post_frames(self, request: Request) -> Response:
        if self._in_flight >= self._limits.max_in_flight:
            return _answer(Problem(problems.OVERLOADED, f"{self._in_flight} requests are in flight; send again", 1))
        self._in_flight += 1
        try:
            return await self._take(request)
        except Problem as problem:
            return _answer(problem)
        finally:
            self._in_flight -= 1

    async def _take(self, request: Request) -> Response:
        device = await self._authenticate(request)
        form = _form(request)
        raws = _split(await _body(request), form)
        wait_s = self._rate.take(device.id, len(raws))
        if wait_s:
            allowed = f"{self._limits.frames_per_second:g} frames a second, {self._limits.burst:g} at once"
            raise Problem(problems.RATE_LIMITED, f"{device.key} may send {allowed}", wait_s)
        verdicts, stamped = self._intake.judge(raws, form, device)
        try:
            await self._intake.publish(stamped)
        except BrokerUnavailable as error:
            log.warning("frames not kept", device=device.key, error=str(error))
            detail = "the broker did not acknowledge; send the same frames again"
            raise Problem(problems.BROKER_UNAVAILABLE, detail, 2) from error
        if stamped:
            return Response(encode_verdicts(verdicts), 202, media_type="application/json")
        rejected = Problem(problems.FRAMES_REJECTED, "none of the frames can be taken; each verdict says why")
        return Response(rejected.body(frames=verdicts), rejected.status, media_type=PROBLEM_TYPE)

    async def _authenticate(self, request: Request) -> Device:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Problem(problems.UNAUTHENTICATED, "send the device's token as `Authorization: Bearer …`")
        try:
            device = await self._devices.by_token(token.strip())
        except RegistryUnavailable as error:
            log.warning("devices cannot be authenticated", error=str(error))
            raise Problem(
                problems.REGISTRY_UNAVAILABLE, "the device registry does not answer; send again", 2
            ) from error
        if device is None:
            raise Problem(problems.UNAUTHENTICATED, "the token is unknown or revoked; `keepwell enrol` makes one")
        return device

    async def alive(self, _request: Request) -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json")

    async def ready(self, _request: Request) -> Response:
        if not self._publisher.ready:
            return _answer(Problem(problems.BROKER_UNAVAILABLE, "no broker is connected", 2))
        try:
            await self._devices.by_key("")
        except RegistryUnavailable:
            return _answer(Problem(problems.REGISTRY_UNAVAILABLE, "the device registry does not answer", 2))
        return Response(b'{"status":"ready"}', media_type="application/json")


def _form(request: Request) -> parse.Form:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = parse.CONTENT_TYPES.get(content_type)
    if form is None:
        raise Problem(problems.UNSUPPORTED_TYPE, f"{content_type or 'none'}; send {' or '.join(parse.CONTENT_TYPES)}")
    return form


async def _body(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Problem(problems.UNSUPPORTED_TYPE, f"content encoding {encoding}; send gzip or none")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > wire.MAX_REQUEST_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > wire.MAX_REQUEST_BYTES:
                    raise _too_large()
    except TimeoutError as error:
        raise Problem(problems.BODY_TIMEOUT, f"a body must arrive within {BODY_TIMEOUT_S:g} s") from error
    except ClientDisconnect as error:
        raise Problem(problems.BODY_TIMEOUT, "the connection was closed within the body") from error
    return _gunzip(bytes(body)) if encoding == "gzip" else bytes(body)


def _gunzip(body: bytes) -> bytes:
    """Unpack a gzip body, never more than the largest request: what would be larger is not unpacked."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, wire.MAX_REQUEST_BYTES + 1)
    except zlib.error as error:
        raise Problem(problems.UNREADABLE_BODY, f"not gzip: {error}") from error
    if len(plain) > wire.MAX_REQUEST_BYTES:
        raise _too_large()
    if not unpacker.eof or unpacker.unused_data:
        raise Problem(problems.UNREADABLE_BODY, "the gzip stream ends early or has something after it")
    return plain


def _split(body: bytes, form: parse.Form) -> list[Raw]:
    try:
        return parse.split(body, form)
    except parse.TooMany as error:
        raise Problem(problems.TOO_MANY_FRAMES, str(error)) from error
    except parse.Unreadable as error:
        raise Problem(problems.UNREADABLE_BODY, str(error)) from error


def _too_large() -> Problem:
    return Problem(problems.BODY_TOO_LARGE, f"{wire.MAX_REQUEST_BYTES} bytes are allowed, unpacked; send fewer frames")


def _answer(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, problem.headers(), PROBLEM_TYPE)


async def _http_problem(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    code = problems.METHOD_NOT_ALLOWED if status == 405 else problems.NOT_FOUND
    return _answer(Problem(code, "this door takes POST /v1/frames, GET /healthz and GET /readyz"))


async def _internal_problem(_request: Request, error: Exception) -> Response:
    log.error("unexpected", error=repr(error))
    return _answer(Problem(problems.INTERNAL, "the error is in the gateway's log"))
