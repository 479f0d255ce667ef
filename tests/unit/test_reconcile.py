"""What was told and what all data show: every way in which the two can differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from detectors.rules import RULES
from services.processor.alert_rows import alert_id
from services.processor.hot import Episode
from services.processor.reconcile import CHANGED_RULE, NOT_BORNE_OUT, Reconciliation, without_retold
from services.processor.records import AlertRow, Effects, KnownAlert

MINUTE = 60_000


def row(start: int, end: int | None, **changes: Any) -> AlertRow:
    """An alert of one rule from one minute to another, None: it is open."""
    made = AlertRow(
        id=alert_id(1, "spo2_low", 1, start * MINUTE), organisation_id=1, patient_id=1, rule="spo2_low",
        rule_version=RULES["spo2_low"].version, kind="clinical", priority="medium",
        state="active" if end is None else "resolved", provisional=False, late=False, started_ms=start * MINUTE, found_ms=(start + 5) * MINUTE, raised_ms=0,
        last_evidence_ms=(start + 5 if end is None else end) * MINUTE, unknown_since_ms=None,
        resolved_ms=None if end is None else end * MINUTE, sentence=f"from {start}", patient_sentence="you",
        evidence={"n": end},
    )  # fmt: skip
    return replace(made, **changes)


def reconcile(
    rebuilt: list[AlertRow], known: list[AlertRow | KnownAlert], *, live: bool = True
) -> tuple[Effects, list[Episode]]:
    """Match them; return the effects and the open episodes."""
    effects = Effects(recorded_ms=0)
    stored = [one if isinstance(one, KnownAlert) else KnownAlert(one, None) for one in known]
    episodes = [
        Episode(str(r.id), r.rule, r.kind, r.started_ms, r.found_ms, r.priority, False, r.priority)
        for r in rebuilt
        if r.state == "active"
    ]
    Reconciliation(
        {one.id: replace(one) for one in rebuilt}, {one.row.id: one for one in stored}, episodes, {}, live, effects
    ).run()
    return effects, episodes


def told(effects: Effects) -> list[tuple[UUID, str, bool]]:
    """Every event: of which alert, what, and whether as late."""
    return [(event.alert_id, event.change, event.late) for event in effects.events]


def test_what_did_not_change_is_left_alone() -> None:
    effects, episodes = reconcile([row(0, 20), row(30, None)], [row(0, 20), row(30, None)])
    assert not effects.alerts
    assert not effects.revisions
    assert not effects.events
    assert [(e.late, e.told_id) for e in episodes] == [(False, "")]


def test_another_end_is_written_in_place_and_told_as_a_revision() -> None:
    effects, _ = reconcile([row(0, 25)], [row(0, 20)])
    ((after, revised_by, void),) = effects.revisions
    assert (after.resolved_ms, revised_by, void) == (25 * MINUTE, None, False)
    assert told(effects) == [(row(0, 25).id, "revised", True)]


def test_another_beginning_links_the_told_one_and_leaves_it_as_told() -> None:
    before, after = row(10, 30), row(0, 40)
    effects, _ = reconcile([after], [before])
    ((revised, revised_by, _),) = effects.revisions
    assert (revised.id, revised_by, revised.sentence, revised.found_ms) == (before.id, after.id, "from 10", 15 * MINUTE)
    assert [(one.id, one.late) for one in effects.alerts] == [(after.id, True)]
    assert told(effects) == [(after.id, "revised", True), (before.id, "revised", True)]
    again, _ = reconcile([after], [KnownAlert(revised, after.id), replace(after, late=True)])
    assert not again.revisions
    assert not again.events


def test_an_open_episode_goes_on_under_the_alert_that_was_told() -> None:
    before, after = row(10, None), row(0, None, priority="high")
    effects, (episode,) = reconcile([after], [before])
    assert (episode.alert_id, episode.told_id, episode.late) == (str(after.id), str(before.id), False)
    assert effects.alerts[0].late
    ((revised, _, void),) = effects.revisions
    assert (revised.priority, revised.state, void) == ("high", "active", True)
    assert (before.id, "worsened", False) in told(effects)


def test_several_told_ones_joined_are_all_linked_and_one_goes_on() -> None:
    first, second, whole = row(10, 20), row(30, None), row(0, None)
    effects, (episode,) = reconcile([whole], [first, second])
    assert {one.row.id: one.revised_by for one in effects.revisions} == {first.id: whole.id, second.id: whole.id}
    assert episode.told_id == str(second.id)
    assert [one.row.state for one in effects.revisions] == ["resolved", "active"]


def test_what_nothing_bears_out_is_withdrawn_with_a_word_why() -> None:
    effects, _ = reconcile([], [row(0, None)])
    ((after, _, _),) = effects.revisions
    assert after.state == "withdrawn"
    assert NOT_BORNE_OUT in after.sentence
    assert after.evidence["withdrawn"] == NOT_BORNE_OUT
    assert told(effects) == [(after.id, "withdrawn", False)]
    again, _ = reconcile([], [after])
    assert not again.revisions


def test_what_an_earlier_version_of_the_rule_found_is_withdrawn_with_that_reason() -> None:
    effects, _ = reconcile([], [row(0, None, rule_version=RULES["spo2_low"].version - 1)])
    ((after, _, _),) = effects.revisions
    assert after.evidence["withdrawn"] == CHANGED_RULE
    assert CHANGED_RULE in after.sentence


def test_what_an_earlier_version_told_of_is_not_listed_again_where_it_is_over() -> None:
    former = [row(1, 15), row(31, None), row(60, 80, state="withdrawn", resolved_ms=None), row(91, 99)]
    retold, lasts, of_another = row(0, 20), row(30, None), row(2, 9, rule="fever", id=UUID(int=1))
    again, worse = row(61, 79), row(90, 99, priority="high")
    rebuilt = {one.id: one for one in (retold, lasts, of_another, again, worse)}
    assert without_retold(rebuilt, {}, former) == {one.id: one for one in (lasts, of_another, again, worse)}
    for matched in (retold, row(3, None)):
        assert without_retold({retold.id: retold}, {matched.id: KnownAlert(matched, None)}, former)


def test_what_nobody_was_told_of_is_listed_and_told_only_if_it_lasts() -> None:
    over, lasts = row(0, 20), row(30, None)
    effects, (episode,) = reconcile([over, lasts], [])
    assert [(one.id, one.late) for one in effects.alerts] == [(over.id, True), (lasts.id, False)]
    assert told(effects) == [(over.id, "raised", True), (lasts.id, "raised", False)]
    assert not episode.late
    effects, (episode,) = reconcile([lasts], [], live=False)
    assert told(effects) == [(lasts.id, "raised", True)]
    assert (episode.late, episode.hushed) == (True, True)


def test_a_listed_one_that_lasts_is_told_when_its_patient_is_live() -> None:
    effects, (episode,) = reconcile([row(0, None)], [row(0, 20, late=True)])
    assert told(effects) == [(row(0, None).id, "raised", False)]
    assert not effects.revisions[0].row.late
    assert not episode.late


def test_a_rebuilt_one_of_an_earlier_rebuild_gives_way() -> None:
    first, shadow, now = row(10, 30), row(5, 30, late=True), row(0, 30)
    effects, _ = reconcile([now], [KnownAlert(first, shadow.id), shadow])
    assert {one.row.id: (one.row.state, one.revised_by) for one in effects.revisions} == {
        first.id: ("resolved", now.id),
        shadow.id: ("withdrawn", None),
    }
    assert (shadow.id, "withdrawn", True) not in told(effects)


def test_a_withdrawn_one_that_all_data_bear_out_stands_again() -> None:
    effects, (episode,) = reconcile([row(0, None)], [row(0, None, state="withdrawn")])
    assert effects.revisions[0].row.state == "active"
    assert told(effects) == [(row(0, None).id, "revised", False)]
    assert not episode.late


def test_what_was_only_listed_is_not_told_in_place_of_what_was_told() -> None:
    listed, before = row(0, 5, state="active", resolved_ms=None, late=True), row(10, None)
    effects, (episode,) = reconcile([row(0, None)], [listed, before])
    assert episode.told_id == str(before.id)
    assert [event for event in told(effects) if not event[2]] == []


def test_what_lasts_against_the_own_baseline_is_listed_and_pages_nobody() -> None:
    rise = row(0, None, rule="resting_heart_rate_rise")
    effects, (episode,) = reconcile([rise], [])
    assert told(effects) == [(rise.id, "raised", True)]
    assert (episode.late, episode.hushed) == (True, False)


def held_back(rebuilt: list[AlertRow], known: list[AlertRow], *, live: bool = True) -> Effects:
    """Match them where adaptive rules were held back from minute 100 on, and minute 130 is the present."""
    effects = Effects(recorded_ms=0)
    Reconciliation(
        {one.id: replace(one) for one in rebuilt}, {one.id: KnownAlert(one, None) for one in known}, [], {}, live,
        effects, present_ms=130 * MINUTE, held_from_ms=100 * MINUTE,
    ).run()  # fmt: skip
    return effects


def of_rule(rule: str, start: int, end: int | None, **changes: Any) -> AlertRow:
    return row(start, end, rule=rule, id=alert_id(1, rule, 1, start * MINUTE), **changes)


def test_what_was_held_back_is_told_while_it_lasts_or_is_of_today() -> None:
    past, gone = of_rule("night_desaturations", 90, None), of_rule("night_vitals_together", 105, 120)
    lasts, today = of_rule("resting_heart_rate_rise", 105, None), of_rule("heart_rate_unusual_at_rest", 125, 140)
    effects = held_back([past, gone, lasts, today], [])
    assert told(effects) == [
        (past.id, "raised", True), (gone.id, "raised", True), (lasts.id, "raised", False), (today.id, "raised", False),
        (today.id, "resolved", False),
    ]  # fmt: skip
    assert told(held_back([lasts], [], live=False)) == [(lasts.id, "raised", True)]


def test_what_was_not_held_back_is_listed_as_ever() -> None:
    """A device's state and safety limits were judged meanwhile; what an hour showed at its end was seen before."""
    rows = [of_rule("not_worn", 126, 140), of_rule("spo2_low", 126, 140)]
    rows.append(of_rule("heart_rate_unusual_at_rest", 90, 99, found_ms=100 * MINUTE))
    assert {late for _, _, late in told(held_back(rows, []))} == {True}


def test_the_end_of_what_was_told_is_told_where_it_was_held_back() -> None:
    before, after = of_rule("heart_rate_unusual_at_rest", 60, None), of_rule("heart_rate_unusual_at_rest", 60, 110)
    assert told(held_back([after], [before])) == [(after.id, "resolved", False)]
    listed = replace(before, late=True)
    assert told(held_back([after], [listed])) == [(after.id, "resolved", True)]
    moved = of_rule("heart_rate_unusual_at_rest", 58, 110)
    assert told(held_back([moved], [before])) == [(moved.id, "revised", True), (before.id, "resolved", False)]
