"""NEWS2 from frames to alerts: told on arrival, settled, ended on good data, and the same however frames come."""

from __future__ import annotations

from random import Random

import msgspec
import psycopg
import pytest

from ingest.clock import to_datetime
from ingest.frame import StampedFrame
from tests.fix_processor import DAY, HOUR, MINUTE, T0, Bench, block, stamped
from tests.integration.test_control import changed, wanted
from tests.sentences.check import check_sentences

pytestmark = pytest.mark.stack

TOLD = """
    SELECT rule, priority, state, provisional, late, started_at, found_at, resolved_at, sentence FROM alert
    WHERE patient_id = %s AND state <> 'withdrawn' AND revised_by IS NULL ORDER BY 1, 6"""
WELL, UNWELL = (70.0, 97.0, 16.0), (115.0, 93.0, 23.0)  # pulse, saturation, breathing: 0 and 6 points, no limit's


def frames(patient: int, *stretches: tuple[int, tuple[float, float, float]]) -> list[StampedFrame]:
    """Frames of a quarter of an hour: so many of each kind; a pressure and a temperature at the beginning."""
    kinds = [kind for n, kind in stretches for _ in range(n)]
    made = []
    for seq, (pulse, saturation, breathing) in enumerate(kinds):
        begin = T0 + seq * 15 * MINUTE
        blocks = [
            block("heart_rate", begin, [pulse] * 15), block("spo2", begin, [saturation] * 3, 300),
            block("respiratory_rate", begin, [breathing] * 3, 300),
        ]  # fmt: skip
        if not seq:
            blocks += [block("systolic_pressure", begin, [101]), block("body_temperature", begin, [38.4])]
        made.append(stamped(patient, seq, blocks, received_ms=begin + 15 * MINUTE))
    return made


def problems(bench: Bench) -> list[str]:
    with psycopg.connect(bench.settings.postgres.conninfo("admin")) as connection:
        report = check_sentences(connection)
    assert report.rules["news2_high"] >= 2
    return report.problems


async def test_it_is_told_on_arrival_settles_and_ends_on_good_data(bench: Bench) -> None:
    story = frames(1, (2, UNWELL), (7, WELL))
    await bench.frames(story[:1])
    assert await bench.rows(TOLD, 1) == []
    await bench.frames(story[1:2])  # its last readings are not settled yet
    (told,) = await bench.rows(TOLD, 1)
    assert told[:5] == ("news2_high", "high", "active", False, False)
    assert told[5:7] == (to_datetime(T0), to_datetime(T0 + 15 * MINUTE))
    assert told[8].startswith("NEWS2 came to at least 8 points (5 of 7 parameters known) and was 7 or more for 15 min")
    await bench.frames(story[2:])
    (told,) = await bench.rows(TOLD, 1)
    assert (told[2], told[7]) == ("resolved", to_datetime(T0 + 90 * MINUTE))
    assert problems(bench) == []
    await bench.connection.execute("UPDATE alert SET patient_sentence = patient_sentence || ' 7'")
    assert "news2_high" in problems(bench)[0]


async def test_what_is_not_settled_is_told_as_provisional_and_nothing_stays_of_what_is_taken_back(bench: Bench) -> None:
    unwell = frames(1, (2, UNWELL))
    readings = [block("heart_rate", T0 + 15 * MINUTE, [115]), block("spo2", T0 + 15 * MINUTE, [93]),
                block("respiratory_rate", T0 + 15 * MINUTE, [23])]  # fmt: skip
    await bench.frames([unwell[0], stamped(1, 1, readings, received_ms=T0 + 16 * MINUTE)])
    ((_, priority, state, provisional, *_),) = await bench.rows(TOLD, 1)
    assert (priority, state, provisional) == ("high", "active", True)
    earlier = [block("heart_rate", T0 + 14 * MINUTE + n * 1000, [v]) for n, v in ((20, 60), (40, 60))]
    earlier += [
        block("respiratory_rate", T0 + 14 * MINUTE + 20_000, [12]),
        block("spo2", T0 + 14 * MINUTE + 20_000, [99]),
    ]
    await bench.frames([stamped(1, 2, [*earlier], received_ms=T0 + 16 * MINUTE)])  # a low of 40 s cuts nothing
    assert len(await bench.rows(TOLD, 1)) == 1


async def test_however_frames_are_cut_swapped_and_interrupted_the_same_is_told(bench: Bench) -> None:
    """Within the bound; and what came hours late is told as late once it is rebuilt, as if it had come in time."""
    chance = Random(5)
    kinds = ((3, WELL), (4, UNWELL), (9, WELL), (2, UNWELL), (6, WELL))
    for frame in frames(1, *kinds):
        await bench.frames([frame])
    story = frames(2, *kinds)
    while story:
        some, story = story[: (n := chance.randint(1, 4))], story[n:]
        received_ms = max(frame.received_ms for frame in some)
        chance.shuffle(some)
        await bench.frames([msgspec.structs.replace(frame, received_ms=received_ms) for frame in some])
        await bench.take_over()
    late = frames(3, *kinds)
    for frame in [*late[:4], *late[5:], late[4]]:
        await bench.frames([frame])
    bench.now_ms = T0 + DAY
    assert await bench.rebuild() == 1
    alike = [await bench.rows(TOLD, patient) for patient in (1, 2, 3)]
    assert len(alike[0]) == 2
    assert alike[0] == alike[1]
    assert [row[:4] + row[5:] for row in alike[2]] == [row[:4] + row[5:] for row in alike[0]]
    assert problems(bench) == []


async def test_the_profile_says_for_whom_it_is_off_and_on_which_scale(bench: Bench) -> None:
    oxygen = {"target": [88, 92], "set_by": "dr", "home": True}
    await bench.feed(changed(bench, wanted(1, "profile", T0, birth_date="2015-10-11", adult_limits="off")))
    await bench.feed(changed(bench, wanted(2, "profile", T0, oxygen=oxygen)))
    for patient in (1, 2, 3):
        for frame in frames(patient, (3, UNWELL), (1, WELL)):
            await bench.frames([frame])
    found = {patient: await bench.rows(TOLD, patient) for patient in (1, 2, 3)}
    assert "news2_high" not in [row[0] for row in found[1]]
    (on_scale_2,) = [row for row in found[2] if row[0] == "news2_high"]
    assert "on oxygen at home (2)" in on_scale_2[8]
    assert "oxygen saturation on scale 2" in on_scale_2[8]
    assert [row[0] for row in found[3]] == ["news2_high"]
    assert problems(bench) == []
    assert (await bench.rows("SELECT count(*) FROM alert WHERE found_at > %s", to_datetime(T0 + HOUR)))[0] == (0,)
