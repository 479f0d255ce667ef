"""The close of a person's day at 10:00 local time: score it, sum it up, learn from it if it is clean.

Source: the contamination guard follows the "an alarmed span never enters the baseline" rule of the
literature on wearables; what counts as clean is written at ``_clean``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import numpy as np

from detectors import (
    choices,
    considered,
    datastate,
    desaturation,
    devices,
    drift,
    persist,
    rise,
    shift,
    together,
    travel,
    wearer,
    windows,
)
from detectors.baseline import (
    LEARNED,
    NIGHT_BREATH,
    NIGHT_HEART,
    NIGHT_SKIN,
    NIGHT_SPO2,
    PAIR_CONTEXT,
    PAIR_METRIC,
    PAIRS,
    REST_HEART,
    Usual,
    days_used,
    learn,
    usual,
)
from detectors.context import DAY_FROM, SLEEP_FROM, SLEEP_TO
from detectors.coverage import enough, noise
from detectors.measured_by import numbers
from detectors.protocol import (
    CONTEXTS,
    DAY_MS,
    MINUTE_MS,
    Bools,
    Bytes,
    Change,
    Counts,
    Doubles,
    Evidence,
    Finding,
    Floats,
    HourSlice,
    Longs,
    Rows,
    Rule,
    Shorts,
    State,
)
from detectors.rules import (
    DRIFTS,
    NEW_NORMAL,
    NIGHT_BREATH_RISE,
    NIGHT_FALLS,
    NIGHT_SKIN_RISE,
    NIGHT_TOGETHER,
    RESTING_HEART,
    SHIFTS,
    WEARER_IN_DOUBT,
)
from detectors.score import count, p_value, student, z_of_days
from detectors.settled import Days
from detectors.sums import DAY_DTYPE, day_means, dirty

CLEAN_Z, FIRST_CLEAN_Z = 3.0, 6.0
"""A day further out is not learned from; wider while learning, when the population is all there is."""

ALARMING_MINUTES = 5
"""A day with so many minutes beyond a safety limit is not learned from, in that metric."""

MOST_DAYS_APART = 28
"""So long at the most nothing is learned because several vitals are told together: they may never be measured again."""

SURE = 1 / 3
"""Of a night's variance, as much may be doubt about its device where the night is learned from."""

_HEARTS = np.isin(np.arange(len(PAIRS)), rise.HEART_PAIRS)
NIGHT_Z, CALM_NIGHT_Z = 4.0, 2.0
NIGHT_RULES = ((NIGHT_SKIN, NIGHT_SKIN_RISE, "skin"), (NIGHT_BREATH, NIGHT_BREATH_RISE, "breath"))


def close_days(
    state: State, hour: HourSlice, slots: Rows, limit: float, *, guard: bool = True,
    opened: windows.Windows | None = None, chosen: choices.Choices = choices.NOBODYS,
) -> tuple[list[Finding], Days]:  # fmt: skip
    """Close the open day of R patients, in place; return the findings and the daily values.

    ``state`` (R,) rows of the pipeline, ``hour`` the first hour after each day's end, ``slots`` (R,) the
    patients' slots, ``limit`` that of the resting heart rate's sum, and ``chosen`` whose it is not, and whose drifts
    have other bounds. A value with too few minutes is left out everywhere. ``guard`` False learns from every day.
    ``opened``: how far whose heart rate is expected to change, and when, None: nobody's. A day is judged by what
    stands at its end, whenever the next hour comes.
    """
    means, variance = day_means(state["day"])
    measured = np.where(enough(state["day"]), means, np.nan)
    devices.turn(state)
    night = devices.tonight(state["devices"], state["day"]["n"])
    values = measured - night.shift
    said = _Findings.of(state, hour, slots)
    held_to = chosen.at(slots, said.at, limit)
    frozen = rise.frozen(state, held_to.limit)
    suspected = _before_the_device(state, night, frozen, said.began)
    doubt = np.where(suspected, 0, night.doubt) + noise(state["day"])
    normal = usual(state["baselines"], state["open_day"])
    expected = normal.widened(doubt)
    z = z_of_days(values, expected)
    known = np.isfinite(z) & expected.learned()
    room = None if opened is None else windows.room(state, opened.at(slots, said.at))
    held = np.zeros(values.shape, bool) if room is None else windows.inside(values, expected.center, room)
    ordinary = known & ~held & ~devices.young(state["devices"]) & _calm(state)
    ordinary &= _unsuspected(state, frozen) & ~shift.held(state)
    asked = wearer.judge(state, np.where(held, 0, z), known)
    first = said.began + (asked.since - state["open_day"]).astype(np.int64) * DAY_MS
    of_wearer = partial(wearer.evidence, asked, state, values, expected)
    said.add(WEARER_IN_DOUBT, of_wearer, first, {"raised": asked.raised, "cleared": asked.cleared})
    said.doubted = state["wearer"]["active"] == wearer.ASKED
    missed = _missed(state, values, expected)
    heart = rise.judge(state, values, held_to.limit, room, doubt)
    state["steps"] = datastate.of_steps(heart.said.z[:, rise.STEPS], heart.n[:, rise.STEPS])
    of_heart = partial(_rise_evidence, heart, state, held_to, night, measured)
    since = said.began + (heart.since - state["open_day"]).astype(np.int64) * DAY_MS
    risen: dict[Change, Bools] = {
        "raised": heart.said.raised, "worsened": heart.again.worse, "cleared": heart.said.cleared
    }  # fmt: skip
    said.add(RESTING_HEART, of_heart, since, risen, heart.again.worse + np.uint8(1))
    said.add(NEW_NORMAL, of_heart, since, {"raised": heart.asked, "cleared": heart.answered})
    told = shift.told_already(state)
    for pair, rule, name in NIGHT_RULES:
        of_pair = _by_device(partial(_night_evidence, state, values, expected, z, pair), night, measured, pair)
        start, raised, cleared = _nights(state, name, z[:, pair], known[:, pair], said.began)
        said.add(rule, of_pair, start, {"raised": raised, "cleared": cleared})
    shifted = shift.judge(state, values, expected.day, heart, room, told)
    several = together.judge(state, np.where(held, 0, z), known)
    first = said.began + (several.since - state["open_day"]).astype(np.int64) * DAY_MS
    of_several = partial(together.evidence, several, state, values, expected)
    said.add(NIGHT_TOGETHER, of_several, first, {"raised": several.raised, "cleared": several.cleared})
    of_own = np.where(held | drift.returned(state, values, held_to.bound), 0, z)
    clean = _clean(state, of_own, expected, rise.frozen(state, held_to.limit)) if guard else np.isfinite(values)
    of_itself = ~held & ~devices.young(state["devices"])
    taken_off = _learn_of_devices(state, night, missed, normal, _calm(state) & ~held, suspected)
    kept = drift.held(state, values, held_to.bound) | shift.held(state)
    clean &= (night.doubt <= expected.day**2 * SURE) & ~(guard & kept)
    _learn(state, clean, measured - taken_off, variance, of_itself)
    shift.learn(state, values, clean)
    drifted = drift.judge(state, values, room, held_to.bound)
    for place, rule in enumerate(DRIFTS):
        changes: dict[Change, Bools] = {name: which[:, place] for name, which in drifted.changes.items()}
        of_drift = partial(_drift_evidence, state, values, held_to, place)
        of_night = _by_device(of_drift, night, measured, drift.WATCHED[place].pair)
        said.add(rule, of_night, said.began, changes, drifted.level[:, place])
    shifted = shift.give_way(state, shifted)
    for place, rule in enumerate(SHIFTS):
        of_shift = partial(_shift_evidence, shifted, heart, state, values, place, night, measured)
        first = said.began + (shifted.since[:, place] - state["open_day"]).astype(np.int64) * DAY_MS
        said.add(rule, of_shift, first, {"raised": shifted.raised[:, place], "cleared": shifted.cleared[:, place]})
    if room is not None:
        rise.follow(state, heart, room)
    falls = desaturation.judge(state["falls"], ~travel.abroad(state))
    of_falls = partial(_falls_evidence, falls, state)
    said.add(NIGHT_FALLS, of_falls, said.began, falls.changes, falls.level)
    table = _table(state, slots, measured, replace(expected, center=expected.center + night.shift), z, clean)
    count(state["tails"], student(z, expected.n), ordinary)
    _count_rise_tails(state, heart, ordinary)
    state["day"] = np.zeros((), DAY_DTYPE)
    return said.findings, table


@dataclass(slots=True)
class _Findings:
    """What the close of R patients' days says, in the order in which it is said."""

    state: State  # (R,) as of the day that closes
    slots: Rows
    began: Longs  # (R,) of the night, Unix ms
    ended: Longs
    at: Longs  # (R,) the day's end
    offset: Shorts  # (R,) minutes
    zone_since: Counts  # (R,) local day of the jump of the offset that the body still follows, 0: of none
    doubted: Bools | None = None  # (R,) somebody else may have worn the device: said beside what follows
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, state: State, hour: HourSlice, slots: Rows) -> Self:
        began, ended = _local(state, hour, SLEEP_FROM - 1440), _local(state, hour, SLEEP_TO)
        return cls(
            state,
            slots,
            began,
            ended,
            np.minimum(_local(state, hour, DAY_FROM), hour.hour_ms),
            hour.utc_offset_min,
            state["zone_since"].copy(),
        )

    def add(
        self, rule: Rule, of: Callable[[int], Evidence], start_ms: Longs, changes: Mapping[Change, Bools],
        level: Bytes | None = None,
    ) -> None:  # fmt: skip
        for change, which in changes.items():
            for i in np.flatnonzero(which).tolist():
                span = {"change": change, "from_ms": int(self.began[i]), "to_ms": int(self.ended[i])}
                evidence = of(i) | span | {"utc_offset_min": int(self.offset[i])}
                if self.zone_since[i]:
                    evidence["zone_since_day"] = int(self.zone_since[i])
                if self.doubted is not None:
                    evidence |= considered.of_day(self.state, self.doubted, i, evidence)
                    evidence |= {"wearer_in_doubt": True} if self.doubted[i] else {}
                start, at, step = int(start_ms[i]), int(self.at[i]), 0 if level is None else max(int(level[i]) - 1, 0)
                self.findings.append(Finding(int(self.slots[i]), rule.id, change, start, at, step, evidence))


def _by_device(
    of: Callable[[int], Evidence], night: devices.Night, measured: Doubles, pair: int
) -> Callable[[int], Evidence]:
    return lambda i: of(i) | devices.evidence(night, measured, pair, i)


def _rise_evidence(
    heart: rise.Rise, state: State, held: choices.Held, night: devices.Night, measured: Doubles, i: int
) -> Evidence:
    pair = rise.HEART_PAIRS[rise.told_first(heart, i)]
    by = _set_by(held, choices.ALL_TOGETHER, i)
    return rise.evidence(heart, state, held.limit, i) | devices.evidence(night, measured, pair, i) | by


def _shift_evidence(
    shifted: shift.Shift, heart: rise.Rise, state: State, values: Doubles, place: int, night: devices.Night,
    measured: Doubles, i: int,
) -> Evidence:  # fmt: skip
    told = shift.evidence(shifted, heart, state, values, place, i)
    return told | devices.evidence(night, measured, shift.told_first(shifted, place, i), i)


def _drift_evidence(state: State, values: Doubles, held: choices.Held, place: int, i: int) -> Evidence:
    return drift.evidence(state, values, place, held.bound, i) | _set_by(held, DRIFTS[place].id, i)


def _set_by(held: choices.Held, rule: str, i: int) -> Evidence:
    return {"limit_set_by": held.set_by[i][rule]} if rule in held.set_by[i] else {}


def _night_evidence(state: State, values: Doubles, expected: Usual, z: Doubles, pair: int, i: int) -> Evidence:
    return day_evidence(state[i], pair, float(values[i, pair]), expected, i, float(z[i, pair]))


def _falls_evidence(falls: desaturation.Night, state: State, i: int) -> Evidence:
    by = numbers(int(state["day"]["devices"][i, NIGHT_SPO2]))
    return desaturation.evidence(falls, int(state["open_day"][i]), i) | {"devices": by}


def day_evidence(patient: np.void, pair: int, value: float, expected: Usual, i: int, z: float) -> Evidence:
    """Return what every finding on a baseline tells; ``expected`` is that of patient ``i`` (R, P)."""
    median = round(float(expected.median[i, pair]), 4)
    return {
        "metric": PAIRS[pair].metric,
        "context": CONTEXTS[PAIR_CONTEXT[pair]],
        "day": int(patient["open_day"]),
        "value": round(value, 4),
        "usual": median,
        "difference": round(value - median, 4),
        "center": round(float(expected.center[i, pair]), 4),
        "spread": round(float(expected.day[i, pair]), 4),
        "z": round(z, 3),
        "p": float(p_value(np.array(z), expected.n[i, pair], patient["tails"][pair])),
        "n_days": int(expected.n[i, pair]),
        "days": days_used(patient["baselines"][pair]),
        "minutes": int(patient["day"]["n"][pair]),
        "devices": numbers(int(patient["day"]["devices"][pair])),
    }


def _local(state: State, hour: HourSlice, minute: int) -> Longs:
    """Return (R,) the instant of a local minute of the open day, in Unix ms."""
    day = state["open_day"].astype(np.int64) * DAY_MS
    return np.asarray(day + (minute - hour.utc_offset_min.astype(np.int64)) * MINUTE_MS)


def _nights(state: State, name: str, z: Doubles, known: Bools, began: Longs) -> tuple[Longs, Bools, Bools]:
    """Count a night for one rule, in place; return (start of the episode, raised, cleared)."""
    raised, cleared = np.zeros(len(z), bool), np.zeros(len(z), bool)
    which = np.flatnonzero(known)
    part = state[name][which]
    never = np.zeros(len(which), bool)
    raised[which], cleared[which] = persist.count(
        part, z[which] >= NIGHT_Z, z[which] < CALM_NIGHT_Z, never, began[which]
    )
    state[name][which] = part
    return persist.start_ms(state[name]), raised, cleared


def _clean(state: State, z: Doubles, expected: Usual, frozen: Bools) -> Bools:
    """Return (R, P) which values may enter the baseline.

    Not one that is far out, nor of a day with an hour far out or with minutes beyond a safety limit in the
    metric, nor any while it is ``frozen`` (R,) by a rise of the resting heart rate, while several vitals are told to
    differ together, while nobody knows who wore the device, or of a body in another time zone.
    """
    bound = np.where(expected.n >= LEARNED, CLEAN_Z, FIRST_CLEAN_Z)
    with np.errstate(invalid="ignore"):
        near = np.abs(z) <= bound
    return np.asarray(near & _calm(state) & _unsuspected(state, frozen))


def _calm(state: State) -> Bools:
    """Return (R, P) of which days nothing is amiss of themselves, however far out they are.

    No hour was far out, few minutes were beyond a limit, no alert of the night's metric itself stands, and the body's
    clock is the local one.
    """
    calm = ~dirty(state["day"]) & (state["day"]["alarming"][:, PAIR_METRIC] < ALARMING_MINUTES)
    for pair, _, name in NIGHT_RULES:
        calm[:, pair] &= state[name]["active"] == 0
    return np.asarray(calm & ~travel.abroad(state)[:, None])


def _unsuspected(state: State, frozen: Bools) -> Bools:
    """Return (R, 1) of whom nothing is suspected, neither of the heart, nor of several vitals, nor of who it was."""
    lately = state["open_day"] - state["together"]["since"].astype(np.int32) < MOST_DAYS_APART
    asked = (state["wearer"]["active"] == wearer.ASKED) | (state["together"]["active"] == 1) & lately
    return np.asarray(~(frozen | asked)[:, None])


def _before_the_device(state: State, night: devices.Night, frozen: Bools, began: Longs) -> Bools:
    """Return (R, P) where something was suspected before another device came, in that device's first fortnight.

    Such nights are judged as if the devices measured alike, and teach nothing of how they differ, else a device would
    end an alert, or hide what is about to be told. A rise that is told is left out of the latter: see ``_missed``.
    """
    of_skin = state["open_day"] + (persist.start_ms(state["skin"]) - began) // DAY_MS
    suspicions = (
        (frozen, state["rise"]["since"], devices.WATCHED),
        (state["together"]["active"] == 1, state["together"]["since"], devices.WATCHED),
        (state["wearer"]["active"] == wearer.ASKED, state["wearer"]["since"], devices.WATCHED),
        (state["skin"]["active"] == 1, of_skin, (NIGHT_SKIN,)),
    )
    came = night.since.astype(np.int64)
    young = (came > 0) & (state["open_day"][:, None] - came < devices.NIGHTS)
    found = np.zeros((len(state), len(PAIRS)), bool)
    for suspected, since, pairs in suspicions:
        for place, pair in enumerate(devices.WATCHED):
            if pair in pairs:
                found[:, pair] |= young[:, place] & suspected & (since < came[:, place])
    return found


def _learn_of_devices(
    state: State, night: devices.Night, missed: Doubles, normal: Usual, calm: Bools, suspected: Bools
) -> Doubles:
    """Let R patients' devices learn from the night, in place; return (R, P) what to take off now.

    What was suspected before the device came teaches nothing, but for a rise that is told: it has a level of its own.
    """
    told = (state["rise"]["active"] == 1)[:, None] & _HEARTS
    return devices.learn(state, night, missed, normal.widened(night.doubt).day ** 2, calm & (~suspected | told))


def _count_rise_tails(state: State, heart: rise.Rise, ordinary: Bools) -> None:
    hearts = len(rise.HEART_PAIRS)
    z, n = heart.said.z[:, :hearts], heart.n[:, :hearts]
    count(state["rise_tails"], student(z, n), ordinary[:, rise.HEART_PAIRS] & (n >= LEARNED) & np.isfinite(z))


def _missed(state: State, values: Doubles, expected: Usual) -> Doubles:
    """Return (R, P) what values missed the usual by; while a rise is told, or its level, whichever is nearer.

    So a device that is changed during an illness does not take the illness for its own, nor its end.
    """
    missed, pairs = values - expected.center, list(rise.HEART_PAIRS)
    level = state["again"]["level"]
    of_level = values[:, pairs] - level
    nearer = (level > 0) & (np.abs(of_level) < np.abs(missed[:, pairs]))  # while no rise is told there is no level
    missed[:, pairs] = np.where(nearer, of_level, missed[:, pairs])
    return missed


def _learn(state: State, clean: Bools, values: Doubles, variance: Floats, ordinary: Bools) -> None:
    row, pair = np.nonzero(clean)
    part = state["baselines"][row, pair]
    learn(part, state["open_day"][row], values[row, pair].astype(np.float32), variance[row, pair], ordinary[row, pair])
    state["baselines"][row, pair] = part


def _table(state: State, slots: Rows, values: Doubles, expected: Usual, z: Doubles, clean: Bools) -> Days:
    row, pair = np.nonzero(np.isfinite(values))
    cell = (row, pair)
    judged_by = np.where(np.isfinite(values[:, NIGHT_HEART]), NIGHT_HEART, REST_HEART)  # one sum a person and day
    sums = np.where(pair == judged_by[row], state["rise"]["sum"][row], np.nan)
    return Days(
        slots[row], state["open_day"][row], PAIR_METRIC[pair], PAIR_CONTEXT[pair], values[cell],
        state["day"]["n"][cell].astype(np.int32), expected.center[cell], expected.day[cell],
        expected.n[cell], z[cell], p_value(z[cell], expected.n[cell], state["tails"][cell]), sums, clean[cell],
    )  # fmt: skip
