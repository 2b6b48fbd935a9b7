"""Score separation at several sampling frequencies on the validation music, and write the page.

    python -m tests.benchmarks.separation_scores --music ../shared/music

Every number is kept in a JSON file beside the page; a repeated call computes only what is missing
there. Scores are filed under the hash of the model file, not of the program: after a change to how
separation works, delete the JSON file.
"""

import argparse
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.audio.files import read_audio
from sfisep_core.audio.resample import resample
from sfisep_core.evaluation.metrics import level_db, si_sdr
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.registry import BUNDLED
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.separation.separator import Separator
from tests.benchmarks.separation_page import METHODS, ItemKey, Scores, StemScores, make_page

Audio: TypeAlias = npt.NDArray[np.float32]
Stems: TypeAlias = dict[str, Audio]

REPOSITORY = Path(__file__).resolve().parents[2]
MANIFEST = Path(__file__).with_name("separation_manifest.json")
RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000)
UNTRAINED_SEED = 0
# What JSON has no number for, a silent estimate's -inf, is kept as this many dB.
_LIMIT_DB = 200.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One range of one song; see the manifest."""

    group: str
    path: str
    start: float
    seconds: float

    @property
    def key(self) -> str:
        return f"{self.path}@{self.start:g}+{self.seconds:g}"


@dataclass(frozen=True)
class Manifest:
    """What is scored; see the file."""

    sample_rate: int
    stems: tuple[str, ...]
    silent_below_db: float
    groups: Mapping[str, str]
    items: tuple[Item, ...]


def read_manifest(path: Path = MANIFEST) -> Manifest:
    content = json.loads(path.read_text(encoding="utf-8"))
    return Manifest(
        sample_rate=content["sample_rate"],
        stems=tuple(content["stems"]),
        silent_below_db=content["silence"]["below_db"],
        groups=content["groups"],
        items=tuple(Item(**item) for item in content["items"]),
    )


def read_item(
    music: Path, item: Item, manifest: Manifest, *, sample_rate: int
) -> tuple[Audio, Stems]:
    """Give the mixture and the stems at a rate, each resampled once."""
    start = round(item.start * manifest.sample_rate)
    frames = round(item.seconds * manifest.sample_rate)
    stems = {}
    for stem in manifest.stems:
        path = music / item.path / f"{stem}.opus"
        audio, found_rate = read_audio(path, start=start, frames=frames)
        if (audio.shape[1], found_rate) != (frames, manifest.sample_rate):
            msg = (
                f"{path}: expected {frames} frames from frame {start} at {manifest.sample_rate} "
                f"Hz, found {audio.shape[1]} at {found_rate} Hz: not the music of the manifest"
            )
            raise SystemExit(msg)
        stems[stem] = audio
    mixture = np.stack(list(stems.values())).sum(axis=0)

    def at_rate(audio: Audio) -> Audio:
        return resample(audio, orig_rate=manifest.sample_rate, target_rate=sample_rate)

    return at_rate(mixture), {stem: at_rate(audio) for stem, audio in stems.items()}


def score_stems(
    *, mixture: Audio, references: Stems, estimates: Stems, silent_below_db: float
) -> StemScores:
    """Score each stem: by SI-SDR, or by leakage where the reference is silent."""
    scores = {}
    for stem, reference in references.items():
        if level_db(signal=reference, relative_to=mixture) < silent_below_db:
            leakage = level_db(signal=estimates[stem], relative_to=mixture)
            scores[stem] = {"leakage_db": _storable(leakage)}
        else:
            score = si_sdr(estimate=estimates[stem], reference=reference)
            improvement = score - si_sdr(estimate=mixture, reference=reference)
            scores[stem] = {"si_sdr": _storable(score), "improvement": _storable(improvement)}
    return scores


def make_methods(
    model: SeparationModel, *, device: str
) -> dict[str, Callable[[Audio, int], Stems]]:
    """Give, by name in METHODS, how each row of the table makes stems of a mixture and its rate."""
    native = Separator(model, device=device)
    resampled = Separator(model, device=device, method="resample")
    untrained = Separator(untrained_model(model), device=device)
    return {
        "SFI": lambda mixture, rate: native.separate((mixture, rate)).stems,
        "resample": lambda mixture, rate: resampled.separate((mixture, rate)).stems,
        "untrained": lambda mixture, rate: untrained.separate((mixture, rate)).stems,
        "mixture/4": lambda mixture, _: dict.fromkeys(model.sources, mixture / np.float32(4)),
    }


def untrained_model(model: SeparationModel) -> SeparationModel:
    """Build the same network with fresh weights, mixture-consistent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        config = model.config_dict() | {"gain_rule": "mixture-consistent"}
        return build_model(model.family, config)


def load_scores(path: Path) -> dict[str, Scores]:
    """Read the stored numbers, by hash of the model file."""
    scores: dict[str, Scores] = {}
    if path.exists():
        for record in json.loads(path.read_text(encoding="utf-8")):
            key = ItemKey(record["method"], record["sample_rate"], record["item"])
            scores.setdefault(record["model"], {})[key] = record["stems"]
    return scores


def save_scores(scores: Mapping[str, Scores], path: Path) -> None:
    """Write the stored numbers, a line for each item; an interruption leaves the old file."""
    lines = [
        json.dumps({"model": model, **key._asdict(), "stems": stems})
        for model, of_model in scores.items()
        for key, stems in sorted(of_model.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    temporary.replace(path)


def run(
    *,
    music: Path,
    model: str,
    sample_rates: Sequence[int],
    out: Path,
    device: str = "auto",
    manifest: Manifest,
) -> None:
    """Compute what is missing, store it after every item, and write the page."""
    file = BUNDLED.get(model, Path(model))
    loaded = resolve_model(model)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    stored = load_scores(out.with_suffix(".json"))
    scores = stored.setdefault(digest, {})
    work = [
        (rate, item, methods)
        for rate in sample_rates
        for item in manifest.items
        if (methods := [m for m in METHODS if ItemKey(m, rate, item.key) not in scores])
    ]
    separate = make_methods(loaded, device=device) if work else {}
    started = time.monotonic()
    for done, (rate, item, methods) in enumerate(work, start=1):
        mixture, references = read_item(music, item, manifest, sample_rate=rate)
        for method in methods:
            scores[ItemKey(method, rate, item.key)] = score_stems(
                mixture=mixture,
                references=references,
                estimates=separate[method](mixture, rate),
                silent_below_db=manifest.silent_below_db,
            )
        save_scores(stored, out.with_suffix(".json"))
        elapsed = time.monotonic() - started
        _log.info("%d/%d %d Hz %s, %.0f s so far", done, len(work), rate, item.key, elapsed)
    page = make_page(
        scores,
        groups={
            group: (description, [item.key for item in manifest.items if item.group == group])
            for group, description in manifest.groups.items()
        },
        stems=manifest.stems,
        model=model if model in BUNDLED else file.name,
        digest=digest,
        silent_below_db=manifest.silent_below_db,
    )
    out.write_text(page, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.separation_scores",
        description="Score separation at several sampling frequencies and write the results page.",
    )
    parser.add_argument("--music", type=Path, required=True, help="folder of the manifest's paths")
    parser.add_argument("--model", default="default", help="name or file (default: %(default)s)")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="Hz (default: all)")
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "docs/reference/results.md",
        help="page to write, the numbers beside it as .json (default: docs/reference/results.md)",
    )
    parser.add_argument("--threads", type=int, help="of torch (default: all cores)")
    parser.add_argument("--device", default="auto", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    _log.setLevel(logging.INFO)
    if options.threads:
        torch.set_num_threads(options.threads)
    run(
        music=options.music,
        model=options.model,
        sample_rates=options.rates,
        out=options.out,
        device=options.device,
        manifest=read_manifest(),
    )


def _storable(value: float) -> float:
    assert not math.isnan(value), "only a silent mixture, which the manifest does not hold"
    return round(min(max(value, -_LIMIT_DB), _LIMIT_DB), 4)


if __name__ == "__main__":
    main()
