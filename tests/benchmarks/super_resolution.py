"""Compare ways of restoring the full band of stems that were separated at a low rate.

    python -m tests.benchmarks.super_resolution --data PREPARED --network MODEL [--split valid]

writes `docs/reference/super-resolution.md`: first with an oracle that gives the true stems at the
low rate, so that nothing but the high band can be wrong, then with the model that the network was
trained on. Upsampling leaves the high band empty; shares need no network.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from sfisep_core.audio.resample import resample
from sfisep_core.data.datasets import StemDataset
from sfisep_core.evaluation.signals import TrackSignals, read_signals
from sfisep_core.evaluation.study import Samples
from sfisep_core.models.blocks.restorer import Restorer, RestorerConfig
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.super_resolved import SuperResolvedSeparator
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.separation.settings import MethodOptions
from tests.separation.divider import separated

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/super-resolution.md"
SAMPLE_RATE = 32000
SOURCES = ("vocals", "drums", "bass", "other")
# Stems below this level (dB full scale) have no score.
_SILENT_DB = -60

Way = Callable[[TrackSignals], Samples]


def sdr(estimate: Samples, reference: Samples) -> float:
    """Give the energy of a reference over that of an error in dB, bounded to 100 dB."""
    error = np.square(estimate.astype(np.float64) - reference).sum()
    return 10 * math.log10(np.square(reference.astype(np.float64)).sum() / max(error, 1e-10))


def low_stems(track: TrackSignals, low_rate: int) -> Samples:
    """Give the true stems, up-sampled from the low rate: what an oracle makes of upsampling."""
    length = track.references.shape[-1]
    flat = track.references.reshape(-1, length)
    low = resample(flat, orig_rate=track.sample_rate, target_rate=low_rate)
    high = resample(low, orig_rate=low_rate, target_rate=track.sample_rate, length=length)
    return high.reshape(track.references.shape)


@torch.no_grad()
def restore(track: TrackSignals, low_rate: int, restorer: Restorer) -> Samples:
    """Restore the true stems of the low rate."""
    stems = torch.from_numpy(low_stems(track, low_rate)).transpose(0, 1)  # (C, S, T)
    mixture = torch.from_numpy(track.references.sum(axis=0))
    parts = [
        stem + restorer(stem, signal, sample_rate=track.sample_rate, low_rate=low_rate)
        for stem, signal in zip(stems.split(1), mixture.split(1), strict=True)
    ]
    return torch.cat(parts).transpose(0, 1).numpy()


def oracle_ways(model: SuperResolvedSeparator) -> dict[str, Way]:
    """Give the ways of restoring what an oracle separated."""
    low_rate = model.config.low_rate
    shares = Restorer(RestorerConfig(network=False), num_sources=len(model.sources))
    return {
        "upsampling": lambda track: low_stems(track, low_rate),
        "shares": lambda track: restore(track, low_rate, shares),
        "network": lambda track: restore(track, low_rate, model.restorer),
    }


def model_ways(model: SuperResolvedSeparator, network: str) -> dict[str, Way]:
    """Give the ways of separating with the model below the network."""
    low_rate, inner = model.config.low_rate, model.separator.for_inference()

    def upsampling(track: TrackSignals) -> Samples:
        length = track.mixture.shape[-1]
        low = resample(track.mixture, orig_rate=track.sample_rate, target_rate=low_rate)
        stems = separated(inner, low, sample_rate=low_rate)
        flat = stems.reshape(-1, stems.shape[-1])
        high = resample(flat, orig_rate=low_rate, target_rate=track.sample_rate, length=length)
        return high.reshape(*stems.shape[:2], -1)

    def method(name: str, network: str = "") -> Way:
        options = MethodOptions(low_rate=low_rate, network=network)
        return lambda track: separated(
            inner,
            track.mixture,
            sample_rate=track.sample_rate,
            method=name,
            options=options,
        )

    return {
        "upsampling": upsampling,
        "shares": method("super-resolve"),
        "super-resolve": method("super-resolve", network),
        "native": method("native"),
    }


def score(
    ways: Mapping[str, Way], tracks: Sequence[TrackSignals], model: SeparationModel
) -> dict[str, list[float]]:
    """Give for each way the mean SDR of every source over tracks, and seconds per second."""
    found = {}
    for name, way in ways.items():
        scores: dict[str, list[float]] = {source: [] for source in SOURCES}
        spent = heard = 0.0
        for track in tracks:
            begun = time.process_time()
            stems = dict(zip(model.sources, way(track), strict=True))
            spent += time.process_time() - begun
            heard += track.mixture.shape[-1] / track.sample_rate
            for source, reference in zip(track.sources, track.references, strict=True):
                if 20 * math.log10(max(1e-9, float(np.sqrt(np.mean(reference**2))))) > _SILENT_DB:
                    scores[source].append(sdr(stems[source], reference))
        found[name] = [*(statistics.mean(scores[source]) for source in SOURCES), spent / heard]
    return found


def table(scores: Mapping[str, Sequence[float]], *, cost: bool) -> str:
    """Give rows of scores."""
    head = [*SOURCES, "mean", *(["CPU s per s"] if cost else [])]
    rows = [f"| way | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
    for name, (*values, seconds) in scores.items():
        cells = [f"{value:.2f}" for value in (*values, statistics.mean(values))]
        rows.append(f"| {name} | {' | '.join([*cells, *([f'{seconds:.2f}'] if cost else [])])} |")
    return "\n".join(rows)


def main() -> None:
    """Score and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    model = resolve_model(options.network)
    assert isinstance(model, SuperResolvedSeparator)
    dataset = StemDataset(options.data, split=options.split, excerpt_seconds=None)
    tracks = [
        read_signals(dataset, track, sources=SOURCES, sample_rate=SAMPLE_RATE)
        for track in dataset.tracks
    ]
    oracle = table(score(oracle_ways(model), tracks, model), cost=False)
    with_model = table(score(model_ways(model, options.network), tracks, model), cost=True)
    seconds = sum(track.mixture.shape[-1] for track in tracks) / SAMPLE_RATE
    options.out.write_text(
        _page(oracle, with_model, model.config.low_rate, len(tracks), seconds), encoding="utf-8"
    )


def _page(oracle: str, with_model: str, low_rate: int, tracks: int, seconds: float) -> str:
    return f"""# Super-resolution measured

<!-- Written by tests/benchmarks/super_resolution.py: change that program, not this page. -->

```sh
python -m tests.benchmarks.super_resolution --data PREPARED --network MODEL
```

Stems are separated at {low_rate} Hz and restored to {SAMPLE_RATE} Hz: the full-band SDR in dB
(energy of the reference over that of the error), mean over {tracks} tracks
of validation ({seconds:.0f} s); silent stems are left out.

An oracle separates: it gives the true stems at {low_rate} Hz, and only the band above
{low_rate // 2} Hz can be wrong.

{oracle}

A separator does: the model that the network was trained on. `native` runs it at {SAMPLE_RATE} Hz,
where it needs no super-resolution. CPU seconds are per second of audio.

{with_model}
"""


if __name__ == "__main__":
    main()
