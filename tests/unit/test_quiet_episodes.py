"""What the simulation found, on the spot: gaps that were waited for too long, and alerts told in a quiet stretch."""

from __future__ import annotations

from detectors.protocol import Change, Finding
from services.processor import watermark
from services.processor.change import PatientChange
from services.processor.changes import Changes
from services.processor.episodes import Engine
from services.processor.hot import Hold, Hot, Session
from services.processor.records import Effects
from services.processor.technical import ALL_RULES

MINUTE, BOUND = 60_000, 120_000
T0 = 1_760_054_400_000


def discharged(at_ms: int, *, back_ms: int | None = None) -> Changes:
    changes = Changes()
    found = [PatientChange(at_ms, 1, "monitoring", "", {"state": "discharged"}, 7)]
    if back_ms is not None:
        found.append(PatientChange(back_ms, 2, "monitoring", "", {"state": "active"}, 7))
    changes.add(1, found)
    return changes


def finding(at_ms: int, start_ms: int) -> Finding:
    evidence = {
        "change": "raised", "metric": "spo2", "side": "below", "inclusive": False, "threshold": 90.0, "clear": 92.0,
        "persist_s": 300, "from_ms": start_ms, "to_ms": at_ms, "n": 2, "first_value": 87.0, "worst": 87.0,
        "at_rest_only": False,
    }  # fmt: skip
    return Finding(0, "spo2_low", "raised", start_ms, at_ms, 0, evidence)


def wearer(change: Change, at_ms: int) -> Finding:
    vital = {"metric": "heart_rate", "value": 49.0, "usual": 61.0, "n_days": 14, "mean": -2.0}
    evidence = {"metric": "heart_rate", "day": 20_000, "since_day": 19_998, "vitals": [vital], "change": change}
    return Finding(0, "wearer_in_doubt", change, T0, at_ms, 0, evidence)


def test_a_question_about_the_device_that_outlasts_a_discharge_is_asked_when_the_patient_is_back() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    changes = discharged(T0 + 30 * MINUTE, back_ms=T0 + 90 * MINUTE)
    engine = Engine(ALL_RULES, effects, T0, changes)
    engine.settled(hot, 1, wearer("raised", T0 + 10 * MINUTE))
    hot.settled_ms = hot.newest_ms = T0 + 200 * MINUTE
    engine.pass_all_on(0, hot, 1)
    assert [event.change for event in effects.events] == ["raised", "resolved", "raised"]
    assert [episode.rule for episode in hot.episodes] == ["wearer_in_doubt"]


def test_a_question_about_the_device_found_in_between_is_asked_when_the_patient_is_back() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    changes = discharged(T0 + 5 * MINUTE, back_ms=T0 + 90 * MINUTE)
    engine = Engine(ALL_RULES, effects, T0, changes)
    engine.settled(hot, 1, wearer("raised", T0 + 10 * MINUTE))
    assert effects.events == []
    hot.settled_ms = hot.newest_ms = T0 + 200 * MINUTE
    engine.pass_all_on(0, hot, 1)
    assert [event.change for event in effects.events] == ["raised"]


def test_a_gap_is_waited_for_no_longer_than_the_bound() -> None:
    hot = Hot(1, settled_ms=T0, newest_ms=T0 + 60 * MINUTE, newest={4: T0 + 60 * MINUTE}, judged={4: T0})
    hot.sessions["1:s"] = Session(9, missing=[5])
    hot.holds["1:s"] = Hold(T0, T0 + 60 * MINUTE + BOUND)
    watermark.expire(hot, T0 + 60 * MINUTE + BOUND - 1, BOUND)
    assert (hot.settled_ms, hot.sessions["1:s"].missing) == (T0, [5])
    watermark.expire(hot, T0 + 60 * MINUTE + BOUND, BOUND)
    assert (hot.settled_ms, hot.sessions["1:s"].missing, hot.holds) == (T0 + 58 * MINUTE, [], {})


def test_what_was_told_provisionally_is_taken_back_where_a_change_made_it_quiet() -> None:
    hot, effects, changes = Hot(1, settled_ms=T0), Effects(T0), Changes()
    Engine(ALL_RULES, effects, T0, changes).provisional(hot, 1, finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE))
    assert [event.change for event in effects.events] == ["raised"]
    later = Effects(T0)
    engine = Engine(ALL_RULES, later, T0, discharged(T0 + 7 * MINUTE))
    engine.settled(hot, 1, finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE))
    assert [event.change for event in later.events] == ["withdrawn"]
    assert [(one.rule, one.monitoring) for one in later.suppressed] == [("spo2_low", "discharged")]
    assert hot.episodes == []


def test_a_drift_whose_first_level_became_a_new_normal_is_told_at_the_second() -> None:
    day = 86_400_000
    evidence = {"metric": "spo2", "day": 20_000, "value": 93.5, "usual": 96.0}

    def drifted(change: Change, at_ms: int, level: int) -> Finding:
        return Finding(0, "spo2_drift", change, at_ms - 12 * 60 * MINUTE, at_ms, level, evidence | {"change": change})

    hot, effects, changes = Hot(1, settled_ms=T0), Effects(T0), Changes()
    engine = Engine(ALL_RULES, effects, T0, changes)
    engine.settled(hot, 1, drifted("raised", T0, 0))
    said = PatientChange(T0 + day, 1, "new_normal", "spo2", {}, 7)
    engine.resolve_by_person(hot, 1, hot.episodes[0], T0 + day, said)
    engine.settled(hot, 1, drifted("worsened", T0 + 30 * day, 1))
    told = [(event.change, event.priority) for event in effects.events]
    assert told == [("raised", "low"), ("resolved", "low"), ("raised", "medium")]
    assert effects.alerts[-1].evidence["change"] == "raised"
    assert len({row.id for row in effects.alerts}) == 2
    engine.settled(hot, 1, drifted("cleared", T0 + 60 * day, 0))
    assert hot.episodes == []


def test_falls_at_night_that_became_a_new_normal_are_told_when_there_are_many_more() -> None:
    evidence = {
        "metric": "spo2", "day": 20_000, "falls": 250, "readings": 500, "minutes": 500, "an_hour": 1, "rate": 30.0,
        "deepest": 8.0, "usual_rate": 1.0, "n_days": 6, "bound": 7.0, "fall": 4.0,
    }  # fmt: skip
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, Changes())
    worse = Finding(0, "night_desaturations", "worsened", T0 - 720 * MINUTE, T0, 1, evidence | {"change": "worsened"})
    engine.settled(hot, 1, worse)
    assert [(event.change, event.priority) for event in effects.events] == [("raised", "medium")]


def test_settling_keeps_the_words_of_what_became_worse_meanwhile() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, Changes())
    raised = finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE)
    engine.provisional(hot, 1, raised)
    worst = {**raised.evidence, "change": "worsened", "worst": 82.0, "threshold": 85.0}
    engine.provisional(hot, 1, Finding(0, "spo2_low", "worsened", T0 + 5 * MINUTE, T0 + 15 * MINUTE, 1, worst))
    engine.settled(hot, 1, raised)
    assert [(one.change, one.priority) for one in effects.changes] == [("worsened", "high"), ("settled", "high")]
    assert effects.changes[-1].evidence is None


def test_what_became_worse_settles_in_the_words_of_all_the_data() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, Changes())
    raised = finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE)
    engine.provisional(hot, 1, raised)
    for minute, take in ((25, engine.provisional), (15, engine.settled)):  # a frame in between came last
        at = T0 + minute * MINUTE
        worst = {**raised.evidence, "change": "worsened", "worst": 82.0, "threshold": 85.0, "to_ms": at}
        if take == engine.settled:
            engine.settled(hot, 1, raised)
        take(hot, 1, Finding(0, "spo2_low", "worsened", T0 + 5 * MINUTE, at, 1, worst))
    assert [one.change for one in effects.changes] == ["worsened", "settled", "settled"]
    last = effects.changes[-1]
    assert last.evidence is not None
    assert (last.priority, last.at_ms, last.evidence["to_ms"]) == ("high", T0 + 10 * MINUTE, T0 + 15 * MINUTE)


def test_the_end_of_a_monitoring_leaves_what_was_told_after_it_began_again() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, discharged(T0 + MINUTE, back_ms=T0 + 3 * MINUTE))
    engine.provisional(hot, 1, finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE))
    engine.settled(hot, 1, finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE))
    assert [event.change for event in effects.events] == ["raised", "settled"]
    assert len(hot.episodes) == 1


def test_what_comes_to_light_after_the_end_was_applied_is_listed_and_ended_not_lost() -> None:
    """The clock had carried the discharge on before the readings came: nobody is paged, and nothing is missing."""
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, discharged(T0 + 30 * MINUTE))
    assert engine.end_monitoring(hot, 1, T0 + 60 * MINUTE)
    assert not engine.end_monitoring(hot, 1, T0 + 60 * MINUTE), "said once"
    early = finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE)
    engine.provisional(hot, 1, early)
    assert effects.events == []
    engine.settled(hot, 1, early)
    assert engine.end_monitoring(hot, 1, T0 + 60 * MINUTE)
    assert [(event.change, event.late) for event in effects.events] == [("raised", True), ("resolved", False)]
    assert effects.alerts[0].late
    assert effects.suppressed == []
    assert hot.episodes == []


def test_an_alert_that_is_taken_back_and_found_after_all_in_one_batch_stands() -> None:
    """Two episodes in unsettled data: the last one is told; as they settle it gives way to the first, and is back."""
    hot = Hot(1, settled_ms=T0)
    Engine(ALL_RULES, Effects(T0), T0, Changes()).provisional(hot, 1, finding(T0 + 70 * MINUTE, T0 + 65 * MINUTE))
    effects = Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, Changes())
    first, last = finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE), finding(T0 + 70 * MINUTE, T0 + 65 * MINUTE)
    engine.settled(hot, 1, first)
    engine.settled(hot, 1, Finding(0, "spo2_low", "cleared", first.start_ms, T0 + 30 * MINUTE, 0, first.evidence))
    engine.settled(hot, 1, last)
    told = [(event.change, event.at_ms - T0) for event in effects.events]
    assert told == [
        ("withdrawn", 10 * MINUTE), ("raised", 10 * MINUTE), ("resolved", 30 * MINUTE), ("raised", 70 * MINUTE),
    ]  # fmt: skip
    standing = effects.alerts[-1].id
    assert [change.change for change in effects.changes if change.id == standing] == []


def again_active(first_end_ms: int, active_ms: int, second_end_ms: int | None = None) -> Changes:
    changes = discharged(first_end_ms, back_ms=active_ms)
    if second_end_ms is not None:
        changes.add(1, [PatientChange(second_end_ms, 3, "monitoring", "", {"state": "deceased"}, 7)])
    return changes


def test_the_first_end_of_a_monitoring_after_a_finding_is_where_it_ends() -> None:
    """However far the data had come when the ends were looked at."""
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    changes = again_active(T0 + 30 * MINUTE, T0 + 40 * MINUTE, T0 + 50 * MINUTE)
    engine = Engine(ALL_RULES, effects, T0, changes)
    engine.settled(hot, 1, finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE))
    engine.pass_on(0, hot, 1, "spo2_low", T0 + 59 * MINUTE)
    assert [(e.change, e.at_ms - T0) for e in effects.events] == [("raised", 10 * MINUTE), ("resolved", 30 * MINUTE)]


def test_what_became_worse_after_the_end_ends_as_it_was_at_the_end() -> None:
    """It was told provisionally before anybody had said that the monitoring had ended."""
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    raised = finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE)
    before = Engine(ALL_RULES, effects, T0, Changes())
    before.settled(hot, 1, raised)
    worst = {**raised.evidence, "change": "worsened", "worst": 82.0, "threshold": 85.0}
    before.provisional(hot, 1, Finding(0, "spo2_low", "worsened", raised.start_ms, T0 + 31 * MINUTE, 1, worst))
    effects = Effects(T0)
    Engine(ALL_RULES, effects, T0, discharged(T0 + 30 * MINUTE)).pass_on(0, hot, 1, "spo2_low", T0 + 30 * MINUTE)
    assert [(c.change, c.priority) for c in effects.changes] == [("settled", "medium"), ("resolved", "medium")]
    assert effects.changes[0].evidence is not None
    assert effects.changes[0].evidence["threshold"] == 90.0


def test_what_outlasts_a_discharge_is_told_again_as_an_episode_of_its_own() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, again_active(T0 + 30 * MINUTE, T0 + 80 * MINUTE))
    engine.settled(hot, 1, finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE))
    engine.pass_on(0, hot, 1, "spo2_low", T0 + 110 * MINUTE)
    assert [e.change for e in effects.events] == ["raised", "resolved"], "quiet until the next full hour"
    cleared = finding(T0 + 130 * MINUTE, T0 + 5 * MINUTE)
    engine.settled(hot, 1, Finding(0, "spo2_low", "cleared", cleared.start_ms, cleared.at_ms, 0, cleared.evidence))
    assert [(e.change, e.at_ms - T0) for e in effects.events[2:]] == [
        ("raised", 120 * MINUTE), ("resolved", 130 * MINUTE),
    ]  # fmt: skip
    assert [row.started_ms - T0 for row in effects.alerts] == [5 * MINUTE, 80 * MINUTE]
    assert len({row.id for row in effects.alerts}) == 2


def test_what_was_held_and_ended_before_anybody_was_to_be_told_is_never_told() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, again_active(T0, T0 + 80 * MINUTE))
    held = finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE)
    engine.settled(hot, 1, held)
    assert list(hot.held) == ["spo2_low"]
    engine.settled(hot, 1, Finding(0, "spo2_low", "cleared", held.start_ms, T0 + 90 * MINUTE, 0, held.evidence))
    engine.pass_on(0, hot, 1, "spo2_low", T0 + 300 * MINUTE)
    assert (effects.events, hot.held) == ([], {})


def test_a_worsening_that_all_the_data_do_not_bear_out_is_taken_back_before_the_alert_ends() -> None:
    hot, effects = Hot(1, settled_ms=T0), Effects(T0)
    engine = Engine(ALL_RULES, effects, T0, Changes())
    raised = finding(T0 + 10 * MINUTE, T0 + 5 * MINUTE)
    engine.provisional(hot, 1, raised)
    worst = {**raised.evidence, "change": "worsened", "worst": 82.0, "threshold": 85.0}
    engine.provisional(hot, 1, Finding(0, "spo2_low", "worsened", T0 + 5 * MINUTE, T0 + 15 * MINUTE, 1, worst))
    engine.settled(hot, 1, raised)  # then a late row breaks the run below 85 %, and all of it settles in one batch
    clear = {**raised.evidence, "change": "cleared", "clear_from_ms": T0 + 20 * MINUTE, "clear_n": 3, "clear_s": 600}
    engine.settled(hot, 1, Finding(0, "spo2_low", "cleared", T0 + 5 * MINUTE, T0 + 30 * MINUTE, 0, clear))
    told = [(one.change, one.priority) for one in effects.events]
    assert told[-2:] == [("settled", "medium"), ("resolved", "medium")]
    assert effects.changes[-2].evidence == {"utc_offset_min": 0, **raised.evidence}
    assert hot.episodes == []
