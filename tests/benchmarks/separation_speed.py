"""Measure `separate` beside the published program's way and the bare matrix products, in one run.

    python -m tests.benchmarks.separation_speed [--seconds 30 180] [--rates 8000 16000 44100]

writes `docs/reference/benchmarks.md`. Every measurement is a process of its own that separates a
stereo file into four files; it counts from the loaded libraries and model on, and its memory is
what it takes beyond these. Rows of a length and rate follow one another, round by round; the
median round counts.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from sfisep_core.foundation.library_settings import set_library_defaults
from sfisep_core.foundation.memory import share_one_heap
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.separation.separator import Output, Separator
from sfisep_core.separation.settings import SeparationSettings
from tests.benchmarks.released_way import ReleasedWay, matrix_products

MODULE = "tests.benchmarks.separation_speed"
PAGE = Path(__file__).resolve().parents[2] / "docs/reference/benchmarks.md"
PAPER, DEFAULT = "paper", "sfi-conv-tasnet-small"
FRAMES_PER_SECOND = 400
# What is measured of a model: name, way, precision.
ROWS = {
    PAPER: [
        ("published way", "released", "fp32"),
        ("matrix products alone", "floor", "fp32"),
        ("matrix products alone, bf16", "floor", "bf16"),
        ("sfisep", "separate", "fp32"),
        ("sfisep, bf16", "separate", "bf16"),
    ],
    DEFAULT: [
        ("matrix products alone", "floor", "fp32"),
        ("matrix products alone, bf16", "floor", "bf16"),
        ("sfisep", "separate", "fp32"),
        ("sfisep, bf16", "separate", "bf16"),
    ],
}


@dataclass(frozen=True)
class Case:
    """What one process does."""

    model: str
    way: str
    precision: str
    seconds: int
    sample_rate: int


def run(case: Case, folder: Path) -> dict[str, float]:
    """Do it here, and tell CPU seconds, wall seconds and MiB beyond those of the libraries."""
    if case.way not in ("released", "floor"):  # as the command does
        set_library_defaults()
        share_one_heap()
    song = folder / f"song-{case.seconds}-{case.sample_rate}.wav"
    model_file = folder / f"{case.model}.safetensors"
    model = resolve_model(str(model_file)).eval()
    assert isinstance(model, SFIConvTasNet)
    work: Callable[[], object]
    if case.way == "released":
        released = ReleasedWay(model)
        work = lambda: released.separate_file(song, folder / "released")  # noqa: E731
    elif case.way == "floor":
        kind = torch.bfloat16 if case.precision == "bf16" else torch.float32

        def work() -> None:
            # Both channels, in pieces of 20 s as `separate` has them: no piece is measured larger.
            for _ in range(2 * case.seconds // 10):
                matrix_products(model.config, 10 * FRAMES_PER_SECOND, kind)
    else:
        settings = SeparationSettings(precision=case.precision)  # type: ignore[arg-type]
        separator = Separator(model, settings, device="cpu")
        out = folder / f"{case.model}-{case.precision}"
        output = Output(encoding="int16")
        work = lambda: separator.separate_file(song, out_dir=out, output=output)  # noqa: E731
    return measured(work)


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Do some work, and tell CPU seconds, wall seconds and MiB beyond those before it."""
    Path("/proc/self/clear_refs").write_text("5")  # what loading took at its peak is forgotten
    resident = _kibibytes("VmRSS")
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.monotonic()
    work()
    wall = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall": wall,
        "memory": (_kibibytes("VmHWM") - resident) / 1024,
    }


def _kibibytes(name: str) -> int:
    """Give a figure of this process as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(case: Case, folder: Path) -> dict[str, float]:
    """Run a case in a process of its own."""
    arguments = [case.model, case.way, case.precision, str(case.seconds), str(case.sample_rate)]
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--folder", str(folder), "--case", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def make_material(folder: Path, seconds: Sequence[int], rates: Sequence[int]) -> None:
    """Write the models, and stereo files of noise that swells."""
    torch.manual_seed(0)
    save_model(build_model("sfi-conv-tasnet", {}), folder / f"{PAPER}.safetensors")
    save_model(resolve_model(DEFAULT), folder / f"{DEFAULT}.safetensors")
    for sample_rate in rates:
        for length in seconds:
            make_song(folder / f"song-{length}-{sample_rate}.wav", length, sample_rate)


def make_song(path: Path, seconds: int, sample_rate: int) -> None:
    """Write a stereo file of noise that swells."""
    noise = np.random.default_rng(0).standard_normal((seconds * sample_rate, 2))
    music = noise * (1 + np.sin(np.arange(len(noise)) / sample_rate))[:, None]
    soundfile.write(path, 0.5 * music / np.abs(music).max(), sample_rate, subtype="PCM_16")


def agreement(folder: Path, model: str) -> float:
    """Give the lowest SI-SDR of a bf16 stem against the fp32 one, of the last file."""
    found = []
    for file in (folder / f"{model}-fp32").rglob("*.wav"):
        exact, _ = soundfile.read(file)
        other, _ = soundfile.read(str(file).replace(f"{model}-fp32", f"{model}-bf16"))
        target = (exact * other).sum() / (exact**2).sum() * exact
        found.append(10 * np.log10((target**2).sum() / ((other - target) ** 2).sum()))
    return float(min(found))


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, nargs="+", default=[30, 180])
    parser.add_argument("--rates", type=int, nargs="+", default=[8000, 16000, 44100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(ROWS))
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        model, way, precision, seconds, sample_rate = options.case
        case = Case(model, way, precision, int(seconds), int(sample_rate))
        print(json.dumps(run(case, options.folder)))  # noqa: T201
        return
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_material(folder, options.seconds, options.rates)
        for model in options.models:
            lines += _table(model, options, folder)
        lines += _start_up(folder, options.rounds)
    options.out.write_text(_page(lines))


def _table(model: str, options: argparse.Namespace, folder: Path) -> list[str]:
    lines = [f"## {model}", ""]
    lines += ["| seconds | rate | | CPU-s a second of music | wall | memory | CPU time, ratio |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for seconds in options.seconds:
        for sample_rate in options.rates:
            cases = [Case(model, way, kind, seconds, sample_rate) for _, way, kind in ROWS[model]]
            rounds = [[measure(case, folder) for case in cases] for _ in range(options.rounds)]
            medians = [
                {key: statistics.median(found[place][key] for found in rounds) for key in found}
                for place, found in enumerate(rounds[0])
            ]
            for (label, _, _), found in zip(ROWS[model], medians, strict=True):
                ratio = medians[0]["cpu"] / found["cpu"]
                lines.append(
                    f"| {seconds} s | {sample_rate} Hz | {label} | {found['cpu'] / seconds:.3f} "
                    f"| {found['wall'] / seconds:.3f} | {found['memory']:.0f} MiB | {ratio:.2f} |"
                )
    lines += ["", f"bf16 against fp32: {agreement(folder, model):.1f} dB SI-SDR (lowest stem).", ""]
    return lines


def _start_up(folder: Path, rounds: int) -> list[str]:
    """Time whole commands, from their start to their end."""
    song = folder / "one-second.wav"
    soundfile.write(song, np.random.default_rng(0).normal(0, 0.1, (44100, 2)), 44100)
    separate = ["-m", "sfisep_cli", "separate", str(song), "--out", str(folder / "one")]
    commands = {
        "`sfisep --help`": ["-m", "sfisep_cli", "--help"],
        "`python -c 'import torch'`": ["-c", "import torch"],
        "`sfisep separate` of 1 s of stereo": separate,
    }
    lines = ["## Start", "", "| command | wall, median |", "|---|---|"]
    for label, arguments in commands.items():
        lengths = []
        for _ in range(rounds + 1):  # the first one fills the caches of the disk
            begun = time.monotonic()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            lengths.append(time.monotonic() - begun)
        lines.append(f"| {label} | {statistics.median(lengths[1:]):.2f} s |")
    return [*lines, ""]


def _page(lines: Sequence[str]) -> str:
    return f"""# Speed of separation

<!-- Written by tests/benchmarks/separation_speed.py: change that program, not this page. -->

```sh
{" ".join(["python -m tests.benchmarks.separation_speed", *sys.argv[1:]])}
```

{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}.
Stereo files, separated into four files of 16 bits, in a process each; libraries and model are
loaded before. Medians of rounds that alternate between the rows of a block; *CPU-s* counts all
threads, *wall* is the inverse of the real-time factor, *memory* is the peak beyond libraries and
model, *ratio* is the CPU time of the block's first row over that of this one.

- *published way*: a plain PyTorch transcription of the network, run as its published program runs
  it: eight chunks with four seconds of context on either side, taps made anew on every call,
  channels one after the other, everything in memory.
- *matrix products alone*: those of the mask network, without context, as the bare minimum.

The mask network sees 400 frames a second at every rate: a low rate saves what encoder, decoder and
files cost, and nothing else.

{chr(10).join(lines)}"""


if __name__ == "__main__":
    main()
