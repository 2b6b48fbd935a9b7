"""Draw training examples: excerpts, remixed across tracks and augmented.

Every draw is a pure function of the seed, the step and the example's index within the step, so
restarts and the number of processes and workers do not change the training data. This includes
examples that exchange stems: each reads at the place that is drawn for the other one, in any
process. `draw_example` reads files, in a worker; `mix_batch` does the rest on the training device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfisep_core.audio.resample import limit_band, sinc_resample
from sfisep_core.data.augmentation import (
    StepDraw,
    choose_channels,
    draw_changes,
    draw_givers,
    draw_step,
)
from sfisep_core.data.datasets import Place, StemDataset
from sfisep_core.data.equalizer import equalize
from sfisep_core.data.mixing_config import MixingConfig, play_rate

__all__ = [
    "Example",
    "MixingConfig",
    "RawBatch",
    "StepDraw",
    "draw_example",
    "draw_step",
    "mix_batch",
]

# Makes the random numbers of places differ from those in `augmentation`.
_PURPOSE = 1
_REPLACE = 4

# With `dynamic_levels`: the peak of an example, and the level that counts as silence.
_PEAK = 0.9
_SILENT_LEVEL = 1e-8


@dataclass(frozen=True)
class Example:
    """One example as it is read, with the draws for `mix_batch`.

    Attributes:
        stems: At the data set's rate, shape (source, channel, time).
        gains: Factors, negative for a flipped polarity, 0 for a muted stem, shape (source,). With
            `dynamic_levels` their sizes are levels, as mean absolute values.
        curves: Gains of the equaliser in dB, zero if it is off, shape (source, point).
    """

    stems: npt.NDArray[np.float32]
    gains: npt.NDArray[np.float32]
    curves: npt.NDArray[np.float32]


@dataclass(frozen=True)
class RawBatch:
    """A batch of examples as they are read, see `Example` and `mix_batch`.

    Attributes:
        stems: Shape (batch, source, channel, time).
        gains: Shape (batch, source).
        curves: Shape (batch, source, point).
    """

    stems: Tensor
    gains: Tensor
    curves: Tensor

    @classmethod
    def stack(cls, examples: Sequence[Example]) -> "RawBatch":
        """Build a batch of examples of the same step."""
        return cls(
            torch.from_numpy(np.stack([example.stems for example in examples])),
            torch.from_numpy(np.stack([example.gains for example in examples])),
            torch.from_numpy(np.stack([example.curves for example in examples])),
        )

    def to(
        self,
        device: torch.device | str,
        *,
        dtype: torch.dtype | None = None,
        non_blocking: bool = True,
    ) -> "RawBatch":
        """Copy to a device; from pinned memory the copy is asynchronous."""
        # Converted on the device: half of the bytes to copy for float64.
        return RawBatch(
            *(
                tensor.to(device, non_blocking=non_blocking).to(dtype or tensor.dtype)
                for tensor in (self.stems, self.gains, self.curves)
            )
        )

    def pin_memory(self) -> "RawBatch":
        """Copy to page-locked memory, for asynchronous copies to a GPU."""
        return RawBatch(*(t.pin_memory() for t in (self.stems, self.gains, self.curves)))


def draw_example(
    dataset: StemDataset,
    sources: Sequence[str],
    config: MixingConfig,
    *,
    seed: int,
    step: int,
    example: int,
    batch_size: int,
) -> Example:
    """Draw one example and read it.

    Args:
        dataset: Where excerpts come from.
        sources: Order of the source axis.
        config: How to draw.
        seed: Seed of the run, 0 or more.
        step: Index of the step, 0 or more.
        example: Index within the step, over all processes and micro-batches.
        batch_size: Number of examples of the step, over all of these.

    Returns:
        The example, with the length that the step's speed requires. A muted stem is not read, but
        zero.

    Raises:
        AudioFileError: A file cannot be read.
        DatasetError: A file is shorter than stated in the manifest.
    """
    speed = draw_step(config, seed=seed, step=step).speed
    seconds = config.excerpt_seconds * play_rate(dataset.sample_rate, speed)
    frames = math.ceil(seconds - 1e-6)  # tolerates rounding errors above a whole number
    givers = draw_givers(
        config,
        num_sources=len(sources),
        seed=seed,
        step=step,
        example=example,
        batch_size=batch_size,
    )
    places = {
        giver: _draw_places(dataset, sources, config, (seed, step, giver), frames)
        for giver in set(givers)
    }
    changes = draw_changes(sources, config, seed=seed, step=step, example=example)
    stems = np.zeros((len(sources), config.channels, frames), dtype=np.float32)
    for number, (source, giver) in enumerate(zip(sources, givers, strict=True)):
        if changes.gains[number] != 0:
            audio = dataset.read(places[giver][number], source, frames=frames)
            stems[number] = choose_channels(
                audio, changes.channels[number], channels=config.channels
            )
    return Example(stems, changes.gains, changes.curves)


@torch.no_grad()
def mix_batch(raw: RawBatch, draw: StepDraw, config: MixingConfig, *, stored_rate: int) -> Tensor:
    """Compute the stems of a step from the raw examples, on their device.

    It does not synchronise with the device, except when a pair of rates is drawn for the first
    time. Call it without autocast, which would resample in 16 bits.

    Args:
        raw: Examples of one step.
        draw: The draw of that step.
        config: The settings with which they were drawn.
        stored_rate: The data set's rate in Hz.

    Returns:
        Stems, shape (batch, source, channel, time), whose sum is the mixture, at the rate of the
        step: round(excerpt_seconds * sample_rate) samples. The dtype is that of `raw`. With
        `dynamic_levels` the highest peak of an example's stems and mixture is 0.9.
    """
    sample_rate = draw.sample_rate
    stems = sinc_resample(
        raw.stems,
        orig_rate=play_rate(stored_rate, draw.speed),
        target_rate=sample_rate,
        length=round(config.excerpt_seconds * sample_rate),
    )
    if draw.band_limit:
        stems = limit_band(stems, sample_rate=sample_rate, limit=draw.band_limit)
    if config.equalizer_probability > 0:
        stems = equalize(stems, raw.curves, sample_rate=sample_rate)
    gains = raw.gains[..., None, None]
    if not config.dynamic_levels:
        return stems * gains
    stems = _divided(stems, stems.abs().mean(dim=(-2, -1), keepdim=True)) * gains
    signals = torch.cat([stems, stems.sum(dim=1, keepdim=True)], dim=1)
    return _PEAK * _divided(stems, signals.abs().amax(dim=(1, 2, 3), keepdim=True))


def _divided(signals: Tensor, levels: Tensor) -> Tensor:
    """Divide by levels; silent signals stay silent."""
    return signals / torch.where(levels > _SILENT_LEVEL, levels, 1.0)


def _draw_places(
    dataset: StemDataset,
    sources: Sequence[str],
    config: MixingConfig,
    numbers: tuple[int, int, int],
    frames: int,
) -> list[Place]:
    """Draw the places of the stems of an example; `numbers` are seed, step and example."""
    seed, step, example = numbers
    rng = np.random.default_rng([seed, step, _PURPOSE, example])
    # A separate generator, so that the draws above do not depend on replacements.
    replacing = np.random.default_rng([seed, step, _REPLACE, example])
    replaced = replacing.random(len(sources)) < config.replace_probability
    remix = rng.random() < config.remix_probability
    # Without remixing all stems come from one place, where one of them is active.
    common = dataset.draw_place(rng, frames=frames, stem=str(rng.choice(sources)))
    places = []
    for source, replace in zip(sources, replaced, strict=True):
        active, shifts, shift = rng.random(3)
        place = common
        if remix or replace:
            stem = source if active < config.active_probability else None
            place = dataset.draw_place(rng if remix else replacing, frames=frames, stem=stem)
        elif shifts < config.shift_probability:
            place = dataset.shift_place(
                common, frames=frames, seconds=config.shift_seconds, draw=float(shift)
            )
        places.append(place)
    return places
