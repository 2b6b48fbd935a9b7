"""Figures of scores against sampling frequency, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.report.drawing import (
    SOFT,
    draw_grid,
    new_figure,
    to_svg,
    uniform_style,
)
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito: distinguishable with colour blindness; markers and dashes also in greyscale.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D3B", "#999999")
_MARKERS = "osD^vPX*"
_DASHES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (9, 3)))
_PANEL_WIDTH, _PANEL_HEIGHT = 4.6, 3.0  # inches
_LABEL_GAP = 0.075  # fraction of a panel's height


@dataclass(frozen=True)
class Line:
    """The line of one system: rates in Hz, medians over tracks and their intervals."""

    system: str
    sample_rates: list[int]
    medians: list[float]
    lows: list[float]
    highs: list[float]


def lines_of(study: Study, *, source: str, metric: str) -> list[Line]:
    """Return the lines of a panel; rates without a finite score are left out.

    Infinite ends of intervals are NaN, since they cannot be drawn.
    """
    lines = []
    for system in study.systems:
        keys = [ScoreKey(rate, system, source, metric) for rate in study.sample_rates]
        points = [(key, study.summaries[key]) for key in keys if key in study.summaries]
        points = [(key, summary) for key, summary in points if math.isfinite(summary.median)]
        if points:
            lines.append(
                Line(
                    system,
                    [key.sample_rate for key, _ in points],
                    [summary.median for _, summary in points],
                    [_drawable(summary.low) for _, summary in points],
                    [_drawable(summary.high) for _, summary in points],
                )
            )
    return lines


def _drawable(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def score_figure(study: Study, *, metric: str, sources: Sequence[str] | None = None) -> str:
    """Draw scores against sampling frequency, one panel per source and one for their mean.

    Args:
        study: The scores.
        metric: The score.
        sources: Panels; None = all sources and their mean.

    Returns:
        SVG.
    """
    panels = [*study.sources, ALL_SOURCES] if sources is None else list(sources)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    definition = DEFINITIONS[metric]
    by_source = any(key.metric == metric and key.source != ALL_SOURCES for key in study.scores)
    mean = "mean of the sources" if by_source else "all sources"
    with uniform_style():
        figure = new_figure(_PANEL_WIDTH * columns, _PANEL_HEIGHT * rows)
        for place, source in enumerate(panels):
            panel = figure.add_subplot(rows, columns, place + 1)
            panel.set_title(mean if source == ALL_SOURCES else source)
            panel.set_xlabel("sampling frequency (kHz)")
            panel.set_ylabel(f"{definition.label} ({definition.unit})")
            _draw_lines(panel, study, lines_of(study, source=source, metric=metric))
        return to_svg(figure)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move positions between 0 and 1 apart, no further than necessary and in the same order.

    Args:
        places: Preferred positions of labels.
        gap: Minimum distance of two positions; reduced if they do not fit.

    Returns:
        Final positions, in the order of `places`.
    """
    from scipy.optimize import isotonic_regression

    if not places:
        return []
    order = np.argsort(places, kind="stable")
    steps = min(gap, 1 / max(len(places) - 1, 1)) * np.arange(len(places))
    # After subtracting the steps, the order constraint is that values do not decrease.
    level = isotonic_regression(np.asarray(places, dtype=np.float64)[order] - steps).x
    spaced = np.empty(len(places))
    spaced[order] = np.clip(level, 0, 1 - steps[-1]) + steps
    return [float(place) for place in spaced]


def _draw_lines(panel: "Axes", study: Study, lines: Sequence[Line]) -> None:
    low, high = study.sample_rates[0] / 1000, study.sample_rates[-1] / 1000
    margin = 0.03 * (high - low) or 1.0
    panel.set_xlim(low - margin, high + margin)
    draw_grid(panel)
    native = study.native_rate / 1000
    if low <= native <= high:
        panel.axvline(native, color=SOFT, linewidth=0.9, zorder=0)
        panel.text(
            native,
            0.02,
            "native rate ",
            transform=panel.get_xaxis_transform(),
            horizontalalignment="right",
            fontsize=7,
            color=SOFT,
        )
    if not lines:
        panel.set_yticks([])
        panel.text(0.5, 0.5, "no scores", transform=panel.transAxes, horizontalalignment="center")
        return
    styles = [list(study.systems).index(line.system) % len(_COLOURS) for line in lines]
    for line, style in zip(lines, styles, strict=True):
        frequencies = [rate / 1000 for rate in line.sample_rates]
        panel.fill_between(
            frequencies, line.lows, line.highs, color=_COLOURS[style], alpha=0.1, linewidth=0
        )
        panel.plot(
            frequencies,
            line.medians,
            color=_COLOURS[style],
            marker=_MARKERS[style],
            linestyle=_DASHES[style],
            markersize=3.5,
            linewidth=1.3,
        )
    bottom, top = panel.get_ylim()
    panel.set_ylim(bottom, top)  # fixed, so that labels do not change it
    ends = [(line.medians[-1] - bottom) / (top - bottom) for line in lines]
    for line, style, end, place in zip(lines, styles, ends, spread(ends, _LABEL_GAP), strict=True):
        panel.plot(
            [(line.sample_rates[-1] / 1000 - low + margin) / (high - low + 2 * margin), 1.04],
            [end, place],
            transform=panel.transAxes,
            clip_on=False,
            color=_COLOURS[style],
            marker=_MARKERS[style],
            markevery=[1],
            markersize=4.5,
            linewidth=0.6,
        )
        panel.text(
            1.065,
            place,
            line.system,
            transform=panel.transAxes,
            verticalalignment="center",
            fontsize=8,
        )
