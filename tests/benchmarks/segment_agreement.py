"""Measure how far stems of segments agree with those of the whole file.

    python -m tests.benchmarks.segment_agreement MODEL FILE... [--sample-rate HZ]

prints for each stem the level of the difference below the stem of the whole file, in dB: the median
over files, and the least. The whole file has to fit into memory at once.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings

Samples = npt.NDArray[np.float32]


def agreement(segments: Samples, whole: Samples) -> float:
    """Return the level of the difference below that of the whole, in dB; inf where they equal."""
    error = np.square(segments - whole, dtype=np.float64).sum()
    power = np.square(whole, dtype=np.float64).sum()
    if not error:
        return math.inf
    return float(10 * np.log10(power / error)) if power else -math.inf


def main() -> None:
    """Separate every file in both ways, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--sample-rate", type=int, default=None)
    options = parser.parse_args()
    model = resolve_model(options.model)
    usual = Separator(model, device="cpu")
    at_once = Separator(model, SeparationSettings(segment=0), device="cpu")
    found: dict[str, list[float]] = {name: [] for name in model.sources}
    for file in options.files:
        cut, whole = (
            separator.separate(file, sample_rate=options.sample_rate).stems
            for separator in (usual, at_once)
        )
        for name, values in found.items():
            values.append(agreement(cut[name], whole[name]))
    for name, values in found.items():
        sys.stdout.write(f"{name}: {statistics.median(values):.1f} dB, least {min(values):.1f}\n")


if __name__ == "__main__":
    main()
