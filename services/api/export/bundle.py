"""A patient's data as one FHIR R4 Bundle of type collection, written as it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Any, Final

import msgspec

from services.api.export import fhir
from services.api.export.fhir import Resource
from services.api.export.source import Block, Source, Wave
from services.api.times import rfc3339, zone

_encode: Final = msgspec.json.Encoder().encode


async def collection(source: Source) -> AsyncGenerator[bytes, None]:
    """Return the Bundle in pieces as the rows are read: patient, devices, alerts, daily values, waveforms, readings.

    Raises:
        psycopg.Error: the database was lost, or it took too long.
    """
    where = zone(source.patient.time_zone)
    about = fhir.patient(await source.organisation(), source.patient.key, source.patient.name)
    devices = {row["key"]: fhir.device(row, about) for row in await source.devices()}
    make = fhir.Observations(about, devices, where)

    def of_blocks(blocks: list[Block]) -> Iterable[Resource]:
        return (made for block in blocks for made in make.of_block(block))

    def of_waves(waves: list[Wave]) -> Iterable[Resource]:
        return map(make.of_wave, waves)

    head = _encode(fhir.bundle(about, rfc3339(source.now)))
    yield head.removesuffix(b"}") + b',"entry":[' + _entries([about, *devices.values()]).removeprefix(b",")
    parts: tuple[tuple[AsyncIterator[list[Any]], Callable[[list[Any]], Iterable[Resource]]], ...] = (
        (source.alerts(), lambda rows: (fhir.flag(row, about, where) for row in rows)),
        (source.days(), lambda rows: map(make.of_day, rows)),
        (source.waves(), of_waves),
        (source.readings(), of_blocks),
    )
    for rows, resources in parts:
        async for batch in rows:
            yield await asyncio.to_thread(_entries, resources(batch))
    yield b"]}"


def _entries(resources: Iterable[Resource]) -> bytes:
    """Return entries, each with a comma before it."""
    return b"".join(b"," + _encode({"fullUrl": f"urn:uuid:{one['id']}", "resource": one}) for one in resources)
