"""Write docs/reference/bss-eval-condition.md: how near BSS Eval is to museval, by condition."""

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import scipy.signal

from sfisep_core.evaluation import block_toeplitz
from sfisep_core.evaluation.bss_eval import METRICS, BssEval, bss_eval
from sfisep_core.evaluation.museval_reference import museval_scores

RATE = 8000
PAGE = Path(__file__).parents[2] / "docs/reference/bss-eval-condition.md"
LEVELS = (1e-3, 1e-4, 3e-5, 1e-5, 7e-6, 5e-6, 3e-6, 2e-6, 1e-6, 3e-7)
LIMIT_BEFORE = 1e10

Signals = npt.NDArray[np.float64]


def band_limited(level: float, *, seconds: int = 2) -> tuple[Signals, Signals]:
    """Make references with little in the upper half of the band, as lossy codecs leave them.

    Args:
        level: Of the noise in there, relative to what is below.
        seconds: Length.

    Returns:
        References and estimates of two stereo sources, shape (source, channel, time).
    """
    generator = np.random.default_rng(0)
    shape = (2, 2, seconds * RATE)
    low = scipy.signal.sosfilt(
        scipy.signal.cheby2(12, 140, 0.5, output="sos"), generator.standard_normal(shape)
    )
    references = low + level * generator.standard_normal(shape)
    others = references[::-1]
    noise = level * generator.standard_normal(shape)
    return references, 0.9 * references + 0.2 * others + 0.1 * np.roll(low, 5, axis=2) ** 3 + noise


def difference(first: BssEval, second: BssEval) -> float:
    """Return the largest difference of ISR, SIR and SAR in dB."""
    return max(
        float(np.nanmax(np.abs(getattr(first, metric) - getattr(second, metric))))
        for metric in METRICS[1:]
    )


def row(level: float) -> tuple[float, float, float, float]:
    """Return condition, museval against itself, and ours against it before and now."""
    references, estimates = band_limited(level)
    generator = np.random.default_rng(1)
    moved = references * (1 + 1e-16 * generator.standard_normal(references.shape))
    moved += 1e-16 * generator.standard_normal(references.shape)
    theirs, again = (museval_scores(r, estimates, sample_rate=RATE) for r in (references, moved))
    ours = bss_eval(references, estimates, sample_rate=RATE)
    with patch.object(block_toeplitz, "CONDITION_LIMIT", LIMIT_BEFORE):
        before = bss_eval(references, estimates, sample_rate=RATE)
    return ours.condition, *(difference(other, theirs) for other in (again, before, ours))


def main() -> None:
    """Write the page."""
    lines = []
    for level in LEVELS:
        condition, noise, before, now = row(level)
        flag = "yes" if condition > block_toeplitz.CONDITION_LIMIT else ""
        lines.append(f"| {condition:.0e} | {noise:.0e} | {before:.0e} | {now:.0e} | {flag} |")
        sys.stdout.write(lines[-1] + "\n")
    PAGE.write_text(
        "# BSS Eval beside museval, by condition\n\n"
        "<!-- Written by tests/benchmarks/bss_eval_condition.py: change that program, not this "
        "page. -->\n\n```sh\npython -m tests.benchmarks.bss_eval_condition\n```\n\n"
        "Two stereo sources of noise that hold little in the upper half of the band, as lossy\n"
        "codecs leave it: the less, the larger the condition number of the references' Gram\n"
        "matrix, and the less ISR, SIR and SAR are determined. The table has the largest\n"
        "difference over these three scores and all frames in dB. *museval itself*: its values\n"
        "against those of the same references with noise of 1e-16 added. *Ridge above 1e10*: as\n"
        "a former version solved.\n"
        f"Flagged are conditions above {block_toeplitz.CONDITION_LIMIT:.0e}.\n\n"
        "| condition | museval itself | ridge above 1e10 | now | flagged |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
