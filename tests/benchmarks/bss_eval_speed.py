"""Measure BSS Eval against the package museval: time and memory for the same 30 s.

    python -m tests.benchmarks.bss_eval_speed [--seconds 30] [--repeats 3]

writes `docs/reference/bss-eval-speed.md`. Every measurement is a process of its own with one thread
for everything. Time is the processor's for the call, so that other programs count little. Memory is
what the peak of the process rises by from the end of the imports on, with the audio, which all read
from the same files.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/bss-eval-speed.md"
SAMPLE_RATE = 44100
ROWS = {"museval": "museval", "all": "sfisep, all four", "sdr": "sfisep, SDR alone"}
METRICS = ("sdr", "isr", "sir", "sar")


def audio(seconds: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Give references and estimates: coloured noise, and that with filtering, leakage and noise."""
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((5, 2, round(seconds * SAMPLE_RATE)))
    references = np.stack([lfilter([0.05], [1, -0.2 * n], noise[n]) for n in range(4)])
    leakage = 0.1 * references.sum(0)
    estimates = lfilter([0.8, 0.1], [1], references) + leakage + 0.003 * noise[4]
    return references.astype(np.float32), estimates.astype(np.float32)


def measure(kind: str, folder: Path) -> dict[str, Any]:
    """Score once; give seconds, MiB above the imports, and the scores."""
    if kind == "museval":
        import museval
    else:
        import torch

        from sfisep_core.evaluation.bss_eval import bss_eval

        torch.set_num_threads(1)
    imported = _peak()
    references, estimates = (
        np.load(folder / f"{name}.npy") for name in ("references", "estimates")
    )
    start = time.process_time()
    if kind == "museval":
        scores = museval.evaluate(
            references.transpose(0, 2, 1),
            estimates.transpose(0, 2, 1),
            win=SAMPLE_RATE,
            hop=SAMPLE_RATE,
        )
    else:
        found = bss_eval(
            references,
            estimates,
            sample_rate=SAMPLE_RATE,
            metrics=METRICS if kind == "all" else ("sdr",),
        )
        scores = [getattr(found, name) for name in METRICS]
    seconds = time.process_time() - start
    return {
        "seconds": seconds,
        "memory": _peak() - imported,
        "scores": {name: x.tolist() for name, x in zip(METRICS, scores, strict=True)},
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Measure all rows and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        sys.stdout.write(json.dumps(measure(arguments.row, arguments.folder)))
        return
    one = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(one, "1")}
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        for name, signals in zip(
            ("references", "estimates"), audio(arguments.seconds), strict=True
        ):
            np.save(Path(folder) / f"{name}.npy", signals)
        # In turn, so that a change of the machine's load meets all of them.
        for kind in list(ROWS) * arguments.repeats:
            command = [sys.executable, "-m", "tests.benchmarks.bss_eval_speed"]
            command += ["--row", kind, "--folder", folder]
            text = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            ).stdout
            found[kind].append(json.loads(text))
            sys.stderr.write(f"{kind}: {found[kind][-1]['seconds']:.2f} s\n")
    arguments.page.write_text(_page(arguments, found), encoding="utf-8")


def _page(arguments: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> str:
    def median(kind: str, key: str) -> float:
        return statistics.median(run[key] for run in found[kind])

    lines = [
        f"| {name} | {median(kind, 'seconds'):.2f} | "
        f"{median('museval', 'seconds') / median(kind, 'seconds'):.0f} x | "
        f"{median(kind, 'memory'):.0f} | "
        f"{median(kind, 'memory') / median('museval', 'memory'):.2f} |"
        for kind, name in ROWS.items()
    ]
    differences = [
        f"{name.upper()} {_difference(found['all'][0], found['museval'][0], name):.0e} dB"
        for name in METRICS
    ]
    return f"""# Speed of BSS Eval

<!-- Written by tests/benchmarks/bss_eval_speed.py: change that program, not this page. -->

```sh
python -m tests.benchmarks.bss_eval_speed
```

{arguments.seconds:g} s of four stereo stems at {SAMPLE_RATE} Hz on {platform.machine()}, one thread
each, all in one run; medians of {arguments.repeats}. *Seconds* are of processor time. *Memory* is
the rise of the process's peak above that of its imports, in MiB, the audio included. museval always
computes all four scores.

| | seconds | speed | memory | of museval's |
|---|---|---|---|---|
{chr(10).join(lines)}

Largest differences between the two: {", ".join(differences)}.
"""


def _difference(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> float:
    return float(np.max(np.abs(np.array(ours["scores"][name]) - theirs["scores"][name])))


if __name__ == "__main__":
    main()
