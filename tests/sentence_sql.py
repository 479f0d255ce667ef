"""Is every number in every sentence true? Each is recomputed by SQL from the stored readings.

Written from docs/detection.md and the schema; it shares no code with what made the sentences. What is taken from the
alert itself: whom it is about, its rule, where it started, the instants of its changes and the wearer's UTC offset.
Of the stored daily values only their `used` mark is read: which days the baseline had taken in.

    tokens of the sentence (numbers, months)  ==  tokens expected from SQL, in order and without remainder
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

import psycopg

from tests import night_falls, sentence_limits, sentence_news2, sentence_weight
from tests.sentence_rules import (
    ASLEEP,
    AT_REST,
    BASELINE_DAYS,
    CONFUSED,
    DAY,
    DRIFT,
    GATE,
    GOOD,
    HOUR,
    LIMITS,
    LONGEST,
    MAY_BE_OFF,
    MEASURED_BY,
    MEMORY_DAYS,
    MINUTE,
    MINUTES,
    NIGHT,
    NIGHT_MINUTES,
    REST_MINUTES,
    RUN,
    SHIFT,
    SLOW,
    STEPS,
    UNPACK,
    USUAL,
    VITALS,
    VITALS_ASLEEP,
    LimitRule,
    UsualRule,
)  # fmt: skip
from tests.sentence_words import (
    MONTHS,
    TOKEN,
    Apart,
    Expected,
    Shown,
    Untrue,
    compare,
    day_of,
    duration,
    plain,
    precise,
    since,
    span,
)  # fmt: skip
from tests.slow_rise import Day, days


class Told(NamedTuple):
    """One sentence: who, which rule, where the episode began, the instant it speaks of and the wearer's offset."""

    patient: int
    rule: str
    change: str
    start: datetime
    at: datetime
    offset: timedelta
    texts: tuple[str, ...]  # the care team's, and the patient's where it is the latest


@dataclass(slots=True)
class Report:
    """What was checked; ``problems`` is empty when every number is true."""

    sentences: int = 0
    numbers: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)  # reason → sentences
    problems: list[str] = field(default_factory=list)


def check_sentences(connection: psycopg.Connection[Any]) -> Report:
    """Recompute every number of every sentence in ``alert`` and ``alert_event``.

    ``connection`` must see all rows (the schema's owner); temporary tables are made and dropped in it.

    Raises:
        psycopg.Error: the database can't be read.
    """
    report = Report()
    devices = sorted((str(row[0]) for row in connection.execute("SELECT key FROM device")), key=len, reverse=True)
    patients = [int(row[0]) for row in connection.execute("SELECT DISTINCT patient_id FROM alert ORDER BY 1")]
    for patient in patients:
        with connection.transaction():
            connection.execute(UNPACK, [patient])
            connection.execute("CREATE INDEX ON told (metric, t)")
            connection.execute("ANALYZE told")
            checker = _Patient(connection, patient)
            for told in _sentences(connection, patient, report):
                _check(checker, told, devices, report)
            checker.forget()
    return report


def _sentences(connection: psycopg.Connection[Any], patient: int, report: Report) -> list[Told]:
    rows = connection.execute(
        """SELECT a.rule, e.change, a.started_at, e.at, (a.evidence->>'utc_offset_min')::int, e.sentence, a.sentence,
                  a.patient_sentence, a.state, e.id = max(e.id) FILTER (WHERE e.sentence <> '') OVER (PARTITION BY a.id)
           FROM alert a JOIN alert_event e ON e.alert_id = a.id
           WHERE a.patient_id = %s AND e.change IN ('raised', 'settled', 'worsened', 'resolved') ORDER BY e.id""",
        [patient],
    ).fetchall()
    found = []
    for rule, change, start, at, offset, text, latest, to_patient, state, last in rows:
        if not text:
            continue
        if state == "withdrawn":
            report.left_out["withdrawn: later data removed its evidence"] += 1
            continue
        if rule == "clock_fault":
            report.left_out["clock_fault: about a frame's stamp, not about readings"] += 1
            continue
        if last and text != latest:
            report.problems.append(f"patient {patient} {rule}: the alert says {latest!r}, its history {text!r}")
        texts = (text, to_patient) if last else (text,)
        found.append(Told(patient, rule, change, start, at, timedelta(minutes=offset or 0), texts))
    return found


def _check(checker: _Patient, told: Told, devices: list[str], report: Report) -> None:
    for place, text in enumerate(told.texts):
        report.sentences += 1
        report.rules[told.rule] += 1
        bare = text
        for device in devices:
            bare = bare.replace(device, "")
        tokens = TOKEN.findall(bare)
        report.numbers += len(tokens)
        try:
            expected = checker.expected(told, bare, tokens)
            alone = [*checker.doubt, *checker.happened(told)] if place == 0 else []  # said to the care team alone
            compare(tokens, [*expected, *alone])
        except Untrue as error:
            report.problems.append(f"patient {told.patient} {told.rule} {told.change}: {error}; it says {text!r}")


def _compared(value: float, usual: float, decimals: int, text: str) -> Expected:
    """Return the tokens of a value against its usual one; Untrue where the sentence names the wrong side."""
    shown: Expected = [Shown(value, decimals), Apart(decimals), Shown(usual, decimals)]
    if f"{value:.{decimals}f}" == f"{usual:.{decimals}f}" and ("equal to" in text or "back at" in text):
        del shown[1]
    elif (" above" in text) != (value > usual):
        msg = f"{value} is not on that side of {usual}"
        raise Untrue(msg)
    return shown


class _Patient:
    """What SQL finds of one patient; its readings are in the temporary table ``told``."""

    def __init__(self, connection: psycopg.Connection[Any], patient: int) -> None:
        self._connection = connection
        self._patient = patient
        self._days: dict[tuple[str, timedelta], dict[date, float]] = {}
        self._made: set[str] = set()
        self.doubt: Expected = []  # what the devices of the sentence looked at last may be off by, where it says so

    def expected(self, told: Told, text: str, tokens: list[str]) -> Expected:
        """Return the tokens a sentence must have.

        Raises:
            Untrue: SQL finds nothing of what it says.
        """
        self.doubt = []
        if told.rule in LIMITS:
            return self._of_limit(told, LIMITS[told.rule], text, tokens)
        if told.rule == "news2_high":
            return sentence_news2.expected(self._connection, self._patient, told, text, tokens)
        if told.rule == "weight_gain":
            return sentence_weight.expected(self._connection, told, text)
        if told.rule in DRIFT:
            return self._of_drift(told)
        if told.rule in SHIFT:
            return self._of_shift(told, text)
        if told.rule in SLOW:
            return self._of_rise(told, text)
        if told.rule in USUAL:
            return self._of_usual(told, USUAL[told.rule], text)
        if told.rule in ("night_vitals_together", "wearer_in_doubt"):
            return self._several(told, text)
        if told.rule.startswith("check_value_"):
            return self._check_value(told, told.rule.removeprefix("check_value_"))
        others: dict[str, Callable[[Told], Expected]] = {
            "night_desaturations": self._falls,
            "not_worn": self._not_worn,
            "poor_signal": self._poor_signal,
            "battery_low": self._battery,
            "device_silent": self._silent,
        }
        if told.rule not in others:
            msg = "no way to recompute this rule; add one"
            raise Untrue(msg)
        return others[told.rule](told)

    def happened(self, told: Told) -> Expected:
        """Return the tokens of what was written down of the person that bears on the rule's metric at that instant."""
        if told.change == "resolved":
            return []
        rows = self._connection.execute(
            """SELECT DISTINCT (payload->>'day')::date AS day, payload->>'words' AS words,
                      payload->'effects'->a.metric AS effect, extract(epoch FROM %(at)s)::bigint / 86400
                          - ((payload->>'day')::date - date '1970-01-01') AS gone
               FROM patient_change c, (SELECT evidence->>'metric' AS metric FROM alert
                                       WHERE patient_id = %(patient)s AND rule = %(rule)s LIMIT 1) a
               WHERE patient_id = %(patient)s AND kind = 'life_event' AND payload->'effects' ? a.metric
                 AND NOT (payload->>'withdrawn')::boolean
                 AND version = (SELECT max(version) FROM patient_change v
                                WHERE (v.patient_id, v.kind, v.subject) = (c.patient_id, c.kind, c.subject))
                 AND %(at)s >= (payload->>'day')::timestamp AT TIME ZONE 'UTC'
                 AND %(at)s < ((payload->>'day')::date + (payload->>'days')::int)::timestamp AT TIME ZONE 'UTC'
                 AND NOT EXISTS (  -- another event by which it is over
                   SELECT 1 FROM patient_change e WHERE (e.patient_id, e.kind) = (c.patient_id, c.kind)
                     AND e.payload->>'ends' = c.payload->>'event' AND e.payload->>'day' >= c.payload->>'day'
                     AND NOT (e.payload->>'withdrawn')::boolean
                     AND e.version = (SELECT max(version) FROM patient_change v
                                      WHERE (v.patient_id, v.kind, v.subject) = (e.patient_id, e.kind, e.subject))
                     AND %(at)s >= (e.payload->>'day')::timestamp AT TIME ZONE 'UTC')
               ORDER BY 1, 2""",
            {"patient": self._patient, "rule": told.rule, "at": told.at},
        ).fetchall()
        tokens: Expected = []
        for day, words, effect, gone in rows[-3:]:
            size = effect.get("size") if gone < effect.get("days", gone + 1) else None
            if size and "over" in effect:  # so far after as many weeks as have begun
                size = min(size, size * 7 * (gone // 7 + 1) / effect["over"])
            tokens += [
                *TOKEN.findall(words),
                str(day.day),
                MONTHS[day.month - 1],
                *([plain(float(size))] if size else []),
            ]
        return tokens

    def forget(self) -> None:
        """Drop the temporary tables."""
        names = ", ".join(["told", *(f"usable_{metric}" for metric in self._made)])
        self._connection.execute(f"DROP TABLE {names}".encode())

    def _one(self, query: str, **values: object) -> tuple[Any, ...]:
        row = self._connection.execute(query.encode(), values).fetchone()
        if row is None or row[0] is None:
            msg = "nothing of it in the stored readings"
            raise Untrue(msg)
        return tuple(row)

    # ------------------------------------------------------------ limits

    def _run(self, rule: LimitRule, past: str, told: Told, text: str) -> tuple[datetime, int, float, float]:
        query, end = RUN.format(past=past, good=GOOD), told.at
        first, last, n, high, low, seldom = self._one(query, metric=rule.metric, gap=rule.gap, longest=LONGEST, end=end)
        if last != end:
            msg = f"no such reading at {end:%H:%M}; the last one was at {last:%H:%M}"
            raise Untrue(msg)
        if seldom != ("in a row" in text) or (" apart" in text) != (seldom and n == 2):
            msg = f"of {n} readings, seldom: {seldom}, something else is told"
            raise Untrue(msg)
        return first, n, high, low

    def _of_limit(self, told: Told, rule: LimitRule, text: str, tokens: list[str]) -> Expected:
        if told.change == "resolved":
            return self._cleared(told, rule, text)
        when = sentence_limits.held(self._connection, self._patient, told.rule)
        levels = next(one.levels for one in reversed(when) if one.since <= told.at)
        level = next((place for place in range(len(levels))[::-1] if plain(levels[place]) == tokens[1]), None)
        if level is None:
            msg = f"{tokens[1]} is no threshold of this rule; it had {levels}"
            raise Untrue(msg)
        threshold = levels[level]
        past = f"({sentence_limits.beyond(rule, when, level, told.at)}{AT_REST if rule.at_rest else ''})"
        first, n, high, low = self._run(rule, past, told, text)
        worst = high if rule.above else low
        if level == 0:
            self.doubt = self._doubt(told, rule, first, worst, abs(float(plain(worst)) - threshold))
        return [plain(worst), plain(threshold), *self._lasted(told, first, n, text, told_of=rule.lasting)]

    def _lasted(self, told: Told, first: datetime, n: int, text: str, *, told_of: bool) -> Expected:
        """Return the tokens of how long a run lasted, of how many readings it is, and from when to when."""
        lasted, when = duration(told.at - first), span(first, told.at, told.offset)
        if "in a row" in text:
            return [str(n), *lasted, *when]
        return [*(lasted if told_of else []), str(n), *when]

    def _doubt(self, told: Told, rule: LimitRule, first: datetime, worst: float, beyond: float) -> Expected:
        """The error of the most exact device, where every one that measured may be off by as much as it is beyond."""
        query = MEASURED_BY.format(good=GOOD)
        values = {"patient": self._patient, "metric": rule.metric, "end": told.at, "first": first}
        rows = self._connection.execute(query.encode(), values).fetchall()
        errors = [MAY_BE_OFF.get((device_class, rule.metric)) for _, device_class in rows]
        off = [one[0] * worst / 100 if one[1] else one[0] for one in errors if one is not None]
        return [plain(min(off))] if off and len(off) == len(rows) and min(off) >= round(beyond, 1) else []

    def _cleared(self, told: Told, rule: LimitRule, text: str) -> Expected:
        when = sentence_limits.held(self._connection, self._patient, told.rule)
        past = sentence_limits.back(rule, when, told.at)
        first, n, _, _ = self._run(rule, past, told, text)
        worst = self._one(
            f"""SELECT {"max" if rule.above else "min"}(value) FROM told
                WHERE metric = %(metric)s AND {GOOD} AND t BETWEEN %(start)s AND %(end)s""",
            metric=rule.metric, start=told.start, end=told.at,
        )[0]  # fmt: skip
        clear = next(one.clear for one in reversed(when) if one.since <= told.at)
        return [plain(clear), *self._lasted(told, first, n, text, told_of=told.at > first), plain(worst)]

    # ------------------------------------------------------------ against one's own days

    def _of_usual(self, told: Told, rule: UsualRule, text: str) -> Expected:
        day = day_of(told.at - MINUTE, told.offset) if rule.asleep else day_of(told.at - HOUR, told.offset)
        if rule.asleep:
            value, before = self._night(rule, told, day), self._night_before(rule, told, day)
            opening: Expected = [str(day.day), MONTHS[day.month - 1]]
        else:
            value, before = self._hour(told, told.at - HOUR), None
            if "second hour" in text:
                before = self._hour_before(told)
            opening = [*span(told.at - HOUR, told.at, told.offset)]
        known = self._used_before(rule, told, day)
        usual, n = median(known), len(known)
        if "in a row" in text and (before is None or before <= usual):
            msg = f"the one before was {before}, not above the usual {usual}"
            raise Untrue(msg)
        return [*opening, *_compared(value, usual, rule.decimals, text), str(n)]

    def _of_rise(self, told: Told, text: str) -> Expected:
        """The day's heart rate that is further above its slow mean, then the other one where both are known."""
        day = day_of(told.at - MINUTE, told.offset)
        values, judged = self._slow(told, day)
        z = [-math.inf if one is None else one for one in judged.z]
        first = z.index(max(z))
        if ("in the night" in text, "at rest by day" in text.partition(";")[0]) != (first == 0, first == 1):
            msg = f"of asleep and at rest by day, {z} SDs above the usual, the other one is told first"
            raise Untrue(msg)
        value, other = values[first], values[1 - first]
        if value is None:
            msg = f"no value for {day}"
            raise Untrue(msg)
        shown = _compared(value, judged.usual[first], 0, text)
        further: Expected = []
        if told.change != "resolved" and other is not None and judged.z[1 - first] is not None:
            further = [Shown(other, 0), Shown(judged.usual[1 - first], 0)]
        if told.rule == "resting_heart_rate_new_normal" and told.change != "resolved":
            since = day_of(told.start, told.offset)
            further += [str(since.day), MONTHS[since.month - 1]]
        return [str(day.day), MONTHS[day.month - 1], *shown, str(judged.n[first]), *further]

    def _several(self, told: Told, text: str) -> Expected:
        """The night's value and the usual one of each vital that the sentence names; since when, once it is over."""
        if "asked no longer" in text:
            since = day_of(told.start, told.offset)
            return [str(since.day), MONTHS[since.month - 1]]
        day = day_of(told.at - MINUTE, told.offset)
        named = sorted(
            (text.lower().find(words), rule) for words, rule in VITALS_ASLEEP.items() if words in text.lower()
        )
        shown: Expected = [str(day.day), MONTHS[day.month - 1]]
        for _, rule in named:
            values = self._night(rule, told, day), median(self._used_before(rule, told, day))
            shown += [Shown(value, rule.decimals) for value in values]
        return shown

    def _of_drift(self, told: Told) -> Expected:
        """The night, or where there is none the fortnight that ends with the day, and the first fortnight's median."""
        metric, decimals, least = DRIFT[told.rule]
        day = day_of(told.at - MINUTE, told.offset)
        values = self._daily(UsualRule(metric, decimals, True, least), told.offset)
        rows = self._connection.execute(
            """SELECT v.day FROM daily_value v JOIN metric m ON m.id = v.metric_id
               WHERE v.patient_id = %s AND m.key = %s AND v.context = 'asleep' AND v.used AND v.day <= %s ORDER BY 1""",
            [self._patient, metric, day],
        ).fetchall()
        used = [values[row[0]] for row in rows]
        now, first = values.get(day, median(used[-BASELINE_DAYS:])), median(used[:BASELINE_DAYS])
        shown: Expected = [Shown(now, decimals), Apart(decimals), str(BASELINE_DAYS), Shown(first, decimals)]
        return [str(day.day), MONTHS[day.month - 1], *shown]

    def _of_shift(self, told: Told, text: str) -> Expected:
        """The night against its slow mean: the slow rule's, or one that follows the nights the baseline used.

        Of the heart rates the one further below is told first, then the other one where both are known.
        """
        metric, decimals, least, side = SHIFT[told.rule]
        day, over = day_of(told.at - MINUTE, told.offset), told.change == "resolved"
        drifted = "is told as far from the first weeks now" in text
        further: Expected = []
        if metric == "heart_rate":
            values, judged = self._slow(told, day)
            z = [math.inf if one is None else one for one in judged.z]
            first = z.index(min(z))
            if ("in the night" in text, "at rest by day" in text.partition(";")[0]) != (first == 0, first == 1):
                msg = f"of asleep and at rest by day, {z} SDs from the usual, the other one is told first"
                raise Untrue(msg)
            value, usual, other = values[first], judged.usual[first], values[1 - first]
            if other is not None and z[1 - first] < math.inf:
                further = [Shown(other, 0), Shown(judged.usual[1 - first], 0)]
        else:
            nights = self._daily(UsualRule(metric, decimals, True, least), told.offset)
            used = [nights[one] for one in self._used(metric, day)]
            value, usual = nights.get(day), median(used[:BASELINE_DAYS])
            for night in used[BASELINE_DAYS:]:
                usual += (night - usual) / 28
        if value is None or not over and (value > usual) != (side == "higher"):
            msg = f"{value} in the night to {day}, usual {usual}: not {side}"
            raise Untrue(msg)
        if drifted and not over or (f"been {side} since" in text) != (drifted or not over):
            msg = f"{told.change}, and says otherwise"
            raise Untrue(msg)
        since = day_of(told.start, told.offset)
        began: Expected = [str(since.day), MONTHS[since.month - 1]] if drifted or not over else []
        return [*began, str(day.day), MONTHS[day.month - 1], *_compared(value, usual, decimals, text), *further]

    def _used(self, metric: str, before: date) -> list[date]:
        """Return the nights that the baseline has taken in before a day, the first one first."""
        rows = self._connection.execute(
            """SELECT v.day FROM daily_value v JOIN metric m ON m.id = v.metric_id
               WHERE v.patient_id = %s AND m.key = %s AND v.context = 'asleep' AND v.used AND v.day < %s ORDER BY 1""",
            [self._patient, metric, before],
        ).fetchall()
        return [row[0] for row in rows]

    def _falls(self, told: Told) -> Expected:
        """Count a night's falls once more from all the minutes asleep up to it."""
        self._make_minutes("spo2", jumps=True)
        rows = self._connection.execute(ASLEEP.encode(), {"offset": told.offset}).fetchall()
        day = day_of(told.at - MINUTE, told.offset).toordinal()
        counted = night_falls.nights((minute, one.toordinal(), value) for minute, one, value in rows)
        night = next((one for one in counted if one.day == day), None)
        if night is None:
            msg = f"no readings asleep in the night to {day_of(told.at - MINUTE, told.offset)}"
            raise Untrue(msg)
        to = date.fromordinal(day)
        times = [] if night.falls == 1 else [str(night.falls)]
        watched = [str(night.readings), *duration(night.minutes * MINUTE)]
        rate: Expected = [Shown(night.rate, 1)] if night.every_minute else []
        deepest = [plain(night.deepest)] if night.falls else []
        usual: Expected = [Shown(night.usual, 1), *([] if night.every_minute else ["60"]), str(night.n)]
        shown: Expected = ["4", *times, str(to.day), MONTHS[to.month - 1], *watched, *rate, *deepest]
        return [*shown, *(usual if night.n >= 5 else [])]

    def _slow(self, told: Told, day: date) -> tuple[tuple[float | None, float | None], Day]:
        """Return a day's heart rates asleep and at rest, and what the slow means make of them."""
        asleep = self._daily(UsualRule("heart_rate", 0, True, NIGHT_MINUTES), told.offset)
        by_day = self._daily(UsualRule("heart_rate", 0, False, REST_MINUTES), told.offset)
        steps: dict[date, float] = dict(self._connection.execute(STEPS.encode(), {"offset": told.offset}).fetchall())
        rest = {
            one: rate for one, rate in by_day.items() if one in steps
        }  # without steps nobody knows that it was rest
        known = sorted(one for one in asleep.keys() | steps.keys() if one <= day)
        return (asleep.get(day), rest.get(day)), days((asleep.get(d), rest.get(d), steps.get(d)) for d in known)[-1]

    def _used_before(self, rule: UsualRule, told: Told, day: date) -> list[float]:
        """Return the recomputed values of the days the baseline knew, the latest 14."""
        rows = self._connection.execute(
            """SELECT v.day FROM daily_value v JOIN metric m ON m.id = v.metric_id
               WHERE v.patient_id = %s AND m.key = %s AND v.context = %s AND v.used AND v.day < %s
               ORDER BY v.day DESC LIMIT %s""",
            [self._patient, rule.metric, "asleep" if rule.asleep else "rest", day, BASELINE_DAYS],
        ).fetchall()
        days = [row[0] for row in rows if rows[0][0] - row[0] < timedelta(days=MEMORY_DAYS)]
        values = self._daily(rule, told.offset)
        if not days or any(one not in values for one in days):
            msg = f"the baseline used days {days}, readings make {sorted(values)}"
            raise Untrue(msg)
        return [values[one] for one in days]

    def _night(self, rule: UsualRule, told: Told, day: date) -> float:
        values = self._daily(rule, told.offset)
        if day not in values:
            msg = f"no value for {day}; readings make {sorted(values)}"
            raise Untrue(msg)
        return values[day]

    def _night_before(self, rule: UsualRule, told: Told, day: date) -> float | None:
        earlier = [one for one in self._daily(rule, told.offset) if one < day]
        return self._daily(rule, told.offset)[max(earlier)] if earlier else None

    def _daily(self, rule: UsualRule, offset: timedelta) -> dict[date, float]:
        """Return each day's mean of usable minute means, asleep or at rest."""
        key = f"{rule.metric} {rule.asleep}", offset
        if key not in self._days:
            self._make_minutes(rule.metric)
            rows = self._connection.execute(
                f"""SELECT {DAY} AS day, sum(thousandths) / 1000 / count(*) FROM usable_{rule.metric}
                    WHERE NOT active AND {NIGHT} = %(asleep)s GROUP BY 1 HAVING count(*) >= %(least)s""".encode(),
                {"offset": offset, "asleep": rule.asleep, "least": rule.least_minutes},
            ).fetchall()
            self._days[key] = dict(rows)
        return self._days[key]

    def _hour(self, told: Told, hour: datetime) -> float:
        self._make_minutes("heart_rate")
        return float(
            self._one(
                f"""SELECT sum(thousandths) / 1000 / nullif(count(*), 0) FROM usable_heart_rate
                    WHERE NOT active AND NOT {NIGHT} AND minute >= %(hour)s AND minute < %(hour)s + interval '1 hour'""",
                hour=hour, offset=told.offset,
            )[0]
        )  # fmt: skip

    def _hour_before(self, told: Told) -> float | None:
        """Return the latest earlier hour at rest; it may lie up to three hours before."""
        for back in (2, 3, 4):
            try:
                return self._hour(told, told.at - back * HOUR)
            except Untrue:
                continue
        return None

    def _make_minutes(self, metric: str, *, jumps: bool = False) -> None:
        name = f"{metric}_jumps_too" if jumps else metric
        if name not in self._made:
            low, high, step, flat = GATE[metric]
            made = MINUTES.format(name=name, metric=metric, low=low, high=high, step=step, flat=flat, jumps=jumps)
            self._connection.execute(made.encode())
            self._made.add(name)

    # ------------------------------------------------------------ the device

    def _not_worn(self, told: Told) -> Expected:
        vitals = ", ".join(f"'{one}'" for one in VITALS)
        first = self._one(
            f"""WITH minute AS (
                    SELECT date_trunc('minute', t) AS minute,
                           bool_or(quality = 3 OR (metric = 'wear' AND value = 0)) AS off,
                           bool_or(quality IN (0, 4) AND metric IN ({vitals})) AS heard
                    FROM told WHERE t <= %(at)s GROUP BY 1)
                SELECT min(minute) FROM minute
                WHERE off AND minute > coalesce((SELECT max(minute) FROM minute WHERE heard AND NOT off), '-infinity')""",
            at=told.at,
        )[0]
        return list(since(first, told.offset))

    def _poor_signal(self, told: Told) -> Expected:
        vitals = ", ".join(f"'{one}'" for one in VITALS)
        share = self._one(
            f"""SELECT max(share) FROM (
                    SELECT metric, count(*) FILTER (WHERE quality NOT IN (0, 4))::float8 / count(*) AS share FROM told
                    WHERE t >= %(at)s - interval '1 hour' AND t < %(at)s AND quality <> 3 AND metric IN ({vitals})
                    GROUP BY metric HAVING count(*) >= 20) AS metrics""",
            at=told.at,
        )[0]
        return [f"{100 * share:.0f}", *span(told.at - HOUR, told.at, told.offset)]

    def _battery(self, told: Told) -> Expected:
        percent = self._one("SELECT value FROM told WHERE metric = 'battery' AND t = %(at)s", at=told.at)[0]
        return [f"{percent:.0f}"]

    def _silent(self, told: Told) -> Expected:
        """What came later, and late, had not been received when silence was told."""
        last = self._one(
            """SELECT max(t) FROM told WHERE t < %(start)s AND NOT EXISTS (
                   SELECT 1 FROM frame_log f WHERE f.patient_id = %(patient)s AND f.late > 0
                   AND f.received_at > %(start)s AND told.t BETWEEN f.t_first AND f.t_last)""",
            start=told.start, patient=self._patient,
        )[0]  # fmt: skip
        return [*since(last, told.offset), *duration(told.start - last)]

    def _check_value(self, told: Told, metric: str) -> Expected:
        """What was set aside, and what it is in the other unit; or the good reading that ended it."""
        if told.change == "resolved":
            value = self._one(
                "SELECT value FROM told WHERE metric = %(metric)s AND t = %(at)s AND quality = 0",
                metric=metric,
                at=told.at,
            )[0]
            return [precise(value), *since(told.at, told.offset)]
        kept = self._one(
            """SELECT q.value FROM quarantined_reading q JOIN metric m ON m.id = q.metric_id
               WHERE q.patient_id = %(patient)s AND m.key = %(metric)s AND q.t = %(at)s AND q.reason = 'unit_suspected'""",
            patient=self._patient, metric=metric, at=told.start,
        )[0]  # fmt: skip
        for unit in CONFUSED[metric]:
            low, high = unit.soft
            meant, sent = kept * unit.factor + unit.offset, (kept - unit.offset) / unit.factor
            if low <= meant <= high:
                return [precise(kept), *since(told.start, told.offset), precise(meant)]
            if low <= sent <= high:  # said to be in the other unit, and was in the metric's own
                return [precise(sent), *since(told.start, told.offset), precise(sent)]
        msg = f"{kept} is plausible in no unit this checker knows for {metric}"
        raise Untrue(msg)
