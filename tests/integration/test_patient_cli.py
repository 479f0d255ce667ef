"""``keepwell patient``: what it writes, how it refuses, what it shows."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.settings import Settings
from tests import command
from tests.api_data import ApiData

pytestmark = pytest.mark.stack


def keepwell(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return command.keepwell(settings, "patient", *words)


def test_a_pause_and_a_new_normal_are_written_and_listed(migrated: Settings, ours: ApiData) -> None:
    ours.patient("p1")
    mine = ("--organisation", ours.key)
    done = command.as_program(
        migrated, "patient", "monitoring", "p1", "paused", "--from", "2026-11-22T08:00Z", "--until",
        "2026-11-25T08:00+01:00", "--reason", "away", "--version", "0", *mine,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "p1: paused from 2026-11-22 08:00 UTC (version 1)\n"), done.stderr
    done = keepwell(migrated, "new-normal", "p1", "heart_rate", "--reason", "beta blocker", "--json", *mine)
    assert json.loads(done.stdout)[0]["version"] == 1
    stale = keepwell(migrated, "monitoring", "p1", "active", "--version", "0", *mine)
    assert stale.returncode == 2
    assert "at version 1, not 0: read it again, then decide" in stale.stderr
    listed: list[dict[str, Any]] = json.loads(keepwell(migrated, "changes", "p1", "--json", *mine).stdout)
    assert [(row["kind"], row["subject"], row["version"], row["reason"]) for row in listed] == [
        ("new_normal", "heart_rate", 1, "beta blocker"), ("monitoring", "", 1, "away"),
    ]  # fmt: skip
    assert listed[1]["payload"] == {"state": "paused", "until_ms": 1_795_590_000_000}
    relayed = ours.connection.execute("SELECT count(*) FROM outbox WHERE organisation_id = %s", [ours.organisation])
    assert relayed.fetchone() == (2,)


def test_an_event_is_written_put_right_and_withdrawn(migrated: Settings, ours: ApiData) -> None:
    ours.patient("p1")
    mine, today = ("--organisation", ours.key), datetime.now(UTC).date()
    stopped = ("life-event", "p1", "medication_stopped", "beta_blocker", "--day")
    done = keepwell(migrated, *stopped, today.isoformat(), "--json", *mine)
    written = json.loads(done.stdout)[0]
    assert (written["words"], written["version"]) == ("a beta blocker was stopped", 1), done.stderr
    day = (today - timedelta(days=2)).isoformat()
    done = keepwell(migrated, *stopped, day, "--correct", written["subject"], "--json", *mine)
    assert [(one["day"], one["version"]) for one in json.loads(done.stdout)] == [(day, 2)], done.stderr
    done = keepwell(migrated, "life-event-withdraw", "p1", written["subject"], "--version", "2", *mine)
    assert done.returncode == 0, done.stderr
    listed = json.loads(keepwell(migrated, "changes", "p1", "--json", *mine).stdout)
    assert [(row["version"], row["payload"]["withdrawn"]) for row in listed] == [(3, True), (2, False), (1, False)]
    assert "no event 'none' is written down" in keepwell(migrated, "life-event-withdraw", "p1", "none", *mine).stderr
    stay = ("life-event", "p1", "admission", "--day", day)
    done = keepwell(migrated, *stay, "--rise", "6", "--days", "10", "--json", *mine)
    stated = {"side": "rise", "size": 6.0, "days": 10, "by": "command_line"}
    assert json.loads(done.stdout)[0]["effects"]["heart_rate"] == stated, done.stderr
    for wrong, said in (
        (("--rise", "11"), "--rise 11 is not allowed; allowed: more than 0 and at most 10 /min"),
        (("--rise", "3", "--fall", "3"), "one side"), (("--days", "3"), "--rise"),
        (("--fall", "3", "--days", "15"), "--days 15 is not allowed; allowed: whole days from 1 to 14"),
    ):  # fmt: skip
        assert said in " ".join(keepwell(migrated, *stay, *wrong, *mine).stderr.split())
    for event in (("surgery",), ("vaccination",), ("medication_started", "beta_blocker")):
        none = keepwell(migrated, "life-event", "p1", *event, "--day", day, "--rise", "3", *mine)
        assert "--rise 3 is not allowed; allowed: none with this event" in " ".join(none.stderr.split()), event
    digoxin = ("life-event", "p1", "medication_started", "digoxin", "--day", day)
    assert "allowed: --fall" in " ".join(keepwell(migrated, *digoxin, "--rise", "3", *mine).stderr.split())
    assert "a class of medicine" in keepwell(migrated, *stopped[:3], "metoprolol", "--day", day, *mine).stderr


def test_a_profile_and_own_limits_are_written_and_shown(migrated: Settings, ours: ApiData) -> None:
    ours.patient("p1")
    ours.person("ada", "clinician")
    mine = ("--organisation", ours.key, "--json")
    oxygen = '{"oxygen": {"target": [88, 92]}}'
    assert "oxygen" in keepwell(migrated, "profile", "p1", oxygen, *mine).stderr
    unknown = keepwell(migrated, "profile", "p1", oxygen, "--clinician", "bob", *mine)
    assert "'bob' is no clinician" in unknown.stderr
    done = keepwell(migrated, "profile", "p1", oxygen, "--clinician", "ada", *mine)
    assert json.loads(done.stdout)[0]["oxygen"] == {"target": [88, 92], "set_by": "ada"}, done.stderr
    done = keepwell(migrated, "limits", "p1", '{"fever": {"levels": [38, 39]}}', *mine)
    assert json.loads(done.stdout)[0]["rules"] == {"fever": {"levels": [38, 39]}}, done.stderr
    shown = json.loads(keepwell(migrated, "limits", "p1", *mine).stdout)
    assert shown[0]["says"] == {"rules": {"fever": {"levels": [38.0, 39.0]}}}
    for words, said in (
        (("profile", "p1", '{"adult_limits": "off"}'), "a safety limit is moved, never off"),
        (("profile", "p1", "[]"), "is no JSON object"),
        (("limits", "p1", '{"fever": {"levels": [30, 31]}}'), "37.5 to 39, medium priority"),
    ):
        refused = keepwell(migrated, *words, *mine)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


def test_a_programme_and_its_steps(migrated: Settings, ours: ApiData) -> None:
    ours.patient("p1")

    def programme(*words: str) -> subprocess.CompletedProcess[str]:
        return command.keepwell(migrated, "programme", *words, "--organisation", ours.key, "--json")

    document = {"name": "Heart", "hours": {"time_zone": "UTC"}, "ladder": [{"after_min": 0, "person": "ada"}]}
    assert json.loads(programme("set", "heart", json.dumps(document)).stdout) == {"programme": "heart", "version": 1}
    refused = programme("activate", "heart")
    assert "it ends with the person ada" in refused.stderr
    assert programme("step", "heart", "p1", "eligible").returncode == 2
    document["ladder"] = [{"after_min": 0, "role": "nurse"}]
    assert programme("set", "heart", json.dumps(document)).returncode == 0
    assert json.loads(programme("activate", "heart").stdout)["version"] == 3
    assert json.loads(programme("step", "heart", "p1", "eligible").stdout)["version"] == 1
    assert "consented, discharged, after eligible" in programme("step", "heart", "p1", "active").stderr
    assert json.loads(programme("limits", '{"fever": {"persist_s": 300}}').stdout)["patients_told"] == 1
    assert json.loads(programme("list").stdout)[0]["patients"] == '{"eligible": 1}'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("monitoring", "p1", "paused", "--reason", "x"), "a pause ends by itself"),
        (("monitoring", "p1", "asleep"), "active, paused, inpatient"),
        (("monitoring", "p1", "paused", "--until", "2026-12-01", "--reason", "x"), "RFC 3339 with an offset"),
        (("new-normal", "p1", "steps"), "has no baseline"),
        (("new-normal", "nobody", "heart_rate"), "there is no patient nobody"),
        (("erase", "nobody", "--reason", "x", "--yes"), "nothing was changed"),
        (("erase", "p1", "--reason", " ", "--yes"), "--reason is empty"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    migrated: Settings, ours: ApiData, words: tuple[str, ...], said: str
) -> None:
    ours.patient("p1")
    refused = keepwell(migrated, *words, "--organisation", ours.key)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    count = ours.connection.execute(
        "SELECT count(*) FROM patient_change WHERE organisation_id = %s", [ours.organisation]
    )
    assert count.fetchone() == (0,)


def test_an_erasure_is_asked_for_once_and_not_without_a_yes(migrated: Settings, ours: ApiData) -> None:
    patient = ours.patient("p1")
    words = ("erase", "p1", "--reason", "asked", "--wait", "0", "--organisation", ours.key)
    refused = keepwell(migrated, *words)  # nobody answers the question
    assert refused.returncode == 1
    for _ in range(2):
        waiting = keepwell(migrated, *words, "--yes")
        assert waiting.returncode == 2
        assert f"erased:{patient}" in waiting.stderr
    count = ours.connection.execute("SELECT count(*) FROM patient_change WHERE patient_id = %s", [patient])
    assert count.fetchone() == (1,)
