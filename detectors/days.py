"""The close of a person's day at 10:00 local time: score it, say what is unusual, learn from it if it is clean.

What counts as clean is written in ``clean``, what a finding tells in ``day_findings``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from detectors import (
    choices,
    datastate,
    desaturation,
    devices,
    drift,
    nights,
    rise,
    shift,
    together,
    travel,
    wearer,
    windows,
)
from detectors.baseline import LEARNED, NIGHT_HEART, PAIR_CONTEXT, PAIR_METRIC, REST_HEART, Usual, learn, usual
from detectors.clean import SURE, before_the_device, calm, clean, learn_of_devices, missed, unsuspected
from detectors.coverage import enough, noise
from detectors.day_findings import (
    DayFindings,
    by_device,
    drift_evidence,
    falls_evidence,
    night_evidence,
    rise_evidence,
    shift_evidence,
)
from detectors.protocol import DAY_MS, Bools, Change, Doubles, Finding, Floats, HourSlice, Ints, Longs, Rows, State
from detectors.rules import (
    DRIFTS,
    NEW_NORMAL,
    NIGHT_FALLS,
    NIGHT_TOGETHER,
    RESTING_HEART,
    SHIFTS,
    WEARER_IN_DOUBT,
)
from detectors.score import count, p_value, student, z_of_days
from detectors.settled import Days
from detectors.sums import DAY_DTYPE, day_means


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
    said = DayFindings.of(state, hour, slots)
    held_to = chosen.at(slots, said.at, limit)
    frozen = rise.frozen(state, held_to.limit)
    suspected = before_the_device(state, night, frozen, said.began)
    doubt = np.where(suspected, 0, night.doubt) + noise(state["day"])
    normal = usual(state["baselines"], state["open_day"])
    expected = normal.widened(doubt)
    z = z_of_days(values, expected)
    known = np.isfinite(z) & expected.learned()
    room = None if opened is None else windows.room(state, opened.at(slots, said.at))
    held = np.zeros(values.shape, bool) if room is None else windows.inside(values, expected.center, room)
    ordinary = known & ~held & ~devices.young(state["devices"]) & calm(state)
    ordinary &= unsuspected(state, frozen) & ~shift.held(state)
    _ask_who_wore_it(said, values, expected, np.where(held, 0, z), known)
    away = missed(state, values, expected)
    heart = rise.judge(state, values, held_to.limit, room, doubt)
    state["steps"] = datastate.of_steps(heart.said.z[:, rise.STEPS], heart.n[:, rise.STEPS])
    _say_rise(said, heart, held_to, night, measured)
    told = shift.told_already(state)
    _say_nights(said, values, expected, z, known, night, measured)
    shifted = shift.judge(state, values, expected.day, heart, room, told)
    _say_together(said, values, expected, np.where(held, 0, z), known)
    of_own = np.where(held | drift.returned(state, values, held_to.bound), 0, z)
    taught = clean(state, of_own, expected, rise.frozen(state, held_to.limit)) if guard else np.isfinite(values)
    of_itself = ~held & ~devices.young(state["devices"])
    taken_off = learn_of_devices(state, night, away, normal, calm(state) & ~held, suspected)
    kept = drift.held(state, values, held_to.bound) | shift.held(state)
    taught &= (night.doubt <= expected.day**2 * SURE) & ~(guard & kept)
    _learn(state, taught, measured - taken_off, variance, of_itself)
    shift.learn(state, values, taught)
    _say_drifts(said, values, drift.judge(state, values, room, held_to.bound), held_to, night, measured)
    _say_shifts(said, shift.give_way(state, shifted), heart, values, night, measured)
    if room is not None:
        rise.follow(state, heart, room)
    falls = desaturation.judge(state["falls"], ~travel.abroad(state))
    said.add(NIGHT_FALLS, partial(falls_evidence, falls, state), said.began, falls.changes, falls.level)
    table = _table(state, slots, measured, replace(expected, center=expected.center + night.shift), z, taught)
    count(state["tails"], student(z, expected.n), ordinary)
    _count_rise_tails(state, heart, ordinary)
    state["day"] = np.zeros((), DAY_DTYPE)
    return said.findings, table


def _ask_who_wore_it(said: DayFindings, values: Doubles, expected: Usual, z: Doubles, known: Bools) -> None:
    asked = wearer.judge(said.state, z, known)
    of_wearer = partial(wearer.evidence, asked, said.state, values, expected)
    said.add(WEARER_IN_DOUBT, of_wearer, _start(said, asked.since), {"raised": asked.raised, "cleared": asked.cleared})
    said.doubted = said.state["wearer"]["active"] == wearer.ASKED


def _say_rise(
    said: DayFindings, heart: rise.Rise, held_to: choices.Held, night: devices.Night, measured: Doubles
) -> None:
    of_heart = partial(rise_evidence, heart, said.state, held_to, night, measured)
    risen: dict[Change, Bools] = {
        "raised": heart.said.raised, "worsened": heart.again.worse, "cleared": heart.said.cleared
    }  # fmt: skip
    since = _start(said, heart.since)
    said.add(RESTING_HEART, of_heart, since, risen, heart.again.worse + np.uint8(1))
    said.add(NEW_NORMAL, of_heart, since, {"raised": heart.asked, "cleared": heart.answered})


def _say_nights(
    said: DayFindings, values: Doubles, expected: Usual, z: Doubles, known: Bools, night: devices.Night,
    measured: Doubles,
) -> None:  # fmt: skip
    for pair, rule, name in nights.NIGHT_RULES:
        of_pair = by_device(partial(night_evidence, said.state, values, expected, z, pair), night, measured, pair)
        start, raised, cleared = nights.judge(said.state, name, z[:, pair], known[:, pair], said.began)
        said.add(rule, of_pair, start, {"raised": raised, "cleared": cleared})


def _say_together(said: DayFindings, values: Doubles, expected: Usual, z: Doubles, known: Bools) -> None:
    several = together.judge(said.state, z, known)
    of_several = partial(together.evidence, several, said.state, values, expected)
    changes: dict[Change, Bools] = {"raised": several.raised, "cleared": several.cleared}
    said.add(NIGHT_TOGETHER, of_several, _start(said, several.since), changes)


def _say_drifts(
    said: DayFindings, values: Doubles, drifted: drift.Drift, held_to: choices.Held, night: devices.Night,
    measured: Doubles,
) -> None:  # fmt: skip
    for place, rule in enumerate(DRIFTS):
        changes: dict[Change, Bools] = {name: which[:, place] for name, which in drifted.changes.items()}
        of_drift = partial(drift_evidence, said.state, values, held_to, place)
        of_night = by_device(of_drift, night, measured, drift.WATCHED[place].pair)
        said.add(rule, of_night, said.began, changes, drifted.level[:, place])


def _say_shifts(
    said: DayFindings, shifted: shift.Shift, heart: rise.Rise, values: Doubles, night: devices.Night, measured: Doubles
) -> None:
    for place, rule in enumerate(SHIFTS):
        of_shift = partial(shift_evidence, shifted, heart, said.state, values, place, night, measured)
        changes: dict[Change, Bools] = {"raised": shifted.raised[:, place], "cleared": shifted.cleared[:, place]}
        said.add(rule, of_shift, _start(said, shifted.since[:, place]), changes)


def _start(said: DayFindings, since: Ints) -> Longs:
    """Return (R,) when the night of a local day began, Unix ms."""
    return np.asarray(said.began + (since - said.state["open_day"]).astype(np.int64) * DAY_MS)


def _count_rise_tails(state: State, heart: rise.Rise, ordinary: Bools) -> None:
    hearts = len(rise.HEART_PAIRS)
    z, n = heart.said.z[:, :hearts], heart.n[:, :hearts]
    count(state["rise_tails"], student(z, n), ordinary[:, rise.HEART_PAIRS] & (n >= LEARNED) & np.isfinite(z))


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
