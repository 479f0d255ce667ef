"""Rules files: what is refused and how it is said, what examples run through, and a schema that is the code's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from services.cli.main import create_app
from services.rules import schema, text
from services.rules.reading import read
from services.rules.trouble import RulesFileError, dotted

DOCS = Path(__file__).parents[2] / "docs"
HEAD = "for: organisation\nversion: 1\nrules: {}\n"
COPD = """\
for: programme copd
version: 3
rules:
  spo2_low: {levels: [88, 84], persist_s: 300}
examples:
  - name: an hour at 87 %
    readings:
      - {at: 0 min, until: 1 h, every: 5 min, spo2: 87}
      - {at: 1 h 5 min, until: 1 h 20 min, every: 5 min, spo2: 93}
    expect:
      - {rule: spo2_low, at: 5 min, level: medium}
      - {rule: spo2_low, at: 1 h 15 min, level: cleared}
  - name: an hour at 89 %
    readings: [{at: 0 min, until: 1 h, every: 5 min, spo2: 89}]
    expect: nothing
"""

BROKEN = """\
for: ward 3
version: "2"
colour: red
rules:
  spo2_lo: {levels: [88, 84]}
  spo2_low:
    levels: [97, 84]
  bradycardia:
    levels: [40, 30]
    persist_s: 12
    off: true
  tachycardia_extreme: {levels: [150]}
  fever: {levels: [39, 38.5]}
  hypothermia: off
examples:
  - readings: [{at: 5, spo2: 87}, {at: 5 min, spo3: 7}, {at: 1 min, spo2: 900}]
    profile: {oxygen: {target: [95, 80], set_by: x}}
    expect: [{rule: spo2_low, at: 5 min, level: worst}]
"""
ASIS = "write what is allowed, or leave the rule out to have it as it is elsewhere"
RULES = (
    "spo2_low, tachycardia_at_rest, tachycardia_extreme, bradycardia, respiratory_rate_high, respiratory_rate_low, "
    "fever, hypothermia, glucose_low, glucose_high, systolic_high, systolic_low, spo2_high_on_oxygen"
)
LAYER = f"{RULES}, heart_rate_drift, spo2_drift, respiratory_rate_drift, hrv_rmssd_drift, adaptive_rules"
GOLDEN = [
    "line 1: for = 'ward 3' is not allowed; allowed: organisation, programme KEY or patient KEY. "
    "Next: say whose limits these are",
    "line 2: version = '2' is not allowed; allowed: a whole number from 1 on, the version that this file makes. "
    "Next: write one more than there is (`keepwell rules history`), 1 where there is none",
    "line 3: colour is not allowed; allowed: for, version, rules, examples. Next: leave it out",
    f"line 5: rules.spo2_lo is not allowed; allowed: {LAYER}. Next: write spo2_low or spo2_drift or systolic_low, or leave it out",
    f"line 7: rules.spo2_low.levels[0] = 97.0 is not allowed; allowed: 80 to 94, medium priority. Next: {ASIS}",
    "line 11: rules.bradycardia.off = True is not allowed; allowed: levels and persist_s. Next: leave it out: a safety "
    "limit is moved, never off; the profile says for whom it does not hold (docs/profile.md)",
    f"line 12: rules.tachycardia_extreme.levels[0] = 150.0 is not allowed; allowed: 160 to 210, high priority. Next: {ASIS}",
    "line 13: rules.fever.levels = [39.0, 38.5] is not allowed; allowed: the mildest first, each worse than the last. "
    f"Next: {ASIS}",
    'line 14: rules.hypothermia = \'off\' is not allowed; allowed: {"levels": […], "persist_s": …}; Expected `object`, '
    f"got `str`. Next: {ASIS}",
    "line 16: examples[0].readings[0].at = 5 is not allowed; allowed: a time since the example begins, with its unit "
    "(s, min or h), e.g. 5 min. Next: write at so",
    "line 16: examples[0].readings[1].spo3 is not allowed; allowed: at, until, every, heart_rate, steps, spo2, "
    "respiratory_rate, skin_temperature, body_temperature, hrv_rmssd, systolic_pressure, diastolic_pressure, glucose, "
    "resting_heart_rate. Next: write spo2, or leave it out",
    "line 16: examples[0].readings[2].spo2 = 900 is not allowed; allowed: 50 to 100 %. "
    "Next: write a value that a device could have sent",
    "line 17: examples[0].profile.oxygen.target = [95, 80] is not allowed; allowed: two numbers from 84 to 100 %, the "
    "lower one first and 2 apart at least, e.g. 88, 92. Next: see docs/profile.md for what a profile says",
    "line 18: examples[0].expect[0].level = 'worst' is not allowed; allowed: medium, high, cleared for spo2_low. "
    "Next: write the priority it is found with",
]


OWN_NORMAL = """\
for: programme copd
version: 1
alert_budget: 0.2
rules:
  alert_budget: 0.2
  spo2_drift: {bound: 5}
  heart_rate_drift: {levels: [3, 2]}
  hrv_rmssd_drift: 12
  respiratory_rate_drift: {off: true}
  adaptive_rules: {alert_budget: 0.5}
  spo2_low: {bound: 3}
  resting_heart_rate_rise: {}
  heart_rate_shift: {bound: 2}
  weight_gain: {levels: [1]}
examples:
  - readings: [{at: 0 s, spo2: 90}, {at: 1 s, weight: 80}]
    expect: [{rule: spo2_drift, at: 0 s, level: low}, {rule: weight_gain, at: 1 s, level: medium}]
"""
BUDGET = "write it under rules, as adaptive_rules: {alert_budget: 0.2}"
SAME = "leave it out: its limit is the same for everybody, and examples test those that a file can set"
READ = (
    "at, until, every, heart_rate, steps, spo2, respiratory_rate, skin_temperature, body_temperature, hrv_rmssd, "
    "systolic_pressure, diastolic_pressure, glucose, resting_heart_rate"
)
GOLDEN_OWN = [
    f"line 3: alert_budget is not allowed; allowed: for, version, rules, examples. Next: {BUDGET}",
    f"line 5: rules.alert_budget is not allowed; allowed: {LAYER}. Next: {BUDGET}",
    f"line 6: rules.spo2_drift.bound = 5.0 is not allowed; allowed: 1 to 4 %. Next: {ASIS}",
    "line 7: rules.heart_rate_drift.levels = [3, 2] is not allowed; allowed: bound. Next: leave it out",
    'line 8: rules.hrv_rmssd_drift = 12 is not allowed; allowed: {"bound": …}; Expected `object`, got `int`. '
    f"Next: {ASIS}",
    "line 9: rules.respiratory_rate_drift.off = True is not allowed; allowed: bound. Next: leave it out: a bound or "
    "budget is moved, never off; the profile says for whom it does not hold (docs/profile.md)",
    "line 10: rules.adaptive_rules.alert_budget = 0.5 is not allowed; allowed: 0.1, 0.2, 0.3 incidents a patient-week. "
    f"Next: {ASIS}",
    "line 11: rules.spo2_low.bound = 3 is not allowed; allowed: levels and persist_s. Next: leave it out",
    f"line 12: rules.resting_heart_rate_rise is not allowed; allowed: {LAYER}. Next: leave it out: its limit follows the "
    "alert budget, adaptive_rules: {alert_budget: 0.2}",
    f"line 13: rules.heart_rate_shift is not allowed; allowed: {LAYER}. Next: leave it out: the limit of heart_rate_shift "
    "is the same for everybody",
    f"line 14: rules.weight_gain is not allowed; allowed: {LAYER}. Next: leave it out: the limit of weight_gain is the "
    "same for everybody",
    f"line 16: examples[0].readings[1].weight is not allowed; allowed: {READ}. Next: {SAME}",
    f"line 17: examples[0].expect[0].rule = 'spo2_drift' is not allowed; allowed: {RULES}. Next: leave it out: examples "
    "test limits only; see on the past what it finds (`keepwell rules dry-run`)",
    f"line 17: examples[0].expect[1].rule = 'weight_gain' is not allowed; allowed: {RULES}. Next: {SAME}",
]


def refused(said: str) -> list[str]:
    with pytest.raises(RulesFileError) as raised:
        read(said)
    return [str(trouble) for trouble in raised.value.troubles]


def test_everything_wrong_is_told_at_once_by_line_key_value_and_next_step() -> None:
    assert refused(BROKEN) == GOLDEN
    assert refused(OWN_NORMAL) == GOLDEN_OWN


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "line 1: the file = None is not allowed; allowed: a map with the keys for, version, rules, examples"),
        ("- a\n", "the file = ['a'] is not allowed"),
        ("for: organisation\n", "line 1: rules = None is not allowed; allowed: a map of rules, {}"),
        (HEAD + "rules: {}\n", "line 4: the file is not allowed; allowed: 'rules' once"),
        ("for: [organisation\nversion: 1\n", "line 2: the text is not allowed; allowed: YAML; expected ',' or ']'"),
        ("a: \0\n", "allowed: YAML in text that can be read"),
        ("for: organisation\n---\nversion: 1\n", "line 2: the text is not allowed; allowed: YAML; but found another"),
        ("[" * 600, "the text is not allowed; allowed: YAML"),
        ("? [a]\n: 1\n", "line 1: the file is not allowed; allowed: words as keys"),
        (HEAD + "examples: !!int a\n", "line 4: examples is not allowed; allowed: a value of the kind it says it is"),
        (HEAD + "examples: !!bool a\n", "line 4: examples is not allowed; allowed: a value of the kind it says it is"),
        (HEAD + "examples: !!timestamp 2026-01-01\n", "examples is not allowed; allowed: plain values"),
        (HEAD + "examples:\n  - &a {readings: []}\n  - *a\n", "line 5: examples[1] is not allowed; allowed: each value"),
        (HEAD + "examples: [{expect: nothing}]\n", "examples[0].readings = None is not allowed"),
        (HEAD + "examples: [{readings: [{at: 0 s}], expect: []}]\n", "examples[0].expect = [] is not allowed"),
        (HEAD + "examples: [{readings: [{at: 9 s, until: 1 s, every: 1 s, spo2: 90}], expect: nothing}]\n",
         "readings[0].until = '1 s' is not allowed"),
        (HEAD + "examples: [{readings: [{at: 0 s, until: 9 h, every: 1 s, spo2: 90}], expect: nothing}]\n",
         "for 10,000 readings at most"),
        (HEAD + "x" * 1_000_000, "at most 1,000,000 characters"),
    ],
)  # fmt: skip
def test_what_is_no_rules_file_is_refused_in_a_sentence(said: str, told: str) -> None:
    assert any(told in each for each in refused(said)), refused(said)


def test_nothing_is_built_of_what_is_read() -> None:
    (told,) = refused(HEAD + "examples: !!python/object/apply:os.getcwd []\n")
    assert told.startswith("line 4: examples is not allowed; allowed: plain values")


def test_words_are_those_of_yaml_1_2() -> None:
    said = text.parse("a: [off, yes, 1:30, 2026-01-01, 010, 1e3, 0x10, .5]\nb: [7, -7.5, 1.5e2, true, null, ~]\n").said
    assert said == {"a": ["off", "yes", "1:30", "2026-01-01", "010", "1e3", "0x10", ".5"],
                    "b": [7, -7.5, 150.0, True, None, None]}  # fmt: skip


def run(tmp_path: Path, said: str, *more: str) -> tuple[int, str]:
    file = tmp_path / "copd.yaml"
    file.write_text(said, "utf-8")
    done = CliRunner().invoke(create_app("rules"), ["rules", "test", str(file), *more], env={"COLUMNS": "300"})
    return done.exit_code, done.output.replace(str(file), "copd.yaml")


def test_examples_that_hold(tmp_path: Path) -> None:
    assert run(tmp_path, COPD) == (0, "ok   copd.yaml:6 an hour at 87 %\nok   copd.yaml:13 an hour at 89 %\n")


def test_an_example_that_fails_says_how_it_differs(tmp_path: Path) -> None:
    looser = COPD.replace("[88, 84]", "[90, 84]").replace("1 h 15 min", "1 h 20 min")
    code, told = run(tmp_path, looser)
    assert code == 1
    sentence = "(Oxygen saturation fell to 89 % and stayed below 90 % for 5 min (2 readings from 00:00 to 00:05))"
    assert told.splitlines() == [
        "FAIL copd.yaml:6 an hour at 87 %",
        "     - expected, not found: spo2_low cleared at 1 h 20 min",
        "     + found, not expected: spo2_low cleared at 1 h 15 min (Oxygen saturation has been 92 % or more for 10 min "
        "(3 readings from 01:05 to 01:15); it had been as low as 87 %)",
        "FAIL copd.yaml:13 an hour at 89 %",
        f"     + found, not expected: spo2_low medium at 5 min {sentence}",
    ]
    code, told = run(tmp_path, looser, "--json")
    (first, second) = next(iter(json.loads(told).values()))
    assert (code, first["holds"], first["missing"][0]["at_s"]) == (1, False, 4800)
    assert (second["line"], second["missing"], second["surplus"][0]["level"]) == (13, [], "medium")


def test_a_file_without_an_example_tests_nothing_and_says_so(tmp_path: Path) -> None:
    code, told = run(tmp_path, HEAD)
    assert (code, told) == (
        1, "copd.yaml: no example, so nothing was tested; docs/rules.md shows how to write one\n"
    )  # fmt: skip
    assert run(tmp_path, "for: ward\n")[0] == 2


def test_the_example_of_the_manual_holds_and_its_refusals_are_the_real_ones(tmp_path: Path) -> None:
    page = (DOCS / "rules.md").read_text("utf-8")
    (said,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    code, told = run(tmp_path, said)
    assert (code, told.count("ok  "), told.count("FAIL")) == (0, 5, 0), told
    assert not list(jsonschema.Draft202012Validator(schema.schema()).iter_errors(text.parse(said).said))
    broken = said.replace("[88, 84]", "[97, 84]").replace("respiratory_rate_high:", "fevr:", 1)
    told = run(tmp_path, broken)[1].replace(f"{LAYER}.", "spo2_low, tachycardia_at_rest, […].")
    (shown,) = re.findall(r"```\n(keepwell: .*?)```", page, re.DOTALL)
    assert told == shown


@pytest.mark.parametrize("budget", ["0.3", '"0.3"'])
def test_a_budget_is_a_number_or_a_word_and_what_no_example_tests_is_said(tmp_path: Path, budget: str) -> None:
    own = f"  spo2_drift: {{bound: 1.5}}\n  adaptive_rules: {{alert_budget: {budget}}}\n"
    said = COPD.replace("rules:\n", f"rules:\n{own}", 1)
    rules = read(said).rules
    assert (rules["spo2_drift"].bound, rules["adaptive_rules"].alert_budget) == (1.5, "0.3")
    assert not list(jsonschema.Draft202012Validator(schema.schema()).iter_errors(text.parse(said).said))
    code, told = run(tmp_path, said)
    assert (code, told.count("ok  ")) == (0, 2)
    assert (
        "copd.yaml: no example tests spo2_drift.bound, adaptive_rules.alert_budget; see what it finds with "
        "`keepwell rules dry-run`\n"
    ) in told


def example(layer: str, profile: str, readings: str, expect: str) -> str:
    rules = "{spo2_low: {levels: [93, 90]}, tachycardia_at_rest: {levels: [110, 130]}}"
    return (
        f"for: {layer}\nversion: 1\nrules: {rules}\nexamples:\n  - profile: {profile}\n    readings: [{readings}]\n"
        f"    expect: {expect}\n"
    )


LOW = "{at: 0 s, until: 10 min, every: 1 min, spo2: 92}"
FAST = "{at: 0 s, until: 25 min, every: 1 min, heart_rate: 120}"
TARGET = "{oxygen: {target: [88, 92], home: true, set_by: dr}}"
LATER = "[{rule: tachycardia_at_rest, at: 21 min, level: medium}]"
MEDIUM = "[{rule: spo2_low, at: 5 min, level: medium}]"


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        (example("organisation", "{}", LOW, MEDIUM), True),
        (example("programme copd", TARGET, LOW, "nothing"), True),  # the profile comes over the programme …
        (example("patient p1", TARGET, LOW, MEDIUM), True),  # … and the patient's own over the profile
        (example("organisation", "{}", FAST, "[{rule: tachycardia_at_rest, at: 10 min, level: medium}]"), True),
        (example("organisation", "{}", "{at: 0 s, steps: 90}, " + FAST, LATER), True),  # at rest from 11 min on
        (example("organisation", "{}", "{at: 0 s, steps: 90}, " + FAST, "nothing"), False),
        (example("organisation", "{}", "{at: 0 s, until: 25 min, every: 5 min, steps: 90}, " + FAST, "nothing"), True),
        (example("organisation", "{age_band: under_16, adult_limits: 'off'}", FAST, "nothing"), True),
    ],
)
def test_examples_run_through_profile_context_and_layers(tmp_path: Path, said: str, holds: bool) -> None:
    assert run(tmp_path, said)[0] == (0 if holds else 1)


def test_the_schema_that_is_committed_is_the_codes_own_and_takes_what_is_read() -> None:
    committed = (DOCS / "rules.schema.json").read_text("utf-8")
    assert committed == schema.as_text(), "run `make docs`"
    assert CliRunner().invoke(create_app("rules"), ["rules", "schema"]).output == committed
    validator = jsonschema.Draft202012Validator(json.loads(committed))
    validator.check_schema(validator.schema)
    assert not list(validator.iter_errors(text.parse(COPD).said))
    found = {dotted(tuple(error.absolute_path)) for error in validator.iter_errors(text.parse(BROKEN).said)}
    assert {"for", "version", "rules.spo2_low.levels[0]", "rules.bradycardia.persist_s", "rules.hypothermia"} <= found
    assert "examples[0].readings[2].spo2" in found
