"""Every number in every sentence of a run is recomputed by SQL from stored readings."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from tests.cast import DAY, HOUR, Episode, Person, at, cast
from tests.fix_faults import stamped_story
from tests.fix_processor import T0, Bench, block, stamped
from tests.sentences.check import Report, check_sentences

pytestmark = pytest.mark.stack

DAYS = 22
RULES = {
    "spo2_low", "tachycardia_at_rest", "bradycardia", "fever", "respiratory_rate_high", "resting_heart_rate_rise",
    "heart_rate_unusual_at_rest", "night_skin_temperature_rise", "night_respiratory_rate_rise", "not_worn", "poor_signal",
    "battery_low", "device_silent", "night_desaturations",
}  # fmt: skip


async def live(bench: Bench, people: Sequence[Person], days: int = DAYS) -> None:
    """Feed everybody's story, half a day of all at a time."""
    told = [frame for number, person in enumerate(people, 1) for frame in stamped_story(number, person, days)]
    told.sort(key=lambda frame: frame.received_ms)
    step = 12 * len(people)
    for start in range(0, len(told), step):
        await bench.frames(told[start : start + step])


async def late_burst(bench: Bench) -> None:
    """What was measured in the silence arrives weeks later, with an abnormal hour in it."""
    number = [person.key for person in cast(DAYS)].index("silent") + 1
    began = T0 + 4 * DAY + 10 * HOUR
    blocks = [block("heart_rate", began, [70] * 60), block("spo2", began + HOUR, [82] * 6 + [97] * 6, 300)]
    await bench.frames([stamped(number, 0, blocks, session="late", received_ms=T0 + DAYS * DAY)])


def check(bench: Bench) -> Report:
    with psycopg.connect(bench.settings.postgres.conninfo("admin"), autocommit=True) as connection:
        return check_sentences(connection)


async def test_every_number_in_every_sentence_is_true(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    await live(bench, cast(DAYS))
    await late_burst(bench)
    await bench.silence(T0 + DAYS * 24 * HOUR + 3 * HOUR)  # now everybody is silent
    report = check(bench)
    with capsys.disabled():
        print(  # noqa: T201 - what the test shows
            f"\n  {report.numbers} numbers in {report.sentences} sentences of {len(report.rules)} rules recomputed by SQL"
        )
    assert report.problems == []
    assert not report.left_out
    assert set(report.rules) == RULES
    assert await bench.rows("SELECT rule FROM alert WHERE late") == [("spo2_low",)]


def at_night(days: range, **add: float) -> tuple[Episode, ...]:
    spans = [(at(day - 1, 22), at(day, 8)) for day in days]
    return tuple(Episode(metric, *span, add=away) for span in spans for metric, away in add.items())


async def test_numbers_about_several_vitals_at_once_are_true_and_who_wore_it_is_technical(bench: Bench) -> None:
    days, nights = 22, range(12, 17)
    unwell = at_night(nights, heart_rate=2.2, respiratory_rate=0.9, skin_temperature=0.5, spo2=-0.8)
    people = [
        Person("unwell", unwell),
        Person("stranger", at_night(nights, heart_rate=-9, respiratory_rate=3)),
    ]
    await live(bench, people, days)
    report = check(bench)
    assert report.problems == []
    several = "SELECT patient_id, rule, kind, state FROM alert WHERE rule IN (%s, %s) ORDER BY 1"
    assert await bench.rows(several, "night_vitals_together", "wearer_in_doubt") == [
        (1, "night_vitals_together", "clinical", "resolved"),
        (2, "wearer_in_doubt", "technical", "resolved"),
    ]


async def test_numbers_about_small_shifts_that_stay_are_true(bench: Bench) -> None:
    days = 33
    people = [
        Person("slower", (Episode("heart_rate", at(15, 22), at(24, 8), add=-5),)),
        Person("less", at_night(range(16, 26), spo2=-1.5)),
        Person("faster", at_night(range(16, days), respiratory_rate=1)),
        Person(
            "slower by day", tuple(Episode("heart_rate", at(day, 8), at(day, 22), add=-11) for day in range(16, 26))
        ),
        Person("less and less", at_night(range(16, 24), spo2=-1.5) + at_night(range(24, days), spo2=-3)),
    ]
    await live(bench, people, days)
    report = check(bench)
    assert report.problems == []
    shifts = "SELECT patient_id, rule, kind, priority, state FROM alert WHERE rule LIKE %s ORDER BY 1"
    assert await bench.rows(shifts, "%_shift") == [
        (1, "heart_rate_shift", "clinical", "low", "resolved"),
        (2, "spo2_shift", "clinical", "low", "resolved"),
        (3, "respiratory_rate_shift", "clinical", "low", "active"),
        (4, "heart_rate_shift", "clinical", "low", "resolved"),
        (5, "spo2_shift", "clinical", "low", "resolved"),
    ]
    drifts = "SELECT patient_id, rule, state FROM alert WHERE rule LIKE %s"
    assert await bench.rows(drifts, "spo2_drift") == [(5, "spo2_drift", "active")], "it took over"


SELDOM: dict[str, tuple[int, list[float]]] = {  # metric → hours between two readings, and values: beyond, and back
    "systolic_pressure": (13, [205, 210, 130, 130]),
    "heart_rate": (1, [140, 141, 142, 80, 81, 82, 83]),
    "glucose": (4, [260, 270, 280, 150, 150, 150]),
    "body_temperature": (9, [39.0, 39.2, 37, 36.9, 36.8]),
}


async def test_numbers_about_readings_that_come_seldom_are_true(bench: Bench) -> None:
    """Told as readings in a row, so long apart or over so long; each alert ends as seldom."""
    told = sorted(
        (T0 + DAY + i * step * HOUR, metric, value)
        for metric, (step, values) in SELDOM.items()
        for i, value in enumerate(values)
    )
    for seq, (at_ms, metric, value) in enumerate(told):
        await bench.frames([stamped(1, seq, [block(metric, at_ms, [value])])])
    await bench.frames([stamped(1, len(told), [block("steps", told[-1][0] + HOUR, [0])])])
    report = check(bench)
    assert report.problems == []
    alerts = await bench.rows(
        "SELECT rule, state FROM alert WHERE kind = 'clinical' AND state <> 'withdrawn' ORDER BY rule"
    )
    rules = ("fever", "glucose_high", "systolic_high", "tachycardia_at_rest")
    assert alerts == [(rule, "resolved") for rule in rules]
    sentences = [text for (text,) in await bench.rows("SELECT sentence FROM alert_event WHERE change = 'raised'")]
    assert any("at 180 mmHg or more in 2 readings in a row, 13 h apart (from " in text for text in sentences)
    assert any("above 250 mg/dL in 3 readings in a row over 8 h (from " in text for text in sentences)


SPOILT = [  # what is made untrue, whose sentences must be found out
    ("UPDATE reading_block SET value = (SELECT array_agg(v - 1 ORDER BY i) FROM unnest(value) WITH ORDINALITY u (v, i)) WHERE metric_id = 4", "spo2_low"),
    ("UPDATE reading_block SET t0 = t0 + interval '1 minute', t_last = t_last + interval '1 minute' WHERE metric_id = 6", "fever"),
    (r"UPDATE alert_event SET sentence = regexp_replace(sentence, 'usual \d+ ', 'usual 1 ') WHERE sentence ~ 'usual \d+ '", "resting_heart_rate_rise"),
    (r"UPDATE alert_event SET sentence = regexp_replace(sentence, 'of \d nights', 'of 1 nights') WHERE sentence ~ 'of \d nights'", "night_skin_temperature_rise"),
    ("UPDATE alert SET patient_sentence = replace(patient_sentence, '9 %', '8 %')", "battery_low"),
    ("UPDATE alert SET patient_sentence = patient_sentence || ' 7'", "not_worn"),
]  # fmt: skip


@pytest.mark.slow
async def test_an_untrue_number_is_noticed(bench: Bench) -> None:
    await live(bench, cast(9), days=9)
    assert check(bench).problems == []
    for spoil, rule in SPOILT:
        with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
            connection.execute("ALTER TABLE alert_event DISABLE TRIGGER append_only")
            assert connection.execute(spoil.encode()).rowcount > 0
            problems = check_sentences(connection).problems
            connection.rollback()
        assert any(f" {rule} " in problem for problem in problems), (spoil, problems)
