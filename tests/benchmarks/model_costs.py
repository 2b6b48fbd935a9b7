"""Measure what models cost on a CPU, side by side.

    python -m tests.benchmarks.model_costs [--seconds 30] [--rounds 3]

writes `docs/reference/model-costs.md`. Models that do not come with the package have random
weights, which cost the same. Every measurement is a process of its own, on one thread, that
separates a stereo file into files; it counts from the loaded libraries and model on. Models take
turns, so that all meet the same load.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sfisep_core.foundation.library_settings import set_library_defaults
from sfisep_core.foundation.memory import share_one_heap
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.pretrained.registry import BUNDLED
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.separation.separator import Output, Separator
from tests.benchmarks.separation_speed import make_song, measured

MODULE = "tests.benchmarks.model_costs"
PAGE = Path(__file__).resolve().parents[2] / "docs/reference/model-costs.md"
SAMPLE_RATES = (44100, 8000)
# Models that refuse other rates than their own.
ONE_RATE = {"hdemucs"}
# Name, and family and settings of random weights; bundled models have their own.
MODELS: dict[str, tuple[str, Mapping[str, Any]] | None] = {
    "default": None,
    "sfi-conv-tasnet-small": None,
    "sfi-conv-tasnet-fd-mgf": ("sfi-conv-tasnet", {}),
    "spleeter-vocals": None,
    "instrumental-unet": None,
    "instrumental-conv-tasnet": None,
    "spleeter-2stems": ("spleeter", {"sources": ["vocals", "accompaniment"]}),
    "scnet": ("scnet", {}),
    "scnet-large": ("scnet", {"network": {"channels": [64, 128, 256]}}),
    "hdemucs": ("hdemucs", {}),
}
Figures = Mapping[str, float]
Round = Mapping[tuple[str, int], Figures]  # by model and sampling frequency


def run(name: str, sample_rate: int, folder: Path) -> Figures:
    """Separate in this process."""
    torch.set_num_threads(1)
    set_library_defaults()  # as the command does
    share_one_heap()
    file = folder / f"{name}.safetensors"
    separator = Separator(resolve_model(file if file.exists() else name), device="cpu")
    output = Output(encoding="int16")
    song, out = folder / f"{sample_rate}.wav", folder / name
    return measured(lambda: separator.separate_file(song, out_dir=out, output=output))


def measure(name: str, sample_rate: int, folder: Path) -> Figures:
    """Separate in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--folder", folder, "--case", name, str(sample_rate)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: Figures = json.loads(done.stdout)
    return figures


def make_material(folder: Path, names: Sequence[str], seconds: int) -> dict[str, int]:
    """Write the models, and a song at each rate; return each model's number of parameters."""
    for sample_rate in SAMPLE_RATES:
        make_song(folder / f"{sample_rate}.wav", seconds, sample_rate)
    counts = {}
    for name in names:
        settings = MODELS[name]
        torch.manual_seed(0)
        model = resolve_model(name) if settings is None else build_model(*settings)
        if name not in BUNDLED:
            save_model(model, folder / f"{name}.safetensors")
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    return counts


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        name, sample_rate = options.case
        print(json.dumps(run(name, int(sample_rate), options.folder)))  # noqa: T201
        return
    cases = [
        (model, sample_rate)
        for model in options.models
        for sample_rate in SAMPLE_RATES
        if model not in ONE_RATE or sample_rate == SAMPLE_RATES[0]
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        counts = make_material(folder, options.models, options.seconds)
        rounds = [{case: measure(*case, folder) for case in cases} for _ in range(options.rounds)]
    options.out.write_text(_page(rounds, counts, options.seconds), encoding="utf-8")


def _page(rounds: Sequence[Round], counts: Mapping[str, int], seconds: int) -> str:
    first = next(iter(counts))
    lines = []
    for model, count in counts.items():
        cells = [f"`{model}`", f"{count / 1e6:.1f} M"]
        for sample_rate in SAMPLE_RATES:
            case, beside = (model, sample_rate), (first, sample_rate)
            if case not in rounds[0]:
                cells += ["", "", ""]
                continue
            costs = [figures[case]["cpu"] / seconds for figures in rounds]
            ratios = [
                figures[case]["cpu"] / figures[beside]["cpu"]
                for figures in rounds
                if beside in figures
            ]
            cells += [
                f"{statistics.median(costs):.2f} ({min(costs):.2f} to {max(costs):.2f})",
                f"{statistics.median(ratios):.1f}" if ratios else "",
                f"{max(figures[case]['memory'] for figures in rounds):.0f} MiB",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    arguments = re.sub(r" --out \S+", "", "".join(f" {argument}" for argument in sys.argv[1:]))
    return f"""# What models cost on a CPU

<!-- Written by {MODULE.replace(".", "/")}.py: change that program, not this page. -->

```sh
python -m {MODULE}{arguments}
```

{platform.machine()}, one thread of a machine of {os.cpu_count()} cores,
PyTorch {torch.__version__}. {seconds} s of stereo, at {SAMPLE_RATES[0]} Hz and at
{SAMPLE_RATES[1]} Hz, separated into files of 16 bits, with the segments and contexts that each
model has. Models that do not come with the package have random weights, which cost the same.
*CPU-s*: for a second of stereo, the median (least to most) of {len(rounds)} rounds in which models
take turns; *ratio*: the median over rounds of the cost beside that of `{first}` at the same rate;
*memory*: the highest peak beyond libraries and model. Models without figures work at one rate only.

| model | parameters | CPU-s | ratio | memory | {SAMPLE_RATES[1]} Hz: CPU-s | ratio | memory |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
