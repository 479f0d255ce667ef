"""A patient's profile: what changes the rules for one person, from which instant on, and set by whom.

A profile is a whole document, a change of kind ``profile``; each version replaces the one before from the instant it
takes effect. What is left out is not known of the person, and changes nothing. Dates are days in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, NoReturn

import msgspec

from detectors.protocol import Condition
from ingest.clock import to_ms
from services.impossible import impossible

MAX_PREGNANCY: Final = timedelta(days=301)  # 43 weeks; one that is said to last for ever would switch a rule off so
OLDEST: Final = 120  # years
GROWN_UP: Final = 16  # years; NEWS2 and the adults' limits are not for those who are younger
TARGET_BOUNDS: Final = (84, 100)  # percent; a target range outside is none that is prescribed
SCALE_2_HIGH: Final = 92  # a target up to here is that of NEWS2's SpO2 scale 2: too much oxygen is a danger too
SCALE_2: Final = (88, 92)  # the one target the scale itself was made for

AgeBand = Literal["under_16", "16_to_64", "65_and_over"]
Ceiling = Literal["everything", "no_intensive_care", "no_hospital"]


class Pregnancy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From its first day to the last, which may be put right when it comes."""

    begins: date = msgspec.field(name="from")
    ends: date = msgspec.field(name="to")


class Oxygen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The saturation a named clinician wants for this person, and whether there is oxygen at home."""

    target: tuple[int, int]  # percent, both inside
    set_by: str  # the person's key
    home: bool | None = None  # None: nobody said


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The document."""

    birth_date: date | None = None
    age_band: AgeBand | None = None  # where the birth date is not to be kept
    sex: Literal["female", "male", "other"] | None = None
    pregnancy: Pregnancy | None = None
    oxygen: Oxygen | None = None
    known_af: bool = False
    pacemaker: bool = False
    rate_limiting_drugs: bool = False
    dialysis: bool = False
    night_work: bool = False
    ceiling_of_care: Ceiling = "everything"
    adult_limits: Literal["on", "off"] = "on"  # "off" is asked of whoever is under 16, so that it is never an accident


def checked(document: Mapping[str, Any], today: date) -> Profile:
    """Return a profile from its document.

    Raises:
        ImpossibleError: it is misspelt, or says what can't be.
    """
    try:
        profile = msgspec.convert(document, Profile)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$").removeprefix(".")
        raise impossible(_said(document, field), field or "profile", what[0].lower() + what[1:]) from error
    _check_age(profile, today)
    _check_pregnancy(profile, today)
    _check_oxygen(profile)
    return profile


def plain(profile: Profile) -> dict[str, Any]:
    """Return a profile as the plain document that is stored and sent.

    >>> plain(Profile(oxygen=Oxygen((88, 92), "ada", home=False)))
    {'oxygen': {'target': [88, 92], 'set_by': 'ada', 'home': False}}
    """
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(profile))
    return document


@lru_cache(maxsize=4096)
def _decoded(document: bytes) -> Profile:
    return msgspec.json.decode(document, type=Profile)


def of(payload: Mapping[str, Any]) -> Profile:
    """Return the profile of a stored document, which was checked when it was written."""
    return _decoded(msgspec.json.encode(payload))


def edges(profile: Profile) -> list[int]:
    """Return the instants (Unix ms) at which a person of this profile begins or ends to be somebody it names."""
    days = []
    if profile.pregnancy is not None:
        days += [profile.pregnancy.begins, profile.pregnancy.ends + timedelta(days=1)]
    if profile.birth_date is not None:
        days.append(birthday(profile.birth_date, GROWN_UP))
    return [_midnight_ms(day) for day in days]


def conditions(profile: Profile | None, at_ms: int) -> frozenset[Condition]:
    """Return what holds of a person at an instant, as the rules name it in ``not_for``.

    >>> sorted(conditions(Profile(pacemaker=True), 0))
    ['no_oxygen_target', 'paced']
    """
    if profile is None:
        return frozenset({"no_oxygen_target"})
    found: set[Condition] = set()
    if _is_young(profile, at_ms):
        found.add("under_16")
    pregnancy = profile.pregnancy
    if pregnancy and _midnight_ms(pregnancy.begins) <= at_ms < _midnight_ms(pregnancy.ends + timedelta(days=1)):
        found.add("pregnant")
    if profile.pacemaker:
        found.add("paced")
    if profile.dialysis:
        found.add("dialysis")
    if profile.night_work:
        found.add("night_work")
    if profile.oxygen is None or not profile.oxygen.home or profile.oxygen.target[1] > SCALE_2_HIGH:
        found.add("no_oxygen_target")
    return frozenset(found)


def on_scale_2(profile: Profile | None) -> bool:
    """Tell whether NEWS2 takes SpO2 scale 2: only where a named clinician wants exactly 88 to 92 %.

    >>> on_scale_2(Profile(oxygen=Oxygen((88, 92), "ada"))), on_scale_2(Profile(oxygen=Oxygen((85, 90), "ada")))
    (True, False)
    """
    return profile is not None and profile.oxygen is not None and profile.oxygen.target == SCALE_2


def birthday(born: date, years: int) -> date:
    """Return the day somebody becomes so old; born on 29 February, that is 1 March in other years.

    >>> birthday(date(2012, 2, 29), 16), birthday(date(2012, 2, 29), 15)
    (datetime.date(2028, 2, 29), datetime.date(2027, 3, 1))
    """
    try:
        return born.replace(year=born.year + years)
    except ValueError:
        return date(born.year + years, 3, 1)


def young(profile: Profile, today: date) -> bool:
    """Tell whether a person is under 16 on a day."""
    return _is_young(profile, _midnight_ms(today))


def _is_young(profile: Profile, at_ms: int) -> bool:
    if profile.birth_date is not None:
        return at_ms < _midnight_ms(birthday(profile.birth_date, GROWN_UP))
    return profile.age_band == "under_16"


def _said(document: Mapping[str, Any], field: str) -> object:
    """Return what a document says in a field such as ``oxygen.target``; the whole where there is no such field."""
    value: object = document
    for name in filter(None, field.split(".")):
        value = value.get(name, value) if isinstance(value, Mapping) else value
    return value


def _check_age(profile: Profile, today: date) -> None:
    born, is_young = profile.birth_date, young(profile, today)
    if born is not None and not today.replace(day=1, month=1) - timedelta(days=366 * OLDEST) <= born <= today:
        _refuse("birth_date", born, f"a day in the last {OLDEST} years")
    if born is not None and profile.age_band is not None and (profile.age_band == "under_16") != is_young:
        _refuse("age_band", profile.age_band, "what the birth date says, or leave one of the two out")
    if is_young and profile.adult_limits == "on":
        _refuse(
            "adult_limits", "on",
            '"off" for somebody under 16: the limits for breathing, pulse and blood pressure are for adults; say so, '
            "and watch them otherwise",
        )  # fmt: skip
    if not is_young and profile.adult_limits == "off":
        _refuse(
            "adult_limits", "off", '"on" from 16 on, and where the age is not known: a safety limit is moved, never off'
        )


def _check_pregnancy(profile: Profile, today: date) -> None:
    pregnancy = profile.pregnancy
    if pregnancy is None:
        return
    if profile.sex == "male":
        _refuse("pregnancy", msgspec.to_builtins(pregnancy), "none for a man; put sex right, or leave pregnancy out")
    if young(profile, today) and (profile.birth_date is None or birthday(profile.birth_date, 10) > today):
        _refuse("pregnancy", msgspec.to_builtins(pregnancy), "none for a child; put the age right, or leave it out")
    if not timedelta(0) < pregnancy.ends - pregnancy.begins <= MAX_PREGNANCY:
        _refuse("pregnancy.to", pregnancy.ends, f"after it begins, and at most {MAX_PREGNANCY.days} days after")


def _check_oxygen(profile: Profile) -> None:
    if profile.oxygen is None:
        return
    (low, high), bounds = profile.oxygen.target, TARGET_BOUNDS
    if not (bounds[0] <= low < high <= bounds[1] and high - low >= 2):
        allowed = (
            f"two numbers from {bounds[0]} to {bounds[1]} %, the lower one first and 2 apart at least, e.g. 88, 92"
        )
        _refuse("oxygen.target", list(profile.oxygen.target), allowed)
    if not profile.oxygen.set_by.strip():
        _refuse("oxygen.set_by", profile.oxygen.set_by, "the key of the clinician who set the target and the oxygen")


def _refuse(field: str, value: object, allowed: str) -> NoReturn:
    raise impossible(value.isoformat() if isinstance(value, date) else value, field, allowed)


def _midnight_ms(day: date) -> int:
    return to_ms(datetime.combine(day, time(), UTC))
