"""Another device: its difference is learned, no baseline takes it up, and what is ill is told all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import pytest

from detectors.afresh import start_afresh
from detectors.baseline import NIGHT_HEART, NIGHT_SKIN, PAIRS, REST_HEART
from detectors.devices import BETWEEN, DEVICE_DTYPE, FIRST_WEEK, NIGHTS, WATCHED, learn, tonight, turn
from detectors.explain import patient_sentence, sentence
from detectors.pipeline import PIPELINE_DTYPE, Pipeline, take
from detectors.protocol import DAY_MS, HEART_RATE, Finding, State
from detectors.settled import Days, Settled
from detectors.windows import Window, Windows, timeline
from tests.unit.people import METRICS, START_MS, fill, hour_of, local_day

PEOPLE: Final = 4  # of each story, the same ones in every story
SWAP, LAST = 20, 45
HOURS: Final = (1, 2, 3, 4, 5, 9, 11, 14)  # of a day: what nobody judges need not be lived
RISE, NORMAL, SKIN = "resting_heart_rate_rise", "resting_heart_rate_new_normal", "night_skin_temperature_rise"
WATCH, RING, PATCH = 7, 9, 4
TURNS: Final = np.arange(60) % 2  # which of two devices measures a minute


class Story(NamedTuple):
    """From which day on which device is worn, how far each device is off, and how far the heart rate is from usual."""

    devices: tuple[tuple[int, int], ...] = ((0, WATCH), (SWAP, RING))
    off: dict[int, float] = {}
    ill: tuple[tuple[int, float], ...] = ()
    shared: tuple[tuple[int, int], ...] = ()  # from which day on which device measures half of the minutes
    fall: float = 0

    def at(self, day: int, steps: tuple[tuple[int, Any], ...], none: Any) -> Any:
        return next((what for since, what in reversed(steps) if since <= day), none)


RISER: Final = {RING: 6.0}
STORIES: Final = {
    "worn on": Story(),
    "unseen": Story(((0, WATCH),), ill=((SWAP, 6.0),)),  # the device's difference, were it not known to be another
    "swapped": Story(off=RISER),
    "lower": Story(off={RING: -6.0}),
    "ill later": Story(off=RISER, ill=((SWAP + 8, 9.0),)),
    "ill with it": Story(ill=((SWAP, 16.0),)),
    "ill before": Story(off=RISER, ill=((SWAP - 6, 9.0), (SWAP + 6, 0.0))),
    "suspected": Story(ill=((SWAP - 2, 7.0), (SWAP + 14, 0.0))),
    "well again": Story(off={RING: 2.0}, ill=((SWAP - 6, 9.0), (SWAP, 0.0))),
    "and back": Story(((0, WATCH), (SWAP, RING), (SWAP + 16, WATCH)), RISER),
    "and a third": Story(((0, WATCH), (SWAP, RING), (SWAP + 10, PATCH)), {RING: 6.0, PATCH: -5.0}),
    "both": Story(((0, WATCH),), RISER, shared=((SWAP, RING),)),
    "unknown": Story(((0, WATCH), (SWAP, RING), (SWAP + 16, 0)), RISER),
    "began late": Story(((0, 0), (SWAP, RING))),
    "young": Story(((0, WATCH), (3, RING)), RISER),
    "medicine": Story(off={RING: -6.0}, fall=-10),
}  # fmt: skip


class Lived(NamedTuple):
    """What became of everybody."""

    settled: list[Settled]
    states: dict[int, State]  # at the end of each day

    def findings(self, story: str, rule: str) -> list[Finding]:
        found = [finding for one in self.settled for finding in one.findings]
        return [f for f in found if f.row in rows(story) and f.rule == rule]

    def told(self, story: str, rule: str = RISE) -> set[int]:
        return {f.row for f in self.findings(story, rule) if f.change == "raised"}

    def nights(self, story: str, day: int, metric: str = "heart_rate") -> Days:
        days = Days.join([one.days for one in self.settled])
        asleep = (days.metric == METRICS[metric]) & (days.context == 0) & (days.local_day == night_of(day))
        return days.take(asleep & np.isin(days.row, rows(story)))

    def device(self, story: str, day: int = LAST - 1) -> State:
        return self.states[day]["devices"][list(rows(story)), 0]


def night_of(day: int) -> int:
    """Return the local day of the night that is lived on a day of the stories."""
    return local_day(day - 1)


def rows(story: str) -> range:
    start = list(STORIES).index(story) * PEOPLE
    return range(start, start + PEOPLE)


def live(stories: list[Story], last: int) -> Lived:
    """Let the same few people live every story side by side."""
    pipeline, settled, states = Pipeline(), [], {}
    state = pipeline.new_state(len(stories) * PEOPLE)
    everybody = np.arange(len(state))
    begins = START_MS + (SWAP - 1) * DAY_MS
    own = {
        row: timeline([Window(begins, begins + 28 * DAY_MS, stories[row // PEOPLE].fall, 0)])
        for row in everybody.tolist() if stories[row // PEOPLE].fall
    }  # fmt: skip
    for day in range(1, last):
        level = 60 + np.random.default_rng(day).normal(0, 1.5, PEOPLE)
        device = np.repeat([one.at(day, one.devices, 0) for one in stories], PEOPLE)
        beside = np.repeat([one.at(day, one.shared, one.at(day, one.devices, 0)) for one in stories], PEOPLE)
        ill = np.repeat([one.at(day, one.ill, 0.0) for one in stories], PEOPLE)
        worn = np.stack([device, beside], axis=1)
        off = np.array([[stories[row // PEOPLE].off.get(one, 0.0) for one in worn[row].tolist()] for row in everybody])
        for hour in HOURS:
            alike = hour_of(day * 24 + hour - 24, level)
            fill(alike, "skin_temperature", 34 + np.random.default_rng([day, hour]).normal(0, 0.1, (PEOPLE, 60)))
            each = replace(take(alike, np.tile(np.arange(PEOPLE), len(stories))), rows=everybody)
            each.device[:] = worn[:, TURNS, None]
            for values in (each.mean, each.low, each.high):
                values[:, :, HEART_RATE] += ill[:, None] + off[:, TURNS]
                values[:, :, METRICS["skin_temperature"]] += off[:, TURNS] / 4
            settled.append(pipeline.settle(state, each, opened=Windows(own)))
        states[day] = state.copy()
    return Lived(settled, states)


@pytest.fixture(scope="module")
def lived() -> Lived:
    return live(list(STORIES.values()), LAST)


def test_what_another_device_measures_higher_is_learned_and_not_told(lived: Lived) -> None:
    assert len(lived.told("unseen")) == PEOPLE, "of whoever is not known to have changed everybody is told"
    assert lived.told("swapped") == set()
    assert (lived.device("swapped")["number"] == [RING, WATCH]).all()
    assert np.abs(lived.device("swapped")["offset"][:, 0] / 100 - 6).max() < 1.5
    assert (lived.device("swapped")["nights"][:, 0] == NIGHTS).all()


def test_no_baseline_takes_the_difference_up(lived: Lived) -> None:
    for day in (SWAP + 1, SWAP + 7, LAST - 1):
        plain, mine = (lived.states[day][list(rows(story))] for story in ("worn on", "swapped"))
        without, with_it = (
            np.array([one["baselines"]["median"][:, NIGHT_HEART], one["rise"]["mean"][:, 0]]) for one in (plain, mine)
        )
        assert np.abs(with_it - without).max() < 1.5
        assert np.array_equal(mine["baselines"]["anchor"], plain["baselines"]["anchor"])


def test_a_night_is_stored_as_measured_and_its_band_lies_where_the_device_measures(lived: Lived) -> None:
    plain, mine = (lived.nights(story, LAST - 1) for story in ("worn on", "swapped"))
    assert np.abs(mine.value - plain.value - 6).max() < 0.01
    assert np.abs(mine.center - plain.center - 6).max() < 1.5
    first = lived.nights("swapped", SWAP)
    assert (first.spread > BETWEEN[0]).all(), "on its first night a device is unknown by all that devices differ"
    assert (mine.spread < 1.2 * plain.spread).all()


def test_a_great_rise_is_told_after_the_swap_and_says_what_was_taken_off(lived: Lived) -> None:
    assert len(lived.told("ill later")) == PEOPLE
    finding = next(f for f in lived.findings("ill later", RISE) if f.change == "raised")
    told = finding.evidence
    assert told["measured"] - told["taken_off"] == pytest.approx(told["value"], abs=1e-3)
    assert (told["device_since_day"], told["device_nights"]) == (night_of(SWAP), 3), (
        "the first night, and two after the first week"
    )
    off = float(f"{told['measured']:.0f}") - float(f"{told['value']:.0f}")
    date = "the device changed in the night to 3 Nov"
    assert f"; {date}: {off:.0f} /min were taken off the {told['measured']:.0f} /min measured" in sentence(RISE, told)
    assert f"; your device changed in the night to 3 Nov: {off:.0f} /min" in patient_sentence(RISE, told)


def test_a_rise_beyond_what_devices_differ_by_is_told_at_the_swap_too(lived: Lived) -> None:
    assert len(lived.told("ill with it")) == PEOPLE
    first = min(f.evidence["day"] for f in lived.findings("ill with it", RISE) if f.change == "raised")
    assert first <= night_of(SWAP + 4)


def test_a_swap_does_not_end_an_alert_and_good_nights_do(lived: Lived) -> None:
    assert len(lived.told("ill before")) == PEOPLE
    cleared = [f.evidence["day"] for f in lived.findings("ill before", RISE) if f.change == "cleared"]
    assert len(cleared) == PEOPLE
    assert min(cleared) >= night_of(SWAP + 6), "the person is well six days after the swap, and not before"
    assert np.abs(lived.device("ill before")["offset"][:, 0] / 100 - 6).max() < 2
    well = [f.evidence["day"] for f in lived.findings("well again", RISE) if f.change == "cleared"]
    assert len(well) == PEOPLE, "who becomes well on the night of the swap is not held to be ill by it"


def test_an_illness_that_began_before_another_device_is_told_and_not_taken_for_the_device(lived: Lived) -> None:
    assert len(lived.told("suspected")) == PEOPLE
    days = {change: [f.evidence["day"] for f in lived.findings("suspected", RISE) if f.change == change]
            for change in ("raised", "cleared")}  # fmt: skip
    assert max(days["raised"]) <= night_of(SWAP + 4)
    assert not days["cleared"] or min(days["cleared"]) >= night_of(SWAP + 14)
    assert np.abs(lived.device("suspected")["offset"][:, 0] / 100).max() < 2.5


def test_with_the_former_device_its_offset_goes_and_with_the_other_it_comes_back(lived: Lived) -> None:
    back, plain = (lived.nights(story, SWAP + 16) for story in ("and back", "worn on"))
    assert np.abs(back.center - plain.center).max() < 1.5, "nothing is taken off the former one's first night"
    assert (back.spread < 1.2 * plain.spread).all()
    assert lived.told("and back") == set()
    device = lived.device("and back")
    assert (device["number"] == [WATCH, RING]).all()
    assert (device["offset"][:, 0] == 0).all()
    assert np.abs(device["offset"][:, 1] / 100 - 6).max() < 1.5


def test_a_third_device_replaces_the_older_of_the_two(lived: Lived) -> None:
    device = lived.device("and a third")
    assert (device["number"] == [PATCH, RING]).all()
    assert np.abs(device["offset"] / 100 - [-5, 6]).max() < 2
    assert lived.told("and a third") == set()


def test_a_night_that_two_devices_share_counts_each_by_its_minutes(lived: Lived) -> None:
    assert lived.told("both") == set()
    night = lived.nights("both", LAST - 1)
    assert np.abs(night.value - lived.nights("worn on", LAST - 1).value - 3).max() < 0.1
    assert (lived.device("both")["number"][:, 0] == WATCH).all(), "of equal ones the one before stays"
    assert lived.nights("both", SWAP).spread.min() > BETWEEN[0] / 2


def test_a_night_without_the_device_known_counts_as_the_present_ones(lived: Lived) -> None:
    known = lived.states[SWAP + 15]["devices"][list(rows("unknown"))]
    after = lived.states[SWAP + 20]["devices"][list(rows("unknown"))]
    assert np.array_equal(known["number"], after["number"])
    assert known["offset"].any()
    late = lived.device("began late")
    assert (late["number"] == [RING, 0]).all()
    assert not late["doubt"].any(), "the first device that is known is the baseline's own"


def test_a_skin_temperature_and_a_lower_rate_are_learned_alike(lived: Lived) -> None:
    assert lived.told("swapped", SKIN) == set(), "another device measures 1.5 degrees more"
    assert len(lived.told("ill with it", SKIN)) == 0
    assert np.abs(lived.states[LAST - 1]["devices"]["offset"][list(rows("swapped")), 1, 0] / 100 - 1.5).max() < 0.3
    assert np.abs(lived.device("lower")["offset"][:, 0] / 100 + 6).max() < 1.5
    assert lived.states[LAST - 1]["baselines"]["median"][list(rows("lower")), NIGHT_SKIN].min() > 33.5


def test_while_nothing_is_known_of_somebody_the_devices_are_not_told_apart(lived: Lived) -> None:
    young = lived.device("young")
    assert (young["number"] == [RING, 0]).all()
    assert not young["doubt"].any()


def test_what_a_medicine_may_do_is_not_taken_for_the_devices(lived: Lived) -> None:
    """While a fall is expected, a fall says nothing of the device."""
    assert (lived.device("medicine", SWAP + 1)["nights"][:, 0] == 0).all()
    assert (lived.device("medicine", SWAP + 1)["offset"][:, 0] == 0).all()
    assert (lived.device("lower", SWAP + 1)["offset"][:, 0] < 0).all()


def test_a_new_normal_makes_the_present_device_the_baselines_own(lived: Lived) -> None:
    state = lived.states[LAST - 1].copy()
    mine = list(rows("swapped"))
    before = state[mine]
    state["before"][mine, 0, 1] = 6000
    start_afresh(state, np.array(mine), HEART_RATE)
    device, offset = state["devices"][mine, 0], before["devices"]["offset"][:, 0, 0]
    assert (device["number"] == [RING, WATCH]).all()
    assert not device["offset"][:, 0].any()
    assert not device["doubt"][:, 0].any()
    assert (device["offset"][:, 1] == -offset).all()
    moved = state["baselines"]["anchor"][mine, NIGHT_HEART] - before["baselines"]["anchor"][:, NIGHT_HEART]
    assert moved == pytest.approx(offset / 100, abs=1e-3)
    assert (state["before"][mine, 0, 1] == 6000 + offset).all()
    assert np.array_equal(state["devices"][mine, 1], before["devices"][:, 1]), "the skin's is left alone"


def test_a_finding_of_the_first_night_says_that_nothing_is_known_yet() -> None:
    night = {
        "metric": "heart_rate", "context": "asleep", "value": 76.2, "usual": 60.1, "n_days": 40, "day": 20_779,
        "measured": 76.2,
        "taken_off": 0.0, "taken_off_sd": 3.0, "device_since_day": 20_779, "device_nights": 0,
    }  # fmt: skip
    said = (
        "; the device changed in the night to 22 Nov: how far it differs is still being learned, nothing was taken off"
    )
    assert sentence(RISE, night).endswith(said)
    assert "changed" not in sentence(RISE, night | {"device_nights": NIGHTS}), (
        "what is learned, and nothing, is no news"
    )
    lower = night | {"measured": 74.2, "taken_off": -2.0, "change": "raised"}
    assert sentence(RISE, lower).endswith("2 /min were added to the 74 /min measured")


def test_what_is_kept_of_devices_has_its_bound() -> None:
    assert PIPELINE_DTYPE["devices"].itemsize == 4 * DEVICE_DTYPE.itemsize <= 110


def test_of_a_heart_rate_the_first_day_alone_teaches_in_a_devices_first_week() -> None:
    """What rises after it is the person's; skin temperature, which no sum over days judges, goes on learning."""
    state = np.zeros(1, PIPELINE_DTYPE)
    state["devices"]["number"], state["devices"]["doubt"][:, :, 0] = (RING, WATCH), BETWEEN**2
    state["devices"]["since"][:, :, 0] = 100
    minutes = np.full((1, len(PAIRS)), 480, np.uint16)
    learned = []
    for day in range(100, 110):
        state["open_day"] = day
        night = tonight(state["devices"], minutes)
        miss, every = np.ones((1, len(PAIRS))), np.ones((1, len(PAIRS)), bool)
        learn(state, night, miss, np.full((1, len(PAIRS)), 4.0) + night.doubt, every)
        learned.append(state["devices"]["nights"][0, :, 0].tolist())
    hearts = [place for place, pair in enumerate(WATCHED) if pair in (NIGHT_HEART, REST_HEART)]
    for place in range(len(WATCHED)):
        of_days = [nights[place] for nights in learned]
        waits = [1] * FIRST_WEEK + [2, 3, 4]
        assert of_days == (waits if place in hearts else list(range(1, 11)))


@pytest.mark.parametrize("days", [(20, 21, 27, 28), (20, 22, 24, 26, 28)])
def test_two_devices_worn_in_turn_are_learned_beyond_the_first_day(days: tuple[int, ...]) -> None:
    """On those days the ring, the watch in between: its first week is over though it never was worn for one."""
    state, measured = np.zeros(1, PIPELINE_DTYPE), np.full((1, len(PAIRS)), 480, np.uint16)
    state["devices"]["number"][:, :, 0], state["baselines"]["n"] = WATCH, 14
    for day in range(15, 30):
        worn = RING if day in days else WATCH
        state["open_day"], state["day"]["n"] = day, measured
        for place in range(len(WATCHED)):
            one = state["devices"][0, place]
            if worn != one["number"][0]:
                one["minutes"][:] = (480, 0) if worn == one["number"][1] else (0, 480)
                one["other"] = 0 if worn == one["number"][1] else worn
        turn(state)
        night = tonight(state["devices"], measured)
        miss, every = np.ones((1, len(PAIRS))), np.ones((1, len(PAIRS)), bool)
        learn(state, night, miss, np.full((1, len(PAIRS)), 4.0) + night.doubt, every)
    ring = state["devices"][0, WATCHED.index(NIGHT_HEART)]
    assert ring["nights"][ring["number"] == RING] > 2
