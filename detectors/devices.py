"""Another device is an offset that is learned, not an illness.

What a metric measures depends on the device by some amount that stays. Two devices are remembered a metric;
all values are judged, and learned, as the device of the baseline would have measured them. Source: the scalar Kalman
filter (Kalman 1960), each device's offset a constant with a normal prior about 0. Deviations: a night that two devices
shared counts each by its share of the minutes; nothing more is learned after ``NIGHTS`` nights, lest the offset follow
the person; a night that could be an illness beyond ``CLEAN_Z`` of its spread teaches nothing; and of a heart rate only
the first day teaches for a while: what a device measures otherwise is there from its first reading on, an illness that
begins with it rises over days.

Units: /min, °C, ms (RMSSD). Valid: two devices that differ by a constant; offsets up to 327 of a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.baseline import (
    LEARNED,
    NIGHT_HEART,
    NIGHT_HRV,
    NIGHT_SKIN,
    PAIR_CONTEXT,
    PAIR_METRIC,
    PAIRS,
    REST_HEART,
)
from detectors.coverage import enough
from detectors.gate import USABLE
from detectors.minutes import Minutes
from detectors.protocol import Bools, Bytes, Counts, Doubles, Evidence, Floats, Ints, State
from detectors.windows import SHIFTED

WATCHED: Final = (NIGHT_HEART, NIGHT_SKIN, NIGHT_HRV, REST_HEART)
"""The baselines whose devices are told apart."""

BETWEEN: Final = np.array([4.0, 1.0, 10.0, 4.0])
"""SD of the difference between two devices on one person, in the metric's unit, before anything is known of it.

Heart rate: whole nights' rates of four consumer devices miss an ECG by 1.7 to 3.0 % with SDs of 1.5 to 2.8 % (Dial et
al. 2025, 13 adults, 536 nights), so two of them lie 2 to 3 /min apart. Single pulse rates lie -16 to 14 /min apart
(meta-analysis, JMIR 2024 e62769), which a night averages out for the most part. Skin temperature and RMSSD: no figure
was found; a wrist and a finger differ by a degree, and RMSSD by a quarter of what is usual. At rest by day a heart rate
is taken to differ as at night. A heart rate's is taken as wider than that, since one day alone teaches it at first.
"""

NIGHTS: Final = 14
FIRST_WEEK: Final = 7
"""So many days from a device's first on, no day after the first one it learned from teaches what a heart rate differs
by: what comes on top in these days is the person's."""
CLEAN_Z: Final = 3.0
SHARE: Final = 0.25  # of a night: a device with less neither is remembered nor was learned from
PRESENT, FORMER = 0, 1
HUNDRED: Final = 100
MOST: Final = np.iinfo(np.int16).max

DEVICE_DTYPE: Final = np.dtype(
    [
        ("number", "u1", (2,)),  # of the present device and of the one before it; 0: none
        ("offset", "i2", (2,)),  # hundredths, measured less what the baseline's own device would have
        ("doubt", "f4", (2,)),  # variance of the offset; 0: the baseline's own device
        ("since", "u2", (2,)),  # local day of the first night
        ("nights", "u1", (2,)),  # learned from
        ("minutes", "u2", (2,)),  # of the open day, of the former device and of any other
        ("other", "u1"),  # its first device that is neither
    ]
)
_PAIR: Final = np.array(WATCHED)
_BETWEEN2: Final = BETWEEN**2
_WAITS: Final = np.isin(_PAIR, (NIGHT_HEART, REST_HEART))


@dataclass(frozen=True, slots=True)
class Night:
    """By what R patients' values differ from those of their baselines' devices; zeros where one device is known."""

    share: Doubles  # (R, W, 2) of the present and the former device in the minutes of the W watched baselines
    shift: Doubles  # (R, P) to be taken off, in the metric's unit
    doubt: Doubles  # (R, P) variance of that
    own: Floats  # (R, W) variance of the present device's offset; 0: it is the baseline's own
    since: Counts  # (R, W) local day of the present device's first night
    nights: Bytes  # (R, W) from which it was learned before this one


def add(devices: State, minutes: Minutes, code: Bytes, context: Bytes) -> None:
    """Count which device measured the live minutes of R patients, in place; ``devices`` (R, W) of DEVICE_DTYPE.

    A minute of a device that is not known (0) counts as the present one's. All that are not remembered count as one,
    named by the first of them.
    """
    for place, pair in enumerate(WATCHED):
        usable = code[:, :, PAIR_METRIC[pair]] == USABLE
        if not usable.any():  # what nobody measures costs nothing
            continue
        number = minutes.device[:, :, PAIR_METRIC[pair]]
        strange = (number != devices["number"][:, place, PRESENT, None]) & (number > 0)
        if strange.any() and (foreign := strange & usable & (context == PAIR_CONTEXT[pair])).any():
            _count(devices[:, place], number, foreign)


def _count(devices: State, number: Bytes, foreign: Bools) -> None:
    former = foreign & (number == devices["number"][:, FORMER, None])
    other = foreign & ~former
    devices["minutes"] += np.stack([former.sum(1), other.sum(1)], axis=1).astype(np.uint16)
    first = number[np.arange(len(number)), other.argmax(1)]
    devices["other"] = np.where(other.any(1) & (devices["other"] == 0), first, devices["other"])


def turn(state: State) -> None:
    """Let the device that measured most of the closing night be the present one of R patients, in place.

    Of equal ones the one before stays. A third device with its share of the night replaces the older of the two. Where
    nothing is known yet of what is usual, or by whom it was measured, whichever measures is the baseline's own.
    """
    devices, day = state["devices"], state["day"]["n"][:, _PAIR]
    former, other = (devices["minutes"][:, :, which].astype(np.int32) for which in (0, 1))
    own = day - former - other
    third = (other > former) & (other >= SHARE * day)
    for row, place in np.argwhere(enough(state["day"])[:, _PAIR] & (third | (former > own))).tolist():
        one, counts = devices[row, place], [own[row, place], former[row, place], other[row, place]]
        if third[row, place]:
            _put(one, FORMER, one["other"], _BETWEEN2[place])
            counts = [counts[0], counts[2], counts[1]]
        if counts[1] > counts[0]:
            _begin(one, state["open_day"][row], suspected=state["rise"]["sum"][row] > 0)
            counts = [counts[1], counts[0], counts[2]]
        one["minutes"] = counts[1:]
        if state["baselines"]["n"][row, WATCHED[place]] < LEARNED or one["number"][FORMER] == 0:
            _put(one, PRESENT, one["number"][PRESENT], 0)
            _put(one, FORMER, 0, 0)


def _begin(one: np.void, day: int, *, suspected: bool) -> None:
    """Let the former device be the present one from this night on, and the other way round.

    One that comes back after its first week is known: it waits for no other. One that comes back within it goes on with
    it, unless a rise is ``suspected``, which must not have begun with the device.
    """
    for name in ("number", "offset", "doubt", "since", "nights"):
        one[name] = one[name][::-1].copy()
    if one["since"][PRESENT] > 0 and one["nights"][PRESENT] == 1:  # else who wears two in turn would never learn more
        if int(day) - int(one["since"][PRESENT]) >= FIRST_WEEK:
            one["nights"][PRESENT] = 2
        elif not suspected:
            return
    one["since"][PRESENT] = day


def _put(one: np.void, slot: int, number: int, doubt: float) -> None:
    one["number"][slot], one["doubt"][slot] = number, doubt
    one["offset"][slot] = one["nights"][slot] = one["since"][slot] = 0


def tonight(devices: State, minutes: Counts | Ints) -> Night:
    """Return by what the values of R patients' open night differ; ``minutes`` (R, P) of it so far.

    What a device did that is not remembered is in doubt by the whole of ``BETWEEN``.

    >>> devices = np.zeros((1, len(WATCHED)), DEVICE_DTYPE)
    >>> devices["number"][0, :, PRESENT], devices["offset"][0, :, PRESENT] = 2, 250  # 2.5 higher than the baseline's
    >>> float(tonight(devices, np.full((1, len(PAIRS)), 400)).shift[0, NIGHT_HEART])
    2.5
    """
    total = np.maximum(minutes[:, _PAIR], 1)
    other = devices["minutes"] / total[:, :, None]
    share = np.stack([1 - other.sum(2), other[:, :, 0]], axis=2)
    strange = np.where(devices["number"][:, :, PRESENT] > 0, other[:, :, 1], 0)
    doubt = np.zeros((len(devices), len(PAIRS)))
    doubt[:, _PAIR] = (share**2 * devices["doubt"]).sum(2) + strange**2 * _BETWEEN2
    before = (devices[name][:, :, PRESENT].copy() for name in ("doubt", "since", "nights"))
    return Night(share, _shift(devices, share), doubt, *before)


def _shift(devices: State, share: Doubles) -> Doubles:
    shift = np.zeros((len(devices), len(PAIRS)))
    shift[:, _PAIR] = (share * devices["offset"]).sum(2) / HUNDRED
    return shift


def learn(state: State, night: Night, missed: Doubles, variance: Doubles, clean: Bools) -> Doubles:
    """Let R patients' devices learn from the closing night, in place, and end it; return (R, P) what to take off now.

    ``missed`` (R, P) what the judged value missed the expected one by, ``variance`` of that, the doubt about the
    devices included, ``clean`` whether the night may teach anything.
    """
    devices, miss, all_of = state["devices"], missed[:, _PAIR, None], variance[:, _PAIR, None]
    with np.errstate(invalid="ignore"):
        near = clean[:, _PAIR, None] & (miss**2 <= CLEAN_Z**2 * all_of)
    taught = near & _open(devices) & (night.share > 0) & ~_waiting(state)
    gain = np.where(taught, night.share * devices["doubt"] / all_of, 0)
    moved = devices["offset"] + gain * np.where(taught, miss, 0) * HUNDRED
    devices["offset"] = np.clip(np.rint(moved), -MOST, MOST)
    devices["doubt"] *= (1 - gain * night.share).astype(np.float32)
    devices["nights"] += (taught & (night.share >= SHARE)).astype(np.uint8)
    devices["minutes"], devices["other"] = 0, 0
    return _shift(devices, night.share)


def young(devices: State) -> Bools:
    """Return (R, P) where the present device's offset is still being learned."""
    found = np.zeros((len(devices), len(PAIRS)), bool)
    found[:, _PAIR] = _open(devices)[:, :, PRESENT]
    return found


def strange(devices: State) -> Bools:
    """Return (R, P) where a minute of the open day was measured by a device of which not all is learned yet."""
    measured, known = devices["minutes"] > 0, devices["number"][:, :, PRESENT] > 0
    found = young(devices)
    found[:, _PAIR] |= measured[:, :, 0] & _open(devices)[:, :, FORMER] | measured[:, :, 1] & known
    return found


def told_apart(devices: State) -> Bools:
    """Return (R, P) of which values it is known whose they are."""
    found = np.zeros((len(devices), len(PAIRS)), bool)
    found[:, _PAIR] = devices["number"][:, :, PRESENT] > 0
    return found


def _open(devices: State) -> Bools:
    return np.asarray((devices["doubt"] > 0) & (devices["nights"] < NIGHTS))


def _waiting(state: State) -> Bools:
    """Return (R, W, 2) of which devices nothing is learned yet beyond the first day that taught something."""
    age = state["open_day"][:, None, None] - state["devices"]["since"].astype(np.int64)
    return np.asarray(_WAITS[:, None] & (state["devices"]["nights"] == 1) & (age < FIRST_WEEK))


def rebase(state: State, pair: int) -> None:
    """Let the present device be the one of a baseline that starts afresh, for R patients, in place.

    The anchor, and the level before a window, are put as the present device would have measured them, the former
    device as it differs from that one.
    """
    if pair not in WATCHED:
        return
    one, baseline = state["devices"][:, WATCHED.index(pair)], state["baselines"][:, pair]
    shift, known = one["offset"][:, PRESENT].astype(np.int32), one["number"][:, FORMER] > 0
    one["offset"][:, FORMER] = np.where(known, np.clip(one["offset"][:, FORMER] - shift, -MOST, MOST), 0)
    one["doubt"][:, FORMER] += np.where(known, one["doubt"][:, PRESENT], 0)
    one["offset"][:, PRESENT], one["doubt"][:, PRESENT], one["nights"][:, PRESENT] = 0, 0, 0
    one["minutes"], one["other"] = 0, 0
    baseline["anchor"] += np.where(baseline["anchor"] > 0, shift / HUNDRED, 0).astype(np.float32)
    if pair in SHIFTED:
        before = state["before"][:, SHIFTED.index(pair)]
        before[:] = np.where(before > 0, np.maximum(before.astype(np.int32) + shift[:, None], 1), 0)


def evidence(night: Night, measured: Doubles, pair: int, i: int) -> Evidence:
    """Return what a finding on patient ``i``'s night tells of a change of its device: nothing where none bears on it.

    ``measured`` (R, P); the value that a finding tells is less what was taken off.
    """
    shift, doubt = float(night.shift[i, pair]), float(night.doubt[i, pair])
    if pair not in WATCHED or not (shift or night.own[i, WATCHED.index(pair)]) or not np.isfinite(measured[i, pair]):
        return {}
    place = WATCHED.index(pair)
    return {
        "measured": round(float(measured[i, pair]), 4),
        "taken_off": round(shift, 4),
        "taken_off_sd": round(doubt**0.5, 4),
        "device_since_day": int(night.since[i, place]),
        "device_nights": int(night.nights[i, place]),
    }
