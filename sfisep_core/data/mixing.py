"""Draw training examples: excerpts, remixed across tracks and augmented.

Every draw is a pure function of (seed, step, example), so neither restarts nor the number of
workers change what a model sees.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfisep_core.audio.resample import sinc_resample
from sfisep_core.data.datasets import StemDataset
from sfisep_core.errors import ConfigError


@dataclass(frozen=True)
class MixingConfig:
    """How training examples are drawn."""

    excerpt_seconds: float = 3.0
    remix_probability: float = 0.6  # stems of an example come from different places
    active_probability: float = 0.8  # the excerpt of a stem is drawn where the stem plays
    gain_db: float = 4.0  # each stem's gain, uniform in +- this
    flip_probability: float = 0.5  # polarity of each stem
    sample_rates: tuple[int, ...] = (8000, 11025, 16000, 22050, 24000, 32000)  # one drawn a step
    speeds: tuple[float, ...] = (0.8, 0.9, 1.0, 1.0, 1.1, 1.25)  # tempo and pitch, one drawn a step
    lowpass_probability: float = 0.1  # band-limit a step's signals to a lower drawn rate

    def __post_init__(self) -> None:
        """Refuse a range of gains that is none."""
        if not 0 <= self.gain_db < math.inf:  # NaN neither
            msg = f"training setting mixing.gain_db: expected 0 dB or more, got {self.gain_db}"
            raise ConfigError(msg)

    @property
    def stored_seconds(self) -> float:
        """Seconds to read of a recording: an excerpt played fast needs more of it."""
        return self.excerpt_seconds * max(self.speeds)


def draw_batch(
    dataset: StemDataset,
    sources: tuple[str, ...],
    config: MixingConfig,
    *,
    seed: int,
    step: int,
    batch_size: int,
    first_example: int = 0,
) -> tuple[Tensor, int]:
    """Draw the stems of one training step.

    Args:
        dataset: Where excerpts come from.
        sources: Order of the source axis.
        config: How to draw.
        seed: Of the run.
        step: Number of the step.
        batch_size: Examples.
        first_example: Global number of the first example (for several processes).

    Returns:
        Stems, shape (batch, source, 1, time), whose sum is the mixture, and their rate in Hz,
        which is drawn a step.
    """
    rng = np.random.default_rng([seed, step])
    sample_rate = int(rng.choice(config.sample_rates))
    speed = float(rng.choice(config.speeds))
    lower = [rate for rate in config.sample_rates if rate < sample_rate]
    band_limit = 0
    if lower and rng.random() < config.lowpass_probability:
        band_limit = int(rng.choice(lower))
    stems = torch.stack(
        [
            _draw_example(
                dataset, sources, config, np.random.default_rng([seed, step, 1, first_example + i])
            )
            for i in range(batch_size)
        ]
    )
    # Played `speed` times as fast, what was stored at F sounds as if stored at speed * F. Rounded
    # to 100 Hz, which keeps the resampler's filters small; what is not changed keeps its rate.
    stored_rate = round(dataset.sample_rate * speed / 100) * 100
    if speed == 1.0:
        stored_rate = dataset.sample_rate
    length = round(config.excerpt_seconds * sample_rate)
    stems = sinc_resample(stems, orig_rate=stored_rate, target_rate=sample_rate, length=length)
    if band_limit:
        stems = sinc_resample(stems, orig_rate=sample_rate, target_rate=band_limit)
        stems = sinc_resample(stems, orig_rate=band_limit, target_rate=sample_rate, length=length)
    return stems.unsqueeze(2), sample_rate


def _draw_example(
    dataset: StemDataset, sources: tuple[str, ...], config: MixingConfig, rng: np.random.Generator
) -> Tensor:
    remix = rng.random() < config.remix_probability
    # Without remixing all stems come from one place, drawn where one of them plays.
    common = dataset.draw_place(rng, str(rng.choice(sources)))
    stems = []
    for source in sources:
        active = rng.random() < config.active_probability
        place = dataset.draw_place(rng, source if active else None) if remix else common
        audio = dataset.read(place, source)
        channel = audio[rng.integers(audio.shape[0])]
        gain = 10 ** (rng.uniform(-config.gain_db, config.gain_db) / 20)
        sign = -1.0 if rng.random() < config.flip_probability else 1.0
        stems.append(torch.from_numpy(channel * np.float32(sign * gain)))
    return torch.stack(stems)
