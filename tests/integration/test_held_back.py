"""What comes in while somebody is learned anew: answers, ends, late data, erasure, and many who wait."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from detectors.pipeline import Pipeline
from ingest.clock import to_datetime
from ingest.frame import NOT_WORN
from services import life_events
from services.control import Kind
from services.processor import rebuild as rebuilding
from services.processor.rebuild import Rebuilder
from tests.cast import EVERY, Episode, Person, at
from tests.fix_faults import stamped_story
from tests.fix_processor import BOUNDS, DAY, HOUR, MINUTE, T0, Bench
from tests.integration.test_control import RISEN, changed, wanted
from tests.integration.test_learned_anew import AT_REST, EVENTS, NOON, all_of, one_by_one, story, upgraded

pytestmark = pytest.mark.stack

NOON_MS = T0 + NOON * HOUR
SUPPRESSED = "SELECT rule, started_at, found_at, monitoring, sentence FROM suppressed_finding ORDER BY 1, 2"
RISE = "resting_heart_rate_rise"


async def of_rule(bench: Bench, rule: str) -> list[tuple[str, bool]]:
    return [row[1:] for row in await bench.rows(EVENTS) if row[0] == rule]


async def test_what_was_told_before_and_ends_meanwhile_is_told_to_be_over(bench: Bench, second_bench: Bench) -> None:
    frames = story("restless")
    await second_bench.frames(frames)
    await bench.frames(frames[: NOON + 4])
    assert await of_rule(bench, AT_REST) == [("raised", False)]
    await upgraded(bench)
    await one_by_one(bench, frames[NOON + 4 : NOON + 7])
    assert await of_rule(bench, AT_REST) == [("raised", False)]
    assert await bench.rebuild() == 1
    await bench.frames(frames[NOON + 7 :])
    assert await of_rule(bench, AT_REST) == [("raised", False), ("resolved", False)]
    assert await all_of(bench) == await all_of(second_bench)


async def test_what_was_kept_quiet_is_not_told_while_nobody_knows_whether_it_is_still_so(
    bench: Bench, second_bench: Bench
) -> None:
    frames = story("restless")
    pause = wanted(1, "monitoring", NOON_MS - 3 * HOUR, state="paused", until_ms=NOON_MS + 6 * HOUR)
    for each in (bench, second_bench):
        await each.feed(changed(each, pause))
        await each.frames(frames[: NOON + 4])
        assert [row[0] for row in await each.rows(SUPPRESSED)] == [AT_REST]
    await second_bench.frames(frames[NOON + 4 :])
    await upgraded(bench)
    await one_by_one(bench, frames[NOON + 4 : NOON + 8])
    assert await of_rule(bench, AT_REST) == []
    assert await bench.rebuild() == 1
    await bench.frames(frames[NOON + 8 :])
    assert await all_of(bench) == await all_of(second_bench)
    assert await bench.rows(SUPPRESSED) == await second_bench.rows(SUPPRESSED)


@pytest.mark.parametrize("what", ["paused", "discharged", "back", "new_normal", "limits", "profile", "life_event"])
async def test_what_people_say_meanwhile_holds(bench: Bench, second_bench: Bench, what: str) -> None:
    frames = story("restless")
    until, tomorrow = NOON_MS + 20 * HOUR, to_datetime(NOON_MS + DAY).date()
    stopped = life_events.checked("medication_stopped", "beta_blocker", tomorrow, tomorrow)
    asked: dict[str, list[tuple[Kind, int, str, dict[str, Any]]]] = {
        "paused": [("monitoring", 90, "", {"state": "paused", "until_ms": until})],
        "discharged": [("monitoring", 150, "", {"state": "discharged"})],
        "back": [("monitoring", 150, "", {"state": "discharged"}), ("monitoring", 170, "", {"state": "active"})],
        "new_normal": [("new_normal", 130, "heart_rate", {})],
        "limits": [("limits", 65, "patient", {"rules": {"tachycardia_at_rest": {"levels": [110, 140]}}})],
        "profile": [("profile", 65, "", {"pacemaker": True})],
        "life_event": [("life_event", 65, "a", stopped)],
    }
    said = [wanted(1, kind, NOON_MS + m * MINUTE, subject, **more) for kind, m, subject, more in asked[what]]
    for each in (bench, second_bench):
        await each.frames(frames[: NOON + 1])
    await upgraded(bench)
    for each in (bench, second_bench):
        await each.feed(changed(each, *said))
        await one_by_one(each, frames[NOON + 1 : NOON + 6])
    assert await bench.rebuild() == 1
    for each in (bench, second_bench):
        await each.frames(frames[NOON + 6 :])
    first, second = await all_of(bench), await all_of(second_bench)
    for outcome in (first, second):
        outcome["events"].sort(key=lambda event: event[0])  # safety limits have not waited
    assert first == second
    assert await bench.rows(SUPPRESSED) == await second_bench.rows(SUPPRESSED)


async def test_what_the_night_showed_is_told_while_it_lasts_however_long_the_learning_took(
    bench: Bench, second_bench: Bench
) -> None:
    frames = stamped_story(1, RISEN, 12)
    await second_bench.frames(frames)
    (found,) = {row[0] for row in await second_bench.rows("SELECT found_at FROM alert WHERE rule = %s", RISE)}
    tells = next(i for i, frame in enumerate(frames) if to_datetime(frame.received_ms) > found)
    await bench.frames(frames[:tells])
    assert await of_rule(bench, RISE) == []
    await upgraded(bench)
    await one_by_one(bench, frames[tells : tells + 8])
    assert await bench.rebuild() == 1
    assert await of_rule(bench, RISE) == [("raised", False)]


async def test_an_hour_judged_before_the_upgrade_was_not_held_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the new version finds in it is of the past."""
    frames = story("restless")
    settle = Pipeline.settle

    def blind(self: Pipeline, state: object, hour: object, *more: object) -> object:
        settled = settle(self, state, hour, *more)  # type: ignore[arg-type]
        settled.findings.clear()
        return settled

    with monkeypatch.context() as older:
        older.setattr(Pipeline, "settle", blind)
        await bench.frames(frames[: NOON + 4])
        assert bench.core.hot[0].closed_ms == NOON_MS + 3 * HOUR
    await upgraded(bench)
    assert await bench.rebuild() == 1
    assert await of_rule(bench, AT_REST) == [("raised", True)]


async def test_a_device_rule_found_through_late_data_is_listed_as_ever(bench: Bench) -> None:
    off = (at(2, 3), at(2, 5))  # hours 50 and 51
    unworn = Person("unworn", tuple(Episode(metric, *off, quality=NOT_WORN) for metric in EVERY))
    frames = stamped_story(1, unworn, 3)
    await bench.frames(frames[:49])
    await upgraded(bench)
    await one_by_one(bench, [frames[49], *frames[52:54]])
    await bench.frames(frames[50:52])
    assert await bench.rebuild() == 1
    assert await of_rule(bench, "not_worn") == [("raised", True)]


async def test_a_device_that_is_silent_after_the_upgrade_holds_nobody(bench: Bench) -> None:
    frames = story("restless")
    await bench.frames(frames[:NOON])
    before = await all_of(bench)
    await upgraded(bench)
    bench.now_ms = frames[NOON].received_ms + DAY
    await bench.silence(bench.now_ms)
    assert await bench.rebuild() == 1
    after = await all_of(bench)
    assert after["events"] == [*before["events"], ("device_silent", "raised", False)]
    assert bench.core.hot[0].anew_ms is None
    assert await bench.rows("SELECT DISTINCT layout FROM patient_baseline") == [(bench.core.layout,)]


async def test_back_to_the_older_version_and_forward_again(bench: Bench, second_bench: Bench) -> None:
    """What the older one knew lacks the hours between: it is learned anew too."""
    frames = story("restless")
    await second_bench.frames(frames)
    await bench.frames(frames[: NOON + 1])
    await upgraded(bench)
    await one_by_one(bench, frames[NOON + 1 : NOON + 3])
    for table in ("patient_baseline", "baseline_checkpoint"):  # a layout that is read again
        await bench.rows(f"UPDATE {table} SET layout = {bench.core.layout} RETURNING 1")
    await bench.take_over()
    await one_by_one(bench, frames[NOON + 3 : NOON + 5])
    assert await of_rule(bench, AT_REST) == []
    assert await bench.rebuild() == 1
    await bench.frames(frames[NOON + 5 :])
    assert await all_of(bench) == await all_of(second_bench)


async def test_who_is_erased_meanwhile_is_gone(bench: Bench) -> None:
    frames = story("restless")
    await bench.frames(frames[:NOON])
    await upgraded(bench)
    await bench.frames(frames[NOON : NOON + 1])
    await bench.feed(changed(bench, wanted(1, "erase", T0)))
    await bench.frames(frames[NOON + 1 : NOON + 3])
    rebuilder = Rebuilder(bench.core, bench, BOUNDS.silence_ms, BOUNDS.history_ms)
    assert not await rebuilder.turn(bench.now_ms, caught_up=True)
    assert await bench.rows("SELECT count(*) FROM patient_state") == [(0,)]
    assert await bench.rows(EVENTS) == []


async def test_nobody_waits_longer_than_the_bound_for_those_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everybody's learning takes days: late data that come meanwhile go first, and who has waited long is judged."""
    for patient in (1, 2, 3):
        await bench.frames(stamped_story(patient, RISEN, 2))
    await upgraded(bench)
    clock_s, seen = 0.0, []

    class Slow(Rebuilder):
        @staticmethod
        def _now_s() -> float:
            return clock_s

        async def rebuild(self, patient_id: int, now_ms: int) -> bool:
            nonlocal clock_s
            hot = bench.core.hot[bench.core.slot_of[patient_id]]
            seen.append((patient_id, hot.anew_ms is None))
            clock_s += 4 * 3600
            hot.dirty_ms, hot.dirty_n = None, 0
            if len(seen) == 1:  # a phone hands in what it kept
                third = bench.core.hot[bench.core.slot_of[3]]
                third.anew_ms, third.dirty_ms = None, T0 + DAY
            return True

    monkeypatch.setattr(rebuilding, "REST_S", 0.0)
    rebuilder = Slow(bench.core, bench, BOUNDS.silence_ms, BOUNDS.history_ms)
    for _ in range(3):
        await rebuilder.turn(bench.now_ms, caught_up=True)
    assert seen == [(1, False), (3, True), (2, True)]


async def test_who_is_too_long_for_the_database_holds_up_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for patient in (1, 2):
        await bench.frames(stamped_story(patient, RISEN, 2))
    await upgraded(bench)
    tried = []

    class Stuck(Rebuilder):
        async def rebuild(self, patient_id: int, now_ms: int) -> bool:
            tried.append(patient_id)
            raise psycopg.errors.QueryCanceled

    monkeypatch.setattr(rebuilding, "REST_S", 0.0)
    rebuilder = Stuck(bench.core, bench, BOUNDS.silence_ms, BOUNDS.history_ms)
    for _ in range(2):
        with pytest.raises(psycopg.errors.QueryCanceled):
            await rebuilder.turn(bench.now_ms, caught_up=True)
    assert tried == [1, 2]
    assert all(hot.anew_ms is not None for hot in bench.core.hot)
