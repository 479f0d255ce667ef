"""What one seed is about: who is watched, with which devices, and when each of their frames reaches a door."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from ingest.assign import Assignment, Device
from services.control import Kind
from tests.sim.stories import GAP_TO_MIN, HOUR, KINDS, MINUTE, START, Row, Sent, closing, sent, story

BOUND_MS: Final = 120_000
WITHIN_MS: Final = 90_000  # how far frames of a plan that keeps the bound overtake each other, re-sends left room
ORGANISATION: Final = 1
FOREVER: Final = 2**62
SEQUENCES: Final = (
    ("discharged",), ("discharged", "active"), ("discharged", "active", "discharged"), ("paused",),
    ("comfort_care", "active"), ("paused", "discharged"),
)  # fmt: skip


@dataclass(frozen=True)
class Delivery:
    """Frames that a device sends in one request at an instant of the simulated clock."""

    at_ms: int
    device: int
    frames: tuple[Sent, ...]
    tries: int = 0


@dataclass(frozen=True)
class Junk:
    """A record that somebody else writes into the readings' topic."""

    at_ms: int
    kind: str  # noise | unknown | nul; tick: a record of the control topic


OWN: Final[dict[str, tuple[Kind, str, dict[str, Any]]]] = {  # name → kind, subject and what it says
    "target": ("profile", "", {"oxygen": {"target": [88, 92], "set_by": "dr", "home": True}}),
    "nothing": ("profile", "", {}),
    "child": ("profile", "", {"age_band": "under_16", "adult_limits": "off"}),
    "looser": ("limits", "patient", {"rules": {"spo2_low": {"levels": [86, 81]}, "fever": {"levels": [39, 40]}}}),
    "stricter": ("limits", "organisation", {"rules": {"spo2_low": {"levels": [94, 88]}, "fever": {"persist_s": 300}}}),
    "programme": ("limits", "programme/heart", {"rules": {"tachycardia_at_rest": {"levels": [120, 140]}}}),
    "everybody's": ("limits", "patient", {"rules": {}}),
}


@dataclass(frozen=True)
class Change:
    """Somebody sets a patient's monitoring state, profile or limits, from an instant before or after now.

    ``state`` is a monitoring state, or the name of one of `OWN`.
    """

    at_ms: int
    patient: int
    state: str
    effective_ms: int
    until_ms: int | None = None

    @property
    def payload(self) -> dict[str, Any]:
        """What the change says, as the API writes it."""
        if self.state in OWN:
            return OWN[self.state][2]
        return {"state": self.state} | ({} if self.until_ms is None else {"until_ms": self.until_ms})

    @property
    def about(self) -> tuple[Kind, str]:
        """Its kind and subject."""
        return OWN[self.state][:2] if self.state in OWN else ("monitoring", "")


Due = Delivery | Junk | Change


@dataclass
class Plan:
    """Everything that will happen, except who does what when: that is the scheduler's."""

    partitions: int
    processors: int
    bounded: bool  # every frame comes within the reordering bound
    patients: list[int]
    devices: dict[int, Device]
    stories: dict[int, tuple[str, int, int, int]]  # device → what it measures
    deliveries: list[Delivery] = field(default_factory=list)
    junk: list[Junk] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    corrected: dict[int, list[Sent]] = field(default_factory=dict)  # device → the frames that correct its readings
    contradicted: set[int] = field(default_factory=set)  # devices of which nobody can say which value came first
    closing: dict[int, Sent] = field(default_factory=dict)  # device → what it sends last
    calm: set[int] = field(default_factory=set)  # patients whose every reading, and nothing else, comes in time
    end_ms: int = 0


def draw(chance: Random) -> Plan:
    """Draw a plan."""
    patients = list(range(1, chance.choice((1, 2, 2, 3)) + 1))
    plan = Plan(
        partitions=chance.choice((1, 2, 3)), processors=chance.choice((1, 2, 2, 3)), bounded=chance.random() < 0.65,
        patients=patients, devices={}, stories={},
    )  # fmt: skip
    hours = chance.choice((4, 5))
    for patient in patients:
        _give(plan, chance, patient, patient, hours)
    if not plan.bounded and chance.random() < 0.4:
        _give(plan, chance, 10, patients[0], hours)  # a second device that measures the same
    handed_on = _hand_on(plan, chance) if len(patients) > 1 and chance.random() < 0.25 else set()
    plan.calm = set(patients) - handed_on if plan.bounded else set()
    for device in plan.devices:
        _deliver(plan, chance, device)
    _correct(plan, chance)
    _change(plan, chance)
    _add_junk(plan, chance)
    _individualise(plan, chance)
    last = max(one.at_ms for one in plan.deliveries) + 5 * MINUTE
    for device in plan.devices:
        plan.closing[device] = closing(len(story(*plan.stories[device])))
        plan.deliveries.append(Delivery(last, device, (plan.closing[device],)))
    plan.deliveries.sort(key=lambda one: one.at_ms)
    plan.end_ms = max(one.at_ms for one in plan.deliveries) + MINUTE
    return plan


def _give(plan: Plan, chance: Random, device: int, patient: int, hours: int) -> None:
    kind = chance.choice(KINDS)
    plan.devices[device] = Device(device, f"d{device}", ORGANISATION, (Assignment(patient, 0, FOREVER),))
    plan.stories[device] = (kind, hours, chance.choice((10, 20, 30, 60)), 0)


def _hand_on(plan: Plan, chance: Random) -> set[int]:
    """Give the first patient's device to the second one, from the middle of a frame on."""
    at = START + chance.choice((85, 125, 200)) * MINUTE
    plan.devices[1] = plan.devices[1]._replace(assignments=(Assignment(1, 0, at), Assignment(2, at, FOREVER)))
    return {1, 2}


def _deliver(plan: Plan, chance: Random, device: int) -> None:
    frames = list(story(*plan.stories[device]))
    while frames:
        burst, frames = _split(frames, chance.choice((1, 1, 1, 2, 3, 5)))
        last = burst[-1].sent_ms
        if not plan.bounded and chance.random() < 0.3:
            last += chance.choice((10 * MINUTE, HOUR, 3 * HOUR, 8 * HOUR, 3 * 24 * HOUR))
        chance.shuffle(burst)
        at = last
        while burst:
            group, burst = _split(burst, chance.choice((1, 2, 4)))
            at = min(at + chance.randint(0, WITHIN_MS // 3), last + WITHIN_MS)
            plan.deliveries.append(Delivery(at, device, tuple(group)))
            if chance.random() < 0.12:  # the device sends it again although it was told
                again = at + chance.choice((1000, HOUR))
                plan.deliveries.append(Delivery(again, device, tuple(group)))
    if chance.random() < 0.35:
        _contradict(plan, chance, device)


def _contradict(plan: Plan, chance: Random, device: int) -> None:
    """Let the device send an instant again with another value, an impossible value, or a frame no door takes."""
    frames = story(*plan.stories[device])
    told = chance.choice(frames)
    at = plan.deliveries[-1].at_ms + MINUTE
    metric, t_ms, value = chance.choice(told.rows)
    if not plan.bounded:
        plan.contradicted.add(device)
    kinds: dict[str, tuple[Row, str | None]] = {
        "conflict": ((metric, t_ms, value + 1), None),
        "impossible": (("heart_rate", t_ms + 1, 900.0), None),
        "refused": (("heart_rate", t_ms + 1, 70.0), "furlong"),
    }
    row, unit = kinds[chance.choice(sorted(kinds))]
    plan.deliveries.append(Delivery(at, device, (sent("x", 0, frames[-1].sent_ms, [row], unit=unit),)))


def _correct(plan: Plan, chance: Random) -> None:
    """Let a device correct some of what it measured, once or twice, before or after it was settled."""
    if chance.random() > 0.15:
        return
    device = chance.choice(sorted(plan.devices))
    told = chance.choice(story(*plan.stories[device]))
    for revision in range(1, chance.choice((2, 3))):
        rows = [(metric, t_ms, value + revision) for metric, t_ms, value in told.rows if metric == "heart_rate"]
        frame = sent("r", revision - 1, told.sent_ms, rows, revision=revision)
        plan.corrected.setdefault(device, []).append(frame)
        plan.deliveries.append(Delivery(told.sent_ms + chance.choice((0, MINUTE, 3 * HOUR)), device, (frame,)))
    plan.calm -= {assignment.patient_id for assignment in plan.devices[device].assignments}


def _change(plan: Plan, chance: Random) -> None:
    """Let somebody change what is watched of a patient, in time, late or ahead of the readings, once or more often."""
    if chance.random() > 0.25:
        return
    # One whose readings end before has no event time any more: the clock would carry the change out, and the
    # undisturbed run has no clock.
    patients = [one for one in plan.patients if _goes_on(plan, one)]
    if not patients:
        return
    patient = chance.choice(patients)
    states = chance.choice(SEQUENCES)
    for state, minute in zip(states, sorted(chance.sample(range(30, 230), len(states))), strict=True):
        effective = START + minute * MINUTE
        at = max(START, effective + chance.choice((-HOUR, 0, MINUTE, 2 * HOUR)))
        until = effective + chance.choice((20, 70)) * MINUTE if state == "paused" else None
        plan.changes.append(Change(at, patient, state, effective, until))
    plan.calm.discard(patient)


def _goes_on(plan: Plan, device: int) -> bool:
    """Tell whether a device keeps its patient and measures to the end."""
    kind, hours, *_ = plan.stories[device]
    return len(plan.devices[device].assignments) == 1 and not (kind == "gap" and hours * 60 <= GAP_TO_MIN)


def _individualise(plan: Plan, chance: Random) -> None:
    """Let somebody set a patient's profile and limits, in time, late or ahead of the readings, once or more often."""
    if chance.random() > 0.3:
        return
    patient = chance.choice(plan.patients)
    names = chance.sample(sorted(OWN), chance.choice((1, 2, 3)))
    for name, minute in zip(names, sorted(chance.sample(range(20, 230), len(names))), strict=True):
        effective = START + minute * MINUTE + chance.choice((0, 1, 30_000))
        plan.changes.append(
            Change(max(START, effective + chance.choice((-HOUR, 0, MINUTE, 2 * HOUR))), patient, name, effective)
        )
    plan.calm.discard(patient)


def _add_junk(plan: Plan, chance: Random) -> None:
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        at = START + chance.randrange(4 * HOUR)
        plan.junk.append(Junk(at, chance.choice(("noise", "unknown", "nul"))))
    for _ in range(chance.choice((0, 3, 10))):
        plan.junk.append(Junk(START + chance.randrange(5 * HOUR), "tick"))
    plan.junk.sort(key=lambda one: one.at_ms)


def _split(items: list[Sent], size: int) -> tuple[list[Sent], list[Sent]]:
    return items[:size], items[size:]
