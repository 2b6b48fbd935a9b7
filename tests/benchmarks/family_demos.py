"""Train the demo preset of every family on the demo corpus, and score it on music it never saw.

    python -m tests.benchmarks.family_demos --work demos [--presets unet-demo ...]

writes `docs/reference/family-demos.md`. A run that is there already goes on where it stopped.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.evaluation.plan import SOURCES, plan_systems
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey
from sfisep_core.evaluation.systems import MIXTURE, System
from sfisep_core.pretrained.identity import ModelIdentity, identify_model
from sfisep_core.training.checkpoint import CHECKPOINT_NAME
from sfisep_core.training.config_loading import load_config
from sfisep_core.training.loop import train
from sfisep_core.training.presets import PRESETS
from tests.benchmarks.resampling_page import UNTRAINED
from tests.benchmarks.resampling_study import score, untrained_model
from tests.evaluation.collecting import collect

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/family-demos.md"
SAMPLE_RATES = (8000, 16000, 22050, 44100)
METHODS = ("native", "resample")
# Presets of families that work at the rate of their training alone.
RATE_BOUND = ("conv-tasnet-demo", "sepformer-demo", "sfsrnet-demo")


def make_data(work: Path) -> Path:
    """Make what `sfisep prepare-data --demo` makes."""
    demo = work / "demo"
    generate_demo_corpus(
        demo, num_train=8, num_valid=2, num_test=2, seconds=30, sample_rate=44100, seed=0
    )
    return demo


def train_preset(preset: str, data: Path, out: Path) -> float:
    """Train as `sfisep train --config PRESET --data DATA --out OUT` does; return CPU minutes."""
    begun = time.process_time()
    resume = (out / CHECKPOINT_NAME).exists()
    train(load_config(Path(preset)), data=data, out=out, resume=resume, device="cpu")
    return (time.process_time() - begun) / 60


def methods(preset: str) -> tuple[str, ...]:
    """Give the ways of running a preset's model at any rate, the one of its own first."""
    return METHODS[1:] if preset in RATE_BOUND else METHODS


def score_preset(
    preset: str, trained: ModelIdentity, data: Path, work: Path
) -> Mapping[ScoreKey, float]:
    """Give the mean over test tracks of every score."""
    dataset = StemDataset(data, split="test", excerpt_seconds=None)
    fresh = System(UNTRAINED, methods(preset)[0], UNTRAINED, untrained_model(trained, work))
    found = []
    for systems in (plan_systems(trained, [*methods(preset), MIXTURE]), [fresh]):
        evaluation = score(
            dataset,
            systems,
            sources=SOURCES,
            sample_rates=SAMPLE_RATES,
            out=work / "scores" / trained.sha256[:12],
            jobs=1,
            equivariance=False,
        )
        found += evaluation.scores
    return {key: statistics.mean(values.values()) for key, values in collect(found).items()}


def table_rows(preset: str, minutes: float, scores: Mapping[ScoreKey, float]) -> tuple[str, str]:
    """Give the rows of a preset: by stem at 16 kHz, and by rate."""

    def gain(rate: int, system: str, source: str, than: str = MIXTURE) -> float:
        metric = "si_sdr"
        of_system = scores[ScoreKey(rate, system, source, metric)]
        return of_system - scores[ScoreKey(rate, than, source, metric)]

    steps, own = load_config(Path(preset)).steps, methods(preset)[0]
    gains = [gain(16000, own, source) for source in SOURCES]
    ahead = min(gain(16000, own, source, UNTRAINED) for source in SOURCES)
    stems = [f"| `{preset}` | {steps} | {minutes:.0f}", *(f"{v:+.1f}" for v in gains)]
    rates = [
        " / ".join(
            f"{gain(rate, method, ALL_SOURCES):+.2f}" if method in methods(preset) else "-"
            for method in METHODS
        )
        for rate in SAMPLE_RATES
    ]
    return f"{' | '.join([*stems, f'{ahead:+.1f}'])} |", f"| `{preset}` | {' | '.join(rates)} |"


def main() -> None:
    """Train and score, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data, runs and scores")
    parser.add_argument("--presets", nargs="+", default=demo_presets())
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = make_data(options.work)
    stems, rates = [], []
    for preset in options.presets:
        out = options.work / preset
        minutes_file = out / "minutes"
        if not minutes_file.exists():
            minutes_file.write_text(str(train_preset(preset, data, out)))
        scores = score_preset(
            preset, identify_model(str(out / "best.safetensors")), data, options.work
        )
        of_stems, of_rates = table_rows(preset, float(minutes_file.read_text()), scores)
        stems.append(of_stems)
        rates.append(of_rates)
    options.out.write_text(_page(options.presets, stems, rates), encoding="utf-8")


def demo_presets() -> list[str]:
    """Give the names of the presets that are for trying out."""
    return sorted(path.stem for path in PRESETS.glob("*-demo.toml"))


def _page(presets: Sequence[str], stems: Sequence[str], rates: Sequence[str]) -> str:
    columns = " | ".join(SOURCES)
    heads = " | ".join(f"{rate} Hz" for rate in SAMPLE_RATES)
    return f"""# Families on the demo corpus

<!-- Written by tests/benchmarks/family_demos.py: change that program, not this page. -->

```sh
sfisep prepare-data --demo demo
sfisep train --config unet-demo --data demo --out run
python -m tests.benchmarks.family_demos --work demos --presets {" ".join(presets)}
```

Demo presets of the families, trained on eight tracks of 30 s of the
[demo corpus](../how-to/prepare-data.md) on one CPU core, and scored on the two that are held out
for tests. These models are for trying things out: small, and trained for minutes on music that a
program has made. They say that a family learns, not how good it is.

SI-SDR improvement over the mixture at 16 kHz, in dB, mean over tracks; *ahead* is the smallest lead
of a stem over the same network untrained.

| preset | steps | CPU minutes | {columns} | ahead |
|---|---|---|{"---|" * len(SOURCES)}---|
{chr(10).join(stems)}

The mean over the stems at other sampling frequencies, with windows that keep their seconds (native)
/ resampled to 16 kHz and back. Above 16 kHz, what lies beyond the trained band goes to `other`.
Conv-TasNet, SepFormer and SFSRNet work at 8 kHz alone, and are resampled to that in both tables.

| preset | {heads} |
|---|{"---|" * len(SAMPLE_RATES)}
{chr(10).join(rates)}
"""


if __name__ == "__main__":
    main()
