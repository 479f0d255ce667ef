"""A list of people or patients: whatever is in the file is taken as written, or named by line, value and what is allowed."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from services.roles import ROLES
from services.roster import MAY_BE, PATIENTS, PEOPLE, Bad, read
from services.roster_rules import Device, Known, Patients, People, bad_patients, bad_people
from services.teams import OUTSIDE_TEAMS

THERE = People(
    ["default", "heart"], {"ada": Known(1, "Ada", "nurse", False), "robot": Known(2, "robot", "nurse", True)}
)
CARED = Patients(
    ["default", "heart"],
    {"p1": (1, "Pat", "UTC")},
    {"w1": Device(True, "Ring", "ring_optical", "p1"), "w2": Device(False, "Ring", "unknown", None)},
)
names = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), max_size=20) | st.just("")
spoilt = {"key": "b b", "role": "boss", "team": "lung", "invite": "maybe", "name": "x" * 121}


@st.composite
def staff(draw: st.DrawFn) -> list[dict[str, str]]:
    keys = draw(st.lists(st.from_regex(r"n[a-z0-9_.-]{0,20}", fullmatch=True), min_size=1, max_size=6, unique=True))
    return [
        {
            "key": key, "name": draw(names), "role": role,
            "team": "" if role in OUTSIDE_TEAMS else draw(st.sampled_from(["", "heart"])),
            "invite": draw(st.sampled_from(["yes", "no", ""])),
        }
        for key in keys
        for role in [draw(st.sampled_from(ROLES))]
    ]  # fmt: skip


def written(rows: list[dict[str, str]], columns: list[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@given(staff(), st.permutations(PEOPLE))
def test_a_good_list_is_taken_as_written(rows: list[dict[str, str]], columns: list[str]) -> None:
    found, bad = read(written(rows, columns), PEOPLE)
    assert bad == []
    assert [row.cells for row in found] == rows
    assert bad_people(found, THERE) == []


@given(staff(), st.data())
def test_a_spoilt_cell_is_named_where_it_is_and_nothing_else(rows: list[dict[str, str]], data: st.DataObject) -> None:
    index, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.sampled_from(sorted(spoilt)))
    rows[index] = rows[index] | {"role": "nurse"} | {column: spoilt[column]}
    found, bad = read(written(rows, list(PEOPLE)), PEOPLE)
    assert bad == []
    assert [(one.line, one.column, one.value) for one in bad_people(found, THERE)] == [
        (index + 2, column, spoilt[column])
    ]


@given(st.text() | st.text().map(lambda text: ",".join(PEOPLE) + "\n" + text))
def test_any_text_is_rows_or_is_refused(text: str) -> None:
    found, bad = read(text, PEOPLE)
    assert found or bad or text.strip(", \r\n").startswith("key")
    assert all(sorted(row.cells) == sorted(PEOPLE) for row in found)
    assert all(one.allowed and 1 <= one.line <= text.count("\n") + text.count("\r") + 1 for one in bad)
    bad_people(found, THERE)


def test_a_list_of_patients_contradicts_nothing_that_is_there() -> None:
    text = "\n".join([
        ",".join(PATIENTS), "p1,Pat,UTC,heart,w1,", "p1,,Europe/Vienna,,w3,", "p2,,UTC,,w1,Band", "p3,,UTC,,w2,",
        "", '"p4","a', 'b",America,,,', f"{'k' * 60},,UTC,,,",
    ])  # fmt: skip
    found, bad = read(text, PATIENTS, MAY_BE)
    assert (len(found), bad) == (6, [])
    assert sorted((one.line, one.column) for one in bad_patients(found, CARED)) == [
        (3, "key"), (3, "time_zone"), (4, "device"), (4, "device"), (4, "model"), (5, "device"), (7, "name"),
        (7, "time_zone"), (9, "device"),
    ]  # fmt: skip


def test_a_list_of_patients_may_say_of_what_class_their_devices_are() -> None:
    header = ",".join((*PATIENTS, *MAY_BE))
    text = "\n".join([header, "p5,,UTC,,w5,,cuff", "p6,,UTC,,w6,,", "p7,,UTC,,w7,,bracelet", "p1,,UTC,,w1,,cuff"])
    found, bad = read(text, PATIENTS, MAY_BE)
    assert (bad, [row.cells["device_class"] for row in found]) == ([], ["cuff", "", "bracelet", "cuff"])
    refused = {(one.line, one.value): one.allowed for one in bad_patients(found, CARED)}
    assert sorted(refused) == [(4, "bracelet"), (5, "cuff")]
    assert "wrist_optical, " in refused[4, "bracelet"]
    assert refused[5, "cuff"].startswith("ring_optical, as it is, or nothing; `keepwell admin device class`")
    (row,) = read(",".join(PATIENTS) + "\np5,,UTC,,w5,", PATIENTS, MAY_BE)[0]
    assert row.cells["device_class"] == ""
    assert [one.column for one in read(header, PATIENTS)[1]] == ["header"]


def test_another_header_or_an_open_quote_is_refused_at_its_line() -> None:
    assert read("key;name\n", PEOPLE) == ([], [Bad(1, "header", "key;name", f"{','.join(PEOPLE)} in any order")])
    assert [(one.line, one.column) for one in read("", PEOPLE)[1]] == [(1, "header")]
    found, bad = read(",".join(PEOPLE) + '\nbo,,nurse,,\n\ncy,"Cy,nurse,,\n', PEOPLE)
    assert ([row.line for row in found], [(one.line, one.column) for one in bad]) == ([2], [(4, "row")])
