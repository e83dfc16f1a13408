"""Plots beside the report, drawn where matplotlib is installed (the dependency group `bench`)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

#: Inches. Text stays text, so that a file is small and can be searched.
SIZE = (7.5, 3.6)
STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unitofwork",
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
}
Scale = Literal["linear", "log"]


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn: by default lines with a mark at each point, else a group of bars for each x.

    `name`: of the file, without its ending; `x`, `y`: what the axes say; `series`: points by name.
    """

    name: str
    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float | str, float]]]
    bars: bool = False
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"

    def draw(self, folder: Path) -> str:
        """Write the file; the Markdown that shows it, or nothing without matplotlib."""
        try:
            from matplotlib import rc_context
            from matplotlib.figure import Figure
        except ModuleNotFoundError:
            return ""
        file = folder / f"{self.name}.svg"
        with rc_context(dict(STYLE)):
            figure = Figure(figsize=SIZE, layout="constrained")
            axes = figure.add_subplot()
            (self._bars if self.bars else self._lines)(axes)
            axes.set(title=self.title, xlabel=self.x, ylabel=self.y, yscale=self.y_scale)
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
            figure.savefig(file, metadata={"Date": None})
        return f"![{self.title}]({file.name})"

    def _lines(self, axes: Any) -> None:
        axes.set_xscale(self.x_scale)
        for name, points in self.series.items():
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker="o", markersize=3, linewidth=1.2, label=_wrapped(name))

    def _bars(self, axes: Any) -> None:
        width = 0.8 / len(self.series)
        for number, (name, points) in enumerate(self.series.items()):
            left = [group - 0.4 + (number + 0.5) * width for group in range(len(points))]
            axes.bar(left, [value for _, value in points], width, label=_wrapped(name))
        groups = [_wrapped(str(group)) for group, _ in next(iter(self.series.values()))]
        axes.set_xticks(range(len(groups)), groups)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 22)
