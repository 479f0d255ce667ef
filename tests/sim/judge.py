"""The invariants: some at each commit, the others when everything has come to its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
from aiokafka import TopicPartition

from services import topics
from services.processor.records import Effects
from tests.sim import expected, oracle
from tests.sim.oracle import Expected
from tests.sim.plan import BOUND_MS
from tests.sim.store import Open
from tests.sim.stories import HOUR, MINUTE, START, Row, story
from tests.sim.tables import Place
from tests.sim.world import Broken, World

DAY_ENDS_MS: Final = START + 4 * HOUR  # 10:00 where these people live
ALARMING: Final = 5  # so many minutes beyond a limit, and the day teaches nothing about the metric
CERTAINLY_LATE_MS: Final = BOUND_MS + 31 * MINUTE
NAMES: Final = {number: name for name, number in oracle.METRIC_IDS.items()}
Reading = tuple[int, int, int, float]  # device, metric, instant, value


class Judge:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self.world, self.tables = world, world.server.tables
        self._positions: dict[tuple[str, int], int] = {}
        self._arrived: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # patient → (received, newest)
        self._latest: defaultdict[int, int] = defaultdict(int)  # patient → the last receipt that was taken in
        # History was taken in before a backlog of live frames: what was missing then is waited for until their
        # time of receipt has caught up, so nothing can be said about what is late.
        self._overtaken: set[int] = set()
        self._due = [
            (patient, one, self._evidence(patient, one)) for patient in world.plan.calm for one in self._told(patient)
        ]
        self._control_ends: dict[int, int] = {}  # partition → end of its control log when it was taken over
        world.server.committed.append(self.commit)
        world.server.taken.append(self._taken)

    def _taken(self, places: list[Place]) -> None:
        for topic, partition in places:
            if topic == topics.CONTROL:
                self._control_ends[partition] = len(self.world.log.of(TopicPartition(topic, partition)))

    # ------------------------------------------------------------------ at each commit

    def commit(self, one: Open) -> None:
        """Judge a transaction that has just become true.

        Raises:
            Broken: an invariant does not hold.
        """
        for place, epoch in one.claimed.items():
            if self.tables.positions[place][1] != epoch:
                _broken(
                    "one writer a partition", f"{one.actor.name} wrote {place} with epoch {epoch} after a take-over"
                )
        for effects, *_ in one.effects:
            self._in_order(effects)
            self._not_paged_late(effects)
        if self.tables.twice:
            _broken("nothing is stored twice", f"reading {self.tables.twice[0]} was stored again")
        self._safety_is_out()

    def _in_order(self, effects: Effects) -> None:
        """Each partition's records are taken once, in their order, none left out."""
        taken = [fate.frame_id for fate in effects.fates]
        dead = {(d.record.topic, d.record.partition, d.record.offset) for d in effects.dead}
        for (topic, partition), offset in effects.positions.items():
            before = self._positions.get((topic, partition), 0)
            if offset <= before:
                _broken("effects are atomic with position", f"{topic}/{partition} went from {before} to {offset} again")
            self._positions[topic, partition] = offset
            if topic == topics.CONTROL:
                continue
            if self.tables.positions[topics.CONTROL, partition][0] < self._control_ends[partition]:
                _broken("control comes before readings", f"{topic}/{partition} to {offset}: a change was not taken in")
            log = self.world.log.of(TopicPartition(topic, partition))[before:offset]
            named = [_shape(r.value)[1] for r in log if (topic, partition, r.offset) not in dead]
            mine = [name for name in taken if name in set(named)]
            elsewhere = topics.READINGS if topic == topics.BACKFILL else topics.BACKFILL
            if (elsewhere, partition) in effects.positions and len(mine) > len(named):
                continue  # a frame sent again as history in the very batch of its first delivery
            if mine != named:
                _broken("order per patient", f"{topic}/{partition} holds {named}, taken were {mine}")

    def _not_paged_late(self, effects: Effects) -> None:
        """A finding on data that came after the bound is late, whatever else came with it."""
        received: dict[int, int] = {}
        for fate in effects.fates:
            self._latest[fate.patient_id] = max(self._latest[fate.patient_id], fate.received_ms)
            if self._latest[fate.patient_id] > fate.received_ms + BOUND_MS:
                self._overtaken.add(fate.patient_id)
            received[fate.patient_id] = min(received.get(fate.patient_id, fate.received_ms), fate.received_ms)
        taken_back = {change.id for change in effects.changes if change.change == "withdrawn"}
        replaced = {(r["patient_id"], r["rule"]) for r in (self.tables.alerts[i] for i in taken_back) if not r["late"]}
        for row in effects.alerts:
            if (row.patient_id, row.rule) in replaced or row.patient_id in self._overtaken:
                continue  # told in time, and now with the start that all of the data show
            if row.kind != "clinical" or row.late or row.rule not in oracle.RULES:
                continue
            if not any(
                fate.patient_id == row.patient_id and fate.stored
                and fate.t_first_ms is not None and fate.t_last_ms is not None
                and fate.t_first_ms <= row.found_ms and row.started_ms <= fate.t_last_ms
                for fate in effects.fates
            ):  # fmt: skip
                continue  # its readings came in time: they were held while a gap was waited for
            since = received.get(row.patient_id, 0) - BOUND_MS
            arrived = self._arrived[row.patient_id]
            newest = max((t for at, t in arrived if at < since), default=0)
            if row.found_ms < newest - CERTAINLY_LATE_MS:
                _broken("late findings are never paged", f"{row.rule} found at {row.found_ms}, data known to {newest}")
        self._late_is_dirty(effects)
        for fate in effects.fates:
            if fate.t_last_ms is not None and fate.stored:  # what is quarantined moves no mark
                self._arrived[fate.patient_id].append((fate.received_ms, min(fate.t_last_ms, fate.received_ms)))

    def _late_is_dirty(self, effects: Effects) -> None:
        """What certainly came too late, and is stored, marks its patient from its first instant on."""
        for fate in effects.fates:
            arrived = self._arrived[fate.patient_id]
            before = [t for at, t in arrived if at < fate.received_ms - BOUND_MS]
            if fate.patient_id in self._overtaken:
                continue
            if fate.t_first_ms is None or fate.duplicate or fate.conflict or not fate.stored:
                continue
            if fate.t_first_ms < max(before, default=0) - CERTAINLY_LATE_MS:
                dirty = self.tables.hot[fate.patient_id].dirty_ms
                if dirty is None or dirty > fate.t_first_ms:
                    _broken("late data mark the patient", f"{fate.frame_id} is late, dirty since {dirty}")

    def _safety_is_out(self) -> None:
        """The transaction that stores the last reading a safety finding needs holds the alert."""
        for item in list(self._due):
            patient, one, missing = item
            missing -= self.tables.stored
            if missing:
                continue
            self._due.remove(item)
            if self._came_again(patient, one):
                continue  # of several episodes in data that are not settled yet the last one is told at once
            rows = self.tables.alerts.values()
            if not any(
                row["patient_id"] == patient and row["rule"] == one.rule and row["state"] != "withdrawn"
                and not row["late"] and row["started_ms"] <= one.found_ms
                for row in rows
            ):  # fmt: skip
                _broken("a safety finding is out with its reading", f"patient {patient}: {one} is stored, not told")

    def _came_again(self, patient: int, one: Expected) -> bool:
        number = oracle.METRIC_IDS[oracle.RULES[one.rule].metric]
        later = {t for name, t, _ in self._beyond(patient, one.rule) if t > (one.resolved_ms or one.found_ms)}
        return any((patient, number, patient, t) in self.tables.stored for t in later)

    def _beyond(self, patient: int, name: str) -> list[Row]:
        rule = oracle.RULES[name]
        return [r for r in self._rows(patient) if r[0] == rule.metric and rule.sign * (r[2] - rule.levels[0][0]) >= 0]

    # ------------------------------------------------------------------ at the end

    async def end(self) -> None:
        """Judge what has come of everything.

        Raises:
            Broken: an invariant does not hold.
        """
        self._accepted_is_kept()
        self._highest_revision_counts()
        self._each_frame_once()
        self._dead()
        self._relayed()
        self._streamed()
        self._nothing_learned_from_alarms()
        self._late_is_marked()
        await self._as_undisturbed()

    def _accepted_is_kept(self) -> None:
        accepted: set[Reading] = set()
        for (device, *_), frame in self.world.doors.accepted.items():
            accepted |= {(device, oracle.METRIC_IDS[metric], t, value) for metric, t, value in frame.rows}
        kept: Counter[Reading] = Counter()
        for table in self.tables.readings.values():
            columns = (table.device.tolist(), table.metric.tolist(), table.t_ms.tolist(), table.value.tolist())
            kept.update(zip(*columns, strict=True))
        stored = Counter(key[:3] for key in kept.elements())
        for others in (self.tables.conflicts, self.tables.quarantined):
            kept.update((device, metric, t, value) for _, metric, device, t, value in others)
        kept.update((place[2], place[1], place[3], value) for place, value in self.tables.superseded.items())
        _same_set("accepted is kept", accepted, set(kept))
        again = [key for key, count in stored.items() if count > 1]
        if again:
            _broken("nothing is stored twice", f"reading {again[0]} is stored {stored[again[0]]} times")
        possible = {r for r in accepted if oracle.possible((NAMES[r[1]], r[2], r[3]))}
        _same_set(
            "what can't be is quarantined", accepted - possible,
            {(device, metric, t, value) for _, metric, device, t, value in self.tables.quarantined},
        )  # fmt: skip

    def _highest_revision_counts(self) -> None:
        for device, frames in self.world.plan.corrected.items():
            latest = {(metric, t): value for frame in frames for metric, t, value in frame.rows}
            for table in self.tables.readings.values():
                mine = table[table.device == device]
                for metric, t_ms, value in zip(
                    mine.metric.tolist(), mine.t_ms.tolist(), mine.value.tolist(), strict=True
                ):
                    wanted = latest.get((NAMES[metric], t_ms), value)
                    if wanted != value:
                        _broken(
                            "the highest revision counts", f"d{device} {NAMES[metric]} {t_ms}: {value}, not {wanted}"
                        )

    def _each_frame_once(self) -> None:
        """Each delivery is counted once; the first value of an instant is stored, the others are kept beside."""
        versions = bool(self.world.plan.corrected)
        history = versions or any(self.world.log.of(place) for place in self._places(topics.BACKFILL))
        seen: dict[tuple[int, int, int, int], float] = {}
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for place in (*self._places(topics.READINGS), *self._places(topics.BACKFILL)):
            for record in self.world.log.of(place):
                if (place.topic, place.partition, record.offset) not in self.tables.dead:
                    _count(_shape(record.value), seen, counts)
        for name, count in counts.items():
            row = self.tables.frames.get(name, {})
            checked = ("deliveries",) if history else ("deliveries", "stored", "duplicate", "conflict", "quarantined")
            wrong = [what for what in checked if row.get(what, 0) != count[what]]
            if wrong:
                _broken("a replay changes nothing", f"frame {name}: {dict(count)} came, {row} is written")

    def _dead(self) -> None:
        littered = {(topics.READINGS, partition, offset): value for partition, offset, value in self.world.doors.junk}
        found = {place: value for place, (_, value) in self.tables.dead.items()}
        if littered != found:
            _broken("what can't be processed is dead, byte for byte", f"{littered.keys() ^ found.keys()}")

    def _relayed(self) -> None:
        """Everything left in the outbox reached its topic, each patient's in the order it was written.

        Changes of different kinds may be written at one moment, and overtake each other: they are applied by when
        they take effect.
        """
        for topic in (topics.ALERTS, topics.DEAD, topics.CONTROL):
            log = [record for record in self.world.log.all_of(topic) if not _is_tick(topic, record.value)]
            rows = [row for row in sorted(self.tables.outbox, key=lambda row: row.id) if row.topic == topic]
            for key in {(row.key, _about(topic, row.value)) for row in rows}:
                written = [row.value for row in rows if (row.key, _about(topic, row.value)) == key]
                sent = [r.value for r in log if (r.key or b"", _about(topic, r.value)) == key]
                if list(dict.fromkeys(written)) != list(dict.fromkeys(sent)):
                    _broken("relay order is outbox order, none lost", f"{topic} of {key!r}: {len(written)} rows")

    def _streamed(self) -> None:
        seen, there = self.world.stream.seen, [row.id for row in self.tables.events]
        if sorted(seen) != sorted(there):
            lost = sorted(set(there) - set(seen))
            _broken("a reader sees every event once", f"lost {lost[:5]}, {len(seen)} seen of {len(there)}")

    def _nothing_learned_from_alarms(self) -> None:
        for patient in self.world.plan.calm:
            rows = [row for row in self._rows(patient) if row[1] < DAY_ENDS_MS]
            for metric, sign, limit in (("spo2", -1, 89.9), ("body_temperature", 1, 38.5)):
                if sum(sign * (value - limit) >= 0 for name, _, value in rows if name == metric) < ALARMING:
                    continue
                number = oracle.METRIC_IDS[metric]
                for key, row in self.tables.days.items():
                    if key[:2] == (patient, number) and row[-1]:
                        _broken("an anomaly never teaches the baseline", f"patient {patient}: {key} was learned from")

    def _late_is_marked(self) -> None:
        late = {row["patient"] for row in self.tables.frames.values() if row["late"]}
        for patient in late & self.world.plan.calm:
            _broken("in time is in time", f"patient {patient}: frames within the bound were called late")

    async def _as_undisturbed(self) -> None:
        """What was found and kept is what an undisturbed run of the same frames makes of them."""
        plan = self.world.plan
        for patient in plan.patients:
            mine = {n: d for n, d in plan.devices.items() if any(a.patient_id == patient for a in d.assignments)}
            sent = tuple(
                (d, (*story(*plan.stories[n]), *plan.corrected.get(n, ()), plan.closing[n])) for n, d in mine.items()
            )
            if plan.contradicted & mine.keys():
                continue
            changes = tuple(sorted((c for c in plan.changes if c.patient == patient), key=lambda c: c.effective_ms))
            calm = await expected.undisturbed(patient, sent, changes)
            found = expected.outcome(self.tables, patient)
            different = expected.difference(calm, found)
            if different:
                _broken("same input, same outcome", f"patient {patient}: {different}")
            if list(mine) == [patient] and len(mine[patient].assignments) == 1 and not changes:
                self._as_the_readings_say(patient)

    def _as_the_readings_say(self, patient: int) -> None:
        told = [(one.rule, one.start_ms, one.found_ms, one.priority, one.resolved_ms) for one in self._told(patient)]
        raised = sorted(
            (row["rule"], row["started_ms"], row["found_ms"], row["priority"], row["resolved_ms"])
            for row in self.tables.alerts.values()
            if row["patient_id"] == patient and row["state"] != "withdrawn" and row["revised_by"] is None
            and row["rule"] in oracle.RULES
        )  # fmt: skip
        if told != raised:
            _broken("the safety findings are those of the readings", f"patient {patient}: {told} are, {raised} told")

    # ------------------------------------------------------------------ what the plan says

    def _rows(self, patient: int) -> set[Row]:
        return oracle.readings_of(story(*self.world.plan.stories[patient]))

    def _told(self, patient: int) -> list[Expected]:
        return oracle.episodes(self._rows(patient))

    def _evidence(self, patient: int, one: Expected) -> set[tuple[int, int, int, int]]:
        metric = oracle.RULES[one.rule].metric
        number = oracle.METRIC_IDS[metric]
        return {
            (patient, number, patient, t)
            for name, t, _ in self._rows(patient)
            if name == metric and one.start_ms <= t <= one.found_ms
        }

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for partition in range(self.world.plan.partitions)]


def _is_tick(topic: str, value: bytes) -> bool:
    return topic == topics.CONTROL and msgspec.msgpack.decode(value)["type"] != "change"


def _about(topic: str, value: bytes) -> tuple[str, str]:
    """Return the kind and subject of a change, nothing of another record."""
    if topic != topics.CONTROL:
        return "", ""
    change = msgspec.msgpack.decode(value)
    return change["kind"], change["subject"]


def _shape(value: bytes) -> list[Any]:
    """Return a stamped frame as plain values: 1 frame id, 3 patient, 4 device, 10 blocks."""
    return list(msgspec.msgpack.decode(value))


def _count(
    frame: list[Any], seen: dict[tuple[int, int, int, int], float], counts: defaultdict[str, Counter[str]]
) -> None:
    count = counts[frame[1]]
    count["deliveries"] += 1
    for metric, t0, step_us, _, data, offsets, *_ in frame[10]:
        values = np.frombuffer(data, "<f4").tolist()
        times = np.frombuffer(offsets, "<i4").tolist() if offsets else [i * step_us // 1000 for i in range(len(values))]
        for offset, value in zip(times, values, strict=True):
            key = (frame[3], metric, frame[4], t0 + offset)
            if not oracle.possible((NAMES[metric], t0 + offset, value)):
                count["quarantined"] += 1
            elif key not in seen:
                seen[key] = value
                count["stored"] += 1
            else:
                count["duplicate" if seen[key] == value else "conflict"] += 1


def _same_set(invariant: str, one: set[Reading], other: set[Reading]) -> None:
    if one != other:
        lost, more = sorted(one - other), sorted(other - one)
        _broken(invariant, f"{len(lost)} missing, e.g. {lost[:2]}; {len(more)} too many, e.g. {more[:2]}")


def _broken(invariant: str, detail: str) -> None:
    raise Broken(invariant, detail)


def invariants() -> Iterable[str]:
    """Return the names of everything that is judged."""
    return (
        "one writer a partition", "effects are atomic with position", "order per patient",
        "control comes before readings", "late findings are never paged", "late data mark the patient", "a safety finding is out with its reading", "accepted is kept",
        "nothing is stored twice", "the highest revision counts", "what can't be is quarantined", "a replay changes nothing",
        "what can't be processed is dead, byte for byte", "relay order is outbox order, none lost",
        "a reader sees every event once", "an anomaly never teaches the baseline", "in time is in time",
        "same input, same outcome", "the safety findings are those of the readings",
        "a process stops only when it is replaced", "everything comes to its end",
    )  # fmt: skip
