"""The page of all months: a table, and charts of the latest ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from flight_features.columns import FEATURES
from flight_monitor.verdicts import Verdict, drifted
from ml_common import charts, pages

TEMPLATE = Path(__file__).with_name("monitor.html.j2")
CHARTED_ROWS = 12
WIDTH = 10.4
DIAGRAMS_PER_ROW = 4
# Fewer bars are not drawn wider.
NARROWEST = 6
COLOURS = {
    Verdict.FINE: "#1a7f4b",
    Verdict.WARN: "#d99a1c",
    Verdict.REQUEST: "#c0271d",
    Verdict.UNDECIDED: "#9aa5b1",
}
CLASSES = {Verdict.FINE: "good", Verdict.WARN: "changed", Verdict.REQUEST: "bad", Verdict.UNDECIDED: "quiet"}
ACCENT = "#0b62c4"
QUIET = "#5d6b7a"

Row = Mapping[str, Any]


def render(rows: Sequence[Row]) -> bytes:
    """Return the page of these rows of the table `flight_monitor`, in the order of months and versions."""
    charted = rows[-CHARTED_ROWS:]
    return pages.render(
        TEMPLATE,
        rows=rows,
        latest=rows[-1],
        months=len({row["month"] for row in rows}),
        requests=sum(row["verdict"] == Verdict.REQUEST for row in rows),
        drifted={(row["month"], row["version"]): drifted(row["psi"], row["maximum_psi"]) for row in rows},
        classes=CLASSES,
        skill=skill_chart(charted),
        psi=psi_chart(charted),
        reliability=reliability_chart(charted),
    )


def skill_chart(rows: Sequence[Row]) -> bytes:
    """Draw the Brier skill of each month, coloured by verdict, and the limit."""
    figure = charts.figure(WIDTH, 4)
    axes = figure.subplots()
    for verdict, colour in COLOURS.items():
        places = [place for place, row in enumerate(rows) if row["verdict"] == verdict]
        if places:
            skills = [rows[place]["skill"] or 0 for place in places]
            bars = axes.bar(places, skills, color=colour, label=verdict.value, width=0.7)
            axes.bar_label(bars, fmt="%.3f", padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    limits = [row["minimum_skill"] for row in rows]
    axes.step(np.arange(-1, len(rows)) + 0.5, [limits[0], *limits], color="black", linestyle="--", label="minimum")
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set_xticks(range(len(rows)), [_name(row) for row in rows])
    axes.set_xlim(-0.6, max(len(rows), NARROWEST) - 0.4)
    axes.set_ylabel("Brier skill")
    axes.margins(y=0.15)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    _remove_frame(axes)
    return charts.png(figure)


def psi_chart(rows: Sequence[Row]) -> bytes:
    """Draw the population stability index of each feature as a table, coloured up to twice the limit."""
    figure = charts.figure(WIDTH, 5.6)
    axes = figure.subplots()
    psi = np.array([[row["psi"][feature] for row in rows] for feature in FEATURES])
    limits = np.array([row["maximum_psi"] for row in rows])
    axes.imshow(psi / limits, cmap="Oranges", vmin=0, vmax=2, aspect="auto")
    for (feature, place), value in np.ndenumerate(psi):
        text = axes.text(place, feature, f"{value:.2f}", ha="center", va="center", fontsize=9)
        text.set_color("white" if value > 1.4 * limits[place] else "black")
        text.set_fontweight("bold" if value > limits[place] else "normal")
    axes.set_xticks(range(len(rows)), [_name(row) for row in rows])
    axes.set_yticks(range(len(FEATURES)), FEATURES)
    axes.tick_params(length=0)
    _remove_frame(axes)
    return charts.png(figure)


def reliability_chart(rows: Sequence[Row]) -> bytes:
    """Draw a reliability diagram of each month: on the diagonal, predicted and observed shares are equal."""
    lines = -(-len(rows) // DIAGRAMS_PER_ROW)
    figure = charts.figure(WIDTH, 2.8 * lines + 0.3)
    grid = figure.subplots(lines, DIAGRAMS_PER_ROW, sharey=True, squeeze=False)
    points = [one for row in rows for one in row["calibration"]]
    highest = max(max(one["predicted"], one["observed"]) for one in points) * 1.05
    for axes, row in zip(grid.flat, rows, strict=False):
        axes.plot([0, highest], [0, highest], color=QUIET, linestyle="--", linewidth=1)
        predicted, observed = ([one[name] for one in row["calibration"]] for name in ("predicted", "observed"))
        axes.plot(predicted, observed, color=COLOURS[Verdict(row["verdict"])], marker="o", markersize=4)
        axes.set(
            xlim=(0, highest), ylim=(0, highest), title=f"{row['month']}, version {row['version']}", aspect="equal"
        )
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    figure.supxlabel("predicted share of late flights")
    figure.supylabel("observed share")
    return charts.png(figure)


def _name(row: Row) -> str:
    return f"{row['month']}\nversion {row['version']}"


def _remove_frame(axes: Axes) -> None:
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
