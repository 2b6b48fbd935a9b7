"""Figures of scores and filters against frequency, as SVG."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.report.filter_responses import FilterResponses
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: told apart by all eyes; markers and dashes tell them apart in grey, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
_FLOOR_DB = -60  # of filter responses, below the strongest
_SHOWN_FILTERS = 6


@dataclass(frozen=True)
class Line:
    """What a figure shows of one system: rates in Hz, medians over tracks and their intervals."""

    system: str
    sample_rates: list[int]
    medians: list[float]
    lows: list[float]
    highs: list[float]


def check_available() -> None:
    """Refuse to begin without matplotlib.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        msg = (
            "the report needs matplotlib, which is not installed: "
            'run `pip install "sfisep[plots]"`, or go without the report'
        )
        raise ConfigError(msg) from error


def lines_of(study: Study, *, source: str, metric: str) -> list[Line]:
    """Give the lines of a panel; rates without a finite score are left out.

    Ends of intervals that are infinite are NaN: there is nowhere to draw them.
    """
    lines = []
    for system in study.systems:
        points = [
            (rate, summarise(study.scores[key].values()))
            for rate in study.sample_rates
            if (key := ScoreKey(rate, system, source, metric)) in study.scores
        ]
        points = [(rate, summary) for rate, summary in points if math.isfinite(summary.median)]
        if points:
            lines.append(
                Line(
                    system,
                    [rate for rate, _ in points],
                    [summary.median for _, summary in points],
                    [_drawable(summary.low) for _, summary in points],
                    [_drawable(summary.high) for _, summary in points],
                )
            )
    return lines


def _drawable(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def score_figure(study: Study, *, metric: str, sources: Sequence[str] | None = None) -> str:
    """Draw scores against sampling frequency, a panel for each source and one for their mean.

    Args:
        study: The scores.
        metric: Which score.
        sources: Panels; None = all sources and their mean.

    Returns:
        SVG.
    """
    panels = [*study.sources, ALL_SOURCES] if sources is None else list(sources)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(4.2 * columns, 3.2 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    definition = DEFINITIONS[metric]
    for panel, source in zip(axes, panels, strict=False):
        for line in lines_of(study, source=source, metric=metric):
            _draw(panel, line, number=list(study.systems).index(line.system))
        panel.axvline(study.native_rate / 1000, color="#888888", linewidth=0.8, zorder=0)
        panel.set_title("mean of the sources" if source == ALL_SOURCES else source, fontsize=10)
        panel.set_xlabel("sampling frequency (kHz)")
        panel.set_ylabel(f"{definition.label} ({definition.unit})")
        panel.grid(alpha=0.25)
    handles: dict[str, Any] = {}
    for panel in axes:
        handles |= {label: h for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False
    )
    return _svg(figure)


def responses_figure(responses: Sequence[FilterResponses]) -> str:
    """Draw the magnitude responses of all filters at each rate, and of some at all rates."""
    columns = 4
    rows = -(-len(responses) // columns)
    figure = _figure(11.0, 2.3 * rows + 3.2)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*([1.0] * rows), 1.4])
    strongest = max(float(r.magnitudes_db.max()) for r in responses)
    highest = max(r.frequencies[-1] for r in responses)
    image = None
    panels = []
    for number, response in enumerate(responses):
        panel = figure.add_subplot(grid[number // columns, number % columns])
        image = panel.imshow(
            response.magnitudes_db[:, ::2],
            origin="lower",
            aspect="auto",
            extent=(0, response.frequencies[-1] / 1000, 0, len(response.centers_hz)),
            vmin=strongest + _FLOOR_DB,
            vmax=strongest,
            cmap="magma",
            interpolation="nearest",
        )
        panel.set_xlim(0, highest / 1000)
        panel.set_title(f"{response.sample_rate / 1000:g} kHz", fontsize=9)
        panel.set_xlabel("frequency (kHz)", fontsize=8)
        panel.set_ylabel("filter", fontsize=8)
        panel.tick_params(labelsize=7)
        panels.append(panel)
    if image is not None:
        figure.colorbar(image, ax=panels, label="dB", fraction=0.03)
    overlay = figure.add_subplot(grid[rows, :])
    count = len(responses[0].centers_hz)
    shown = np.unique(np.linspace(0.1 * count, 0.9 * count, _SHOWN_FILTERS).astype(int))
    for colour, number in zip(COLOURS, shown.tolist(), strict=False):
        for response in responses:
            overlay.plot(
                response.frequencies / 1000,
                response.magnitudes_db[number],
                color=colour,
                linewidth=0.9,
                alpha=0.6,
            )
    overlay.set_ylim(strongest + _FLOOR_DB, strongest + 3)
    overlay.set_xlabel("frequency (kHz)")
    overlay.set_ylabel("dB")
    overlay.set_title(f"{len(shown)} filters (colours), all rates on top of each other", fontsize=9)
    overlay.grid(alpha=0.25)
    return _svg(figure)


def _draw(panel: "Axes", line: Line, *, number: int) -> None:
    kilohertz = [rate / 1000 for rate in line.sample_rates]
    style = number % len(COLOURS)
    panel.fill_between(
        kilohertz, line.lows, line.highs, color=COLOURS[style], alpha=0.12, linewidth=0
    )
    panel.plot(
        kilohertz,
        line.medians,
        color=COLOURS[style],
        marker=_MARKERS[style],
        linestyle=_LINES[style],
        markersize=4,
        linewidth=1.3,
        label=line.system,
    )


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: "Figure") -> str:
    import matplotlib

    stream = io.StringIO()
    # The same figure gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "sfisep", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()
