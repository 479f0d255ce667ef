"""What is individual about a patient as it stands: limits, bounds and budget, who set them, and which rules are off."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

from detectors.adult_limits import Limit
from detectors.choices import Choice
from detectors.limit_sets import LimitSet
from detectors.limits import DEFAULT_LIMITS, ONLY_BY_PROFILE, Limits
from detectors.protocol import Rule
from detectors.rules import ADAPTIVE_RULES, NEWS2_HIGH, RULES, WEIGHT_GAIN, WHY_OFF
from ingest.clock import to_datetime, to_ms
from services import adaptive, profile
from services.api import chosen, words
from services.api.monitoring import ROWS, by
from services.api.query import Connection, Row, every
from services.api.times import rfc3339
from services.limits import BOUNDS
from services.processor import individual
from services.processor.change import PatientChange

EVERYBODY: Final = Limits().everybody
_OF: Final[LiteralString] = """
    WHERE c.patient_id = %s AND c.kind IN ('profile', 'limits') ORDER BY effective_at DESC, c.id DESC LIMIT 1000"""


class Individual(NamedTuple):
    """A patient's profile and limits at an instant; ``rows`` the changes they come of, the newest first."""

    rows: list[Row]
    timeline: list[tuple[int, LimitSet]]
    choices: list[tuple[int, Choice]]
    at_ms: int

    @property
    def limits(self) -> LimitSet:
        """Return what holds now."""
        place = bisect_right(self.timeline, self.at_ms, key=lambda entry: entry[0])
        return self.timeline[place - 1][1] if place else EVERYBODY

    @property
    def choice(self) -> Choice:
        """Return what somebody chose of the rules against the own normal, as it holds now."""
        place = bisect_right(self.choices, self.at_ms, key=lambda entry: entry[0])
        return self.choices[place - 1][1] if place else Choice()

    def latest(self, kind: str, subject: str) -> Row | None:
        """Return the change of a kind and subject that holds now."""
        return next(
            (
                row for row in self.rows
                if (row["kind"], row["subject"]) == (kind, subject) and to_ms(row["effective_at"]) <= self.at_ms
            ),
            None,
        )  # fmt: skip

    @property
    def profile(self) -> profile.Profile | None:
        """Return the profile that holds now."""
        row = self.latest("profile", "")
        return None if row is None else profile.of(row["payload"])


async def read(connection: Connection, patient_id: int, now: datetime) -> Individual:
    """Return what was said of a patient's profile and limits."""
    rows = await every(connection, ROWS + _OF, [patient_id])
    changes = [
        PatientChange(
            to_ms(row["effective_at"]), row["id"], row["kind"], row["subject"], row["payload"], row["person_id"]
        )
        for row in reversed(rows)
    ]
    return Individual(rows, individual.timeline(changes), individual.choices(changes), to_ms(now))


def limits(one: Individual, usual_budget: str | None = None) -> list[dict[str, Any]]:
    """Return each rule as it holds for the patient: its numbers, where they come from, or why it is off.

    At last the budget of all adaptive rules; ``usual_budget``: of whom nobody set one.
    """
    own = one.limits
    shown = [_limit(one, own, limit) for limit in own.limits]
    shown += [_other(one, rule) | _state(one, own, rule.id) for rule in (NEWS2_HIGH, WEIGHT_GAIN, *ADAPTIVE_RULES)]
    return [*shown, chosen.budget(one.choice, usual_budget) | _origin(one, adaptive.TOGETHER)]


def _other(one: Individual, rule: Rule) -> dict[str, Any]:
    """Return a rule without a limit; of a drift with its bound and where that comes from."""
    named, drift = {"rule": rule.id, "title": rule.title, "kind": rule.kind}, chosen.drift(one.choice, rule)
    return named | drift | (_origin(one, rule.id) if drift else {})


def _origin(one: Individual, rule: str) -> dict[str, Any]:
    origin = chosen.origin(one.choice, rule)
    return {"origin": origin, "set": _who(one, origin, rule)}


def _limit(one: Individual, own: LimitSet, limit: Limit) -> dict[str, Any]:
    origin = own.origin.get(limit.rule, "everybody")
    bounds = BOUNDS[limit.rule]
    return {
        "rule": limit.rule,
        "title": limit.title,
        "kind": "safety",
        "metric": limit.metric,
        "unit": words.unit_of(limit.metric),
        "side": limit.side,
        "inclusive": limit.inclusive,
        "levels": [{"threshold": threshold, "priority": priority} for threshold, priority in limit.levels],
        "clear": limit.clear,
        "persist_s": limit.persist_s,
        "origin": origin,
        "set": _who(one, origin, limit.rule),
        "bounds": {"levels": bounds.levels, "persist_s": bounds.persist_s},
    } | _state(one, own, limit.rule)


def _state(one: Individual, own: LimitSet, rule: str) -> dict[str, Any]:
    if rule not in own.off:
        return {"state": "on", "off_since": None, "off_reason": None}
    who = profile.conditions(one.profile, one.at_ms)
    reasons = [WHY_OFF[condition] for condition in RULES[rule].not_for if condition in who]
    since = None
    for mark, limit_set in reversed([entry for entry in one.timeline if entry[0] <= one.at_ms]):
        if rule not in limit_set.off:
            break
        since = mark
    from_the_start = rule in ONLY_BY_PROFILE and since == (one.timeline[0][0] if one.timeline else None)
    return {
        "state": "off",
        "off_since": None if since is None or from_the_start else rfc3339(to_datetime(since)),
        "off_reason": "; ".join(reasons),
    }


def _who(one: Individual, origin: str, rule: str) -> list[dict[str, Any]]:
    """Return who set a limit's numbers, and since when; of programmes each that says something of it."""
    rows = [one.latest(*about) for about in _sources(one, origin)]
    return [
        {"by": by(row), "since": rfc3339(row["effective_at"]), "of": row["subject"] or row["kind"]}
        for row in rows
        if row is not None and (row["kind"] == "profile" or rule in row["payload"]["rules"])
    ]


def _sources(one: Individual, origin: str) -> list[tuple[str, str]]:
    if origin == "profile":
        return [("profile", "")]
    if origin == "programme":
        return sorted(
            {("limits", row["subject"]) for row in one.rows if row["subject"].startswith(individual.PROGRAMME)}
        )
    return [("limits", origin)]


def note(one: Individual, *, plain: bool = False) -> tuple[bool, str]:
    """Return whether anything is individual about a patient's limits, and the sentence every screen shows.

    ``plain``: in words for the patient, and without who said it.
    """
    if plain:
        return _plain_note(one)
    who, own = one.profile, one.limits
    said = [] if who is None else _said(who)
    titles = {limit.rule: limit.title.lower() for limit in DEFAULT_LIMITS}
    said += [f"own limit for {titles[rule]}" for rule, origin in own.origin.items() if origin != "profile"]
    beside = chosen.sentence(one.choice)
    if not said:
        return False, words.NOT_INDIVIDUALISED + beside
    newest = next(row for row in one.rows if to_ms(row["effective_at"]) <= one.at_ms)
    person = newest["by_name"] if newest["person_id"] is not None else "the command line"
    since = f"{newest['effective_at']:%-d %b %Y}"
    return True, f"Limits individualised: {', '.join(said)} (last by {person}, from {since}).{beside}"


def _plain_note(one: Individual) -> tuple[bool, str]:
    who = one.profile
    about = [] if who is None else _said(who, names=False)
    titles = {limit.rule: limit.title.lower() for limit in DEFAULT_LIMITS}
    moved = [titles[rule] for rule, origin in one.limits.origin.items() if origin != "profile"]
    said = [f"What is known of you: {', '.join(about)}."] if about else []
    said += [f"Limits that are not the general ones: {', '.join(moved)}."] if moved else []
    return bool(said), " ".join(said or [words.NOT_INDIVIDUALISED_PLAIN]) + chosen.patient_sentence(one.choice)


def _said(who: profile.Profile, *, names: bool = True) -> list[str]:
    """Return what a profile says, in words."""
    flags = {
        "known atrial fibrillation": who.known_af, "pacemaker": who.pacemaker, "dialysis": who.dialysis,
        "rate-limiting drugs": who.rate_limiting_drugs, "works at night": who.night_work,
        "under 16, adults' limits off": who.adult_limits == "off",
    }  # fmt: skip
    said = [name for name, holds in flags.items() if holds]
    if who.oxygen is not None:
        low, high = who.oxygen.target
        home = {True: ", oxygen at home", False: ", no oxygen at home", None: ""}[who.oxygen.home]
        by = f" (set by {who.oxygen.set_by})" if names else ""
        said.insert(0, f"oxygen saturation wanted {low} to {high} %{home}{by}")
    if who.pregnancy is not None:
        said.append(f"pregnant {who.pregnancy.begins} to {who.pregnancy.ends}")
    if who.ceiling_of_care != "everything":
        said.append(f"ceiling of care: {who.ceiling_of_care.replace('_', ' ')}")
    return said
