"""How the screens say things: local times, ages, priorities, values against a usual range, a day in small."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Final

from detectors import considered, device_classes
from detectors.baseline import LEARNED
from detectors.explain_weight import kilograms
from ingest.catalogue import catalogue
from services.api import chosen, words
from services.api.observed import AT_REST
from services.api.times import age, zone
from services.api.weeks.quantities import iso, signed

SPARK_WIDTH, SPARK_HEIGHT, SPARK_PAD = 132.0, 34.0, 3.0
SPARK_GAP_MS: Final = 2 * 3_600_000  # two hours between closed hours' middles: one is missing
WHOSE: Final = chosen.WHOSE
SHAPES: Final = {"high": "triangle", "medium": "diamond", "low": "circle"}


def local(moment: str | datetime, where: str, now: datetime) -> str:
    """Return an instant as a clock shows it there: ``14:05 CET``, with the day when it is not today."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    here, today = moment.astimezone(zone(where)), now.astimezone(zone(where)).date()
    name = here.tzname() or ""
    clock = f"{here:%H:%M} {'UTC' if name[:1] in {'+', '-'} else ''}{name}".strip()
    if here.date() == today:
        return clock
    day = f"{here.day} {here:%b}" if here.year == today.year else f"{here.day} {here:%b %Y}"
    return f"{day}, {clock}"


def ago(moment: str | datetime, now: datetime) -> str:
    """Return an age with its word: ``just now``, ``5 min ago``."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    long = age(moment, now)
    return long if long == "just now" else f"{long} ago"


def lasted(moment: str | datetime, now: datetime) -> str:
    """Return how long something has lasted: ``5 min``."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    long = age(moment, now)
    return "under 1 min" if long == "just now" else long


def plain(value: float) -> str:
    """Return a threshold as short as it is: ``88``, ``38.5``."""
    return f"{value:g}"


def usual(baseline: dict[str, Any] | None, decimals: int) -> str:
    """Return the usual range, center and two spreads either way: ``usual 54–70``, or that it is still being learned."""
    if not baseline:
        return ""
    low = max(0.0, baseline["center"] - 2 * baseline["spread"])
    told = "usual" if baseline["learned"] else f"still learning, {baseline['days']} of {LEARNED} days:"
    return f"{told} {low:.{decimals}f}–{baseline['center'] + 2 * baseline['spread']:.{decimals}f}"


def spark(row: dict[str, Any]) -> dict[str, Any]:
    """Return what the small picture of a row's last day draws: runs of points without a gap, and its usual band."""
    data: dict[str, Any] = row["spark"]
    baseline: dict[str, float] | None = row["baseline"]
    times, mean = data["times_ms"], data["mean"]
    decimals = row["metric"]["decimals"]
    if not times:
        return {"runs": [], "band": None, "last": None, "words": f"{row['metric']['title']}: no closed hour in 24 h"}
    low, high = float(min(mean)), float(max(mean))
    edges = [low, high]
    if baseline:
        edges += [baseline["center"] - 2 * baseline["spread"], baseline["center"] + 2 * baseline["spread"]]
    bottom, top = min(edges), max(edges)
    tall = (top - bottom) or 1.0
    begin, span = int(data["from_ms"]), int(data["to_ms"] - data["from_ms"])

    def x(t_ms: float) -> float:
        return round(SPARK_PAD + (t_ms - begin) / span * (SPARK_WIDTH - 2 * SPARK_PAD), 1)

    def y(value: float) -> float:
        return round(SPARK_HEIGHT - SPARK_PAD - (value - bottom) / tall * (SPARK_HEIGHT - 2 * SPARK_PAD), 1)

    runs: list[list[tuple[float, float]]] = []
    for i, t_ms in enumerate(times):
        if i == 0 or t_ms - times[i - 1] >= SPARK_GAP_MS:
            runs.append([])
        runs[-1].append((x(t_ms), y(mean[i])))
    return {
        "runs": runs,
        "band": (y(edges[3]), y(edges[2]) - y(edges[3])) if baseline else None,
        "last": runs[-1][-1],
        "words": f"{row['metric']['title']}, last 24 h by the hour: "
        f"{words.number(low, decimals)} to {words.number(high, decimals)} {row['metric']['unit_words']}",
    }


SCORE_STATES: Final = {"complete": "Complete", "partial": "Partial", "unknown": "Not known", "off": "Off"}
# why a parameter of a clinical score has no points, where nothing else says it
NOT_COUNTED: Final = {
    "missing": "missing: never received",
    "doubted": "not counted: doubted by the device, or its clock is ahead",
    "rest_unknown": "not counted: not known to be at rest, activity is withheld",
    "needs_oxygen": "not counted: above 92 % it goes by supplemental oxygen, which is not known",
    "apart": "not counted: pulse and pressure are more than 15 min apart",
}


def not_counted(parameter: dict[str, Any]) -> str:
    """Return why a parameter of a clinical score does not count; empty where it does."""
    if parameter["state"] == "too_old":
        return f"too old: counts for {parameter['max_age_s'] // 3600} h"
    if parameter["state"] == "doubted" and parameter["metric"]["key"] in AT_REST:
        return f"{NOT_COUNTED['doubted']}, or not at rest"
    return NOT_COUNTED.get(parameter["state"], "")


COMPARED: Final = {
    "first_weeks": "Last 4 weeks, with the first weeks",
    "four_weeks_before": "Last 4 weeks, with the 4 before",
    "eight_weeks": "Slope of 8 weeks, a week",
    "same_weekdays": "Last 7 days, with the same weekdays",
}


def day(text: str) -> str:
    """Return a local day as people write it: ``22 Nov 2026``."""
    when = date.fromisoformat(text)
    return f"{when.day} {when:%b %Y}"


def compared(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparisons of quantities of which any day is known."""
    known = {one["quantity"] for one in changes if one["days"] or one["compared_days"]}
    return [one for one in changes if one["quantity"] in known]


def difference(change: dict[str, Any]) -> str:
    """Return a comparison's difference with its word: ``+3.1, higher``."""
    word = {"higher": "higher", "lower": "lower"}.get(change["state"], "no clear change")
    return f"{_signed(change, 'change')}, {word}"


def interval(change: dict[str, Any]) -> str:
    """Return the interval of a difference: ``+1.2 to +4.9``."""
    return f"{_signed(change, 'low')} to {_signed(change, 'high')}"


def _signed(change: dict[str, Any], which: str) -> str:
    return signed(change[which], change["decimals"] + (change["kind"] == "eight_weeks"))


# keys of an alert's evidence → how they are called; others are shown by their own name
EVIDENCE: Final = {
    "day": "Day",
    "value": "Value",
    "worst": "Worst value",
    "first_value": "First value",
    "usual": "Usual for this person",
    "difference": "Difference from usual",
    "center": "Baseline center",
    "spread": "Baseline spread",
    "z": "Spreads from baseline",
    "p": "Chance in an ordinary time (p)",
    "n_days": "Days behind the baseline",
    "heart_z": "Spreads from usual, both heart rates",
    "other_context": "The other heart rate's context",
    "other_value": "The other heart rate",
    "other_usual": "Usual for it",
    "other_z": "Spreads from usual, the other one",
    "other_n_days": "Days behind it",
    "drifted": "Told as a drift now",
    "level": "Mean since it was first told",
    "minutes": "Minutes measured",
    "active_minutes": "Minutes of activity, left out",
    "recovering_minutes": "Minutes after activity, left out",
    "measured": "As measured by another device",
    "taken_off": "Taken off for another device",
    "taken_off_sd": "Doubt about that (one SD)",
    "device_since_day": "Day since which another device measures",
    "device_nights": "Nights from which its difference was learned",
    "threshold": "Limit",
    "limit_set_by": "Whose limit",
    "clear": "Clears at",
    "n": "Readings",
    "context": "Context",
    "persist_s": "Must last, seconds",
    "seldom": "Measured so seldom that readings in a row count",
    "from_ms": "From",
    "to_ms": "To",
    "last_reading_ms": "Last reading",
    "zone_since_day": "In another time zone since",
    "since_day": "Began on",
    "least": "Lowest reading of the weighing",
    "within_days": "Within days",
    "base": "Counted from",
    "from_day": "Which was weighed on",
    "gain": "Gain",
    "same_weighing": "Seen twice in one weighing",
    "jump": "May be another person or another scale",  # told only where it may
    "near": "Near that again in two weighings in a row",
    "ends_above": "Ends no more above it than",
    "calm": "Or after so many weighings that did not rise further",
}


_PLACE: Final = {key: place for place, key in enumerate(EVIDENCE)}


def evidence(facts: dict[str, Any], where: str, now: datetime) -> list[tuple[str, str]]:
    """Return an alert's evidence as (name, value) in words, in one order; lists are left to the API."""
    shown = []
    for key, value in sorted(facts.items(), key=lambda fact: _PLACE.get(fact[0], len(_PLACE))):
        if isinstance(value, (list, dict)) or value is None or key in ("metric", "step"):
            continue
        if key == "jump" and not value:  # that it is neither is not known: no all-clear
            continue
        if key.endswith("_ms") and isinstance(value, int):
            text = local(datetime.fromtimestamp(value / 1000, UTC), where, now)
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        elif (key == "day" or key.endswith("_day")) and isinstance(value, int):
            text = day(str(iso(value)))
        elif isinstance(value, float):
            text = kilograms(value) if facts.get("metric") == "weight" else f"{value:.4g}"
        elif key == "limit_set_by":
            text = WHOSE.get(str(value), str(value))
        else:
            text = words.CONTEXT_WORDS.get(str(value), str(value).replace("_", " "))
        shown.append((EVIDENCE.get(key, key.removesuffix("_ms").replace("_", " ").capitalize()), text))
    return shown


def looked_at(alert: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what else could have caused a clinical alert, and what became of it, as (name, value)."""
    return considered.in_words(alert["evidence"])


def measured_by(alert: dict[str, Any]) -> list[str]:
    """Return by what a clinical alert was measured, and how exactly that kind of device does, a line a device."""
    if alert["kind"] != "clinical":
        return []
    facts = alert["evidence"]
    named = [("Measured", facts["metric"], facts["devices"])] if "devices" in facts else []
    for vital in facts.get("vitals", ()):
        title = catalogue()[vital["metric"]].title
        named += [(f"{title} measured", vital["metric"], vital["devices"])] if "devices" in vital else []
    shown = [f"{what} by {_device(metric, one)}" for what, metric, devices in named for one in devices]
    return shown or ["Measured by: not recorded, accuracy not known"]


def _device(metric: str, one: dict[str, Any]) -> str:
    stated = one["accuracy"]
    what = f"{one['device']} ({device_class(one['class'])})"
    if stated is None:
        return f"{what}: accuracy not known"
    unit = "% of the value" if stated["relative"] else words.unit_of(metric)
    note = f"; {stated['note']}" if stated["note"] else ""
    return f"{what}: may be off by {plain(stated['error'])} {unit}, {stated['measure']}{note}"


def device_class(name: str) -> str:
    """Return a device's class as people call it."""
    return device_classes.NAMES.get(name, name)
