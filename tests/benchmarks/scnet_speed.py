"""Time SCNet beside a plain transcription of the original, with random weights, on one thread.

    python -m tests.benchmarks.scnet_speed [--preset scnet-large] [--repeats 3]

prints CPU-seconds for a second of stereo: the least of some runs that take turns.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sfisep_core.models.registry import build_model
from sfisep_core.models.scnet import SCNet
from sfisep_core.training.config_loading import load_config
from tests.models.scnet_reference import PlainSCNet

# The published way: windows of the training length that overlap by half.
WINDOW_SECONDS, PUBLISHED_STEP = 11, 5.5


def least_seconds(ways: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Give the least CPU time of each way; they take turns, so that all meet the same load."""
    found = dict.fromkeys(ways, float("inf"))
    for turn in range(repeats + 1):  # the first one warms up
        for name, run in ways.items():
            begun = time.process_time()
            run()
            if turn:
                found[name] = min(found[name], time.process_time() - begun)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="scnet")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load_config(Path(options.preset))
    model = build_model(config.family, config.model).eval()
    assert isinstance(model, SCNet)
    plain = PlainSCNet(model.config.network, len(model.sources)).eval()
    hops = model.hops_to_cover(WINDOW_SECONDS * model.native_rate, model.native_rate)
    parts = torch.randn(1, 4, model.config.stft.num_bins, hops + 1)
    with torch.inference_mode():
        seconds = least_seconds(
            {"plain": lambda: plain(parts), "ours": lambda: model.network(parts)}, options.repeats
        )
    step, lines = model.config.segment_seconds, []
    for name, kept in (("plain", PUBLISHED_STEP), ("ours", float(step))):
        alone, whole = seconds[name] / WINDOW_SECONDS, seconds[name] / kept
        lines.append(f"{name}: {alone:.2f} in the network, {whole:.2f} with overlap\n")
    ratio = seconds["plain"] / seconds["ours"]
    lines.append(
        f"ours is {ratio:.2f} times as fast, {ratio * step / PUBLISHED_STEP:.2f} with overlap\n"
    )
    sys.stdout.writelines(lines)


if __name__ == "__main__":
    main()
