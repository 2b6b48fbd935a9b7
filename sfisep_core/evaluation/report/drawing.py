"""Drawing with matplotlib, which is optional: as SVG, without global state."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.report.svg import INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOFT = "#8c8c8c"


def check_available() -> None:
    """Check that matplotlib is installed.

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


@contextmanager
def uniform_style() -> Iterator[None]:
    """Make figures reproducible, independent of the user's matplotlib settings."""
    import matplotlib.style

    settings = {
        "svg.hashsalt": "sfisep",
        "text.parse_math": False,
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
        ),
    }
    with matplotlib.style.context(["default", settings]):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Build an empty figure; width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: "Figure") -> str:
    """Draw a figure as SVG."""
    stream = io.StringIO()
    absent = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=absent)
    return stream.getvalue()


def draw_grid(panel: "Axes") -> None:
    """Draw faint grid lines in a panel."""
    panel.grid(color=SOFT, alpha=0.25, linewidth=0.6)
