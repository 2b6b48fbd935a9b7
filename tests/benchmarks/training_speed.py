"""Measure training: examples per second, shares of data and of taps in a step, and peak memory.

    python -m tests.benchmarks.training_speed [--steps 12] [--device cpu]

writes `docs/reference/training-speed.md`. Every row is a run of the training loop on the demo
corpus, in a process of its own. Time that the loop waits for examples, copies and mixes them is
data; all else is the network. Taps are made from the analog filters, and gradients brought back to
these, once a step: measured by itself, in the same process. The first steps are not counted: they
start workers and fill caches.
"""

import argparse
import itertools
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.loader import ExampleLoader
from sfisep_core.data.mixing import mix_batch
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet
from sfisep_core.training import loop
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_loading import load_config

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/training-speed.md"
WARM_UP = 3
ROUNDS = 2
# Name, options of the row. The first row of a preset is what the others are compared with.
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("sfi-conv-tasnet-small", "fp32, 0 loader workers", {"workers": 0}),
    ("sfi-conv-tasnet-small", "fp32, 1 loader worker", {"workers": 1}),
    ("sfi-conv-tasnet-small", "bf16, 1 loader worker", {"workers": 1, "precision": "bf16"}),
    ("sfi-conv-tasnet-small", "fp32, 2 micro-batches", {"workers": 1, "accumulation": 2}),
    ("sfi-conv-tasnet-fd-mgf", "fp32, 0 loader workers", {"workers": 0}),
    ("sfi-conv-tasnet-fd-mgf", "fp32, 1 loader worker", {"workers": 1}),
    ("sfi-conv-tasnet-fd-mgf", "bf16, 1 loader worker", {"workers": 1, "precision": "bf16"}),
]
CUDA_ROWS: list[tuple[str, str, dict[str, Any]]] = [
    (
        preset,
        "bf16, compiled, 4 loader workers",
        {"workers": 4, "precision": "bf16", "compile": True},
    )
    for preset in ("sfi-conv-tasnet-small", "sfi-conv-tasnet-fd-mgf")
]


def measure(settings: dict[str, Any], data: Path, out: Path) -> dict[str, float]:
    """Run the loop; give seconds of a step (median), data share and peak memory in GiB."""
    device = torch.device(settings["device"])
    steps = settings["steps"] + WARM_UP
    overrides = [f"steps={steps}", "epoch_steps=1000000", "validation_tracks=1"]
    overrides += ["validation_seconds=1", "checkpoint_minutes=1000", "mixing.sample_rates=[32000]"]
    overrides += ["validation_rates=[32000]", f"mixing.excerpt_seconds={settings['seconds']}"]
    overrides += [f"batch_size={settings['batch_size']}"]
    for key in ("precision", "accumulation"):
        overrides += [f"{key}={settings[key]}"] if key in settings else []
    overrides += ["compile=true"] if settings.get("compile") else []
    waited: list[float] = []
    begun: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **arguments: Any) -> Any:
            start = _now(device)
            result = function(*args, **arguments)
            waited[-1] += _now(device) - start
            return result

        return call

    real_step, real_iter = loop.train_step, ExampleLoader.__iter__

    def step(*args: Any) -> Any:
        begun.append(_now(device))
        waited.append(0.0)
        return real_step(*args)

    def _batches(loader: ExampleLoader) -> Iterator[Any]:
        batches = real_iter(loader)
        read = timed(lambda: next(batches))
        for _ in range(len(loader)):
            yield read()

    loop.train_step = step  # type: ignore[assignment]
    loop.mix_batch = timed(mix_batch)  # type: ignore[attr-defined]
    ExampleLoader.__iter__ = _batches  # type: ignore[method-assign]
    config = load_config(Path(settings["preset"]), overrides=overrides)
    loop.train(
        config,
        data=data,
        out=out,
        device=str(device),
        loader_workers=settings["workers"],
    )
    lengths = [after - before for before, after in itertools.pairwise(begun)]
    seconds = statistics.median(lengths[WARM_UP:])
    share = sum(waited[WARM_UP:-1]) / sum(lengths[WARM_UP:])
    memory = (
        torch.cuda.max_memory_allocated() / 2**30
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )
    taps = _seconds_of_taps(config, device) / seconds
    return {"seconds": seconds, "share": share, "taps": taps, "memory": memory}


def _seconds_of_taps(config: TrainingConfig, device: torch.device) -> float:
    """Make the taps of both layers and bring a gradient back, as every step does."""
    model = build_model(config.family, config.model).to(device)
    assert isinstance(model, SFIConvTasNet)
    lengths = []
    for _ in range(2 * WARM_UP + 1):
        start = _now(device)
        for layer in (model.encoder, model.decoder):
            layer.taps(32000).square().sum().backward()
        lengths.append(_now(device) - start)
    return statistics.median(lengths)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure all rows and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    if arguments.row is not None:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(json.loads(arguments.row), arguments.data, Path(folder))
        sys.stdout.write(json.dumps(found))
        return
    rows = ROWS + (CUDA_ROWS if arguments.device.startswith("cuda") else [])
    with tempfile.TemporaryDirectory() as folder:
        demo, data = Path(folder) / "demo", Path(folder) / "data"
        generate_demo_corpus(
            demo, num_train=4, num_valid=1, num_test=0, seconds=20, sample_rate=44100, seed=0
        )
        prepare_dataset(PreparationRequest(source=demo, out=data, sample_rate=32000))
        best: dict[tuple[str, str], dict[str, float]] = {}
        for _ in range(ROUNDS):  # what else the machine does meets different rows
            for preset, name, options in rows:
                settings = {
                    "preset": preset,
                    "device": arguments.device,
                    "steps": arguments.steps,
                    "batch_size": arguments.batch_size,
                    "seconds": arguments.seconds,
                    **options,
                }
                command = [sys.executable, "-m", "tests.benchmarks.training_speed"]
                command += ["--row", json.dumps(settings), "--data", str(data)]
                text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found = json.loads(text.splitlines()[-1])
                sys.stderr.write(f"{preset}, {name}: {found}\n")
                before = best.get((preset, name))
                if before is None or found["seconds"] < before["seconds"]:
                    best[preset, name] = found
    lines = []
    for preset, name, _ in rows:
        found = best[preset, name]
        reference = next(best[key]["seconds"] for key in best if key[0] == preset)
        lines.append(
            f"| {preset} | {name} | {reference / found['seconds']:.2f} | "
            f"{arguments.batch_size / found['seconds']:.2f} | {100 * found['share']:.1f} % | "
            f"{100 * found['taps']:.2f} % | "
            f"{found['memory']:.2f} |"
        )
    arguments.page.write_text(_page(arguments, lines), encoding="utf-8")


def _page(arguments: argparse.Namespace, lines: list[str]) -> str:
    where = (
        torch.cuda.get_device_name()
        if arguments.device.startswith("cuda")
        else f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
    )
    memory = (
        "the GPU's allocations"
        if arguments.device.startswith("cuda")
        else "the process, PyTorch itself included"
    )
    return f"""# Speed of training

<!-- Written by tests/benchmarks/training_speed.py: change that program, not this page. -->

```sh
python -m tests.benchmarks.training_speed
```

Batches of {arguments.batch_size} excerpts of {arguments.seconds:g} s at 32 kHz from the demo
corpus, on {where},
torch {torch.__version__}; median of {arguments.steps} steps, the
better of {ROUNDS} rounds. *Speed* is relative to the first row
of the same preset, measured in the same run. *Data* is the share of the step in which the loop
waits for examples, copies, resamples, augments and mixes them, *taps* the share of making taps from
the analog filters and of their gradients. *Memory* is the peak in GiB of
{memory}.

| preset | run | speed | examples/s | data | taps | memory |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
