"""The tasks' documents as pictures: SVG files in ``docs/images``, made anew by ``make evaluate``.

Each JSON file of the folder makes the pictures of its task; pictures without a file stay as they are. The same figures
give the same bytes. A picture has a ground of its own, which turns dark with the reader's screen; marks differ in
shape, and colour-blind eyes can tell their colours apart (Okabe and Ito 2008). Needs matplotlib (``make install``).
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.sheet import BUDGETS

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
INK, FAINT, GROUND, OURS, THEIRS = "#1f2328", "#8c959f", "#ffffff", "#0072b2", "#d55e00"
BY_NIGHT: Final = {INK: "#e6edf3", FAINT: "#7d8590", GROUND: "#0d1117", OURS: "#56b4e9", THEIRS: "#e69f00"}
STYLE: Final[Any] = {  # matplotlib's own names
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT,
    "axes.facecolor": GROUND, "figure.facecolor": GROUND, "savefig.facecolor": GROUND, "text.color": INK,
    "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "keepwell", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
}  # fmt: skip
NOW: Final = "what runs now"


def pictures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Return file name (without its end) → picture of a task's document; none where it has none."""
    make = _PICTURES.get(document["task"])
    with mpl.rc_context(STYLE):
        return dict(make(document)) if make else {}


def svg(figure: Figure) -> str:
    """Return a picture as SVG: no date, no random name in it, and a dark coat for dark screens."""
    with mpl.rc_context(STYLE), io.StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        text = file.getvalue()
    rules = [
        f'[style*="{what}: {day}"] {{ {what}: {night} !important }}'
        for day, night in BY_NIGHT.items()
        for what in ("fill", "stroke")
    ]
    coat = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>"
    return text.replace("<defs>", f"{coat}\n <defs>", 1)


def _lift(d: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    if "references" not in d:
        return
    own = [d["budgets"][asked] for asked in BUDGETS] if d["nested_cv"] else []
    figure, panels = _panels(len(d["references"]) + 1, 3, (9.0, 5.6))
    for axes, (name, points) in zip(panels, d["references"].items(), strict=False):
        axes.axhline(0, color=FAINT, linewidth=0.8)
        rows = [points[asked] for asked in BUDGETS]
        published = [d["as_published"][name]] if name in d["as_published"] else []
        _operating(axes, rows, THEIRS, "o", "reference, at most 0.1, 0.2, 0.3 a week", line="-")
        _operating(axes, published, THEIRS, "X", "reference, as published")
        _operating(axes, own, OURS, "^", f"{d['detector']}, at most 0.1, 0.2, 0.3 a week", line="--")
        shipped = [d["processor"][asked] for asked in BUDGETS]
        _operating(axes, shipped, INK, "s", f"{NOW}, limits for 0.1, 0.2, 0.3 a week", line=":")
        axes.set_title(name)
        axes.tick_params(labelbottom=True)  # also above the legend, where no panel is below
    _name_axes(figure, "control windows in which an alert is active, %", "lift, percentage points")
    _explain(panels, len(d["references"]), "bars: 95 %, resampling people")
    yield "detection_lift", figure


def _operating(
    axes: Axes, rows: Sequence[Mapping[str, Any]], color: str, mark: str, label: str, line: str = ""
) -> None:
    """Draw operating points with both intervals; not what could not be judged."""
    rows = [row for row in rows if row["control"] is not None and row["lift"] is not None]
    if not rows:
        return
    control, lifts = [100 * row["control"] for row in rows], [row["lift"] for row in rows]
    across = _bars(control, [(100 * low, 100 * high) for low, high in (row["control_ci"] for row in rows)])
    up = _bars(lifts, [row["lift_ci"] for row in rows])
    axes.errorbar(
        control, lifts, xerr=across, yerr=up, color=color, marker=mark, markersize=6, linestyle=line, linewidth=1.2,
        elinewidth=0.8, label=label,
    )  # fmt: skip


def _bars(values: Sequence[float], intervals: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Return how far each interval reaches below and above its value."""
    pairs = list(zip(values, intervals, strict=True))
    return [max(value - low, 0) for value, (low, _) in pairs], [max(high - value, 0) for value, (_, high) in pairs]


def _injected(d: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    for background, one in d["backgrounds"].items():
        cases = sorted(one["cases"].items(), key=lambda item: not item[1]["wanted"])  # nuisances last
        rivals = list(cases[0][1]["rivals"])
        figure, panels = _panels(len(rivals), len(rivals), (11.0, 6.6))
        for axes, rival in zip(panels, rivals, strict=True):
            _shares(axes, [row for _, row in cases], -0.18, INK, "s", NOW)
            _shares(axes, [row["rivals"][rival] for _, row in cases], 0.18, THEIRS, "o", "the rule named above")
            axes.set_title(rival)
            axes.set_xlim(-4, 104)
        labels = [f"{case}{'' if row['wanted'] else ' (nuisance)'}, {row['n']}" for case, row in cases]
        panels[0].set_yticks(range(len(cases)), labels)
        panels[0].invert_yaxis()
        across = f"{background}: people in whom an alert comes, % (bars: exact 95 %; hollow: without the event)"
        _name_axes(figure, across, "event, people")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        yield f"detection_injected_{background}", figure


def _shares(axes: Axes, rows: Sequence[Mapping[str, Any]], offset: float, color: str, mark: str, label: str) -> None:
    at = [place + offset for place in range(len(rows))]
    found = [100 * row["sensitivity"]["value"] for row in rows]
    bars = _bars(found, [(100 * row["sensitivity"]["low"], 100 * row["sensitivity"]["high"]) for row in rows])
    anyway = [100 * row["without_the_event"] / row["n"] for row in rows]
    axes.errorbar(
        found, at, xerr=bars, color=color, marker=mark, markersize=5, linestyle="", elinewidth=0.8, label=label
    )
    axes.plot(anyway, at, color=color, marker=mark, markersize=4, linestyle="", markerfacecolor=GROUND, zorder=3)
    axes.grid(axis="y", color=FAINT, linewidth=0.3)


def _coverage(d: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    figure, panels = _panels(len(d["missing"]), len(d["missing"]), (9.0, 3.4))
    for axes, (missing, one) in zip(panels, d["missing"].items(), strict=True):
        axes.axhline(95, color=THEIRS, linewidth=1.2, linestyle="--", label="what the band should hold: 95 %")
        for (when, band), color, mark in zip(one["coverage"].items(), (INK, OURS), ("o", "^"), strict=True):
            shares = [100 * share for share in band["each"]]
            across = range(1, len(shares) + 1)
            axes.plot(across, shares, color=color, marker=mark, markersize=3, linestyle="", label=f"a person, {when}")
        axes.set_title(f"{100 * float(missing):.0f} % of days missing")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(0, 102)
    _name_axes(figure, "people, the least covered first", "healthy days inside the person's band, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    yield "detection_coverage", figure


def _panels(n: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with n panels that share their axes, row by row."""
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(-(-n // columns), columns, sharex=True, sharey=True, squeeze=False)
    return figure, list(grid.flat)


def _name_axes(figure: Figure, across: str, up: str = "") -> None:
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)


def _explain(panels: Sequence[Axes], used: int, note: str) -> None:
    """Put the legend into the first panel that is not used, and hide the others."""
    for axes in panels[used:]:
        axes.axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[used].legend(handles, labels, loc="center left", title=note, alignment="left")


_PICTURES: Final[dict[str, Callable[[Mapping[str, Any]], Iterator[tuple[str, Figure]]]]] = {
    "onset": _lift,
    "injected": _injected,
    "calibration": _coverage,
}


def main(folder: Path, images: Path = IMAGES) -> None:
    """Make the pictures of a folder of JSON files."""
    for path in sorted(folder.glob("*.json")):
        for name, figure in pictures(json.loads(path.read_text("utf-8"))).items():
            (images / f"{name}.svg").write_text(svg(figure), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
