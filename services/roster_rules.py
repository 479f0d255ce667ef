"""What a list of people or patients must be, judged whole before anything of it is written.

Nothing here touches the database: what is there already comes in as `People` or `Patients`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import available_timezones

from detectors.device_classes import CLASSES
from services.devices import KEY, RESERVED
from services.roles import ROLES, Role
from services.roster import Bad, Cells, Row
from services.teams import OUTSIDE_TEAMS

MAX_NAME: Final = 120

Trouble = Iterator[tuple[str, str]]  # column, and what is allowed there


class Known(NamedTuple):
    """A person who is there already."""

    id: int
    name: str
    role: Role
    service: bool


class People(NamedTuple):
    """What an organisation has already: the keys of its teams, its people by key."""

    teams: Collection[str]
    people: Mapping[str, Known]


class Device(NamedTuple):
    """A device that is there already; ``own`` is false for another organisation's, whose patient is not told."""

    own: bool
    model: str
    device_class: str
    patient: str | None


class Patients(NamedTuple):
    """What an organisation has already: keys of its teams, (id, name, time zone) of its patients, devices by key."""

    teams: Collection[str]
    patients: Mapping[str, tuple[int, str, str]]
    devices: Mapping[str, Device]


def bad_people(rows: Sequence[Row], there: People) -> list[Bad]:
    """Return what can't be made of a list of people."""
    return [*_twice(rows, "key", lambda cells: cells["key"]), *_bad(rows, lambda cells: _person(cells, there))]


def bad_patients(rows: Sequence[Row], there: Patients) -> list[Bad]:
    """Return what can't be made of a list of patients."""
    return [
        *_twice(rows, "key", lambda cells: cells["key"]),
        *_twice(rows, "device", device_of),
        *_bad(rows, lambda cells: _patient(cells, there)),
    ]


def device_of(cells: Cells) -> str:
    """Return the key of a patient's device, as `keepwell enrol` would call one that isn't named."""
    return cells["device"] or f"watch-{cells['key']}"


def _person(cells: Cells, there: People) -> Trouble:
    role, known = cells["role"], there.people.get(cells["key"])
    yield from _key("key", cells["key"])
    yield from _name(cells["name"])
    yield from _one_of("role", role, ROLES)
    if cells["team"] and role in OUTSIDE_TEAMS:
        yield "team", f"nothing, a {role} is in no team"
    elif cells["team"]:
        yield from _one_of("team", cells["team"], there.teams)
    yield from _one_of("invite", cells["invite"], ("yes", "no", ""))
    if known is not None and known.service:
        yield "key", "another key, a program is called so"
    elif known is not None:
        yield from _as_it_is("name", cells["name"], known.name)
        if role in ROLES and role != known.role:
            yield "role", f"{known.role}, as it is; `keepwell admin people role` changes it"


def _patient(cells: Cells, there: Patients) -> Trouble:
    device, known = there.devices.get(device_of(cells)), there.patients.get(cells["key"])
    yield from _key("key", cells["key"])
    yield from _name(cells["name"])
    if cells["time_zone"] not in _zones():
        yield "time_zone", "a zone such as Europe/Vienna"
    if cells["team"]:
        yield from _one_of("team", cells["team"], there.teams)
    yield from _key("device", device_of(cells))
    yield from _name(cells["model"], "model")
    yield from _one_of("device_class", cells["device_class"], (*CLASSES, ""))
    if known is not None:
        yield from _as_it_is("name", cells["name"], known[1])
        if cells["time_zone"] in _zones() and cells["time_zone"] != known[2]:
            yield "time_zone", f"{known[2]}, as it is"
    if device is not None and not device.own:
        yield "device", "another key, it belongs to another organisation"
    elif device is not None:
        if device.patient not in (None, cells["key"]):
            yield "device", f"another key, {device.patient} has it; `keepwell admin device hand-over` hands it on"
        yield from _as_it_is("model", cells["model"], device.model)
        known_class = device.device_class
        if cells["device_class"] in CLASSES and cells["device_class"] != known_class:
            yield "device_class", f"{known_class}, as it is, or nothing; `keepwell admin device class` changes it"


def _bad(rows: Sequence[Row], troubles: Callable[[Cells], Trouble]) -> Iterator[Bad]:
    for line, cells in rows:
        for column, allowed in troubles(cells):
            yield Bad(line, column, cells[column], allowed)


def _twice(rows: Sequence[Row], column: str, key_of: Callable[[Cells], str]) -> Iterator[Bad]:
    first: dict[str, int] = {}
    for line, cells in rows:
        before = first.setdefault(key_of(cells), line)
        if before != line:
            yield Bad(line, column, key_of(cells), f"each {column} once; line {before} has it")


def _key(column: str, key: str) -> Trouble:
    if not KEY.fullmatch(key) or key in RESERVED:
        yield column, f"1 to 63 letters, digits, _ . - and none of {', '.join(RESERVED)}"


def _name(name: str, column: str = "name") -> Trouble:
    if len(name) > MAX_NAME or not name.isprintable():
        yield column, f"at most {MAX_NAME} characters on one line"


def _one_of(column: str, value: str, allowed: Collection[str]) -> Trouble:
    if value not in allowed:
        yield column, ", ".join(one or "nothing" for one in allowed) or "nothing, there is none"


def _as_it_is(column: str, value: str, there: str) -> Trouble:
    if value and value != there:
        yield column, f"{there!r}, as it is, or nothing; an import changes nobody"


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
