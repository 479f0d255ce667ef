"""How far a patient has come in a programme: the steps, what each needs, and who may take it. One table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from services.impossible import impossible

Need = Literal["consent", "device", "reason"]
CARE: Final = ("clinician", "nurse", "coordinator")


class Step(NamedTuple):
    """What it takes to come into a state, from where."""

    after: tuple[str, ...]  # "" : from nothing
    roles: tuple[str, ...]
    needs: tuple[Need, ...] = ()


STEPS: Final[Mapping[str, Step]] = MappingProxyType(
    {
        "eligible": Step(("", "discharged"), CARE),
        "consented": Step(("eligible",), CARE, ("consent",)),
        "ordered": Step(("consented",), ("clinician",)),
        "device_paired": Step(("ordered",), CARE, ("device",)),
        "learning": Step(("device_paired", "paused"), CARE, ("device",)),
        "active": Step(("learning", "paused"), CARE, ("device",)),
        "paused": Step(("learning", "active"), CARE, ("reason",)),
        "discharged": Step(
            ("eligible", "consented", "ordered", "device_paired", "learning", "active", "paused"), CARE, ("reason",)
        ),
    }
)
WATCHED: Final = ("learning", "active", "paused")  # the programme's limits hold for these


def following(state: str) -> list[str]:
    """Return the states that may come after one.

    >>> following("learning"), following("")
    (['active', 'paused', 'discharged'], ['eligible'])
    """
    return [name for name, step in STEPS.items() if state in step.after]


def asks_for_consent(wanted: str) -> bool:
    """Tell whether a step needs a consent."""
    return wanted in STEPS and "consent" in STEPS[wanted].needs


def check(state: str, wanted: str, facts: Mapping[str, Any], reason: str, today: date) -> None:
    """Check a step but for the device, which the database knows of.

    Raises:
        ImpossibleError: it is no state, can't come now, or lacks what it needs.
    """
    allowed = ", ".join(following(state)) or "nothing"
    if wanted not in STEPS or state not in STEPS[wanted].after:
        raise impossible(wanted, "state", f"{allowed}, after {state or 'nothing'}")
    needs = STEPS[wanted].needs
    if "reason" in needs and not reason.strip():
        raise impossible(reason, "reason", "a reason in words")
    if "consent" in needs:
        _check_consent(facts, today)
    elif facts:
        raise impossible(sorted(facts), "facts", f"none for {wanted}")


def _check_consent(facts: Mapping[str, Any], today: date) -> None:
    if set(facts) == {"consent"}:  # a recorded one, which the database knows of
        return
    if set(facts) != {"given_on", "form"}:
        allowed = "none where a consent is recorded, else given_on, the day of it, and form, what was signed"
        raise impossible(sorted(facts), "facts", allowed)
    try:
        given = date.fromisoformat(str(facts["given_on"]))
    except ValueError as error:
        raise impossible(facts["given_on"], "facts.given_on", "a day such as 2026-11-02") from error
    if given > today:
        raise impossible(str(given), "facts.given_on", "no day that is still to come")
    if not 1 <= len(str(facts["form"]).strip()) <= 200:
        raise impossible(str(facts["form"])[:20], "facts.form", "1 to 200 characters: which form, which version")
