"""The report's templates: Jinja2 escapes every name, and these filters format numbers."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from sfisep_core.foundation.templating import load_templates

if TYPE_CHECKING:
    from jinja2 import Environment

MISSING = "\N{EN DASH}"
"""Text for a value that does not exist."""

_SMALLEST_P = 1e-4


@lru_cache(maxsize=1)
def templates() -> "Environment":
    """Load the templates."""
    environment = load_templates(__package__)
    environment.globals["missing"] = MISSING
    environment.filters.update(
        decibels=decibels, gain=gain, kilohertz=kilohertz, probability=probability
    )
    return environment


def decibels(value: float) -> str:
    """Format a score with two decimals; a missing one as a dash."""
    return MISSING if math.isnan(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def gain(value: float) -> str:
    """Format a difference of scores with its sign."""
    return MISSING if math.isnan(value) else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def kilohertz(sample_rate: float) -> str:
    """Format a frequency, given in Hz, in kHz without the unit."""
    return f"{sample_rate / 1000:g}"


def probability(p: float) -> str:
    """Format the p value of a test; a missing one as a dash."""
    if math.isnan(p):
        return MISSING
    return f"{p:.2g}" if p >= _SMALLEST_P else f"< {_SMALLEST_P:g}"
