"""Separate files with damaged headers for some time, and tell what ended in anything but an error.

    python -m tests.benchmarks.fuzz_headers --minutes 30

A small file in each format is damaged at random: bytes changed, cut out, doubled, or the end cut
off, mostly near the beginning. A model that divides the mixture separates it. Right outcomes are
stems of finite samples and an `SfisepError`; a traceback, a dead process, more than 20 s or more
than 4 GiB are findings. Cases follow from their number: `--first N --cases 1` repeats one.
"""

import argparse
import json
import logging
import resource
import shutil
import signal
import subprocess
import tempfile
import traceback
from pathlib import Path

import numpy as np
import soundfile

from sfisep_core.errors import SfisepError
from sfisep_core.separation.separator import Separator
from tests.benchmarks.fuzzing import run_processes
from tests.separation.divider import Divider

SOUNDFILE = {
    "wav": [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")],
    "flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    "ogg": [("OGG", "VORBIS")],
    "opus": [("OGG", "OPUS")],
    "mp3": [("MP3", "MPEG_LAYER_III")],
    "aiff": [("AIFF", "PCM_16")],
    "au": [("AU", "PCM_16")],
    "w64": [("W64", "PCM_16")],
    "caf": [("CAF", "PCM_16")],
}
FFMPEG = ("m4a", "mkv", "webm", "mp4", "wma")
PER_PROCESS = 200
SECONDS_A_CASE = 20


def make_seeds(folder: Path) -> list[Path]:
    """Write a short file in every format."""
    music = 0.1 * np.random.default_rng(0).standard_normal((9000, 2))
    seeds = []
    for suffix, kinds in SOUNDFILE.items():
        for container, subtype in kinds:
            seeds.append(folder / f"{container}-{subtype}.{suffix}")
            soundfile.write(seeds[-1], music, 48000, subtype=subtype, format=container)
    ffmpeg = shutil.which("ffmpeg")
    for suffix in FFMPEG if ffmpeg else ():
        seeds.append(folder / f"ffmpeg.{suffix}")
        command = [ffmpeg, "-v", "error", "-y", "-i", folder / "WAV-PCM_16.wav", seeds[-1]]
        subprocess.run(command, check=True)
    return seeds


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a file at one to eight places."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        if not changed:
            break
        near = min(len(changed), int(rng.choice([64, 512, len(changed)])))
        place, kind = int(rng.integers(near)), rng.integers(6)
        length = int(rng.integers(1, 9))
        if kind <= 1:
            changed[place] = rng.integers(256)
        elif kind == 2:
            value = int(rng.choice([0, 0x7F, 0x80, 0xFF]))
            changed[place : place + length] = bytes([value]) * length
        elif kind == 3:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[place : place + length]
        else:
            del changed[int(rng.integers(len(changed))) :]
    return bytes(changed)


def run_cases(first: int, cases: int, folder: Path) -> None:
    """Run cases in this process, and print the outcome of each as a line of JSON."""
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    signal.signal(signal.SIGALRM, _too_long)
    seeds = make_seeds(folder)
    separator = Separator(Divider(), device="cpu")
    for number in range(first, first + cases):
        rng = np.random.default_rng(number)
        seed = seeds[int(rng.integers(len(seeds)))]
        path = folder / f"case{seed.suffix}"
        path.write_bytes(damage(seed.read_bytes(), rng))
        signal.alarm(SECONDS_A_CASE)
        try:
            result = separator.separate_file(path, out_dir=folder / "out")
            outcome = "stems" if result.frames else "no samples"
        except SfisepError:
            outcome = "error"
        except BaseException:
            outcome = traceback.format_exc()
        signal.alarm(0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if peak > 4:
            outcome = f"{outcome}; {peak:.1f} GiB"
        print(json.dumps([number, seed.name, outcome]), flush=True)  # noqa: T201


def _too_long(*_: object) -> None:
    msg = f"more than {SECONDS_A_CASE} s"
    raise TimeoutError(msg)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fuzz_headers")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="run these in this process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.cases:
            run_cases(options.first, options.cases, Path(folder))
            return
        run_processes(
            ["tests.benchmarks.fuzz_headers"],
            first=options.first,
            cases=PER_PROCESS,
            minutes=options.minutes,
            expected=("stems", "no samples", "error"),
        )


if __name__ == "__main__":
    main()
