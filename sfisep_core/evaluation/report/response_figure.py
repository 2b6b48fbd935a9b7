"""The figure of an encoder's filters at each sampling frequency, as SVG."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sfisep_core.evaluation.report.drawing import draw_grid, new_figure, to_svg, uniform_style
from sfisep_core.evaluation.report.filter_responses import FilterResponses
from sfisep_core.evaluation.report.svg import BLANK
from sfisep_core.evaluation.report.templating import kilohertz

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_FLOOR_DB = -50.0  # below the strongest response
_OVERLAID = 6


def responses_figure(responses: Sequence[FilterResponses]) -> str:
    """Draw the magnitude responses of all filters at each rate, and of some at all rates.

    Args:
        responses: Responses of an encoder, at one rate or more.

    Returns:
        SVG.
    """
    strongest = max(float(of_rate.magnitudes_db.max()) for of_rate in responses)
    highest = max(float(of_rate.frequencies[-1]) for of_rate in responses)
    columns = 4
    rows = -(-len(responses) // columns)
    with uniform_style():
        figure = new_figure(11.0, 1.9 * rows + 3.3)
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.9 * rows, 3.3])
        upper, lower = parts.flatten()
        panels = []
        for place, of_rate in enumerate(responses):
            panel = upper.add_subplot(rows, columns, place + 1)
            image = _draw_image(panel, of_rate, strongest=strongest, highest=highest)
            if place % columns == 0:
                panel.set_ylabel("filter", fontsize=8)
            if place + columns >= len(responses):
                panel.set_xlabel("frequency (kHz)", fontsize=8)
            panels.append(panel)
        upper.colorbar(image, ax=panels, label="dB", fraction=0.02, pad=0.01)
        _draw_overlay(lower.add_subplot(), responses, strongest=strongest, highest=highest)
        return to_svg(figure)


def overlaid_filters(responses: Sequence[FilterResponses]) -> list[int]:
    """Choose filters whose centres are spread evenly between the lowest and the highest."""
    centers = responses[0].centers_hz
    centers = centers[centers < max(of_rate.frequencies[-1] for of_rate in responses)]
    wanted = np.linspace(centers[0], centers[-1], _OVERLAID + 2)[1:-1]
    return sorted({int(np.abs(centers - frequency).argmin()) for frequency in wanted})


def _draw_image(
    panel: "Axes", of_rate: FilterResponses, *, strongest: float, highest: float
) -> "AxesImage":
    # Panels share one frequency axis, so fewer points suffice at low rates.
    step = max(1, round(highest / of_rate.frequencies[-1]))
    levels = of_rate.magnitudes_db[:, ::step] - strongest
    width = step * of_rate.frequencies[1] / 1000
    image = panel.imshow(
        np.maximum(levels, _FLOOR_DB),
        origin="lower",
        aspect="auto",
        extent=(-width / 2, (levels.shape[1] - 0.5) * width, 0, levels.shape[0]),
        vmin=_FLOOR_DB,
        vmax=0,
        cmap="magma",
        interpolation="none",
    )
    panel.set_xlim(0, highest / 1000)
    panel.set_facecolor(BLANK)
    deviation = f"{of_rate.deviation_db:.0f} dB".replace("-", "\N{MINUS SIGN}")
    about = "native" if math.isnan(of_rate.deviation_db) else deviation
    panel.set_title(f"{kilohertz(of_rate.sample_rate)} kHz ({about})", fontsize=9)
    panel.tick_params(labelsize=7)
    return image


def _draw_overlay(
    panel: "Axes", responses: Sequence[FilterResponses], *, strongest: float, highest: float
) -> None:
    import matplotlib

    colours = matplotlib.colormaps["viridis"](np.linspace(0.9, 0.2, len(responses)))
    chosen = overlaid_filters(responses)
    for place, of_rate in enumerate(responses):
        # Thin lines over thick ones, so that coinciding lines are all visible.
        width = 3.2 - 2.4 * place / max(len(responses) - 1, 1)
        for index in chosen:
            levels = of_rate.magnitudes_db[index] - strongest
            panel.plot(
                of_rate.frequencies / 1000,
                np.where(levels >= _FLOOR_DB, levels, np.nan),
                color=colours[place],
                linewidth=width,
                label=f"{kilohertz(of_rate.sample_rate)} kHz" if index == chosen[0] else None,
            )
    for index in chosen:
        center = responses[0].centers_hz[index] / 1000
        panel.text(center, 3, f"{center:.2g} kHz", horizontalalignment="center", fontsize=8)
    panel.set_xlim(0, highest / 1000)
    panel.set_ylim(_FLOOR_DB, 10)
    panel.set_title("some filters, named by centre frequency, at all rates", fontsize=9)
    panel.set_xlabel("frequency (kHz)", fontsize=8)
    panel.set_ylabel("dB", fontsize=8)
    panel.tick_params(labelsize=7)
    draw_grid(panel)
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
