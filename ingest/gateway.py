"""The HTTPS door: ``POST /v1/frames``, 202 only after Kafka's acknowledgement.

Everything is bounded: body, frames, time, rate per device, and by `ingest.load` the bytes, frames and requests held
at once. What is refused for overload is refused before the 202.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from dataclasses import dataclass

import msgspec
import structlog
from msgspec import Raw
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ingest import frame as wire
from ingest import metrics, parse, problems
from ingest.assign import Device
from ingest.clock import Clock
from ingest.devices import Devices, RegistryUnavailable
from ingest.health import Check, Health, NotReady
from ingest.intake import Intake
from ingest.limits import RateLimit
from ingest.load import Budget, Held, Load, Overloaded
from ingest.problems import PROBLEM_TYPE, Problem
from ingest.publish import BrokerUnavailable, Publisher
from ingest.verdict import Accepted, Busy, Verdict, encode_verdicts

BODY_TIMEOUT_S = 30.0
SLOW_BODY_S = 0.5  # after so long a device is looked up again

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """How much one gateway takes: in all at once, and frames a second (and at once) of one device."""

    budget: Budget = Budget()
    frames_per_second: float = 50.0
    burst: float = 2000.0


def create_gateway(
    devices: Devices,
    publisher: Publisher,
    clock: Clock,
    limits: Limits,
    frame_base: str = "",
    health: Health | None = None,
) -> Starlette:
    """Return the ASGI application; devices, publisher and health are started and stopped by the caller."""
    intake = Intake(publisher, clock, frame_base, Load("https", limits.budget))
    gateway = _Gateway(devices, intake, limits, health or Health("gateway", door_checks(devices, publisher)))
    return Starlette(
        routes=[
            Route("/v1/frames", gateway.post_frames, methods=["POST"]),
            Route("/healthz", gateway.alive, methods=["GET"]),
            Route("/readyz", gateway.ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _internal_problem},
    )


def door_checks(devices: Devices, publisher: Publisher) -> dict[str, Check]:
    """Return what a door needs to take frames: a broker, and a registry of devices that answers."""

    async def broker() -> None:
        if not publisher.ready:
            raise NotReady(problems.BROKER_UNAVAILABLE, "no broker is connected")

    async def registry() -> None:
        try:
            await devices.by_key("")
        except RegistryUnavailable as error:
            raise NotReady(problems.REGISTRY_UNAVAILABLE, "the device registry does not answer") from error

    return {"broker": broker, "registry": registry}


class _Gateway:
    def __init__(self, devices: Devices, intake: Intake, limits: Limits, health: Health) -> None:
        self._devices = devices
        self._intake = intake
        self._load = intake.load
        self._limits = limits
        self._health = health
        self._rate = RateLimit(limits.frames_per_second, limits.burst)

    async def post_frames(self, request: Request) -> Response:
        began = time.monotonic()
        answer = "verdicts"
        try:
            with self._load.request():
                return await self._take(request)
        except Overloaded as error:
            answer = problems.OVERLOADED
            detail = f"the door has as many {error.reason} as it may hold; send again"
            return _answer(Problem(problems.OVERLOADED, detail, self._load.retry_after_s))
        except Problem as problem:
            answer = problem.code
            return _answer(problem)
        finally:
            metrics.REQUESTS.labels("https", answer).inc()
            metrics.SECONDS.labels("https").observe(time.monotonic() - began)

    async def _take(self, request: Request) -> Response:
        began = time.monotonic()
        device = await self._authenticate(request)
        with self._load.of_device(device.id) as held:
            form = _form(request)
            body = await _body(request, held)
            if time.monotonic() - began > SLOW_BODY_S:
                device = await self._authenticate(request)  # revoked, handed over or not agreed to any more meanwhile?
            raws = _split(body, form)
            wait_s = self._rate.take(device.id, len(raws))
            if wait_s:
                allowed = f"{self._limits.frames_per_second:g} frames a second, {self._limits.burst:g} at once"
                raise Problem(problems.RATE_LIMITED, f"{device.key} may send {allowed}", wait_s)
            verdicts, stamped = self._intake.judge(raws, form, device)
            try:
                await self._intake.publish(stamped)
            except BrokerUnavailable as error:
                log.warning("frames_not_kept", device_id=device.id, error=str(error))
                detail = "the broker did not acknowledge; send the same frames again"
                raise Problem(problems.BROKER_UNAVAILABLE, detail, 2) from error
            self._intake.count(verdicts, stamped, len(body))
        return self._verdicts(verdicts)

    def _verdicts(self, verdicts: list[Verdict]) -> Response:
        """Answer 202 when something was accepted, else the one problem that describes what happened."""
        if any(isinstance(verdict, Accepted) for verdict in verdicts):
            return Response(encode_verdicts(verdicts), 202, media_type="application/json")
        if any(isinstance(verdict, Busy) for verdict in verdicts):
            detail = "none of the frames was taken now; each verdict says why, send the busy ones again"
            raise Problem(problems.OVERLOADED, detail, self._load.retry_after_s, frames=verdicts)
        detail = "none of the frames can be taken; each verdict says why"
        raise Problem(problems.FRAMES_REJECTED, detail, frames=verdicts)

    async def _authenticate(self, request: Request) -> Device:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Problem(problems.UNAUTHENTICATED, "send the device's token as `Authorization: Bearer …`")
        try:
            device = await self._devices.by_token(token.strip())
        except RegistryUnavailable as error:
            metrics.REGISTRY_FAILURES.inc()
            log.warning("devices cannot be authenticated", error=str(error))
            raise Problem(
                problems.REGISTRY_UNAVAILABLE, "the device registry does not answer; send again", 2
            ) from error
        if device is None:
            raise Problem(problems.UNAUTHENTICATED, "the token is unknown or revoked; `keepwell enrol` makes one")
        return device

    async def alive(self, _request: Request) -> Response:
        return _document(*self._health.alive())

    async def ready(self, _request: Request) -> Response:
        await self._health.look()
        ready, document = self._health.ready()
        if ready:
            return _document(ready, document)
        missing = {name: part for name, part in document["parts"].items() if not part["ready"]}
        first = next(iter(missing.values()))
        code = first["code"] if first["code"] in problems.TITLES else problems.REGISTRY_UNAVAILABLE
        return _answer(Problem(code, first["detail"], 2, parts=document["parts"]))


def _form(request: Request) -> parse.Form:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = parse.CONTENT_TYPES.get(content_type)
    if form is None:
        raise Problem(problems.UNSUPPORTED_TYPE, f"{content_type or 'none'}; send {' or '.join(parse.CONTENT_TYPES)}")
    return form


async def _body(request: Request, held: Held) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Problem(problems.UNSUPPORTED_TYPE, f"content encoding {encoding}; send gzip or none")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > wire.MAX_REQUEST_BYTES:
        raise _too_large()
    held.add(int(declared) if declared.isdigit() else 0)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > wire.MAX_REQUEST_BYTES:
                    raise _too_large()
                if len(body) > held.size:  # no length was declared, or a false one
                    held.add(len(body) - held.size)
    except TimeoutError as error:
        raise Problem(problems.BODY_TIMEOUT, f"a body must arrive within {BODY_TIMEOUT_S:g} s") from error
    except ClientDisconnect as error:
        raise Problem(problems.BODY_TIMEOUT, "the connection was closed within the body") from error
    if encoding == "identity":
        return bytes(body)
    plain = _gunzip(bytes(body))
    held.add(len(plain))
    return plain


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


def _document(good: bool, document: dict[str, object]) -> Response:
    return Response(msgspec.json.encode(document), 200 if good else 503, media_type="application/json")


async def _http_problem(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    code = problems.METHOD_NOT_ALLOWED if status == 405 else problems.NOT_FOUND
    return _answer(Problem(code, "this door takes POST /v1/frames, GET /healthz and GET /readyz"))


async def _internal_problem(_request: Request, error: Exception) -> Response:
    log.error("unexpected", exc_info=error)
    return _answer(Problem(problems.INTERNAL, "the error is in the gateway's log"))
