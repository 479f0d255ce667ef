"""What SQL finds of one patient, for every rule: the stored readings, usable minutes, and the days made of them."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

import psycopg

from tests.sentences.words import TOKEN, Untrue

GOOD: Final = "quality IN (0, 5)"  # for the limits: not doubted by the device
# The gate of the adaptive path: lowest and highest plausible minute, largest change a minute, equal minutes of a flat line
GATE: Final = {
    "heart_rate": (30, 220, 60, 30),
    "skin_temperature": (25, 40, 3, 240),
    "respiratory_rate": (6, 40, 20, 120),
    "spo2": (70, 100, 15, 180),
    "hrv_rmssd": (5, 250, 1000000, 60),
}
UNPACK: Final = """
    CREATE TEMP TABLE told AS
    SELECT m.key AS metric, b.device_id AS device, b.t0 + coalesce(b.offsets_ms[i], (i - 1)::bigint * b.step_us / 1000) * interval '1 ms' AS t,
           b.value[i] AS value, coalesce(b.quality[i], 0) AS quality
    FROM reading_block b JOIN metric m ON m.id = b.metric_id CROSS JOIN LATERAL generate_subscripts(b.value, 1) AS i
    WHERE b.patient_id = %s"""
AT_REST: Final = """ AND coalesce((SELECT sum(s.value::float8) FROM told s WHERE s.metric = 'steps' AND s.quality IN (0, 5)
    AND s.t BETWEEN r.t - interval '10 minutes' AND r.t), 0) < 50"""
MINUTES: Final = """
    CREATE TEMP TABLE usable_{name} AS
    WITH off AS (
        SELECT DISTINCT date_trunc('minute', t) AS minute FROM told WHERE quality = 3 OR (metric = 'wear' AND value = 0)
    ), step AS (
        SELECT date_trunc('minute', t) AS minute FROM told WHERE metric = 'steps' AND quality IN (0, 4)
        GROUP BY 1 HAVING sum(value) > 0
    ), mean AS (
        SELECT date_trunc('minute', t) AS minute, avg(value::float8)::real AS mean, min(value) = max(value) AS steady
        FROM told WHERE metric = '{metric}' AND quality IN (0, 4) GROUP BY 1
    ), worn AS (
        SELECT m.*, lag(mean) OVER w AS before, extract(epoch FROM minute - lag(minute) OVER w) / 60 AS age
        FROM mean m WHERE minute NOT IN (SELECT minute FROM off) WINDOW w AS (ORDER BY minute)
    ), island AS (
        SELECT *, sum(CASE WHEN age <= 5 AND steady AND mean = before THEN 0 ELSE 1 END) OVER (ORDER BY minute) AS row_of
        FROM worn
    ), judged AS (
        SELECT minute, mean, row_number() OVER (PARTITION BY row_of ORDER BY minute) AS equal_ones,
               coalesce(age <= 5 AND abs(mean - before) > {step} * age, false) AS jump
        FROM island
    ), stirred AS (  -- the last minute with steps, up to each minute
        SELECT minute, max(step) OVER (ORDER BY minute) AS last_step
        FROM (SELECT coalesce(j.minute, s.minute) AS minute, s.minute AS step
              FROM judged j FULL JOIN step s ON s.minute = j.minute) AS both_of_them
    )
    SELECT minute, round((mean * 1000::real)::float8) AS thousandths,
           minute - last_step <= interval '10 minutes' IS TRUE AS active
    FROM judged JOIN stirred USING (minute)
    WHERE mean BETWEEN {low} AND {high} AND (NOT jump OR {jumps}) AND equal_ones < {flat}"""
LOCAL: Final = "(minute AT TIME ZONE 'UTC' + %(offset)s)"
NIGHT: Final = f"({LOCAL}::time >= '22:00' OR {LOCAL}::time < '08:00')"
# A day runs from 10:00 to 10:00 and carries the date of its end; an hour belongs to it as a whole.
DAY: Final = "(date_trunc('hour', minute) AT TIME ZONE 'UTC' + %(offset)s + interval '14 hours')::date"


class Told(NamedTuple):
    """One sentence: its rule, where the episode began, the instant it speaks of and the wearer's offset."""

    rule: str
    change: str
    start: datetime
    at: datetime
    offset: timedelta
    said: str
    text: str  # without the names of devices
    to_team: bool

    @property
    def tokens(self) -> list[str]:
        return TOKEN.findall(self.text)

    @property
    def over(self) -> bool:
        return self.change == "resolved"


class Daily(NamedTuple):
    """A metric of which days are made, asleep or at rest, and how it is shown."""

    metric: str
    decimals: int
    asleep: bool
    least_minutes: int  # usable minutes that make a day


HEART_RATE: Final = Daily("heart_rate", 0, True, 180)
RESPIRATORY_RATE: Final = Daily("respiratory_rate", 1, True, 20)
SKIN_TEMPERATURE: Final = Daily("skin_temperature", 1, True, 20)
SPO2: Final = Daily("spo2", 1, True, 20)
HRV: Final = Daily("hrv_rmssd", 0, True, 5)
BY_DAY: Final = Daily("heart_rate", 0, False, 60)


class Patient:
    """One patient; its readings are in the temporary table ``told``, usable minutes in one table a metric."""

    def __init__(self, connection: psycopg.Connection[Any], number: int) -> None:
        self.connection, self.number = connection, number
        self._days: dict[tuple[Daily, timedelta], dict[date, float]] = {}
        self._made: set[str] = set()
        connection.execute(UNPACK, [number])
        connection.execute("CREATE INDEX ON told (metric, t)")
        connection.execute("ANALYZE told")

    def forget(self) -> None:
        """Drop the temporary tables."""
        names = ", ".join(["told", *(f"usable_{metric}" for metric in self._made)])
        self.connection.execute(f"DROP TABLE {names}".encode())

    def one(self, query: str, **values: object) -> tuple[Any, ...]:
        """Return the row a query finds.

        Raises:
            Untrue: it finds nothing.
        """
        row = self.connection.execute(query.encode(), values).fetchone()
        if row is None or row[0] is None:
            msg = "nothing of it in the stored readings"
            raise Untrue(msg)
        return tuple(row)

    def minutes(self, metric: str, *, jumps: bool = False) -> None:
        """Make the table of a metric's usable minutes."""
        name = f"{metric}_jumps_too" if jumps else metric
        if name not in self._made:
            low, high, step, flat = GATE[metric]
            made = MINUTES.format(name=name, metric=metric, low=low, high=high, step=step, flat=flat, jumps=jumps)
            self.connection.execute(made.encode())
            self._made.add(name)

    def days(self, of: Daily, offset: timedelta) -> dict[date, float]:
        """Return each day's mean of usable minute means, asleep or at rest."""
        if (of, offset) not in self._days:
            self.minutes(of.metric)
            rows = self.connection.execute(
                f"""SELECT {DAY} AS day, sum(thousandths) / 1000 / count(*) FROM usable_{of.metric}
                    WHERE NOT active AND {NIGHT} = %(asleep)s GROUP BY 1 HAVING count(*) >= %(least)s""".encode(),
                {"offset": offset, "asleep": of.asleep, "least": of.least_minutes},
            ).fetchall()
            self._days[of, offset] = dict(rows)
        return self._days[of, offset]

    def used(self, of: Daily, before: date) -> list[date]:
        """Return the days that the baseline has taken in before a day, the first one first."""
        rows = self.connection.execute(
            """SELECT v.day FROM daily_value v JOIN metric m ON m.id = v.metric_id
               WHERE v.patient_id = %s AND m.key = %s AND v.context = %s AND v.used AND v.day < %s ORDER BY 1""",
            [self.number, of.metric, "asleep" if of.asleep else "rest", before],
        ).fetchall()
        return [row[0] for row in rows]
