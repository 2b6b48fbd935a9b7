"""Read damaged model, data-set, settings and score files for some time, and count what goes wrong.

    python -m tests.benchmarks.fuzz_files --minutes 10

An honest file of each kind is damaged at random: as bytes, or in its values, which are removed,
moved, nested or replaced by hostile ones. Public functions read it. Right outcomes are a result and
an `SfisepError`; findings are another exception or a dead process, more than 20 s, a message of
more than 2 kB, and more than 1 GiB of memory beyond the start. Cases follow from their number:
`--first N --cases 1` repeats one.
"""

import argparse
import faulthandler
import json
import logging
import os
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch

from sfisep_core.audio.files import write_audio
from sfisep_core.data.manifest import MANIFEST_NAME, journal_path
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.data.remembered import find_dataset, remember_dataset
from sfisep_core.data.sources import SOURCES_NAME
from sfisep_core.errors import SfisepError
from sfisep_core.evaluation.evaluate import EvaluationRequest, evaluate
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.cache import CachedModel, keep
from sfisep_core.pretrained.checkpoint_files import read_checkpoint
from sfisep_core.pretrained.details import show_model
from sfisep_core.pretrained.fetch import check_model, local_models
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.training.config_loading import load_config
from sfisep_core.training.requests import TrainingRequest, run_training
from tests.benchmarks.fuzz_headers import damage
from tests.benchmarks.fuzz_values import (
    change_checkpoint,
    change_header,
    change_json,
    change_lines,
    change_toml,
)
from tests.benchmarks.fuzzing import run_processes
from tests.pretrained.checkpoint_writer import DATA, INDEX, write_checkpoint, zip_of
from tests.pretrained.test_official import make_checkpoint
from tests.pretrained.test_scnet import published_file

PER_PROCESS = 300
MOST_SECONDS = 20
MOST_CHARACTERS = 2048
MOST_BYTES = 2**30
RATE = 8000
ADDRESS = "https://example.org/model.safetensors"

TRAINING = """
family = "sfi-conv-tasnet"
steps = 2
batch_size = 1
precision = "fp32"
seed = 3
learning_rate = 1e-3

[model]
num_filters = 16
gain_rule = "mixture-consistent"

[model.tcn]
bottleneck_channels = 8
hidden_channels = 8
num_layers = 1
num_stacks = 1
norm = "window"

[mixing]
sample_rates = [8000]
excerpt_seconds = 0.5
"""


@dataclass(frozen=True)
class Target:
    """A kind of file, and what reads it.

    Attributes:
        file: Of the honest one, relative to the folder of the case.
        change: Damages its values; None where only bytes are damaged.
        read: Calls public functions in the folder of the case.
    """

    file: str
    change: Callable[[bytes, np.random.Generator], bytes] | None
    read: Callable[[Path], object]


def read_model(file: str) -> Callable[[Path], object]:
    """Read a model file, of ours or published."""
    return lambda folder: resolve_model(folder / file)


def resume(folder: Path) -> None:
    """Go on with a run."""
    run_training(TrainingRequest(out=folder / "run", resume=True, overrides=("steps=3",)))


def score(folder: Path) -> None:
    """Score a data set, of which all is scored already."""
    request = EvaluationRequest(
        data=folder / "data",
        baselines=("mixture",),
        native=False,
        metrics="sdr",
        model=str(folder / "model.safetensors"),
        out=folder / "evaluation",
    )
    evaluate(request).to_json()


def prepare(folder: Path) -> None:
    """Prepare a data set that is prepared already."""
    prepare_dataset(PreparationRequest(source=folder / "source", out=folder / "data"))


def read_cache(_: Path) -> None:
    """Look at all models in the cache."""
    for name in local_models():
        show_model(name)
    check_model(ADDRESS)


SCORES = f"evaluation/{RATE}/mixture/test/song.json"
RECORD = "cache/models/kept.json"
TARGETS = (
    Target("model.safetensors", change_header, read_model("model.safetensors")),
    Target("released.pt", change_checkpoint, read_model("released.pt")),
    Target("scnet.ckpt", change_checkpoint, read_model("scnet.ckpt")),
    Target("spleeter.whl", None, lambda folder: read_checkpoint(folder / "spleeter.whl")),
    Target(f"spleeter/{INDEX}", None, lambda folder: read_checkpoint(folder / "spleeter" / INDEX)),
    Target("run/checkpoint.pt", change_checkpoint, resume),
    Target("settings.toml", change_toml, lambda folder: load_config(folder / "settings.toml")),
    Target(f"data/{MANIFEST_NAME}", change_json, score),
    Target(f"data/{journal_path(Path(MANIFEST_NAME)).name}", change_lines, score),
    Target(f"data/{MANIFEST_NAME}", change_json, prepare),
    Target(f"data/{SOURCES_NAME}", change_json, prepare),
    Target(SCORES, change_json, score),
    Target(RECORD, change_json, read_cache),
    Target("user/dataset.json", change_json, lambda _: find_dataset(None)),
)


def make_seeds(folder: Path) -> None:
    """Make an honest file of each kind."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for name in ("train/first", "train/second", "valid/third", "test/song"):
        (folder / "source" / name).mkdir(parents=True)
        for stem in ("vocals", "drums", "bass", "other"):
            music = rng.uniform(-0.2, 0.2, (1, 2 * RATE)).astype(np.float32)
            write_audio(folder / "source" / name / f"{stem}.wav", music, sample_rate=RATE)
    prepare(folder)
    remember_dataset(folder / "data")
    manifest = folder / "data" / MANIFEST_NAME
    track = json.loads(manifest.read_bytes())["tracks"][0]
    line = json.dumps([[track["split"], track["name"]], track]) + "\n"
    journal_path(manifest).write_text(line, encoding="utf-8")
    (folder / "settings.toml").write_text(TRAINING, encoding="utf-8")
    config = load_config(folder / "settings.toml")
    save_model(build_model(config.family, config.model), folder / "model.safetensors")
    make_published(folder)
    weights = folder / "kept.part"
    shutil.copy(folder / "model.safetensors", weights)
    (folder / RECORD).parent.mkdir(parents=True)
    kept = CachedModel(ADDRESS, (folder / RECORD).with_suffix(".safetensors"))
    keep(kept, weights, source=ADDRESS, revision=None, source_sha256="0" * 64)
    run_training(
        TrainingRequest(
            data=folder / "data", out=folder / "run", config_file=folder / "settings.toml"
        )
    )
    score(folder)


def make_published(folder: Path) -> None:
    """Make model files as other programs publish them: SFI Conv-TasNet, SCNet, TensorFlow."""
    make_checkpoint(folder / "released.pt")
    published_file(folder / "scnet.ckpt", "best")
    rng = np.random.default_rng(1)
    tensors = {
        f"conv2d_{number}/kernel": rng.normal(size=(5, 2, 3)).astype("f4") for number in range(8)
    }
    files = dict(zip((INDEX, DATA), write_checkpoint(tensors), strict=True))
    zip_of(folder / "spleeter.whl", files)
    (folder / "spleeter").mkdir()
    for name, content in files.items():
        (folder / "spleeter" / name).write_bytes(content)


def run_cases(first: int, cases: int, seeds: Path, folder: Path) -> None:
    """Run cases in this process, and print the outcome of each as a line of JSON."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    os.environ["SFISEP_CACHE"] = str(folder / "cache")
    user_data = str(folder / "user")
    platformdirs.user_data_dir = lambda *_: user_data  # type: ignore[assignment]
    shutil.copytree(seeds, folder, dirs_exist_ok=True)
    for target in TARGETS:  # what is loaded once is no finding
        target.read(folder)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + cases):
        rng = np.random.default_rng(number)
        target = TARGETS[int(rng.integers(len(TARGETS)))]
        data = (seeds / target.file).read_bytes()
        by_value = target.change is not None and rng.integers(3) > 0
        changed = target.change(data, rng) if by_value and target.change else damage(data, rng)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(seeds, folder)
        (folder / target.file).write_bytes(changed)
        begun = time.monotonic()
        faulthandler.dump_traceback_later(3 * MOST_SECONDS, exit=True)
        try:
            target.read(folder)
            outcome = "result"
        except SfisepError as error:
            size = len(str(error).encode())
            outcome = "error" if size <= MOST_CHARACTERS else f"message of {size} bytes"
        except BaseException:
            outcome = traceback.format_exc()[-3000:]
        faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - begun > MOST_SECONDS:
            outcome += f"; {time.monotonic() - begun:.0f} s"
        more = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
        if more > MOST_BYTES:
            outcome += f"; {more / 2**30:.1f} GiB"
        print(json.dumps([number, target.file, outcome]), flush=True)  # noqa: T201
        if more > MOST_BYTES:  # the peak hides what comes after it
            return


def main() -> None:
    """Run cases in processes of their own until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fuzz_files")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="run these in one process")
    parser.add_argument("--seeds", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.seeds is not None:
            run_cases(options.first, options.cases, options.seeds, Path(scratch, "case"))
            return
        seeds = Path(scratch, "seeds")
        seeds.mkdir()
        os.environ["SFISEP_CACHE"] = str(seeds / "cache")
        user_data = str(seeds / "user")
        platformdirs.user_data_dir = lambda *_: user_data  # type: ignore[assignment]
        make_seeds(seeds)
        run_processes(
            ["tests.benchmarks.fuzz_files", "--seeds", str(seeds)],
            first=options.first,
            cases=options.cases or PER_PROCESS,
            minutes=0 if options.cases else options.minutes,
            expected=("result", "error"),
        )


if __name__ == "__main__":
    main()
