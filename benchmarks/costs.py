"""The samples of ``make kernels`` as figures, the aims they are held against, and the page's part."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.memory import Memory
from benchmarks.watch import WORN
from evaluation.sheet import Sheet

Us = dict[str, list[float]]  # kernel → CPU microseconds a patient, of each sample

HOUR, DAY = 60 * len(WORN), 1440 * len(WORN)  # metric minutes
METRIC_MINUTES: Final = {
    "limits": len(WORN), "limits_often": len(WORN), "news2": len(WORN), "news2_often": len(WORN),
    "news2_told": len(WORN), "minute": len(WORN), "hour_close": HOUR, "day_close": DAY,
    "hour_at_once": HOUR, "daily": DAY, "shape": DAY,
}  # fmt: skip
NAMES: Final = {
    "limits": "safety limits, a reading a metric minute",
    "limits_often": "safety limits, a heart rate every 5 s",
    "news2": "NEWS2, a reading a metric minute",
    "news2_often": "NEWS2, a heart rate every 5 s",
    "news2_told": "NEWS2, of whom as many are at 5 and more (not part of the vital path)",
    "minute": "gate, context and sums of one minute",
    "hour_close": "close of an hour",
    "day_close": "close of a day",
    "hour_at_once": "an hour's minutes at once, with its close",
    "daily": "`daily`, a day's values",
    "shape": "`day_shape`, a day's hours (on reading; not part of a day's close)",
}
PATHS: Final = {
    "path": ("vital path, a reading a metric minute", ("limits", "news2")),
    "path_often": ("vital path, a heart rate every 5 s", ("limits_often", "news2_often")),
}
AIM_US, AIM_ROW, AIM_PATIENT = 1.0, 1_900, 16_000  # a metric minute; bytes; bytes
CADENCE: Final = {1: "a reading a metric minute", 12: "a heart rate every 5 s"}


def figures(us: Us, rivals: Mapping[str, Any] | None, remembered: Mapping[int, Memory]) -> dict[str, Any]:
    """Return medians and quartiles, the vital path's sum, the bytes, and whether every aim is kept.

    The vital path is what a metric minute costs from arrival on: limits and NEWS2 twice (on arrival and once settled),
    its minute, and its share of the close of its hour and day; summed sample by sample.
    """
    a_minute = {name: [one / METRIC_MINUTES[name] for one in samples] for name, samples in us.items()}
    paths = {
        name: [
            2 * (limit + score) + minute + hour + day
            for limit, score, minute, hour, day in zip(
                *(a_minute[kernel] for kernel in (*twice, "minute", "hour_close", "day_close")), strict=True
            )
        ]
        for name, (_, twice) in PATHS.items()
    }
    document = {
        "n": len(us["minute"]),
        "kernels": {name: {"call": spread(us[name]), "minute": spread(a_minute[name])} for name in us},
        "paths": {name: spread(samples) for name, samples in paths.items()},
        "rivals": None if rivals is None else _beside(rivals),
        "row": next(iter(remembered.values())).row,
        "memory": {str(rate): one._asdict() | {"rest": one.rest} for rate, one in remembered.items()},
    }
    return document | {"kept": all(verdict == KEPT for *_, verdict in _aims(document))}


def spread(samples: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, median, high = statistics.quantiles(samples)
    return {"median": round(median, 4), "low": round(low, 4), "high": round(high, 4)}


def _beside(rivals: Mapping[str, Any]) -> dict[str, Any]:
    rows = [{k: v for k, v in row.items() if k != "us"} | {"event": spread(row["us"])} for row in rivals["rows"]]
    return {"versions": rivals["versions"], "n": len(rivals["rows"][0]["us"]), "rows": rows}


KEPT, MISSED = "kept", "**missed**"


def _aims(d: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return (what, figure, aim, verdict) of everything that has an aim."""
    rows = [
        (title, f"{_told(d['paths'][name])} µs", f"< {AIM_US:g} µs", d["paths"][name]["median"] < AIM_US)
        for name, (title, _) in PATHS.items()
    ]
    rows.append(("a patient's row of state", f"{d['row']:,} bytes", f"≤ {AIM_ROW:,} bytes", d["row"] <= AIM_ROW))
    for rate, one in d["memory"].items():
        what = (
            f"a patient in memory after a week, {CADENCE[int(rate)]}: row {one['row']:,}, {one['readings']:.0f} "
            f"readings not settled yet {one['pending']:,}, hot state {one['rest']:,}"
        )
        rows.append((what, f"{one['total']:,} bytes", f"≤ {AIM_PATIENT:,} bytes", one["total"] <= AIM_PATIENT))
    return [(what, figure, aim, KEPT if good else MISSED) for what, figure, aim, good in rows]


def _told(one: Mapping[str, float]) -> str:
    return f"{_short(one['median'])} ({_short(one['low'])} to {_short(one['high'])})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(d: Mapping[str, Any]) -> str:
    """Return the page's part."""
    m = d["machine"]
    text = (
        f"CPU time of one process on {m['cpu']}, {m['cpus']} cores, Python {m['python']}, numpy {m['numpy']}, "
        f"{d['date']}; load average {m['load_1m'][0]} before and {m['load_1m'][1]} after. {d['patients']:,} patients "
        f"with {len(WORN)} metrics, {d['batch']} at once, of whom {d['racing']} are beyond a safety limit; "
        f"n = {d['n']}, median (quartiles)."
    )
    head = ("kernel", "µs a patient and call", "µs a patient and metric minute")
    rows = [(NAMES[name], _told(d["kernels"][name]["call"]), _told(d["kernels"][name]["minute"])) for name in NAMES]
    sheets = [Sheet(text, head, rows), *_rivals(d["rivals"])]
    note = (
        "The vital path is limits and NEWS2 twice (on arrival and once settled), the minute, and its share of the "
        "close of its hour and day. Whose NEWS2 is 5 and more is scored at each occasion, which costs "
        "more. Memory is counted by Python's allocator in the last minute of an hour; the aims are the design's:"
    )
    return "".join(sheet.markdown() for sheet in (*sheets, Sheet(note, ("what", "figure", "aim", ""), _aims(d))))


def _rivals(rivals: Mapping[str, Any] | None) -> list[Sheet]:
    if rivals is None:
        return [Sheet("river and stumpy are not installed: left out (`make kernels` installs them apart).", (), [])]
    versions = ", ".join(f"{name} {version}" for name, version in rivals["versions"].items())
    text = (
        f"Libraries that take an event (a metric minute) at a time, one object a person ({versions}; n = "
        f"{rivals['n']}). Each does one thing; a minute above is the gate, the context and eleven sums of seven vitals:"
    )
    rows = [(one["name"], one["stands_for"], str(one["people"]), _told(one["event"])) for one in rivals["rows"]]
    return [Sheet(text, ("library", "stands beside", "people", "µs an event"), rows)]
