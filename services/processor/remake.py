"""A finished replay to effects, and into the live state's place."""

from __future__ import annotations

from uuid import UUID

import msgspec

from services.processor import settle
from services.processor.core import DAY_MS, HOUR_MS, Core
from services.processor.hot import Episode, Hot
from services.processor.reconcile import FOREVER_MS, Reconciliation, rebuilt_rows, without_retold
from services.processor.records import AlertRow, Effects, KnownAlert, Remade
from services.processor.replay import OF_THE_PRESENT, REPLAYED_RULES, SLOT, Replay
from services.processor.technical import ALL_RULES
from services.processor.watermark import marks_of
from services.store import kept
from services.store.reader import Reader


async def remade(reader: Reader, core: Core, replay: Replay, now_ms: int, history_ms: int) -> Effects:
    """Return what a finished replay changes, and put its state in the live one's place.

    Args:
        reader: reads in the transaction the effects will be written in.
        core: the live state; the patient's slot is replaced.
        replay: at the live marks.
        now_ms: the clock's present.
        history_ms: bound of the settings.
    """
    slot = core.slot_of[replay.patient_id]
    live = core.hot[slot]
    effects = Effects(recorded_ms=now_ms, touched={slot}, bands=replay.effects.bands, days=replay.effects.days)
    effects.suppressed = replay.effects.suppressed
    await _reconcile(reader, live, replay, effects, live.heard_ms - history_ms)
    for row in effects.alerts:
        row.raised_ms = now_ms
    effects.remade = [_replaced(replay)]
    if replay.closed is not None:
        effects.closed[slot] = replay.closed
    states = _states(live, replay, effects)
    _take_over(core, slot, live, replay, states)
    return effects


async def _reconcile(reader: Reader, live: Hot, replay: Replay, effects: Effects, present_ms: int) -> None:
    carried = {UUID(episode.alert_id) for episode in replay.began.episodes}
    from_ms = min(marks_of(replay.began)[0], replay.began.listened_ms or replay.began.closed_ms)
    stored = await reader.known_alerts(replay.patient_id, sorted(REPLAYED_RULES), from_ms, sorted(carried))
    known = {one.row.id: one for one in stored}
    rebuilt = rebuilt_rows(
        replay.effects.alerts, replay.effects.changes, {one: known[one].row for one in carried & known.keys()}
    )
    scope = {one for one, alert in known.items() if one in rebuilt or _is_of(replay, alert)}
    scope |= {one for one, alert in known.items() if alert.revised_by in scope}
    since = {
        identity: episode.unknown_since_ms
        for episode in live.episodes
        for identity in (episode.alert_id, episode.told_id)
    }
    episodes = replay.hot.episodes
    matched = {one: known[one] for one in scope}
    former = [alert.row for one, alert in known.items() if one not in scope and _is_of_former(replay, alert.row)]
    rebuilt = without_retold(rebuilt, matched, former)
    held_from_ms = FOREVER_MS if live.anew_ms is None else live.anew_ms
    is_live = live.newest_ms >= present_ms
    Reconciliation(rebuilt, matched, episodes, since, is_live, effects, present_ms, held_from_ms).run()


def _is_of(replay: Replay, alert: KnownAlert) -> bool:
    """Tell whether a stored alert would have been found by the replay, were it still true."""
    row = alert.row
    if _is_of_former(replay, row):
        return False  # nothing to put right
    if row.rule == "device_silent" and row.started_ms > replay.hot.listened_ms:
        return False  # the clock told it, and what ended it is not settled yet
    return row.found_ms >= replay.found_from(row.rule)


def _is_of_former(replay: Replay, row: AlertRow) -> bool:
    """Tell whether an alert was found by an earlier version of its rule, or for another setting, and is over.

    A budget that a layer says, or said, is no setting: it is a change in event time, and put right as one.
    """
    limit = row.evidence.get("cusum_limit", replay.core.pipeline.limit)
    chosen = replay.core.changes.chosen_at(replay.patient_id, row.found_ms).budget is not None
    same_limit = limit == replay.core.pipeline.limit or chosen or "limit_set_by" in row.evidence
    return row.state != "active" and not (row.rule_version == ALL_RULES[row.rule].version and same_limit)


def _replaced(replay: Replay) -> Remade:
    rows = replay.checkpoints
    days = [row.checkpoint_day or 0 for row in rows]
    months = {kept.day_of(day).replace(day=1): day for day in reversed(days)}  # the first of each month
    worth = {day for day in days if day >= days[-1] - kept.DAILY_DAYS} | set(months.values())
    return Remade(
        replay.patient_id,
        marks_of(replay.began)[0],
        replay.began.closed_ms // HOUR_MS * HOUR_MS,
        kept.day_of(replay.open_day),
        kept.day_of(replay.began.checkpoint_day + 1),
        [
            (row.patient_id, kept.day_of(day), row.hot, row.baseline, row.layout)
            for row, day in zip(rows, days, strict=True)
            if day in worth
        ],
    )


def _states(live: Hot, replay: Replay, effects: Effects) -> dict[int, int]:
    """Return the data states as the replay left them, except where the clock or newer data know better."""
    since = {row[2]: row for row in replay.effects.states}
    states = {**live.states, **replay.hot.states}
    closed_ms = replay.hot.closed_ms
    for metric, code in states.items():
        if metric in live.silent:
            states[metric] = live.states.get(metric, settle.NO_DATA_CODE)
        elif code == settle.NO_DATA_CODE and live.good.get(metric, 0) >= closed_ms:
            states[metric] = 0  # heard of since
        if states[metric] != live.states.get(metric):
            row = settle.state_row(live.organisation_id, replay.patient_id, metric, states[metric], closed_ms)
            effects.states.append(since.get(metric, row) if states[metric] == code else row)
    return states


def _take_over(core: Core, slot: int, live: Hot, replay: Replay, states: dict[int, int]) -> None:
    rebuilt = replay.hot
    of_the_present: list[Episode] = [one for one in live.episodes if one.rule in OF_THE_PRESENT]
    core.hot[slot] = msgspec.structs.replace(
        live, closed_ms=rebuilt.closed_ms, judged=rebuilt.judged, states=states, listened_ms=rebuilt.listened_ms,
        off_ms=rebuilt.off_ms, worn_to_ms=rebuilt.worn_to_ms, episodes=[*rebuilt.episodes, *of_the_present], late={},
        dirty_ms=None, dirty_n=0, anew_ms=None, held=rebuilt.held, ended_ms=rebuilt.ended_ms,
        devices=rebuilt.devices, early=rebuilt.early, early_ms=rebuilt.early_ms, weight=rebuilt.weight,
        checkpoint_day=max(rebuilt.checkpoint_day, rebuilt.closed_ms // DAY_MS),
    )  # fmt: skip
    core.state[slot] = replay.core.state[SLOT]
    core.limit_state[slot] = replay.core.limit_state[SLOT]
    core.pending[slot] = replay.core.pending[SLOT]
    core.fed[slot] = replay.core.fed[SLOT]
