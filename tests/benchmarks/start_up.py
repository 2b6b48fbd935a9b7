"""Measure what a command costs before it works: CPU seconds above those of Python or PyTorch.

    python -m tests.benchmarks.start_up [--rounds 5]

prints a table. Rounds are paired: each runs every command once, in processes of their own, so that
what else the machine does weighs on all of them alike; the median over the rounds counts.
Modules are compiled to bytecode by the round before, as installing the package does.
CPU seconds are used rather than time on a clock for the same reason.

The first sample of a separation is the first block of a stem that is about to be encoded.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

REPOSITORY = Path(__file__).resolve().parents[2]

_CLI = "from sfisep_cli.app import main; main()"
# Ends the process as soon as there is a sample to write.
_TO_FIRST_SAMPLE = """
import os
from sfisep_core.audio.file_writer import AudioWriter
AudioWriter.write = lambda self, block: os._exit(0)
from sfisep_cli.app import main
main()
"""

# Name, Python code, arguments, name of what it is compared with, exit code.
ROWS: list[tuple[str, str, Sequence[str], str, int]] = [
    ("python", "pass", (), "", 0),
    ("import torch", "import torch", (), "python", 0),
    ("--version", _CLI, ("--version",), "python", 0),
    ("separate --stems horns", _CLI, ("separate", "song.wav", "--stems", "horns"), "python", 2),
    ("separate --model nope", _CLI, ("separate", "song.wav", "--model", "nope"), "python", 1),
    ("separate missing.wav", _CLI, ("separate", "missing.wav"), "python", 1),
    ("separate --skip-existing", _CLI, ("separate", "done.wav", "--skip-existing"), "python", 0),
    ("models list", _CLI, ("models", "list"), "python", 0),
    (
        "separate, to the first sample",
        _TO_FIRST_SAMPLE,
        ("separate", "song.wav", "--device", "cpu", "--quiet"),
        "import torch",
        0,
    ),
    (
        "the same with a small model",
        _TO_FIRST_SAMPLE,
        ("separate", "song.wav", "--device", "cpu", "--quiet", "--model", "sfi-conv-tasnet-small"),
        "import torch",
        0,
    ),
]


def cpu_seconds(code: str, arguments: Sequence[str], folder: Path, exit_code: int) -> float:
    """Run Python in a process of its own, and give the CPU seconds that it took."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != exit_code:
        raise SystemExit(done.stderr.decode())
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Give the CPU seconds of every row in every round; one more round before fills caches."""
    soundfile.write(folder / "song.wav", np.random.default_rng(0).normal(0, 0.1, 44100), 44100)
    soundfile.write(folder / "done.wav", np.zeros(8), 8000)
    stems = folder / "separated/default/done"
    stems.mkdir(parents=True)
    for name in ("vocals", "drums", "bass", "other"):
        soundfile.write(stems / f"{name}.wav", np.zeros(8), 8000)
    seconds: dict[str, list[float]] = {name: [] for name, *_ in ROWS}
    for number in range(rounds + 1):
        for name, code, arguments, _, exit_code in ROWS:
            taken = cpu_seconds(code, arguments, folder, exit_code)
            if number:
                seconds[name].append(taken)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), rounds)
    print(f"median of {rounds} paired rounds, CPU seconds")  # noqa: T201
    for name, _, _, base, _ in ROWS:
        line = f"{name:32}{statistics.median(seconds[name]):6.2f}"
        if base:
            pairs = list(zip(seconds[name], seconds[base], strict=True))
            above = statistics.median(own - other for own, other in pairs)
            ratio = statistics.median(own / other for own, other in pairs)
            line += f"{above:8.2f} above {base}, {ratio:.2f} times as much"
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
