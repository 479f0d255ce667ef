"""A new normal: a person says that from now on a metric is as it should be, and its baseline starts afresh."""

from __future__ import annotations

import numpy as np

from detectors import drift, shift, together, wearer
from detectors.again import AGAIN_DTYPE
from detectors.baseline import BASELINE_DTYPE, PAIR_METRIC
from detectors.daily import state_dtype
from detectors.devices import rebase
from detectors.persist import PERSIST_DTYPE
from detectors.protocol import HEART_RATE, VITALS, Doubles, Rows, State
from detectors.score import TAIL_DTYPE

_NIGHT_RULES = {"skin_temperature": "skin", "respiratory_rate": "breath"}
_DAY_SUMS = ("sum", "n", "hours_sum", "hours_square", "hours", "devices")


def start_afresh(state: State, rows: Rows, metric: int, bound: Doubles = drift.BOUND) -> None:
    """Forget what was usual of one metric (index into VITALS) for ``rows`` of the pipeline's state, in place.

    The anchor stays for ever, as the present device would have measured it. What its rise was judged by, its counts of
    unusual nights and hours and its part of the open day go; the open hour stays, so call it between hours.
    ``bound`` of the drifts, (W,) or (R, W), as it holds now.
    """
    part = state[rows]
    pairs = np.flatnonzero(PAIR_METRIC == metric)
    for pair in pairs.tolist():
        rebase(part, pair)
    drift.confirm(part, pairs, bound)
    anchors = part["baselines"]["anchor"][:, pairs]
    part["baselines"][:, pairs] = np.zeros((), BASELINE_DTYPE)
    part["baselines"]["anchor"][:, pairs] = anchors
    part["tails"][:, pairs] = np.zeros((), TAIL_DTYPE)
    for name in _DAY_SUMS:
        part["day"][name][:, pairs] = 0
    part["day"]["alarming"][:, metric] = 0
    if metric == HEART_RATE:
        part["day"]["more"] = 0
        part["rise"] = np.zeros((), state_dtype())
        part["rise_tails"] = np.zeros((), TAIL_DTYPE)
        part["again"] = np.zeros((), AGAIN_DTYPE)
        part["standing"] = 0
        part["rest"] = np.zeros((), PERSIST_DTYPE)
        part["rest_hour"] = 0
    if VITALS[metric] in _NIGHT_RULES:
        part[_NIGHT_RULES[VITALS[metric]]] = np.zeros((), PERSIST_DTYPE)
    shift.forget(part, pairs)
    together.forget(part, pairs)
    wearer.forget(part, pairs)
    state[rows] = part
