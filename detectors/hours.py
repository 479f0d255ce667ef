"""The close of an hour: score it, say what is known, raise "unusual at rest", add it to its day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from detectors import considered, datastate, devices, persist, windows
from detectors.baseline import PAIR_CONTEXT, REST_HEART, Usual, usual
from detectors.coverage import covered
from detectors.day_findings import day_evidence
from detectors.protocol import (
    ACTIVE,
    HOUR_MS,
    RECOVERING,
    Bools,
    Change,
    Doubles,
    Evidence,
    Finding,
    HourSlice,
    Longs,
    Rows,
    State,
)
from detectors.rules import REST_HEART_HOURS
from detectors.score import p_value, z_of_hours
from detectors.settled import Bands, HourStates
from detectors.sums import add_hour, hour_means

FAR_HOUR_Z = 4.5
"""A day with an hour this far out is not learned from."""

REST_Z, CALM_REST_Z = 4.5, 2.5
REST_MINUTES, STEP_MINUTES, HOURS_APART = 20, 30, 3
"""Minutes at rest, and minutes with steps reported, that an hour at rest needs; hours between two of them."""


def close_hours(
    state: State, hour: HourSlice, slots: Rows, window: windows.Expected | None = None
) -> tuple[list[Finding], HourStates, Bands]:
    """Close the open hour of R patients, in place; return findings, data states and baseline bands.

    ``window``: how far a change is expected, None: of nobody. Up to there an hour is as usual, unless an alert is open.
    """
    sums = state["hour"]
    means = hour_means(sums)
    night = devices.tonight(state["devices"], state["day"]["n"] + sums["n"])
    expected = usual(state["baselines"], state["open_day"]).widened(night.doubt)
    values = means - night.shift
    z = far = z_of_hours(values, sums["n"], expected)
    if window is not None:
        z = np.where(windows.inside(values, expected.center, windows.room(state, window)), 0, far)
        far = np.where((state["rest"]["active"] == 1)[:, None], far, z)
    learned = expected.learned()
    of_device = partial(devices.evidence, night, means, REST_HEART)
    findings = _rest_hours(state, hour, slots, values, far, learned, expected, of_device)
    known, cause, baseline = datastate.judge(sums, z, learned, state["steps"])
    with np.errstate(invalid="ignore"):
        far_out = learned & (np.abs(z) > FAR_HOUR_Z)
    add_hour(state["day"], sums, means, far_out)
    states = HourStates(slots, hour.hour_ms, sums["context"].copy(), known, cause)
    measured = replace(expected, center=expected.center + night.shift)
    return findings, states, _bands(hour.hour_ms, slots, baseline, measured)


def _bands(hour_ms: Longs, slots: Rows, baseline: Rows, expected: Usual) -> Bands:
    row, metric = np.nonzero(baseline >= 0)
    pair = baseline[row, metric]
    return Bands(
        slots[row], hour_ms[row], metric.astype(np.int16), PAIR_CONTEXT[pair], expected.center[row, pair],
        expected.hour[row, pair], expected.n[row, pair],
    )  # fmt: skip


def _rest_hours(
    state: State,
    hour: HourSlice,
    slots: Rows,
    values: Doubles,
    z: Doubles,
    learned: Bools,
    expected: Usual,
    of_device: Callable[[int], Evidence],
) -> list[Finding]:
    """Count hours at rest whose heart rate is far above usual, in place; return what changed.

    Judged is an hour whose usable readings stand for 20 minutes at rest, with a learned baseline, and steps reported
    for half of it: without steps nobody knows that it was rest.
    """
    sums, pair = state["hour"], REST_HEART
    judged = learned[:, pair] & (covered(sums)[:, pair] >= REST_MINUTES) & (sums["steps"] >= STEP_MINUTES)
    which = np.flatnonzero(judged)
    now = (hour.hour_ms // HOUR_MS).astype(np.uint16)[which]  # so is their difference, right up to 7 years
    part, score = state["rest"][which], z[which, pair]
    apart = now - state["rest_hour"][which] > HOURS_APART
    changes = persist.count(part, score >= REST_Z, score < CALM_REST_Z, apart, hour.hour_ms[which])
    state["rest"][which], state["rest_hour"][which] = part, now
    findings: list[Finding] = []
    for i in np.flatnonzero(changes[0] | changes[1]):
        at = int(which[i])
        evidence = day_evidence(state[at], pair, float(values[at, pair]), expected, at, float(score[i]))
        evidence["spread"] = round(float(expected.hour[at, pair]), 4)
        evidence["p"] = float(p_value(score[i], expected.n[at, pair]))
        change: Change = "raised" if changes[0][i] else "cleared"
        evidence |= {
            "change": change,
            "minutes": int(sums["n"][at, pair]),
            "active_minutes": int(sums["context"][at, ACTIVE]),
            "recovering_minutes": int(sums["context"][at, RECOVERING]),
            "from_ms": int(hour.hour_ms[at]),
            "to_ms": int(hour.hour_ms[at]) + HOUR_MS,
            "utc_offset_min": int(hour.utc_offset_min[at]),
        }
        evidence |= of_device(at) | considered.of_hour(state, at)
        if state["zone_since"][at]:
            evidence["zone_since_day"] = int(state["zone_since"][at])
        start, end = int(persist.start_ms(part)[i]), int(evidence["to_ms"])
        findings.append(Finding(int(slots[at]), REST_HEART_HOURS.id, change, start, end, 0, evidence))
    return findings
