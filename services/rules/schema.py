"""The JSON Schema of a rules file, made from the bounds, the catalogue and the profile that the code checks by."""

from __future__ import annotations

import json
from typing import Any, Final, get_args

import msgspec

from detectors.rules import RULES
from ingest.catalogue import catalogue
from services import adaptive
from services.limits import BOUNDS, LIMITS, Bounds
from services.profile import Profile
from services.rules.examples import METRICS, NOTHING, TIME, TIMES
from services.rules.form import FOR, Level

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_WHOM: Final = r"^\s*(organisation|(programme|patient)\s+\S+)\s*$"
_TIME: Final = {"type": "string", "pattern": f"^{TIME}$", "description": "since the example begins, e.g. 5 min"}


def schema() -> dict[str, Any]:
    """Return the schema; what it can't say (levels in order, dates that fit) is checked when a file is read."""
    _, profile = msgspec.json.schema_components([Profile], ref_template="#/$defs/{name}")
    return {
        "$schema": DIALECT,
        "title": "Keepwell rules file",
        "description": "One layer of limits, bounds of drifts and alert budget, as docs/rules.md describes it",
        **_map(
            {
                "for": {"type": "string", "pattern": _WHOM, "description": FOR},
                "version": {"type": "integer", "minimum": 1, "description": "the version that this file makes"},
                "rules": _map({rule: _rule(rule, bounds) for rule, bounds in BOUNDS.items()} | _adaptive()),
                "examples": {"type": "array", "items": _example()},
            },
            "for", "version", "rules",
        ),
        "$defs": profile,
    }  # fmt: skip


def as_text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(schema(), indent=2) + "\n"


def _map(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **needed, "additionalProperties": False}


def _rule(rule: str, bounds: Bounds) -> dict[str, Any]:
    limit = LIMITS[rule]
    levels = [
        {"type": "number", "minimum": low, "maximum": high, "description": f"{priority}; {threshold:g} for everybody"}
        for (low, high), (threshold, priority) in zip(bounds.levels, limit.levels, strict=True)
    ]
    n, (shortest, longest) = len(levels), bounds.persist_s
    settings = {
        "levels": {"type": "array", "prefixItems": levels, "minItems": n, "maxItems": n},
        "persist_s": {"type": "integer", "minimum": shortest, "maximum": longest},
    }
    unit = catalogue()[limit.metric].unit
    return _map(settings) | {"description": f"{limit.title}, {unit}", "minProperties": 1}


def _adaptive() -> dict[str, Any]:
    """Return what can be said of the rules against the own normal: a drift's bound, and the budget of all of them."""
    found: dict[str, Any] = {}
    for rule, (low, high) in adaptive.DRIFT_BOUNDS.items():
        usual, unit = adaptive.USUAL_BOUNDS[rule], adaptive.unit_of(rule)
        bound = {"type": "number", "minimum": low, "maximum": high, "description": f"{usual:g} for everybody"}
        found[rule] = _map({"bound": bound}, "bound") | {"description": f"{RULES[rule].title}, {unit}"}
    budgets = [*map(float, adaptive.BUDGETS), *adaptive.BUDGETS]
    found[adaptive.TOGETHER] = _map(
        {"alert_budget": {"enum": budgets, "description": adaptive.UNIT}}, "alert_budget"
    ) | {"description": adaptive.TITLE}
    return found


def _example() -> dict[str, Any]:
    ranges = {metric: catalogue()[metric].hard for metric in METRICS}
    values = {metric: {"type": "number", "minimum": low, "maximum": high} for metric, (low, high) in ranges.items()}
    row = _map(dict.fromkeys(TIMES, _TIME) | values, "at") | {"minProperties": 2}
    found = _map(
        {"rule": {"enum": list(LIMITS)}, "at": _TIME, "level": {"enum": list(get_args(Level))}},
        "rule", "at", "level",
    )  # fmt: skip
    return _map(
        {
            "name": {"type": "string"},
            "profile": {"$ref": "#/$defs/Profile"},
            "readings": {"type": "array", "items": row},
            "expect": {"anyOf": [{"const": NOTHING}, {"type": "array", "minItems": 1, "items": found}]},
        },
        "readings", "expect",
    )  # fmt: skip
