"""The evaluation's pictures: they show the figures, are the same bytes again, and can be read on a dark screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.plots import BY_NIGHT, INK, THEIRS, main, pictures, svg

POINT = {"control": 0.25, "control_ci": [0.125, 0.375], "lift": 12.5, "lift_ci": [-3.0, 30.0]}
UNJUDGED = {"control": None, "control_ci": [None, None], "lift": None, "lift_ci": [None, None]}
BUDGETS = {"0.1": POINT | {"control": 0.125}, "0.2": POINT, "0.3": UNJUDGED}
SHARE = {"n": 8, "found": 2, "without_the_event": 1, "sensitivity": {"value": 0.25, "low": 0.03, "high": 0.65}}
BANDS = {"every day": {"each": [0.5, 0.7]}, "while nothing is told": {"each": [0.9]}}
NOBODY: dict[str, Any] = {when: {"each": []} for when in BANDS}
DOCUMENTS: list[dict[str, Any]] = [
    {
        "task": "onset", "detector": "daily", "nested_cv": True, "budgets": BUDGETS, "processor": BUDGETS,
        "references": {"cusum": BUDGETS, "ewma": BUDGETS}, "as_published": {"cusum": POINT},
    },
    {
        "task": "injected",
        "backgrounds": {
            "made_up": {
                "cases": {
                    "swap": SHARE | {"wanted": [], "rivals": {"cusum": SHARE}},
                    "ramp": SHARE | {"wanted": ["rise"], "rivals": {"cusum": SHARE | {"found": 4}}},
                }
            }
        },
    },
    {"task": "calibration", "missing": {"0.0": {"coverage": BANDS}, "0.5": {"coverage": NOBODY}}},
]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["task"])
def test_the_same_figures_are_the_same_bytes_without_a_date(document: dict[str, Any]) -> None:
    first, second = ({name: svg(figure) for name, figure in pictures(document).items()} for _ in range(2))
    assert len(first) == 1
    assert first == second
    for text in first.values():
        assert "<dc:date>" not in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["task"])
def test_every_colour_has_another_one_for_dark_screens(document: dict[str, Any]) -> None:
    for figure in pictures(document).values():
        head, _, drawn = svg(figure).partition("</style>")
        used = {color for color in BY_NIGHT if color in drawn}
        assert {INK, THEIRS} <= used
        for color in used:
            assert f": {color}" in head
            assert BY_NIGHT[color] in head
        strange = {word for word in drawn.replace(";", '"').split('"') if ": #" in word and word[-7:] not in BY_NIGHT}
        assert not strange


def test_operating_points_are_drawn_where_they_are_with_both_intervals_and_the_unjudged_left_out() -> None:
    panel = pictures(DOCUMENTS[0])["detection_lift"].axes[0]
    drawn = {bars.get_label(): bars for bars in panel.containers}
    points, _, (across, up) = drawn["reference, at most 0.1, 0.2, 0.3 a week"]
    assert points.get_xydata().tolist() == [[12.5, 12.5], [25, 12.5]]
    assert across.get_segments()[1].tolist() == [[12.5, 12.5], [37.5, 12.5]]
    assert up.get_segments()[1].tolist() == [[25, -3.0], [25, 30.0]]
    now = drawn["what runs now, limits for 0.1, 0.2, 0.3 a week"]
    assert now[0].get_xydata().tolist() == [[12.5, 12.5], [25, 12.5]]
    assert {"reference, as published", "daily, at most 0.1, 0.2, 0.3 a week"} < set(drawn)
    assert panel.get_title() == "cusum"


def test_shares_are_in_per_cent_with_nuisances_last_and_what_comes_anyway_hollow() -> None:
    figure = pictures(DOCUMENTS[1])["detection_injected_made_up"]
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["ramp, 8", "swap (nuisance), 8"]
    ours, theirs = panel.containers
    assert np.array_equal(ours[0].get_xdata(), [25, 25])
    assert ours[2][0].get_segments()[0][:, 0].tolist() == [pytest.approx(3), pytest.approx(65)]
    hollow = [line for line in panel.lines if line.get_markerfacecolor() != line.get_color()]
    assert [list(np.asarray(line.get_xdata())) for line in hollow] == [[12.5, 12.5]] * 2


def test_a_folder_of_documents_becomes_files_and_a_task_without_pictures_none(tmp_path: Path) -> None:
    for place, document in enumerate([*DOCUMENTS, {"task": "subgroups"}]):
        (tmp_path / f"{place}.json").write_text(json.dumps(document))
    main(tmp_path, tmp_path)
    made = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert made == ["detection_coverage.svg", "detection_injected_made_up.svg", "detection_lift.svg"]
