"""``keepwell admin``: what it changes is seen through the API, what it refuses it refuses in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ingest.clock import SystemClock, to_datetime
from ingest.devices import token_hash
from services.cli.main import create_app
from services.settings import Settings
from tests.api_data import ApiData
from tests.fix_api import RunningClock, serve
from tests.fix_doors import environment

pytestmark = pytest.mark.stack


class Admin:
    """``keepwell admin`` for one organisation."""

    def __init__(self, settings: Settings, data: ApiData, home: Path) -> None:
        self.data = data
        self.environ = environment(settings) | {"COLUMNS": "200", "KEEPWELL_STACK__HOME": str(home)}

    def run(self, *words: str, organisation: str = "") -> Result:
        """In this process: a hundred interpreters would take a minute."""
        if words[0] != "organisation":
            words += ("--organisation", organisation or self.data.key)
        ran = CliRunner().invoke(create_app("admin"), ["admin", *words], env=self.environ)
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        return ran

    def done(self, *words: str) -> Any:
        """Its JSON."""
        ran = self.run(*words, "--json")
        assert ran.exit_code == 0, ran.stderr
        return json.loads(ran.stdout)

    def refused(self, *words: str) -> str:
        """What it says on stderr; nothing is written."""
        before = self._fingerprint()
        ran = self.run(*words)
        assert ran.exit_code == 2, ran.output
        assert self._fingerprint() == before
        return ran.stderr

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the organisation, ``%s`` in the query."""
        return self.data.connection.execute(query.encode(), [self.data.organisation]).fetchall()

    def audited(self) -> list[tuple[str, Any]]:
        """(action, patient) of what commands did, the oldest first."""
        return self.rows(
            """SELECT a.action, p.key FROM access_audit a LEFT JOIN patient p ON p.id = a.patient_id
               WHERE a.organisation_id = %s AND a.actor = 'command' ORDER BY a.id"""
        )

    def _fingerprint(self) -> list[Any]:
        tables = ("care_team", "care_team_member", "care_team_patient", "proxy_grant", "person", "patient", "device")
        summed = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t WHERE organisation_id = %s"
        return [*(self.rows(summed.format(table)) for table in tables), self.audited()]


@pytest.fixture
def admin(migrated: Settings, ours: ApiData, tmp_path: Path) -> Admin:
    return Admin(migrated, ours, tmp_path)


def soon(days: float) -> str:
    return (to_datetime(SystemClock().now_ms()) + timedelta(days=days)).isoformat(timespec="seconds")


def csv(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def test_it_is_a_command_that_shows_what_it_did_as_text(admin: Admin) -> None:
    admin.data.person("ada")

    def keepwell(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "services.cli.main", "admin", *words]
        return subprocess.run(argv, env=admin.environ, capture_output=True, text=True, timeout=60, check=False)

    done = keepwell("team", "add", "heart", "--organisation", admin.data.key)
    assert (done.returncode, done.stdout) == (0, "team=heart name=heart made=True\n"), done.stderr
    refused = keepwell("team", "leave", "heart", "ada", "--organisation", admin.data.key)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert refused.stderr.startswith("keepwell: ada is not in heart after 20")
    shown = keepwell("team", "show", "default", "--organisation", admin.data.key)
    assert "ada" in shown.stdout
    assert "default looks after nobody" in shown.stdout


def test_organisations_are_made_once_and_listed(admin: Admin) -> None:
    key = f"{admin.data.key}-b"
    made = {"organisation": key, "name": "Heart clinic", "made": True}
    assert admin.done("organisation", "add", key, "--name", "Heart clinic") == made
    assert admin.done("organisation", "add", key, "--name", "Another") == made | {"made": False}
    listed = {row["organisation"]: row for row in admin.done("organisation", "list")}
    assert listed[key] == {"organisation": key, "name": "Heart clinic", "teams": 1, "people": 0, "patients": 0}
    assert "is not possible" in admin.refused("organisation", "add", "a b")


async def test_who_joins_a_team_sees_its_patients_until_they_leave(migrated: Settings, admin: Admin) -> None:
    admin.data.patient("p1")
    bo = admin.data.person("bo", "nurse", "Bo", team=None)
    token = admin.data.token(bo)
    async with serve(migrated, credential_clock=RunningClock()) as served, served.client(token) as client:

        async def sees() -> bool:
            return (await client.get("/v1/patients/p1")).status_code == 200

        assert admin.done("team", "add", "heart", "--name", "Heart failure")["made"] is True
        assert admin.done("team", "join", "heart", "bo")["made"] is True
        assert not await sees()
        assert admin.done("team", "take", "heart", "p1")["made"] is True
        assert await sees()
        assert admin.done("team", "join", "heart", "bo")["made"] is False  # a second time nothing new
        shown = admin.done("team", "show", "heart")
        assert [(one["person"], one["to"]) for one in shown["members"]] == [("bo", None)]
        assert [(one["patient"], one["to"]) for one in shown["patients"]] == [("p1", None)]
        listed = {row["team"]: row for row in admin.done("team", "list")}
        assert (listed["heart"]["members"], listed["heart"]["patients"]) == (1, 1)
        alone = admin.refused("team", "leave", "heart", "bo")
        assert "nobody of a care team would see 1 patient of heart" in alone
        assert admin.done("team", "leave", "heart", "bo", "--force")["patients_unseen"] == 1
        assert not await sees()
    assert "bo is not in heart after" in admin.refused("team", "leave", "heart", "bo")
    assert admin.rows("SELECT count(*) FROM care_team_member WHERE organisation_id = %s") == [
        (1,)
    ]  # ended, not deleted
    assert admin.audited() == [
        ("team.add", None), ("team.join", None), ("team.take", "p1"), ("team.show", "p1"), ("team.leave", None),
    ]  # fmt: skip


def test_nobody_is_left_in_no_team_unseen(admin: Admin) -> None:
    patient = admin.data.patient("p1")
    admin.data.person("ada")
    admin.data.person("pat", "patient")
    admin.data.person("mia", "proxy")
    assert admin.done("people", "link", "pat", "p1")["made"] is True
    admin.done("proxy", "grant", "p1", "mia", "--what", "alerts", "--until", soon(30))
    said = admin.refused("team", "release", "default", "p1")
    assert "in no team's care from" in said
    assert "mia (proxy: alerts), pat (patient: readings, alerts)" in said
    assert "ada" not in said.partition("still see them:")[2].partition(";")[0]
    admin.done("team", "add", "heart")
    admin.done("team", "take", "heart", "p1", "--to", soon(10))
    assert "in no team's care from" in admin.refused("team", "release", "default", "p1")  # from the tenth day on
    done = admin.done("team", "release", "default", "p1", "--to", soon(5), "--force")
    assert [one["person"] for one in done["seen_by"]] == ["mia", "pat"]
    assert done["in_no_team_from"] is not None
    ended = admin.data.connection.execute(
        "SELECT count(*) FROM care_team_patient WHERE patient_id = %s AND valid_to < 'infinity'", [patient]
    )
    assert ended.fetchone() == (2,)


def test_times_of_teams_are_to_come_and_apart(admin: Admin) -> None:
    admin.data.person("ada", team=None)
    admin.data.person("mia", "proxy")
    assert admin.done("team", "join", "default", "ada", "--from", soon(1), "--to", soon(3))["made"] is True
    said = admin.refused("team", "join", "default", "ada", "--from", soon(2))
    assert "already, which is another time than asked for" in said
    assert "is past" in admin.refused("team", "join", "default", "ada", "--to", soon(9), "--from", soon(-1))
    assert "is not after --from" in admin.refused("team", "join", "default", "ada", "--from", soon(8), "--to", soon(7))
    assert "a proxy, and those are in no team" in admin.refused("team", "join", "default", "mia")
    assert "there are default" in admin.refused("team", "join", "hart", "ada")
    assert "`keepwell admin people list`" in admin.refused("team", "join", "default", "nobody")
    assert "there is no patient p9" in admin.refused("team", "take", "default", "p9")


def test_a_role_changes_once_nothing_of_the_old_one_is_left(admin: Admin) -> None:
    admin.data.patient("p1")
    admin.data.patient("p2")
    admin.data.person("ada")
    admin.data.person("pat", "patient")
    admin.data.person("mia", "proxy")
    assert admin.done("people", "role", "ada", "clinician") == {"person": "ada", "role": "clinician", "before": "nurse"}
    assert "clinician, nurse, coordinator" in admin.refused("people", "role", "ada", "boss")
    assert "they are in default" in admin.refused("people", "role", "ada", "patient")
    assert "only a person of role patient" in admin.refused("people", "link", "ada", "p1")
    admin.done("people", "link", "pat", "p1")
    assert "pat is another patient already" in admin.refused("people", "link", "pat", "p2")
    assert "people unlink pat" in admin.refused("people", "role", "pat", "nurse")
    admin.data.person("pam", "patient")
    assert "p1 is pat already" in admin.refused("people", "link", "pam", "p1")
    admin.done("people", "unlink", "pat")
    assert "is linked to no patient" in admin.refused("people", "unlink", "pat")
    admin.done("people", "role", "pat", "nurse")
    admin.done("proxy", "grant", "p1", "mia", "--what", "readings,alerts", "--until", soon(30))
    assert "proxy end PATIENT mia" in admin.refused("people", "role", "mia", "nurse")
    listed = {row["person"]: row for row in admin.done("people", "list")}
    assert (listed["ada"]["role"], listed["ada"]["teams"], listed["pat"]["patient"]) == ("clinician", "default", None)


async def test_a_proxy_sees_what_was_granted_until_it_ends(migrated: Settings, admin: Admin) -> None:
    admin.data.patient("p1")
    mia = admin.data.person("mia", "proxy")
    admin.data.person("ada")
    token = admin.data.token(mia)
    async with serve(migrated, credential_clock=RunningClock()) as served, served.client(token) as client:
        assert (await client.get("/v1/patients/p1")).status_code == 404
        granted = admin.done("proxy", "grant", "p1", "mia", "--what", "alerts", "--until", soon(30))
        assert granted["what"] == "alerts"
        assert (await client.get("/v1/patients/p1")).status_code == 200
        again = admin.refused("proxy", "grant", "p1", "mia", "--what", "readings", "--until", soon(60))
        assert "may see alerts of p1 until" in again
        assert [row["state"] for row in admin.done("proxy", "list", "p1")] == ["open"]
        assert admin.done("proxy", "end", "p1", "mia")["ended"] == 1
        assert (await client.get("/v1/patients/p1")).status_code == 404
    assert [row["state"] for row in admin.done("proxy", "list")] == ["ended"]
    assert "proxy list p1" in admin.refused("proxy", "end", "p1", "mia")
    grant = ("proxy", "grant", "p1", "mia", "--until", soon(5), "--what")
    assert "names 'notes'; allowed: readings, alerts" in admin.refused(*grant, "alerts,notes")
    assert "only a proxy" in admin.refused("proxy", "grant", "p1", "ada", "--what", "alerts", "--until", soon(5))
    assert "--until = '2026-12-01' is no instant" in admin.refused(
        *grant[:4], "--what", "alerts", "--until", "2026-12-01"
    )
    assert [one for one in admin.audited() if one[0].startswith("proxy")] == [
        ("proxy.grant", "p1"), ("proxy.list", "p1"), ("proxy.end", "p1"), ("proxy.list", "p1"),
    ]  # fmt: skip


def test_people_are_imported_whole_or_not_at_all(admin: Admin, tmp_path: Path) -> None:
    admin.data.person("ada", "clinician", "Ada Nurse")
    admin.done("team", "add", "heart")
    header = "key,name,role,team,invite"
    bad = csv(
        tmp_path, header, "bo,Bo,nurse,heart,yes", "b o,,boss,lung,maybe", "ada,,nurse,,", "bo,,nurse", "bo,,nurse,,"
    )
    said = admin.refused("people", "import", bad)
    for line in (
        "line 3: key = 'b o' is not possible; allowed: 1 to 63 letters",
        "line 3: role = 'boss' is not possible; allowed: clinician, nurse",
        "line 3: team = 'lung' is not possible; allowed: default, heart",
        "line 3: invite = 'maybe' is not possible; allowed: yes, no, nothing",
        "line 4: role = 'nurse' is not possible; allowed: clinician, as it is",
        "line 5: row = 'bo,,nurse' is not possible; allowed: 5 fields",
        "line 6: key = 'bo' is not possible; allowed: each key once; line 2 has it",
        "4 lines of",
    ):
        assert line in said
    good = csv(
        tmp_path,
        header,
        "bo,Bo,nurse,heart,yes",
        'cy,"Cy, Dr.",clinician,,no',
        "ada,,clinician,heart,",
        "mia,Mia,proxy,,yes",
    )
    checked = admin.done("people", "import", good, "--check")
    assert [(one["state"], one["invitation"]) for one in checked] == [
        ("made", "to be made"), ("made", None), ("joined", None), ("made", "to be made"),
    ]  # fmt: skip
    people = "SELECT key, name, role FROM person WHERE organisation_id = %s ORDER BY key"
    assert admin.rows(people) == [("ada", "Ada Nurse", "clinician")]
    done = admin.done("people", "import", good)
    assert [one["state"] for one in done] == ["made", "made", "joined", "made"]
    token = done[0]["invitation"].partition("token=")[2]
    assert admin.rows(
        """SELECT p.key, t.kind FROM person_token t JOIN person p ON p.id = t.person_id
           WHERE p.organisation_id = %s AND t.hash = decode('"""
        + token_hash(token).hex()
        + "', 'hex')"
    ) == [("bo", "invitation")]
    assert admin.rows(people)[1:3] == [("bo", "Bo", "nurse"), ("cy", "Cy, Dr.", "clinician")]
    listed = {row["person"]: row["teams"] for row in admin.done("people", "list")}
    assert listed == {"ada": "default, heart", "bo": "heart", "cy": "default", "mia": None}
    again = admin.done("people", "import", good)
    assert {(one["state"], one["invitation"]) for one in again} == {("there", None)}


def test_patients_are_imported_with_devices_and_again_without_a_change(admin: Admin, tmp_path: Path) -> None:
    admin.done("team", "add", "heart")
    admin.data.device(f"{admin.data.key}-w", admin.data.patient("p1", "Pat One"), "Ring")
    header, key = "key,name,time_zone,team,device,model", admin.data.key
    bad = csv(
        tmp_path,
        header,
        f"p1,Pat Two,Europe/Berlin,,{key}-w,",
        f"p2,Pia,Mars/Olympus,heart,{key}-w,Ring",
        "p3,,UTC,,bridge,",
    )
    said = admin.refused("patients", "import", bad)
    for line in (
        "line 2: name = 'Pat Two' is not possible; allowed: 'Pat One', as it is",
        "line 3: time_zone = 'Mars/Olympus' is not possible; allowed: a zone such as Europe/Vienna",
        "line 3: device = ",
        "p1 has it; `keepwell admin device hand-over`",
        "line 4: device = 'bridge'",
    ):
        assert line in said
    good = csv(
        tmp_path,
        header,
        f"p1,,Europe/Berlin,heart,{key}-w,",
        f"p2,Pia,Europe/Vienna,heart,{key}-w2,Band",
        f"{key},,UTC,,,",
    )
    assert [one["state"] for one in admin.done("patients", "import", good, "--check")] == [
        "taken into the team's care", "enrolled", "enrolled",
    ]  # fmt: skip
    patients = "SELECT key, name, time_zone FROM patient WHERE organisation_id = %s ORDER BY id"
    assert admin.rows(patients) == [("p1", "Pat One", "Europe/Berlin")]
    done = admin.done("patients", "import", good)
    assert [(one["device"], one["token"] is None) for one in done] == [
        (f"{key}-w", True), (f"{key}-w2", False), (f"watch-{key}", False),
    ]  # fmt: skip
    assert admin.rows(patients)[1:] == [("p2", "Pia", "Europe/Vienna"), (key, key, "UTC")]
    stored = admin.data.connection.execute(
        "SELECT d.key, d.model FROM device d JOIN device_token t ON t.device_id = d.id WHERE t.hash = %s",
        [token_hash(done[1]["token"])],
    )
    assert stored.fetchone() == (f"{key}-w2", "Band")
    cared = {one["patient"] for one in admin.done("team", "show", "heart")["patients"]}
    assert cared == {"p1", "p2"}
    assert {(one["state"], one["token"]) for one in admin.done("patients", "import", good)} == {("there", None)}
    assert "can't be read" in admin.refused("patients", "import", str(tmp_path / "none.csv"))


def test_a_device_changes_hands_and_what_is_stored_stays(admin: Admin) -> None:
    first, second = admin.data.patient("p1"), admin.data.patient("p2")
    admin.data.patient("p3")
    key = f"{admin.data.key}-watch"
    device = admin.data.device(key, first)
    at = to_datetime(SystemClock().now_ms())
    admin.data.frame(f"{key}~1", first, device, t_last=at - timedelta(hours=1))
    admin.data.frame(f"{key}~2", first, device, t_last=at - timedelta(hours=9))
    done = admin.done("device", "hand-over", key, "p2", "--from", soon(-0.125))
    assert done["frames_that_stay"] == 1
    listed = admin.done("device", "history", key)
    assert [(one["patient"], one["to"] is None) for one in listed] == [("p2", True), ("p1", False)]
    assert datetime.fromisoformat(listed[0]["from"]) == datetime.fromisoformat(listed[1]["to"])
    assert datetime.fromisoformat(listed[0]["from"]).astimezone(UTC) < at
    owners = admin.rows("SELECT DISTINCT patient_id FROM frame_log WHERE organisation_id = %s")
    assert owners == [(first,)]
    told = admin.data.connection.execute(
        "SELECT patient_id, payload FROM patient_change WHERE kind = 'assignment' AND subject = %s ORDER BY id", [key]
    ).fetchall()
    assert told == [(first, {"assigned": False}), (second, {"assigned": True, "device_class": "unknown"})]
    said = admin.done("device", "class", key, "wrist_optical")
    assert said == {"device": key, "class": "wrist_optical", "before": "unknown"}
    assert "allowed: wrist_optical, ring_optical" in admin.refused("device", "class", key, "watch")
    assert "is p2's at" in admin.refused("device", "hand-over", key, "p2")
    assert "choose a later time" in admin.refused("device", "hand-over", key, "p3", "--from", soon(-1))
    assert "is not known" in admin.refused("device", "history", f"{key}-x")
    assert [one for one in admin.audited() if one[0] == "device.hand_over"] == [("device.hand_over", None)]


def test_nothing_of_another_organisation_can_be_named(admin: Admin, theirs: ApiData) -> None:
    theirs.person("zoe")
    theirs.patient("z1")
    theirs.device(f"{theirs.key}-w", theirs.patient("z2"))
    assert "'zoe' is not known" in admin.refused("team", "join", "default", "zoe")
    assert "no patient z1" in admin.refused("team", "take", "default", "z1")
    assert "is not known" in admin.refused("device", "history", f"{theirs.key}-w")
    ran = admin.run("team", "list", organisation="nowhere")
    assert (ran.exit_code, "'nowhere' is not known" in ran.stderr) == (2, True)
